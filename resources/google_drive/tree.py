"""The folders ``tailor/videos`` and ``tailor/results`` of a Drive that is being connected."""

from dataclasses import dataclass
from typing import Any

from resources.drive import UserMustAct
from resources.google_drive.api import GoogleApi, Refused
from resources.google_drive.folders import FOLDER_TYPE


@dataclass(frozen=True)
class Tree:
    """Their ids."""

    videos: str
    results: str


def find_or_make_tree(api: GoogleApi, drive_id: str | None, within: str = "root") -> Tree:
    """The tree's folders; those that are not there are made, in the folder ``within``.

    Of several of one name the oldest is taken, so that connecting again finds the same. Raises
    UserMustAct where a folder of that name was made by hand and tailor may not write into it.
    """
    tailor = _find_or_make(api, drive_id, drive_id or within, "tailor")
    try:
        return Tree(
            videos=_find_or_make(api, drive_id, tailor, "videos"),
            results=_find_or_make(api, drive_id, tailor, "results"),
        )
    except UserMustAct as refused:
        raise UserMustAct(
            "There is a folder tailor in this Drive that tailor may not write into, because it was "
            "made by hand: rename it, connect again, and move the videos into the new tailor/videos."
        ) from refused


def _find_or_make(api: GoogleApi, drive_id: str | None, parent: str, name: str) -> str:
    where: dict[str, Any] = {}
    if drive_id is not None:
        where = {
            "driveId": drive_id,
            "corpora": "drive",
            "supportsAllDrives": True,
            "includeItemsFromAllDrives": True,
        }
    found = api.call(
        "files.list",
        q=f"'{parent}' in parents and name = '{name}' and mimeType = '{FOLDER_TYPE}' "
        "and trashed = false",
        fields="files(id)",
        orderBy="createdTime",
        pageSize=1,
        spaces="drive",
        **where,
    ).get("files", [])
    if found:
        return str(found[0]["id"])
    # Under an id of our own: a request that is repeated, because its answer was lost, makes no other.
    (file_id,) = api.call("files.generateIds", count=1, space="drive", fields="ids")["ids"]
    try:
        api.call(
            "files.create",
            body={"id": file_id, "name": name, "mimeType": FOLDER_TYPE, "parents": [parent]},
            fields="id",
            supportsAllDrives=True,
        )
    except Refused as refused:
        if not refused.done_before:
            raise
    return str(file_id)
