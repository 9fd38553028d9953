"""The collections ``files``, ``about`` and ``drives``."""

import base64
import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from google_drive_server.errors import ApiError, not_found
from google_drive_server.search_query import only_in_those, parents_named, parse
from google_drive_server.store import FOLDER, Store, new_id
from google_drive_server.who import Caller

Parameters = Mapping[str, str]

_ID = re.compile(r"[A-Za-z0-9_-]{20,64}")
_SORTABLE = {"createdTime", "folder", "modifiedTime", "name"}
# A page of files.list has so many unless more or fewer are asked for.
_PAGE = 100


def shown(store: Store, who: Caller, row: sqlite3.Row) -> dict[str, Any]:
    """A file as the API's schema has it, with all fields that this server knows."""
    own = row["corpus"] == who.email
    file: dict[str, Any] = {
        "kind": "drive#file",
        "id": row["id"],
        "name": row["name"],
        "mimeType": row["mime"],
        "trashed": store.is_trashed(row),
        "explicitlyTrashed": bool(row["trashed"]),
        "version": str(row["version"]),
        "createdTime": row["created"],
        "modifiedTime": row["modified"],
        "spaces": ["drive"],
        "ownedByMe": own,
        "isAppAuthorized": row["made_by"] == who.client,
        "webViewLink": f"https://drive.google.com/file/d/{row['id']}/view",
    }
    if row["parent"]:
        file["parents"] = [row["parent"]]
    if own:
        file["owners"] = [{"kind": "drive#user", "emailAddress": row["corpus"], "me": True}]
    else:
        file["driveId"] = file["teamDriveId"] = row["corpus"]
    properties = json.loads(row["app_properties"])
    # Another app's are private to it.
    if properties and row["made_by"] == who.client:
        file["appProperties"] = properties
    if row["description"]:
        file["description"] = row["description"]
    if row["mime"] != FOLDER:
        file["size"] = file["quotaBytesUsed"] = str(row["size"] or 0)
        file["originalFilename"] = row["name"]
        if row["md5"]:
            file["md5Checksum"] = row["md5"]
        if row["revision"]:
            file["headRevisionId"] = row["revision"]
    return file


def get(store: Store, who: Caller, file_id: str, parameters: Parameters) -> dict[str, Any]:
    """files.get without content."""
    return shown(store, who, who.seen(store, file_id, _all_drives(parameters)))


def list_(store: Store, who: Caller, parameters: Parameters) -> dict[str, Any]:
    """files.list."""
    q = parameters.get("q", "")
    condition = parse(q) if q else lambda _: True
    corpus = _corpus(store, who, parameters)
    named = [who.own_id(store, parent) for parent in parents_named(q)]
    for parent in named:
        if not who.may_see(store, store.file(parent)):
            raise ApiError(404, "notFound", f"File not found: {parent}.")
    if named and only_in_those(q):
        # Only for speed: the condition is asked all the same.
        marks = ",".join("?" * len(named))
        rows = store.db.execute(
            f"SELECT * FROM files WHERE corpus=? AND parent IN ({marks}) ORDER BY number DESC",
            (corpus, *named),
        )
    else:
        rows = store.db.execute(
            "SELECT * FROM files WHERE corpus=? AND parent IS NOT NULL ORDER BY number DESC",
            (corpus,),
        )
    root = who.own_id(store, "root")
    found = []
    for row in rows:
        if not who.may_see(store, row):
            continue
        file = shown(store, who, row)
        asked = dict(file)
        if root in file.get("parents", ()):
            asked["parents"] = [*file["parents"], "root"]
        if condition(asked):
            found.append(file)
    for key in reversed([part for part in parameters.get("orderBy", "").split(",") if part]):
        name, _, direction = key.strip().partition(" ")
        if name not in _SORTABLE or direction not in ("", "desc"):
            raise ApiError(400, "invalid", f"Invalid Value (orderBy: {key})")
        found.sort(key=_sort_key(name), reverse=direction == "desc")
    start = _offset(parameters.get("pageToken"), q)
    size = int(parameters.get("pageSize", _PAGE))
    answer: dict[str, Any] = {
        "kind": "drive#fileList",
        "incompleteSearch": False,
        "files": found[start : start + size],
    }
    if start + size < len(found):
        answer["nextPageToken"] = _page_token(start + size, q)
    return answer


def generate_ids(store: Store, who: Caller, parameters: Parameters) -> dict[str, Any]:
    """files.generateIds."""
    ids = [new_id() for _ in range(int(parameters.get("count", "10")))]
    store.db.executemany(
        "INSERT INTO issued_ids VALUES (?,?)", [(file_id, who.email) for file_id in ids]
    )
    return {"kind": "drive#generatedIds", "space": "drive", "ids": ids}


def make(
    store: Store, who: Caller, body: Mapping[str, Any], parameters: Parameters, mime: str | None
) -> str:
    """files.create without its content; returns the id. ``mime`` is the content's, where told."""
    file_id = body.get("id")
    if file_id is not None:
        check_new_id(store, who, file_id)
    else:
        file_id = new_id()
    parents = body.get("parents") or ["root"]
    if len(parents) != 1:
        raise ApiError(400, "invalid", "A file cannot have several parents.")
    parent = who.seen(store, parents[0], _all_drives(parameters))
    who.must_create_in(store, parent)
    store.insert_file(
        file_id=file_id,
        name=body.get("name", "Untitled"),
        mime=body.get("mimeType") or mime or "application/octet-stream",
        parent=parent["id"],
        corpus=parent["corpus"],
        made_by=who.client,
        app_properties=body.get("appProperties"),
        description=body.get("description"),
    )
    return str(file_id)


def check_new_id(store: Store, who: Caller, file_id: str) -> None:
    """Raise ApiError for an id that this caller was not given, or that is taken."""
    issued = store.db.execute(
        "SELECT 1 FROM issued_ids WHERE id=? AND email=?", (file_id, who.email)
    ).fetchone()
    if not _ID.fullmatch(file_id) or issued is None:
        raise ApiError(400, "invalid", "The provided file ID is not usable.")
    if store.file(file_id) is not None:
        raise ApiError(409, "fileIdInUse", "A file already exists with the provided ID.")


def check_room(store: Store, who: Caller, corpus: str, size: int) -> None:
    """Raise ApiError 403 where a content of so many bytes is too much for its owner."""
    row = store.db.execute("SELECT limit_bytes FROM people WHERE email=?", (corpus,)).fetchone()
    limit = row["limit_bytes"] if row else None
    if limit is not None and store.used_bytes(corpus) + size > limit:
        raise ApiError(
            403,
            "storageQuotaExceeded",
            "The user's Drive storage quota has been exceeded.",
        )


def change(
    store: Store, who: Caller, file_id: str, body: Mapping[str, Any], parameters: Parameters
) -> str:
    """files.update without content; returns the id."""
    row = who.seen(store, file_id, _all_drives(parameters))
    what = "trash" if "trashed" in body else "write"
    who.must_write(store, row, what)
    if {"parents", "id"} & body.keys():
        raise ApiError(
            403, "fieldNotWritable", "The resource body includes fields which are not writable."
        )
    columns: dict[str, Any] = {}
    if "trashed" in body:
        columns["trashed"] = int(body["trashed"])
    for field, column in (("name", "name"), ("mimeType", "mime"), ("description", "description")):
        if field in body:
            columns[column] = body[field]
    if "appProperties" in body:
        merged = json.loads(row["app_properties"]) | body["appProperties"]
        columns["app_properties"] = json.dumps({k: v for k, v in merged.items() if v is not None})
    if "addParents" in parameters:
        parent = who.seen(store, parameters["addParents"], _all_drives(parameters))
        who.must_create_in(store, parent)
        columns["parent"] = parent["id"]
    if columns:
        store.change_file(row["id"], **columns)
    return str(row["id"])


def delete(store: Store, who: Caller, file_id: str, parameters: Parameters) -> None:
    """files.delete."""
    row = who.seen(store, file_id, _all_drives(parameters))
    who.must_write(store, row, "delete")
    store.remove_file(row["id"])


def about(store: Store, who: Caller) -> dict[str, Any]:
    """about.get."""
    row = store.db.execute("SELECT * FROM people WHERE email=?", (who.email,)).fetchone()
    quota = {"usage": str(store.used_bytes(who.email))}
    if row["limit_bytes"] is not None:
        quota["limit"] = str(row["limit_bytes"])
    return {
        "kind": "drive#about",
        "user": {
            "kind": "drive#user",
            "displayName": who.email.partition("@")[0],
            "emailAddress": who.email,
            "me": True,
        },
        "storageQuota": quota,
    }


def drive(store: Store, who: Caller, drive_id: str) -> dict[str, Any]:
    """drives.get."""
    row = store.db.execute("SELECT * FROM drives WHERE id=?", (drive_id,)).fetchone()
    if row is None or store.role(drive_id, who.email) is None:
        raise ApiError(404, "notFound", f"Shared drive not found: {drive_id}")
    return {"kind": "drive#drive", "id": row["id"], "name": row["name"]}


def drives(store: Store, who: Caller) -> dict[str, Any]:
    """drives.list."""
    rows = store.db.execute(
        "SELECT drive_id FROM members WHERE email=? ORDER BY drive_id", (who.email,)
    ).fetchall()
    return {
        "kind": "drive#driveList",
        "drives": [drive(store, who, row["drive_id"]) for row in rows],
    }


def _all_drives(parameters: Parameters) -> bool:
    return parameters.get("supportsAllDrives") == "true"


def _corpus(store: Store, who: Caller, parameters: Parameters) -> str:
    """Whose files are listed: the caller's own, or a shared drive's."""
    corpora = parameters.get("corpora", "drive" if "driveId" in parameters else "user")
    if corpora == "user":
        if "driveId" in parameters:
            raise ApiError(400, "invalid", "driveId goes with corpora=drive only.")
        return who.email
    if corpora != "drive" or "driveId" not in parameters:
        raise ApiError(400, "invalid", "This server lists corpora=user, or drive with a driveId.")
    if not _all_drives(parameters) or parameters.get("includeItemsFromAllDrives") != "true":
        raise ApiError(
            403,
            "teamDriveParametersRequired",
            "The supportsAllDrives and includeItemsFromAllDrives parameters must be true.",
        )
    drive(store, who, parameters["driveId"])
    return parameters["driveId"]


def _sort_key(name: str) -> Callable[[dict[str, Any]], Any]:
    if name == "folder":  # folders first
        return lambda file: file["mimeType"] != FOLDER
    return lambda file: file[name]


def _page_token(offset: int, q: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([offset, q]).encode()).decode()


def _offset(token: str | None, q: str) -> int:
    if token is None:
        return 0
    try:
        offset, of = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        raise ApiError(400, "invalid", "Invalid Value (pageToken)") from None
    if of != q:
        raise ApiError(400, "invalid", "Invalid Value (pageToken)")
    return int(offset)


def must_exist(store: Store, file_id: str) -> sqlite3.Row:
    """A file's row. Raises ApiError 404."""
    row = store.file(file_id)
    if row is None:
        raise not_found(file_id)
    return row
