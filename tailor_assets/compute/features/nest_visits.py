"""How the animal comes to its nest and goes: approach, entries, latency, time spent there."""

import numpy as np

from tailor_assets.compute.features.body_heading import facing_cos
from tailor_assets.compute.features.feature import ANIMAL, EITHER_LOST, NEST, Feature
from tailor_assets.compute.features.motion_features import backward

_BOTH = (ANIMAL, NEST)
_VISITS = "EthoVision XT (Noldus), statistics of In zone"
NEST_VISIT_FEATURES = (
    Feature(
        "nest_approach_px_s",
        "px/s",
        "decrease of `distance_to_nest_px` since the row before, per second; positive is nearer",
        missing=f"{EITHER_LOST} in this row or the one before; in the first row and after a pause",
        needs=_BOTH,
        length_power=1,
    ),
    Feature(
        "facing_nest_cos",
        "-1..1",
        "cosine of the angle between the body's heading and the direction from the animal's centroid "
        "to the nest's",
        missing=f"{EITHER_LOST}, or the body's heading is not known",
        needs=_BOTH,
    ),
    Feature(
        "nest_entries",
        "-",
        "number of visits to the nest begun so far: rows with `in_nest` whose last row before with "
        "a known `in_nest` was outside; a recording that begins in the nest begins with a visit",
        _VISITS,
        missing=EITHER_LOST,
        needs=_BOTH,
    ),
    Feature(
        "nest_latency_s",
        "s",
        "time of the first entry since the first row; the same in all rows from then on",
        _VISITS,
        missing=f"{EITHER_LOST}; before the first entry",
        needs=_BOTH,
    ),
    Feature(
        "nest_time_s",
        "s",
        "time spent in the nest so far: sum of the steps that end in it; steps from a row in which "
        "animal or nest is lost, and pauses, are not in it",
        _VISITS,
        missing=EITHER_LOST,
        needs=_BOTH,
    ),
    Feature(
        "time_since_nest_entry_s",
        "s",
        "since the first row of the last visit, whether or not it has ended",
        missing=f"{EITHER_LOST}; before the first entry",
        needs=_BOTH,
    ),
)


def nest_visits(
    timestamp_s: np.ndarray, neighbours: np.ndarray, dt_s: np.ndarray, in_nest: np.ndarray
) -> dict[str, np.ndarray]:
    """Entries, latency and time in the nest so far, float64 [N] per column.

    ``in_nest`` float64 [N]: 1, 0, or NaN where it is not known (such a row has no value, and ends
    no visit); ``neighbours`` and ``dt_s`` as motion_features.py gives them.
    """
    known = ~np.isnan(in_nest)
    rows = np.flatnonzero(known)
    inside = in_nest[rows] == 1
    enters = rows[inside & ~np.concatenate(([False], inside[:-1]))]
    entry = np.zeros(timestamp_s.shape, bool)
    entry[enters] = True
    entries = np.cumsum(entry)
    after = known & (entries > 0)
    # Index of the last entry of each row; of no meaning before the first one.
    last = enters[np.maximum(entries - 1, 0)] if enters.size else np.zeros(entries.shape, np.intp)
    start = timestamp_s[0] if timestamp_s.size else 0.0
    first_entry = timestamp_s[enters[0]] - start if enters.size else np.nan
    known_before = np.concatenate(([False], known[:-1]))[: known.size]
    steps = np.where(neighbours & known_before & (in_nest == 1), dt_s, 0.0)
    return {
        "nest_entries": np.where(known, entries, np.nan),
        "nest_latency_s": np.where(after, first_entry, np.nan),
        "nest_time_s": np.where(known, np.cumsum(steps), np.nan),
        "time_since_nest_entry_s": np.where(after, timestamp_s - timestamp_s[last], np.nan)
        if timestamp_s.size
        else np.empty(0),
    }


def nest_motion(
    centroid_x: np.ndarray,
    centroid_y: np.ndarray,
    body_heading_sin: np.ndarray,
    body_heading_cos: np.ndarray,
    distance_px: np.ndarray,
    nest_centroid: np.ndarray,
    neighbours: np.ndarray,
    dt_s: np.ndarray,
) -> dict[str, np.ndarray]:
    """Approach to the nest and whether the animal faces it, float64 [N] per column.

    ``nest_centroid`` float64 [N, 2]: row and column, NaN where the nest is not found; the others
    float64 [N] as in the table, ``neighbours`` and ``dt_s`` as motion_features.py gives them.
    """
    to_x, to_y = nest_centroid[:, 1] - centroid_x, nest_centroid[:, 0] - centroid_y
    return {
        "nest_approach_px_s": -backward(distance_px, neighbours) / dt_s,
        "facing_nest_cos": facing_cos(body_heading_sin, body_heading_cos, to_x, to_y),
    }
