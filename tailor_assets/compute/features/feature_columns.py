"""Which columns a features table has: the contract between features and behaviour models."""

from collections.abc import Sequence

import polars as pl

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.motion_features import MOTION_COLUMNS
from tailor_assets.compute.features.nest_features import NEST_COLUMNS
from tailor_assets.compute.features.rolling_features import ROLLING_STATISTICS, rolling_column
from tailor_assets.compute.features.shape_features import SHAPE_COLUMNS

# Raised whenever a column is added, removed, renamed or computed differently: a model that was
# trained on other features must be able to notice.
FEATURES_VERSION = "2"

FEATURE_SETS = ("mouse", "rat", "rat_only")
DEFAULT_WINDOWS_S = (1.0, 5.0)

ROW_COLUMNS = ("frame", "source_frame", "timestamp_s")
# Words, for people and for the flags: no model measures by them.
STATE_COLUMNS = ("mask_state", "nest_mask_state")
# Column in centimetres -> (column in pixels, power of the length).
SUBJECT_CM_COLUMNS = {
    "area_cm2": ("area", 2),
    "axis_major_length_cm": ("axis_major_length", 1),
    "axis_minor_length_cm": ("axis_minor_length", 1),
    "perimeter_cm": ("perimeter", 1),
    "speed_cm_s": ("speed_px_s", 1),
    "acceleration_cm_s2": ("acceleration_px_s2", 1),
    "path_length_cm": ("path_length_px", 1),
}
NEST_CM_COLUMNS = {
    "nest_area_cm2": ("nest_area", 2),
    "distance_to_nest_cm": ("distance_to_nest_px", 1),
}
# What has windows: quantities of one frame whose average over seconds means something. Places,
# boxes, running totals and angles do not.
SUBJECT_ROLLING = (
    "area",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "solidity",
    "speed_px_s",
    "speed_cm_s",
    "acceleration_px_s2",
    "turning_rad_s",
    "orientation_change_rad_s",
    "mask_motion",
    "mask_quality",
)
NEST_ROLLING = ("nest_area", "nest_area_change", "distance_to_nest_px", "nest_overlap")


def has_nest(feature_set: str) -> bool:
    """Whether the set has the nest's columns. Raises PermanentProblem for an unknown set."""
    if feature_set not in FEATURE_SETS:
        raise PermanentProblem(
            f"There is no feature set {feature_set!r}: choose one of {', '.join(FEATURE_SETS)}."
        )
    return feature_set != "rat_only"


def rolling_base(feature_set: str, *, px_per_cm: float | None = None) -> list[str]:
    """Columns that have rolling statistics, in order."""
    columns = SUBJECT_ROLLING + (NEST_ROLLING if has_nest(feature_set) else ())
    return [name for name in columns if px_per_cm is not None or not name.endswith("_cm_s")]


def feature_columns(
    feature_set: str,
    *,
    px_per_cm: float | None = None,
    windows_s: Sequence[float] = DEFAULT_WINDOWS_S,
) -> list[str]:
    """All columns of the features table, in order, the three that identify the row first.

    Columns in centimetres are there only where ``px_per_cm`` is known. Raises PermanentProblem for
    an unknown ``feature_set``.
    """
    nest = has_nest(feature_set)
    columns = [*ROW_COLUMNS, "mask_quality", "mask_state", *SHAPE_COLUMNS, *MOTION_COLUMNS]
    columns += SUBJECT_CM_COLUMNS if px_per_cm is not None else ()
    columns += NEST_COLUMNS if nest else ()
    columns += NEST_CM_COLUMNS if nest and px_per_cm is not None else ()
    columns += [
        rolling_column(name, statistic, window_s)
        for name in rolling_base(feature_set, px_per_cm=px_per_cm)
        for window_s in windows_s
        for statistic in ROLLING_STATISTICS
    ]
    return columns


def column_type(name: str) -> type[pl.DataType]:
    """Int64 for the frame numbers, String for states, Boolean for in_nest, Float64 for the rest."""
    if name in ("frame", "source_frame"):
        return pl.Int64
    if name in STATE_COLUMNS:
        return pl.String
    return pl.Boolean if name == "in_nest" else pl.Float64
