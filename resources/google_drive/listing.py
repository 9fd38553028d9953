"""What lies in folders of a Drive, asked for with as few requests as there can be."""

from collections.abc import Iterator, Sequence
from typing import Any

from resources.google_drive.api import GoogleApi

_PAGE = 1000
# Folders whose contents are asked for in one request; the query's length is bounded.
_PARENTS_AT_ONCE = 40


def listed_in(drive_id: str | None) -> dict[str, Any]:
    """Parameters of files.list: the person's own Drive, or a shared one."""
    if drive_id is None:
        return {}
    return {
        "driveId": drive_id,
        "corpora": "drive",
        "supportsAllDrives": True,
        "includeItemsFromAllDrives": True,
    }


def children(
    api: GoogleApi, drive_id: str | None, parents: Sequence[str], fields: str
) -> Iterator[dict[str, Any]]:
    """Files and folders directly in ``parents`` that are not in the trash.

    ``drive_id``: of the shared drive they are in, if they are. ``fields`` of each file, as Google's
    partial responses have them; ``parents`` must be among them to tell whose child is whose.
    """
    for start in range(0, len(parents), _PARENTS_AT_ONCE):
        some = " or ".join(f"'{i}' in parents" for i in parents[start : start + _PARENTS_AT_ONCE])
        token = None
        while True:
            page = api.call(
                "files.list",
                q=f"({some}) and trashed = false",
                fields=f"nextPageToken,files({fields})",
                pageSize=_PAGE,
                pageToken=token,
                spaces="drive",
                **listed_in(drive_id),
            )
            yield from page.get("files", [])
            token = page.get("nextPageToken")
            if not token:
                break
