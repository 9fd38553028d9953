"""How the animal moves from one row to the next, in seconds of the video's own timestamps.

Every rate belongs to the step that ends at its row (a backward difference): nothing from the future
is in it, and the steps add up to the path. A step needs the animal in both rows, and rows that are
close enough in time; otherwise there is no step, and nothing is guessed across the gap.
"""

import numpy as np

from tailor_assets.compute.features.feature import JABS, LOST, Feature

_NO_STEP = (
    f"{LOST} in this row or the one before, in the first row, and after a pause longer than 1 s and 3 "
    "median intervals"
)
_NO_TWO_STEPS = f"{_NO_STEP}; the same for the step before"
_NO_DIRECTION = f"{_NO_STEP}; where the step is shorter than 0.5 px"
_LABGYM = "LabGym (Hu et al. 2023, doi:10.1016/j.crmeth.2023.100415)"
MOTION_FEATURES = (
    Feature(
        "speed_px_s",
        "px/s",
        "length of the centroid's step from the row before / its duration",
        f"{JABS}: centroid speed, there of a central difference",
        missing=_NO_STEP,
        length_power=1,
        windows=True,
        windows_cm=True,
        bands=True,
    ),
    Feature(
        "acceleration_px_s2",
        "px/s²",
        "change of speed between the last two steps / time between their middles",
        missing=_NO_TWO_STEPS,
        length_power=1,
        windows=True,
    ),
    Feature(
        "path_length_px",
        "px",
        "sum of all steps so far; what was walked unseen is not in it",
        "cumulative distance, as in DeepOF (Bordes et al. 2023, doi:10.1038/s41467-023-40040-3)",
        length_power=1,
    ),
    Feature(
        "heading_sin",
        "-",
        "sine of the direction of the step, along y (down)",
        missing=_NO_DIRECTION,
    ),
    Feature(
        "heading_cos",
        "-",
        "cosine of the direction of the step, along x (right)",
        missing=_NO_DIRECTION,
    ),
    Feature(
        "turning_rad_s",
        "rad/s",
        "change of the step's direction between the last two steps, the shorter way round / time "
        "between their middles; positive is clockwise on the screen",
        missing=f"{_NO_TWO_STEPS}; where either step is shorter than 0.5 px",
        windows=True,
    ),
    Feature(
        "orientation_double_sin",
        "-",
        "sin(2 · `orientation`): the same for an axis and its reverse, without a jump",
        "Mardia and Jupp 2000, Directional Statistics, 1.1",
    ),
    Feature(
        "orientation_double_cos",
        "-",
        "cos(2 · `orientation`)",
        "Mardia and Jupp 2000, Directional Statistics, 1.1",
    ),
    Feature(
        "orientation_change_rad_s",
        "rad/s",
        "rotation of the long axis since the row before, modulo π, the shorter way, in the sense of "
        "`orientation`, per second",
        missing=f"{_NO_STEP}; where the eccentricity of either row is 0.1 or less",
        windows=True,
        bands=True,
    ),
    Feature(
        "mask_motion",
        "0..1",
        "1 - intersection / union of this mask and the one before: movement with the centroid at "
        "rest. Not per second: it grows with the time between rows",
        "Jaccard distance",
        missing=_NO_STEP,
        windows=True,
        bands=True,
    ),
    Feature(
        "mask_change",
        "-",
        "pixels that are in only one of this mask and the one before / pixels of the one before",
        f"{_LABGYM}: the proportional change of area of its areal parameters, between two frames",
        missing=_NO_STEP,
    ),
)
MOTION_COLUMNS = tuple(feature.name for feature in MOTION_FEATURES)
# Two rows further apart than this, and than 3 usual intervals, are not neighbours: the recording
# was paused, or frames are missing, and what the animal did in between is not known.
MAX_GAP_S = 1.0
MAX_GAP_INTERVALS = 3.0
# A shorter step is within the jitter of a resting animal's outline: it has no direction.
MIN_HEADING_STEP_PX = 0.5
# A rounder body has no long axis to speak of.
MIN_ORIENTED_ECCENTRICITY = 0.1


def time_steps(timestamp_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since the row before, and whether the row before is a neighbour.

    ``timestamp_s`` float64 [N], strictly increasing. Returns (float64 [N], NaN in the first row;
    bool [N], False in the first row and after a gap: see MAX_GAP_S).
    """
    dt = np.full(timestamp_s.shape, np.nan)
    dt[1:] = np.diff(timestamp_s)
    if timestamp_s.shape[0] < 2:
        return dt, np.zeros(timestamp_s.shape, bool)
    limit = max(MAX_GAP_S, MAX_GAP_INTERVALS * float(np.median(dt[1:])))
    return dt, dt <= limit


def shorter_way(turn: np.ndarray, period: float = 2 * np.pi) -> np.ndarray:
    """``turn`` float64 [N], in radians and modulo ``period``, the shorter way round.

    Within [-period / 2, period / 2); NaN stays.
    """
    return np.remainder(turn + period / 2, period) - period / 2


def motion_features(
    timestamp_s: np.ndarray,
    centroid_x: np.ndarray,
    centroid_y: np.ndarray,
    orientation: np.ndarray,
    eccentricity: np.ndarray,
    area: np.ndarray,
    shared_with_previous: np.ndarray,
) -> dict[str, np.ndarray]:
    """Describe the motion; see MOTION_COLUMNS for the names.

    All arguments float64 [N], NaN where the animal is lost: ``timestamp_s`` in seconds, the
    centroid in pixels, ``orientation`` in radians, ``area`` and ``shared_with_previous`` (pixels
    that the mask shares with the mask of the row before) in pixels. Returns float64 [N] per column,
    NaN where it is not known:

    - ``speed_px_s``: length of the centroid's step over its duration;
    - ``acceleration_px_s2``: difference of the last two speeds over the time between the middles of
      their steps;
    - ``path_length_px``: sum of all steps so far; what was walked unseen is not in it;
    - ``heading_sin``, ``heading_cos``: direction of the step in picture axes (cos along centroid_x,
      sin along centroid_y, which points down);
    - ``turning_rad_s``: change of heading, the shorter way round, over the time between the middles
      of the steps; positive is clockwise on the screen;
    - ``orientation_double_sin``, ``orientation_double_cos``: of twice the orientation, which is the
      same for an axis and its reverse (Mardia and Jupp, Directional Statistics, 1.1);
    - ``orientation_change_rad_s``: rotation of the body axis, the shorter way round, modulo pi;
    - ``mask_motion``: 1 - intersection over union of this mask and the one before, 0..1: it sees
      the movements of an animal whose centroid stays where it is;
    - ``mask_change``: symmetric difference of the two masks over the area of the one before.
    """
    dt, neighbours = time_steps(timestamp_s)
    step_x, step_y = backward(centroid_x, neighbours), backward(centroid_y, neighbours)
    step = np.hypot(step_x, step_y)
    speed = step / dt
    between_middles = (dt + _previous(dt)) / 2.0

    heading = np.where(step >= MIN_HEADING_STEP_PX, np.arctan2(step_y, step_x), np.nan)
    turn = shorter_way(backward(heading, neighbours))
    axis = np.where(eccentricity > MIN_ORIENTED_ECCENTRICITY, orientation, np.nan)
    rotation = shorter_way(backward(axis, neighbours), period=np.pi)

    path = np.where(np.isnan(centroid_x), np.nan, np.nancumsum(step))
    before = _previous(area)
    union = area + before - shared_with_previous
    return {
        "speed_px_s": speed,
        "acceleration_px_s2": backward(speed, neighbours) / between_middles,
        "path_length_px": path,
        "heading_sin": np.sin(heading),
        "heading_cos": np.cos(heading),
        "turning_rad_s": turn / between_middles,
        "orientation_double_sin": np.sin(2 * orientation),
        "orientation_double_cos": np.cos(2 * orientation),
        "orientation_change_rad_s": rotation / dt,
        "mask_motion": np.where(neighbours, 1.0 - shared_with_previous / union, np.nan),
        "mask_change": np.where(neighbours, (union - shared_with_previous) / before, np.nan),
    }


def _previous(values: np.ndarray) -> np.ndarray:
    previous = np.full(values.shape, np.nan)
    previous[1:] = values[:-1]
    return previous


def backward(values: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Difference to the row before, float64 [N], NaN where that is no neighbour."""
    return np.where(neighbours, values - _previous(values), np.nan)


def mean_over_steps(timestamp_s: np.ndarray, rate: np.ndarray) -> float | None:
    """Mean of a rate over the time of the steps that have one; None where none has.

    Both float64 [N]; ``rate`` is of the step that ends at its row (of speed: distance / time of the
    steps seen), NaN where there is none.
    """
    steps = np.diff(timestamp_s, prepend=timestamp_s[:1])
    there = np.isfinite(rate)
    seconds = float(steps[there].sum())
    return float((rate[there] * steps[there]).sum() / seconds) if seconds > 0 else None
