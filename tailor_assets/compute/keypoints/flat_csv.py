"""A plain CSV with a column per coordinate: ``<part>_x``, ``<part>_y``, ``<part>_likelihood``."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.keypoints.named_columns import NamedColumns, choose_animal
from tailor_assets.compute.keypoints.number_table import TextTable, numbers, whole_numbers

COORDINATES = {
    "x": "x",
    "y": "y",
    "likelihood": "likelihood",
    "confidence": "likelihood",
    "score": "likelihood",
    "p": "likelihood",
}
# In the order in which they are believed.
FRAMES = ("source_frame", "frame", "frame_idx", "frames")
TIMES = ("timestamp_s", "time_s")


def coordinate_of(name: str) -> tuple[str, str] | None:
    """Part and coordinate that a column's name tells of: ``Mid-Back_x`` -> ("Mid-Back", "x")."""
    for separator in ("_", "."):
        part, found, ending = name.rpartition(separator)
        if found and part and ending.lower() in COORDINATES:
            return part, COORDINATES[ending.lower()]
    return None


def is_flat(table: TextTable) -> bool:
    """Whether at least one part has both an x and a y."""
    found = [coordinate_of(name) for name in table.head[0]]
    return any(pair and pair[1] == "x" and (pair[0], "y") in found for pair in found)


def read_flat(table: TextTable, animal: str | None) -> NamedColumns:
    """Parts and positions; columns that are neither a coordinate nor a frame or time are left out.

    Without a column of frames the rows are the frames, from 0. Raises PermanentProblem where an
    animal was asked for: the file names none.
    """
    choose_animal((), animal, table.path.name)
    header = table.head[0]
    lower = [name.lower() for name in header]
    text = table.columns(1)
    source_frame = np.arange(text.height)
    named = [name for name in FRAMES if name in lower]
    if named:
        source_frame = whole_numbers(text, lower.index(named[0]), named[0], table.path)
    times = next((name for name in TIMES if name in lower), None)
    timestamp_s = None
    if times is not None:
        timestamp_s = numbers(text, lower.index(times), times, table.path)
    found = NamedColumns(table.path.name, source_frame, timestamp_s)
    pairs = [coordinate_of(name) for name in header]
    points = {part for part, kind in filter(None, pairs) if kind == "x"}
    for k, pair in enumerate(pairs):
        # A column like group_p, without an x of its own, is somebody's statistics.
        if pair is not None and pair[0] in points:
            found.add(*pair, numbers(text, k, header[k], table.path))
    return found
