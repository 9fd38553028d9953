"""From a masks NPZ to the features table: one row per frame, one column per feature.

What each frame's masks say comes from mask_measurements.py; what depends on neighbouring rows
(motion, windows of time) is computed here from the columns, and everything is put in one table.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.feature_columns import (
    DEFAULT_WINDOWS_S,
    FEATURES_VERSION,
    NEST_CM_COLUMNS,
    SUBJECT_CM_COLUMNS,
    column_type,
    feature_columns,
    has_nest,
    rolling_base,
)
from tailor_assets.compute.features.mask_measurements import DEFAULT_WORKERS, measure_masks
from tailor_assets.compute.features.motion_features import motion_features, time_steps
from tailor_assets.compute.features.nest_features import (
    IN_NEST_SHARE,
    RELATION_COLUMNS,
    nest_area_change,
    nest_share,
)
from tailor_assets.compute.features.rolling_features import (
    ROLLING_STATISTICS,
    rolling_column,
    rolling_features,
)
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState

__all__ = ["FEATURES_VERSION", "feature_columns", "feature_table"]


def feature_table(
    reader: MaskReader,
    *,
    feature_set: str,
    subject: str,
    nest: str | None,
    px_per_cm: float | None = None,
    windows_s: Sequence[float] = DEFAULT_WINDOWS_S,
    workers: int = DEFAULT_WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Compute all features of one animal.

    ``feature_set``: "mouse", "rat" (the same columns) or "rat_only" (without the nest's).
    ``subject`` and ``nest``: names of objects in the file; with ``nest=None`` the nest's columns of
    "mouse" and "rat" are there, and null. ``px_per_cm``: adds the columns in centimetres.
    ``windows_s``: widths of the rolling windows in seconds. ``workers``: threads that measure
    beside the one that reads; the result does not depend on it. ``progress(done, total)`` is called
    with numbers of frames.

    Returns one row per frame of the file and the columns that ``feature_columns`` names: ``frame``
    Int64 (row number), ``source_frame`` Int64, ``timestamp_s`` Float64, ``in_nest`` Boolean,
    ``mask_state`` and ``nest_mask_state`` String (the words of ``MaskState``), all others Float64.
    Where the animal is lost (its mask is empty) its features are null, rolling ones included; where
    the nest is, those of the nest. A mask in doubt (merged, swapped) is measured like any other:
    its state says so beside the numbers. docs/data_formats.md describes every column.
    Raises PermanentProblem for unknown names, impossible numbers and a damaged file.
    """
    with_nest = has_nest(feature_set)
    nest = nest if with_nest else None
    _check_request(reader, subject, nest, px_per_cm, windows_s)
    time = np.asarray(reader.timestamp_s, np.float64)
    found = measure_masks(reader, subject, nest, workers=workers, progress=progress)
    lost, no_nest = np.isnan(found["area"]), np.isnan(found["nest_area"])
    # A lost animal has a quality, 0, where everything else of it is missing.
    found["mask_quality"] = reader.score(subject).astype(np.float64)
    found |= motion_features(
        time,
        found["centroid_x"],
        found["centroid_y"],
        found["orientation"],
        found["eccentricity"],
        found["area"],
        found.pop("shared_with_previous"),
    )
    found["nest_mask_quality"] = (
        np.full(len(reader), np.nan) if nest is None else reader.score(nest).astype(np.float64)
    )
    found |= {"mask_state": _states(reader, subject), "nest_mask_state": _states(reader, nest)}
    found["nest_share"] = nest_share(
        found["distance_to_nest_px"],
        found["nest_overlap"],
        found["nest_area"],
        found["area"],
        found["axis_major_length"],
    )
    found["in_nest"] = np.where(found["nest_share"] > IN_NEST_SHARE, 1.0, found["in_nest"])
    dt_s, neighbours = time_steps(time)
    found["nest_area_change"] = nest_area_change(found["nest_area"], neighbours, dt_s)
    if px_per_cm is not None:
        for name, (in_pixels, power) in (SUBJECT_CM_COLUMNS | NEST_CM_COLUMNS).items():
            found[name] = found[in_pixels] / px_per_cm**power

    base = rolling_base(feature_set, px_per_cm=px_per_cm)
    found |= rolling_features(time, {name: found[name] for name in base}, windows_s)
    for name in base:
        # A window reaches past a row without the animal; the row itself has no data all the same.
        nowhere = lost
        if name in RELATION_COLUMNS:
            nowhere = lost | no_nest
        elif name.startswith("nest_"):
            nowhere = no_nest
        for window_s in windows_s:
            for statistic in ROLLING_STATISTICS:
                found[rolling_column(name, statistic, window_s)][nowhere] = np.nan

    found |= {
        "frame": np.arange(len(reader)),
        "source_frame": reader.source_frame,
        "timestamp_s": time,
    }
    columns = feature_columns(feature_set, px_per_cm=px_per_cm, windows_s=windows_s)
    # NaN becomes null: no data is not a number.
    return pl.DataFrame(
        [
            pl.Series(name, found[name].tolist(), dtype=pl.String)
            if column_type(name) == pl.String
            else pl.Series(name, found[name], nan_to_null=True).cast(column_type(name))
            for name in columns
        ]
    )


def _states(reader: MaskReader, name: str | None) -> np.ndarray:
    """The state of an object's mask in words, object [N]: str, or None where there is no object."""
    words = np.array([None, *(state.label for state in MaskState)], dtype=object)
    if name is None:
        return words[np.zeros(len(reader), np.intp)]
    codes = reader.state(name).astype(np.intp)
    if codes.max(initial=0) > max(MaskState):
        raise PermanentProblem(
            f"The masks in {reader.path.name} are in a state that this program does not know "
            f"({codes.max()}): it is damaged or of a later tailor, segment the video again."
        )
    return words[1 + codes]


def _check_request(
    reader: MaskReader,
    subject: str,
    nest: str | None,
    px_per_cm: float | None,
    windows_s: Sequence[float],
) -> None:
    for name in (subject, nest):
        if name is not None and name not in reader.objects:
            raise PermanentProblem(
                f"{reader.path.name} has no masks of {name!r}, only of "
                f"{', '.join(reader.objects)}: choose a template with these objects."
            )
    if px_per_cm is not None and not (np.isfinite(px_per_cm) and px_per_cm > 0):
        raise PermanentProblem(
            f"px_per_cm is {px_per_cm}, which is no scale: give the pixels per centimetre, "
            "greater than 0, or leave it out."
        )
    if any(not (np.isfinite(width) and width > 0) for width in windows_s):
        raise PermanentProblem(
            f"Rolling windows of {list(windows_s)} s are not possible: give widths in seconds "
            "greater than 0."
        )
    time = reader.timestamp_s
    if not np.isfinite(time).all() or (np.diff(time) <= 0).any():
        raise PermanentProblem(
            f"The times in {reader.path.name} do not increase from frame to frame: segment the "
            "video again."
        )
