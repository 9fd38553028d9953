"""Read the points that another program tracked, whichever it was.

DeepLabCut's CSV, SLEAP's analysis CSV and a plain CSV are told apart by their headers, never by the
file's name; see docs/keypoints.md for what each looks like.
"""

from __future__ import annotations

from pathlib import Path

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.deeplabcut_csv import is_deeplabcut, read_deeplabcut
from tailor_assets.compute.keypoints.flat_csv import is_flat, read_flat
from tailor_assets.compute.keypoints.number_table import open_table
from tailor_assets.compute.keypoints.sleap_csv import is_sleap, read_sleap
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints, checked_rate


def read_points(path: Path | str, *, fps: float, animal: str | None = None) -> TrackedPoints:
    """Body parts of one animal, as they were tracked.

    fps: frames per second of the video; a column ``timestamp_s`` of a plain CSV overrules it.
    animal: which, where the file has several. Nothing is cleaned here: see ``cleaning``.

    Raises PermanentProblem, in one sentence, when the file is none of the formats, is damaged, or
    has several animals and none was chosen.
    """
    rate = checked_rate(fps)
    table = open_table(Path(path))
    if is_deeplabcut(table):
        found = read_deeplabcut(table, animal)
    elif is_sleap(table):
        found = read_sleap(table, animal)
    elif is_flat(table):
        found = read_flat(table, animal)
    else:
        raise PermanentProblem(
            f"{table.path.name} is neither DeepLabCut's CSV (header rows scorer, bodyparts, coords) "
            "nor SLEAP's (frame_idx and <node>.x) nor a plain one (<part>_x and <part>_y); export "
            "the tracking as one of them."
        )
    return found.points(rate)
