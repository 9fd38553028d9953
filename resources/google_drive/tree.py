"""The folders ``tailor/videos`` and ``tailor/results`` of a Drive that is being connected."""

from dataclasses import dataclass

from resources.drive import UserMustAct
from resources.google_drive.api import GoogleApi
from resources.google_drive.folders import FOLDER_TYPE, make_folder
from resources.google_drive.listing import listed_in
from tailor_assets.compute.errors import PermanentProblem


@dataclass(frozen=True)
class Tree:
    """Their ids."""

    videos: str
    results: str


def find_or_make_tree(
    api: GoogleApi, drive_id: str | None, within: str = "root", *, own_only: bool = False
) -> Tree:
    """The tree's folders; those that are not there are made, in the folder ``within``.

    ``own_only``: the account's permission is for what the app has made (``drive.file``).
    Of several of one name the oldest is taken, so that connecting again finds the same. Raises
    UserMustAct where a folder of that name was made by hand and tailor may not write into it.
    """
    tailor = _find_or_make(api, drive_id, drive_id or within, "tailor")
    try:
        return Tree(
            videos=_find_or_make(api, drive_id, tailor, "videos"),
            results=_find_or_make(api, drive_id, tailor, "results", own_only=own_only),
        )
    except PermanentProblem as refused:
        raise UserMustAct(
            "There is a folder tailor, or tailor/results, in this Drive that tailor may not write "
            "into, because it was made by hand: rename it, connect again, and move the videos into "
            "tailor/videos."
        ) from refused


def _find_or_make(
    api: GoogleApi, drive_id: str | None, parent: str, name: str, *, own_only: bool = False
) -> str:
    found = api.call(
        "files.list",
        q=f"'{parent}' in parents and name = '{name}' and mimeType = '{FOLDER_TYPE}' "
        "and trashed = false",
        fields="files(id,isAppAuthorized)",
        orderBy="createdTime",
        pageSize=100,
        spaces="drive",
        **listed_in(drive_id),
    ).get("files", [])
    usable = [f for f in found if f.get("isAppAuthorized")] if own_only else found
    if usable:
        return str(usable[0]["id"])
    if found:
        raise UserMustAct(f"tailor may not write into the folder {name} that is there.")
    # Under an id of our own: a request that is repeated, because its answer was lost, makes no other.
    (file_id,) = api.new_ids(1)
    make_folder(api, file_id, name, parent)
    return file_id
