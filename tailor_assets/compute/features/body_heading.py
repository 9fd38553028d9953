"""Which end of the body's axis is the head, decided for a whole recording at once.

An ellipse has an axis and no direction. Two things tell its ends apart: rodents mostly walk
forwards, and seen from above they narrow towards the nose, so that the mask's longer tail (without
the animal's own tail, which is no part of the mask) points there. Either is wrong in some rows; so
of the two directions of all rows the sequence with the most evidence and the fewest turns about is
taken (dynamic programming over time, as Ctrax decides between head and tail: Branson et al. 2009,
doi:10.1038/nmeth.1328). A row's heading therefore also depends on rows after it.
"""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.features.feature import LOST, Feature
from tailor_assets.compute.features.motion_features import (
    MAX_GAP_S,
    MIN_ORIENTED_ECCENTRICITY,
    backward,
    shorter_way,
    time_steps,
)

_CTRAX = "after Ctrax (Branson et al. 2009, doi:10.1038/nmeth.1328); mask asymmetry: tailor"
_NO_HEAD = (
    f"{LOST}, where the eccentricity is 0.1 or less, and where nothing tells the ends of the axis "
    "apart"
)
HEADING_FEATURES = (
    Feature(
        "body_heading_sin",
        "-",
        "sine of the direction of the long axis towards the head, along y (down). The head is the end "
        "that the whole recording speaks for: evidence in favour is the way gone towards it (4 per "
        "body length) and the mask's skewness towards it (1 per second and unit); between rows, "
        "turning by an angle α costs 10 · (1 - cos α) / 2; the best sequence is found by dynamic "
        "programming, and so rows after this one count too",
        _CTRAX,
        missing=_NO_HEAD,
    ),
    Feature(
        "body_heading_cos",
        "-",
        "cosine of the same direction, along x (right)",
        _CTRAX,
        missing=_NO_HEAD,
    ),
    Feature(
        "body_heading_confidence",
        "0..1",
        "tanh(m / 2), m: by how much the best sequence with this head outdoes the best one with the "
        "other end of the axis. Not a calibrated probability",
        missing=_NO_HEAD,
    ),
    Feature(
        "body_asymmetry",
        "-",
        "skewness of the pixels' places along the long axis, positive where the longer tail is at "
        "the head",
        missing=_NO_HEAD,
    ),
    Feature(
        "body_turning_rad_s",
        "rad/s",
        "change of the body's heading since the row before, the shorter way round, per second; "
        "positive is clockwise on the screen",
        missing=f"{_NO_HEAD}, in this row or the one before; in the first row and after a pause",
    ),
    Feature(
        "forward_cos",
        "-1..1",
        "cosine of the angle between the body's heading and the centroid's step: 1 is forwards, "
        "0 sideways, -1 backwards",
        missing=f"{_NO_HEAD}; where there is no step or one shorter than 0.5 px",
    ),
)
HEADING_COLUMNS = tuple(feature.name for feature in HEADING_FEATURES)

# What speaks for an end, in units of a logarithm of odds.
PER_BODY_LENGTH = 4.0
PER_SKEWNESS_SECOND = 1.0
# A skewness beyond it is a tail or a reflection, and no stronger evidence for that.
MOST_SKEWNESS = 0.5
TURNING_ABOUT = 10.0


def heading_features(
    timestamp_s: np.ndarray,
    centroid_x: np.ndarray,
    centroid_y: np.ndarray,
    orientation: np.ndarray,
    eccentricity: np.ndarray,
    axis_major_length: np.ndarray,
    axis_skewness: np.ndarray,
    heading_sin: np.ndarray,
    heading_cos: np.ndarray,
) -> dict[str, np.ndarray]:
    """Find the body's heading; see HEADING_FEATURES for the names.

    All float64 [N], NaN where the animal is lost; ``axis_skewness`` as ``shape_features`` gives it,
    ``heading_sin`` and ``heading_cos`` as ``motion_features`` does. Returns float64 [N] per column.
    """
    dt, neighbours = time_steps(timestamp_s)
    # A row speaks for the time since the row before; the first one and one after a pause for as
    # long as usual.
    usual = float(np.median(dt[neighbours])) if neighbours.any() else 0.0
    lasts = np.minimum(np.where(neighbours, dt, usual), MAX_GAP_S)
    has_axis = eccentricity > MIN_ORIENTED_ECCENTRICITY
    axis_x, axis_y = np.sin(orientation), np.cos(orientation)
    way = backward(centroid_x, neighbours) * axis_x + backward(centroid_y, neighbours) * axis_y
    skewness = np.clip(axis_skewness, -MOST_SKEWNESS, MOST_SKEWNESS)
    length = np.where(has_axis, axis_major_length, np.nan)
    evidence = PER_BODY_LENGTH * np.nan_to_num(way / length)
    evidence += PER_SKEWNESS_SECOND * np.nan_to_num(skewness) * lasts
    margin = np.full(timestamp_s.shape, np.nan)
    margin[has_axis] = _margins(
        evidence[has_axis], _joined(timestamp_s, axis_x, axis_y, dt, neighbours, has_axis)
    )
    known = np.abs(margin) > 1e-9
    sign = np.where(known, np.sign(margin), np.nan)
    along_x, along_y = sign * axis_x, sign * axis_y
    angle = np.arctan2(along_y, along_x)
    turn = shorter_way(backward(angle, neighbours))
    return {
        "body_heading_sin": along_y,
        "body_heading_cos": along_x,
        "body_heading_confidence": np.where(known, np.tanh(np.abs(margin) / 2.0), np.nan),
        "body_asymmetry": sign * axis_skewness,
        "body_turning_rad_s": turn / dt,
        "forward_cos": np.clip(along_x * heading_cos + along_y * heading_sin, -1.0, 1.0),
    }


def facing_cos(
    heading_sin: np.ndarray,
    heading_cos: np.ndarray,
    to_x: np.ndarray,
    to_y: np.ndarray,
) -> np.ndarray:
    """Cosine between a heading and the direction (``to_x``, ``to_y``), float64 [N]; NaN for none."""
    length = np.hypot(to_x, to_y)
    length = np.where(length > 0, length, np.nan)
    return np.clip((heading_cos * to_x + heading_sin * to_y) / length, -1.0, 1.0)


def _joined(
    timestamp_s: np.ndarray,
    axis_x: np.ndarray,
    axis_y: np.ndarray,
    dt: np.ndarray,
    neighbours: np.ndarray,
    has_axis: np.ndarray,
) -> np.ndarray:
    """How much each row with an axis is bound to the one before it, float64 [rows], -1..1.

    The cosine between their axes, or 0 (any head goes with any) over a gap in time.
    """
    if not has_axis.any():
        return np.empty(0)
    rows = np.flatnonzero(has_axis)
    # Rows without an axis may lie between, but no pause: as long as two rows may be apart at all.
    longest = float(dt[neighbours].max()) if neighbours.any() else 0.0
    near = np.diff(timestamp_s[rows], prepend=-np.inf) <= max(MAX_GAP_S, longest)
    x, y = axis_x[rows], axis_y[rows]
    cosine = np.zeros(rows.size)
    cosine[1:] = x[1:] * x[:-1] + y[1:] * y[:-1]
    return np.where(near, cosine, 0.0)


def _margins(evidence: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """Best total with the head at the axis' positive end minus that at the other, float64 [n].

    Only the difference of the two totals is carried from row to row: towards the next row it is
    bounded by what turning about costs there, 10 times the cosine between the axes.
    """
    n = evidence.size
    bound = (TURNING_ABOUT * np.abs(joined)).tolist()
    opposite = (joined < 0).tolist()
    given = evidence.tolist()
    before, after = [0.0] * n, [0.0] * n
    carried = 0.0
    for i in range(n):
        limit = bound[i]
        carried = min(max(carried, -limit), limit)
        before[i] = -carried if opposite[i] else carried
        carried = before[i] + given[i]
    carried = 0.0
    for i in range(n - 1, 0, -1):
        limit = bound[i]
        carried = min(max(carried + given[i], -limit), limit)
        carried = -carried if opposite[i] else carried
        after[i - 1] = carried
    return np.array(before) + evidence + np.array(after)
