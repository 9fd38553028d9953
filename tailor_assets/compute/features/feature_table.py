"""From a masks NPZ to the features table: one row per frame, one column per feature.

What each frame's masks say comes from mask_measurements.py; what depends on neighbouring rows
(motion, windows of time) is computed here from the columns, and everything is put in one table.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.arena_features import arena_features, check_arena
from tailor_assets.compute.features.band_power import band_powers
from tailor_assets.compute.features.body_heading import heading_features
from tailor_assets.compute.features.feature import ANIMAL, NEST, OTHER, Feature
from tailor_assets.compute.features.feature_columns import (
    DEFAULT_WINDOWS_S,
    FEATURES_VERSION,
    feature_columns,
    feature_schema,
    has_nest,
    rolling_columns,
    table_features,
)
from tailor_assets.compute.features.mask_measurements import DEFAULT_WORKERS, measure_masks
from tailor_assets.compute.features.motion_features import motion_features, time_steps
from tailor_assets.compute.features.nest_features import (
    IN_NEST_SHARE,
    nest_area_change,
    nest_occlusion,
    nest_share,
)
from tailor_assets.compute.features.nest_visits import nest_motion, nest_visits
from tailor_assets.compute.features.pair_features import pair_features
from tailor_assets.compute.features.rolling_features import (
    rolling_column,
    rolling_features,
    window_bounds,
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
    arena: Sequence[tuple[float, float]] | None = None,
    others: Sequence[str] = (),
    workers: int = DEFAULT_WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Compute all features of one animal.

    ``feature_set``: "mouse", "rat" (the same columns) or "rat_only" (without the nest's).
    ``subject`` and ``nest``: names of objects in the file; with ``nest=None`` the nest's columns of
    "mouse" and "rat" are there, and null. ``px_per_cm``: adds the columns in centimetres.
    ``windows_s``: widths of the rolling windows in seconds. ``arena``: corners (x, y) in pixels of
    the arena's outline, in order around it; adds the columns of the arena. ``others``: other animals
    in the file; adds the columns of each. ``workers``: threads that measure beside the one that
    reads; the result does not depend on it. ``progress(done, total)`` is called with numbers of
    frames.

    Returns one row per frame of the file and the columns that ``feature_schema`` names, with its
    types. Where the animal is lost (its mask is empty) its features are null, rolling ones included;
    where the nest is, those of the nest. A mask in doubt (merged, swapped) is measured like any
    other: its state says so beside the numbers. docs/features.md describes every column.
    Raises PermanentProblem for unknown names, impossible numbers and a damaged file.
    """
    nest = nest if has_nest(feature_set) else None
    _check_request(reader, subject, nest, px_per_cm, windows_s, arena, others)
    time = np.asarray(reader.timestamp_s, np.float64)
    found = measure_masks(reader, subject, nest, others, workers=workers, progress=progress)
    # A lost animal has a quality, 0, where everything else of it is missing.
    found["mask_quality"] = reader.score(subject).astype(np.float64)
    dt_s, neighbours = time_steps(time)
    _add_motion(found, time)
    _add_nest(found, reader, nest, time, neighbours, dt_s)
    if arena is not None:
        place = ("centroid_x", "centroid_y", "body_heading_sin", "body_heading_cos")
        found |= arena_features(arena, *(found[name] for name in place))
    # A window reaches past a row without the animal; the row itself has no data all the same.
    lost = {ANIMAL: np.isnan(found["area"]), NEST: np.isnan(found["nest_area"])}
    for other in others:
        lost[OTHER.replace("{other}", other)] = np.isnan(found[f"{other}/area"])
        found |= _pair(found, other, time, neighbours, dt_s)
    features = table_features(
        feature_set, px_per_cm=px_per_cm, arena=arena is not None, others=others
    )
    schema = feature_schema(features, windows_s)
    if px_per_cm is not None:
        for feature in features:
            if feature.length_power:
                found[feature.name_cm] = found[feature.name] / px_per_cm**feature.length_power
    found = {name: found[name] for name in schema if name in found}
    found |= {
        "frame": np.arange(len(reader)),
        "source_frame": reader.source_frame,
        "timestamp_s": time,
        "mask_state": _states(reader, subject),
        "nest_mask_state": _states(reader, nest),
    }
    # Each in a thread that a recording of two cores has to spare.
    found |= _over_time(found, lost, features, time, windows_s, workers + 1)
    # NaN becomes null: no data is not a number. What is in the table is let go of at once.
    return pl.DataFrame([_series(name, found.pop(name), kind) for name, kind in schema.items()])


def _add_motion(found: dict[str, np.ndarray], time: np.ndarray) -> None:
    """Motion and heading, from what was measured."""
    found |= motion_features(
        time,
        found["centroid_x"],
        found["centroid_y"],
        found["orientation"],
        found["eccentricity"],
        found["area"],
        found.pop("shared_with_previous"),
    )
    found |= heading_features(
        time,
        found["centroid_x"],
        found["centroid_y"],
        found["orientation"],
        found["eccentricity"],
        found["axis_major_length"],
        found["axis_skewness"],
        found["heading_sin"],
        found["heading_cos"],
    )


def _add_nest(
    found: dict[str, np.ndarray],
    reader: MaskReader,
    nest: str | None,
    time: np.ndarray,
    neighbours: np.ndarray,
    dt_s: np.ndarray,
) -> None:
    nowhere = np.full(len(reader), np.nan)
    found["nest_mask_quality"] = nowhere if nest is None else reader.score(nest).astype(np.float64)
    centroid = np.column_stack((nowhere, nowhere)) if nest is None else reader.centroid(nest)
    of_both = ("distance_to_nest_px", "nest_overlap", "nest_area", "area", "axis_major_length")
    arguments = [found[name] for name in of_both]
    found["nest_share"] = nest_share(*arguments)
    found["nest_occlusion"] = nest_occlusion(*arguments)
    found["in_nest"] = np.where(found["nest_share"] > IN_NEST_SHARE, 1.0, found["in_nest"])
    found["nest_area_change"] = nest_area_change(found["nest_area"], neighbours, dt_s)
    found |= nest_visits(time, neighbours, dt_s, found["in_nest"])
    found |= nest_motion(
        found["centroid_x"],
        found["centroid_y"],
        found["body_heading_sin"],
        found["body_heading_cos"],
        found["distance_to_nest_px"],
        centroid,
        neighbours,
        dt_s,
    )


def _pair(
    found: dict[str, np.ndarray],
    other: str,
    time: np.ndarray,
    neighbours: np.ndarray,
    dt_s: np.ndarray,
) -> dict[str, np.ndarray]:
    """How the animal stands to ``other``, whose measurements are taken out of ``found``."""
    prefix = f"{other}/"
    theirs = {
        name.removeprefix(prefix): found.pop(name)
        for name in list(found)
        if name.startswith(prefix)
    }
    gap = theirs.pop("gap")
    theirs["shared_with_previous"] = np.full(time.shape, np.nan)
    _add_motion(theirs, time)
    return pair_features(other, found, theirs, gap, neighbours, dt_s)


def _over_time(
    found: dict[str, np.ndarray],
    lost: dict[str, np.ndarray],
    features: Sequence[Feature],
    time: np.ndarray,
    windows_s: Sequence[float],
    workers: int,
) -> dict[str, np.ndarray]:
    """All columns of ``rolling_columns``, NaN in rows that have ``lost`` what their feature needs."""
    columns = {feature.name: found[feature.name] for feature in features if feature.windows}
    rolled = rolling_features(time, columns, windows_s, workers=workers)
    columns = {feature.name: found[feature.name] for feature in features if feature.bands}
    bounds = [window_bounds(time, window_s) for window_s in windows_s]
    powers = band_powers(time, columns, windows_s, bounds, workers=workers)
    rolled |= {rolling_column(*key): values for key, values in powers.items()}
    for name, feature, *_ in rolling_columns(features, windows_s):
        for needed in feature.needs:
            rolled[name][lost[needed]] = np.nan
    return rolled


def _series(name: str, values: np.ndarray, kind: type[pl.DataType]) -> pl.Series:
    if kind == pl.String:
        return pl.Series(name, values.tolist(), dtype=pl.String)
    return pl.Series(name, values, nan_to_null=True).cast(kind)


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
    arena: Sequence[tuple[float, float]] | None,
    others: Sequence[str],
) -> None:
    asked_for = [name for name in (subject, nest, *others) if name is not None]
    for name in asked_for:
        if name not in reader.objects:
            raise PermanentProblem(
                f"{reader.path.name} has no masks of {name!r}, only of "
                f"{', '.join(reader.objects)}: choose a template with these objects."
            )
    if len(set(asked_for)) != len(asked_for):
        raise PermanentProblem(
            f"The objects {', '.join(asked_for)} are not all different: name the animal, its nest "
            "and the other animals once each."
        )
    if arena is not None:
        check_arena(arena)
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
