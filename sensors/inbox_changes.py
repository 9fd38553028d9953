"""What a look into a tenant's Drive means, as a pure function: listed, known -> changes.

No clock, no database, no Drive: the sensor (``drive_inbox.py``) brings those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from resources.drive import VideoFolder
from resources.video_registry import VideoRow
from tailor_assets.partitions import partition_key, results_name

ChangeKind = Literal["observed", "rejected", "still", "sidecar"]


@dataclass(frozen=True)
class InboxChange:
    """One folder that is not as it was.

    ``observed``: new or changed since the last look, to be looked at again. ``rejected``: holds no
    video that could be taken, for the reason in ``row.problem``. ``still``: the file has held still
    since the last look, so it may be checksummed and admitted. ``sidecar``: the video is as it was and
    its ``tailor.json`` has appeared, changed or gone. ``row`` is what the registry is to hold.
    """

    kind: ChangeKind
    folder: VideoFolder
    row: VideoRow


def find_changes(listed: Sequence[VideoFolder], known: Mapping[str, VideoRow]) -> list[InboxChange]:
    """Compare one tenant's folders with its rows (by folder id); the order is the listing's.

    Of a folder that is known and no longer listed, or empty, nothing changes but that no problem is
    left: its results stay, and somebody may be moving it. Of one that cannot be read nothing changes.
    """
    taken = {row.results_name for row in known.values()}
    changes = []
    there = {folder.id for folder in listed}
    gone = [row for row in known.values() if row.problem and row.folder_id not in there]
    for folder in [*listed, *(_without_files(row) for row in gone)]:
        row = known.get(folder.id)
        if folder.problem:
            continue
        if row is None:
            if not folder.videos:
                continue
            name = results_name(folder.name, taken, folder.id)
            taken.add(name)
            row = VideoRow(
                partition_key=partition_key(folder.tenant, folder.name, folder.id),
                tenant=folder.tenant,
                folder_id=folder.id,
                folder_name=folder.name,
                results_name=name,
                state="settling",
            )
        change = _change_of(folder, row)
        if change is not None:
            changes.append(change)
    return changes


def _change_of(folder: VideoFolder, row: VideoRow) -> InboxChange | None:
    if not folder.videos:
        return _mended(folder, row) if row.problem else None
    if len(folder.videos) > 1:
        problem = (
            f"The folder {folder.name!r} holds {len(folder.videos)} videos, and one folder is one "
            "video: move the others to folders of their own."
        )
        if row.problem == problem:
            return None
        rejected = replace(row, state="rejected", problem=problem, fingerprint=None)
        return InboxChange("rejected", folder, rejected)
    file = folder.videos[0]
    sidecar = folder.sidecar.fingerprint if folder.sidecar else None
    seen = (row.file_id, row.fingerprint) == (file.id, file.fingerprint)
    if not seen:
        observed = replace(
            row,
            state="settling",
            file_id=file.id,
            file_name=file.name,
            size=file.size,
            fingerprint=file.fingerprint,
            problem=None,
        )
        return InboxChange("observed", folder, observed)
    if row.state == "settling":
        if file.size > 0:
            return InboxChange("still", folder, row)
        # A copy that has not begun, or never will; once there is something in it, it is another file.
        problem = (
            f"{file.name} is empty, or only a shortcut to a video that lies elsewhere: if it is not "
            "being copied just now, put the video itself there. It is looked at as soon as there is "
            "something in it."
        )
        return InboxChange("rejected", folder, replace(row, state="rejected", problem=problem))
    # With a problem, too: the tailor.json that it was about may be gone again.
    if row.state == "admitted" and (sidecar != row.sidecar_fingerprint or row.problem):
        return InboxChange("sidecar", folder, row)
    return None


def _without_files(row: VideoRow) -> VideoFolder:
    return VideoFolder(row.tenant, row.folder_id, row.folder_name, (), None)


def _mended(folder: VideoFolder, row: VideoRow) -> InboxChange:
    """What was wrong was taken away; results that are there stay."""
    if row.state == "admitted":
        return InboxChange("observed", folder, replace(row, problem=None))
    return InboxChange(
        "observed", folder, replace(row, state="settling", problem=None, fingerprint=None)
    )
