"""Which columns a features table has: the contract between features and behaviour models.

Nothing is declared here but the columns that identify a row: the columns of a group of features are
declared in its module, and put together here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.arena_features import ARENA_FEATURES
from tailor_assets.compute.features.band_power import BANDS_HZ, band_name
from tailor_assets.compute.features.body_heading import HEADING_FEATURES
from tailor_assets.compute.features.feature import Feature
from tailor_assets.compute.features.motion_features import MOTION_FEATURES
from tailor_assets.compute.features.nest_features import NEST_FEATURES
from tailor_assets.compute.features.nest_visits import NEST_VISIT_FEATURES
from tailor_assets.compute.features.pair_features import PAIR_FEATURES
from tailor_assets.compute.features.rolling_features import ROLLING_STATISTICS, rolling_column
from tailor_assets.compute.features.shape_features import SHAPE_FEATURES

# Raised whenever a column is removed, renamed or computed differently: a model that was trained on
# other features must be able to notice. An added column needs none, as a model names its columns.
FEATURES_VERSION = "3"

FEATURE_SETS = ("mouse", "rat", "rat_only")
DEFAULT_WINDOWS_S = (1.0, 5.0)

ROW_FEATURES = (
    Feature(
        "frame",
        "-",
        "number of the analysed frame, from 0",
        missing="never",
        kind=pl.Int64,
        needs=(),
    ),
    Feature(
        "source_frame",
        "-",
        "number of the frame in the video, from 0",
        missing="never",
        kind=pl.Int64,
        needs=(),
    ),
    Feature(
        "timestamp_s",
        "s",
        "its time since the first frame of the video, by the container",
        missing="never",
        needs=(),
    ),
    Feature(
        "mask_quality",
        "0..1",
        "the segmenter's score of the animal's mask; 0 where it is lost",
        missing="never",
        windows=True,
    ),
    Feature(
        "mask_state",
        "text",
        "what happened to the animal's mask in this frame: `tracked`, `held`, `refound`, "
        "`uncertain`, `merged`, `swapped`, `exploded`, `lost`, `not_started`. The last three have no "
        "mask; `merged` and `swapped` are measured like any other, and should be looked at",
        missing="never",
        kind=pl.String,
        needs=(),
    ),
)


@dataclass(frozen=True)
class Group:
    """Features that are computed together: a heading of docs/features.md."""

    title: str
    about: str
    features: tuple[Feature, ...]


ROWS = Group("Row", "", ROW_FEATURES)
ANIMAL_GROUPS = (
    Group(
        "Shape",
        "All pixels of the mask are one region. x runs to the right, y (rows) down, the first "
        "pixel's centre is (0, 0).",
        SHAPE_FEATURES,
    ),
    Group(
        "Motion",
        "From the row before to this row, in the container's time.",
        MOTION_FEATURES,
    ),
    Group(
        "Heading",
        "Which end of the body is the head: decided from the mask's asymmetry and from the motion, "
        "over the whole recording, so that it does not flip from row to row.",
        HEADING_FEATURES,
    ),
)
NEST_GROUPS = (
    Group("Nest", "Not in the feature set `rat_only`.", NEST_FEATURES),
    Group("Visits to the nest", "Not in the feature set `rat_only`.", NEST_VISIT_FEATURES),
)
ARENA_GROUP = Group(
    "Arena",
    "Only where the outline of the arena is given (`arena` in `tailor.json`).",
    ARENA_FEATURES,
)
PAIR_GROUP = Group(
    "Other animals",
    "Only where the template has several animals: one set of columns for each of the others, here "
    "for one named `{other}`.",
    PAIR_FEATURES,
)


def has_nest(feature_set: str) -> bool:
    """Whether the set has the nest's columns. Raises PermanentProblem for an unknown set."""
    if feature_set not in FEATURE_SETS:
        raise PermanentProblem(
            f"There is no feature set {feature_set!r}: choose one of {', '.join(FEATURE_SETS)}."
        )
    return feature_set != "rat_only"


def table_features(
    feature_set: str,
    *,
    px_per_cm: float | None = None,
    arena: bool = False,
    others: Sequence[str] = (),
) -> list[Feature]:
    """All features of a table but their statistics over time, in the order of its columns.

    Those in centimetres are there only where ``px_per_cm`` is known, those of the arena where its
    outline is (``arena``), and those of each of the animals ``others``. Raises PermanentProblem for
    an unknown ``feature_set``.
    """
    found = list(ROWS.features)
    parts = [[feature for group in ANIMAL_GROUPS for feature in group.features]]
    if has_nest(feature_set):
        parts.append([feature for group in NEST_GROUPS for feature in group.features])
    if arena:
        parts.append(list(ARENA_GROUP.features))
    parts += [[feature.of_other(other) for feature in PAIR_GROUP.features] for other in others]
    for part in parts:
        found += part
        if px_per_cm is not None:
            found += [feature.in_cm() for feature in part if feature.length_power]
    return found


def rolling_columns(
    features: Sequence[Feature], windows_s: Sequence[float]
) -> Iterator[tuple[str, Feature, str, float]]:
    """(column, its feature, statistic, width in s) of all statistics over time, in order."""
    for feature in features:
        if feature.windows:
            for window_s in windows_s:
                for statistic in ROLLING_STATISTICS:
                    name = rolling_column(feature.name, statistic, window_s)
                    yield name, feature, statistic, window_s
    for feature in features:
        if feature.bands:
            for window_s in windows_s:
                for band in BANDS_HZ:
                    name = rolling_column(feature.name, band_name(band), window_s)
                    yield name, feature, band_name(band), window_s


def feature_schema(
    features: Sequence[Feature], windows_s: Sequence[float] = DEFAULT_WINDOWS_S
) -> dict[str, type[pl.DataType]]:
    """All columns of a table of ``features`` (``table_features``) and their types, in order."""
    schema = {feature.name: feature.kind for feature in features}
    return schema | {name: pl.Float64 for name, *_ in rolling_columns(features, windows_s)}


def feature_columns(
    feature_set: str,
    *,
    px_per_cm: float | None = None,
    windows_s: Sequence[float] = DEFAULT_WINDOWS_S,
    arena: bool = False,
    others: Sequence[str] = (),
) -> list[str]:
    """All columns of the features table, in order, the three that identify the row first.

    Arguments as for ``table_features``; ``windows_s``: widths of the rolling windows in seconds.
    Raises PermanentProblem for an unknown ``feature_set``.
    """
    features = table_features(feature_set, px_per_cm=px_per_cm, arena=arena, others=others)
    return list(feature_schema(features, windows_s))
