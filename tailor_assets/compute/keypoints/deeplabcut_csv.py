"""DeepLabCut's CSV of tracked points: three header rows, four where several animals were tracked."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.named_columns import NamedColumns, choose_animal
from tailor_assets.compute.keypoints.number_table import TextTable, numbers

COORDINATES = ("x", "y", "likelihood")


def is_deeplabcut(table: TextTable) -> bool:
    """Whether the first cells are those of DeepLabCut's header."""
    first = [row[0].lower() if row else "" for row in table.head]
    return first[:3] == ["scorer", "bodyparts", "coords"] or first[:4] == [
        "scorer",
        "individuals",
        "bodyparts",
        "coords",
    ]


def read_deeplabcut(table: TextTable, animal: str | None) -> NamedColumns:
    """Parts and positions. Raises PermanentProblem for labelled stills and an unknown animal."""
    several = table.head[1][0].lower() == "individuals"
    header_rows = 4 if several else 3
    widths = {len(row) for row in table.head[:header_rows]}
    if len(widths) != 1:
        raise PermanentProblem(
            f"The header rows of the tracking file {table.path.name} have different numbers of "
            "cells; export it again from DeepLabCut."
        )
    parts, coordinates = table.head[header_rows - 2], table.head[header_rows - 1]
    animals = table.head[1] if several else [""] * len(parts)
    chosen = choose_animal(animals[1:], animal, table.path.name)
    text = table.columns(header_rows)
    index = text.to_series(0)
    if index.len() and not (index[0] or "").strip().replace(".", "", 1).isdigit():
        raise PermanentProblem(
            f"The tracking file {table.path.name} names pictures and not frames, as the labels that "
            "DeepLabCut was trained with do; give the CSV that it made of a whole video."
        )
    source_frame = numbers(text, 0, "of the frames", table.path)
    if np.any(~np.isfinite(source_frame)) or np.any(source_frame % 1):
        raise PermanentProblem(
            f"The first column of the tracking file {table.path.name} does not number the frames; "
            "export it again from DeepLabCut."
        )
    found = NamedColumns(table.path.name, source_frame.astype(np.int64), None)
    for k in range(1, len(parts)):
        if animals[k] != chosen:
            continue
        kind = coordinates[k].lower()
        if kind not in COORDINATES:
            raise PermanentProblem(
                f"The tracking file {table.path.name} has a column {coordinates[k]!r} of "
                f"{parts[k]}, which is none of x, y and likelihood; tailor reads points in the "
                "plane."
            )
        found.add(parts[k], kind, numbers(text, k, f"{parts[k]} {kind}", table.path))
    return found
