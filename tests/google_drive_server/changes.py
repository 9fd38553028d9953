"""The collection ``changes``: what is different since a page token.

As Drive has it: a file that changed several times is in the feed once, at its last place; what was
deleted is there as removed; a folder that goes to the trash is there, and what is in it is not.
"""

from typing import Any

from google_drive_server.errors import ApiError
from google_drive_server.files import Parameters, drive, shown
from google_drive_server.store import Store
from google_drive_server.who import Caller

_PAGE = 100


def start_page_token(store: Store, who: Caller, parameters: Parameters) -> dict[str, Any]:
    """changes.getStartPageToken."""
    corpus = _corpus(store, who, parameters)
    return {"kind": "drive#startPageToken", "startPageToken": str(_last(store, corpus) + 1)}


def list_(store: Store, who: Caller, parameters: Parameters) -> dict[str, Any]:
    """changes.list."""
    corpus = _corpus(store, who, parameters)
    if corpus != who.email and parameters.get("includeItemsFromAllDrives") != "true":
        raise ApiError(
            403,
            "teamDriveParametersRequired",
            "The includeItemsFromAllDrives parameter must be true.",
        )
    token, size = parameters["pageToken"], int(parameters.get("pageSize", _PAGE))
    if not token.isdigit() or int(token) > _last(store, corpus) + 1:
        raise ApiError(400, "invalid", "Invalid Value (pageToken)")
    rows = store.db.execute(
        "SELECT file_id, MAX(seq) AS last, at FROM changes WHERE corpus=? AND seq>=?"
        " GROUP BY file_id ORDER BY last LIMIT ?",
        (corpus, int(token), size + 1),
    ).fetchall()
    answer: dict[str, Any] = {"kind": "drive#changeList", "changes": []}
    for row in rows[:size]:
        file = store.file(row["file_id"])
        change: dict[str, Any] = {
            "kind": "drive#change",
            "type": "file",
            "changeType": "file",
            "time": row["at"],
            "fileId": row["file_id"],
            "removed": file is None,
        }
        if file is not None:
            if not who.may_see(store, file):
                continue
            change["file"] = shown(store, who, file)
        if file is not None or parameters.get("includeRemoved", "true") == "true":
            answer["changes"].append(change)
    if len(rows) > size:
        answer["nextPageToken"] = str(rows[size - 1]["last"] + 1)
    else:
        answer["newStartPageToken"] = str(_last(store, corpus) + 1)
    return answer


def _last(store: Store, corpus: str) -> int:
    (last,) = store.db.execute(
        "SELECT COALESCE(MAX(seq), 0) FROM changes WHERE corpus=?", (corpus,)
    ).fetchone()
    return int(last)


def _corpus(store: Store, who: Caller, parameters: Parameters) -> str:
    if "driveId" not in parameters:
        return who.email
    if parameters.get("supportsAllDrives") != "true":
        raise ApiError(
            403, "teamDriveParametersRequired", "The supportsAllDrives parameter must be true."
        )
    drive(store, who, parameters["driveId"])
    return parameters["driveId"]
