"""How much of the animal is in its nest, also where the nest's mask leaves out what the animal hides.

Some segmenters let the two masks overlap (the nest as it is without the animal); others give every
pixel to one object, and then an animal in the middle of its nest overlaps it nowhere and only makes
a hole in it. The hole is what this measures: the area that the nest lost since the animal was last
away from it.
"""

from __future__ import annotations

import numpy as np


def nest_share(
    distance_px: np.ndarray,
    overlap: np.ndarray,
    nest_area: np.ndarray,
    area: np.ndarray,
    axis_major_length: np.ndarray,
) -> np.ndarray:
    """Part of the animal that lies on the nest, seen or hidden: float64 [n], 0..1, NaN unknown.

    All float64 [n], rows in time order, NaN where not known: distance of the animal's centroid to
    the nearest pixel of the nest (px), visible overlap as part of the animal, areas of nest and
    animal (px), length of the animal (px).

    The greater of the overlap and (nest's area when the animal was last away - its area now) /
    animal's area; the second counts only within half a body length of the nest. Away is farther
    than a body length. A nest that the animal never left is compared with its greatest area.
    """
    away = (distance_px > axis_major_length) & np.isfinite(nest_area)
    if np.any(away):
        rows = np.flatnonzero(away)
        latest = np.searchsorted(rows, np.arange(away.size), side="right") - 1
        whole_area = nest_area[rows[np.maximum(latest, 0)]]
    else:
        seen = nest_area[np.isfinite(nest_area)]
        whole_area = np.full(away.size, seen.max() if seen.size else np.nan)
    near = distance_px <= axis_major_length / 2
    hidden = np.where(near, (whole_area - nest_area) / area, 0.0)
    return np.where(np.isfinite(overlap), np.fmax(overlap, np.clip(hidden, 0.0, 1.0)), np.nan)
