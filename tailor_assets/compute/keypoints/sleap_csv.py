"""SLEAP's analysis CSV: a row per frame and animal, columns ``<node>.x``, ``<node>.y``, ``.score``."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.named_columns import NamedColumns, choose_animal
from tailor_assets.compute.keypoints.number_table import TextTable, numbers, whole_numbers

FRAME, TRACK = "frame_idx", "track"
COORDINATES = {".x": "x", ".y": "y", ".score": "likelihood"}
# 55 hours at 50 frames per second: beyond it a frame number is a mistake, not a long video.
MOST_FRAMES = 10_000_000


def is_sleap(table: TextTable) -> bool:
    """Whether the header has SLEAP's frame number and at least one ``<node>.x``."""
    names = [name.lower() for name in table.head[0]]
    return FRAME in names and any(name.endswith(".x") for name in names)


def read_sleap(table: TextTable, animal: str | None) -> NamedColumns:
    """Parts and positions; frames in which SLEAP found no animal become rows without positions.

    Raises PermanentProblem for an unknown animal, and for two rows of one animal in one frame.
    """
    header = table.head[0]
    lower = [name.lower() for name in header]
    text = table.columns(1)
    tracks = [""] * text.height
    if TRACK in lower:
        tracks = [track or "" for track in text.to_series(lower.index(TRACK))]
    if text.height:
        chosen = choose_animal(tracks, animal, table.path.name)
        text = text.filter([track == chosen for track in tracks])
    listed = whole_numbers(text, lower.index(FRAME), FRAME, table.path)
    order = np.argsort(listed, kind="stable")
    listed = listed[order]
    if np.any(np.diff(listed) == 0):
        frame = int(listed[np.flatnonzero(np.diff(listed) == 0)[0]])
        raise PermanentProblem(
            f"The tracking file {table.path.name} has two animals in frame {frame} that no track "
            "tells apart; run SLEAP's tracker, or export one animal only."
        )
    first, count = (int(listed[0]), int(listed[-1] - listed[0]) + 1) if listed.size else (0, 0)
    if count > MOST_FRAMES:
        raise PermanentProblem(
            f"The tracking file {table.path.name} counts {count:,} frames, which is no video; "
            f"correct its column {FRAME}."
        )
    found = NamedColumns(table.path.name, np.arange(first, first + count), None)
    for k, name in enumerate(header):
        for ending, kind in COORDINATES.items():
            part = name[: -len(ending)]
            if not lower[k].endswith(ending) or part.lower() == "instance":
                continue
            values = np.full(count, np.nan)
            values[listed - first] = numbers(text, k, name, table.path)[order]
            found.add(part, kind, values)
    return found
