"""Put together what a report is made from: tables, masks where they are there, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import is_probability
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.report.flag_figure import thumbnail_rows
from tailor_assets.compute.report.floor_plan import still_frame_numbers
from tailor_assets.compute.report.outlines import outlines_of_rows, usual_outline
from tailor_assets.compute.report.report_input import (
    FEATURE_COLUMNS,
    FLAG_COLUMNS,
    PRIORITY,
    ReportInput,
)


def wanted_columns(names: Sequence[str], kind: str) -> list[str]:
    """Of a table's columns those that a report reads. ``kind``: ``features`` or ``flags``."""
    if kind == "features":
        return [name for name in FEATURE_COLUMNS if name in names]
    return [name for name in names if name in (*FLAG_COLUMNS, PRIORITY) or is_probability(name)]


def wanted_frames(flags: pl.DataFrame) -> list[int]:
    """Numbers of the frames whose pictures a report shows, at most 33."""
    shown = {int(flags["frame"][row]) for row in thumbnail_rows(flags)}
    return sorted(shown | set(still_frame_numbers(flags.height)))


def assemble(
    name: str,
    features: pl.DataFrame,
    flags: pl.DataFrame,
    *,
    masks: Path | None,
    frames_dir: Path | None,
    size: tuple[int, int] | None = None,
    subject: str | None = None,
    nest: str | None = None,
    px_per_cm: float | None = None,
    seconds_window: float | None = None,
    arena: Sequence[Sequence[float]] | None = None,
    provenance: Mapping[str, Sequence[tuple[str, Any]]] | None = None,
    bin_s: float | None = None,
) -> ReportInput:
    """A ``ReportInput``, with the outlines that the masks NPZ has.

    size: (width, height) of the picture; the masks' unless given, else what the track needs.
    subject, nest: names of objects of the masks; the nest, where none is named, is ``nest``.

    Raises PermanentProblem when the tables are not of the same frames, or lack a column.
    """
    _check(features, flags)
    with ExitStack() as stack:
        reader = stack.enter_context(MaskReader(masks)) if masks is not None else None
        objects = reader.objects if reader is not None else ()
        nest = nest or ("nest" if "nest" in objects or _has_nest(features) else None)
        subject = subject or next((name for name in objects if name != nest), "animal")
        outlines, nest_outlines = {}, []
        if reader is not None:
            size = size or (reader.width, reader.height)
            if len(reader) == flags.height:
                rows = thumbnail_rows(flags)
                by_row = outlines_of_rows(reader, rows)
                outlines = {int(flags["frame"][row]): by_row[row] for row in rows}
            nest_outlines = usual_outline(reader, nest) if nest in objects else []
    width, height = size or _size_of_track(features)
    return ReportInput(
        name=name,
        features=features,
        flags=flags,
        width=width,
        height=height,
        subject=subject,
        nest=nest,
        px_per_cm=px_per_cm,
        seconds_window=seconds_window,
        frames_dir=frames_dir,
        nest_outlines=nest_outlines,
        arena=np.array(arena, dtype=np.float64) if arena else None,
        outlines=outlines,
        provenance=provenance or {},
        bin_s=bin_s,
    )


def _check(features: pl.DataFrame, flags: pl.DataFrame) -> None:
    for what, table, columns in (
        ("features", features, ("frame", "timestamp_s", "mask_quality", "mask_state")),
        ("flags", flags, FLAG_COLUMNS),
    ):
        missing = [name for name in columns if name not in table.columns]
        if missing:
            raise PermanentProblem(
                f"The {what} lack {', '.join(missing)}, which a report needs; make them again."
            )
    if features["frame"].to_list() != flags["frame"].to_list():
        raise PermanentProblem(
            f"The features ({features.height} rows) and the flags ({flags.height}) are not of the "
            "same frames; make the flags again."
        )


def _has_nest(features: pl.DataFrame) -> bool:
    return "in_nest" in features.columns and features["in_nest"].drop_nulls().len() > 0


def _size_of_track(features: pl.DataFrame) -> tuple[int, int]:
    """A frame around the track where nobody knows the picture's size."""
    ends = []
    for name in ("centroid_x", "centroid_y"):
        values = features[name].drop_nulls() if name in features.columns else pl.Series([])
        ends.append(int(np.ceil(float(values.max()) * 1.05)) if values.len() else 1)  # type: ignore[arg-type]
    return max(1, ends[0]), max(1, ends[1])
