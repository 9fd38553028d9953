"""Where the animal is relative to its nest, and how the nest itself changes."""

import numpy as np

from tailor_assets.compute.features.mask_strip import (
    Windows,
    cut_strip,
    in_batches,
    pixels_set,
    shared_area,
)
from tailor_assets.compute.features.shape_features import STRIP_PIXELS, strip_runs

NEST_COLUMNS = (
    "nest_mask_quality",
    "nest_mask_state",
    "nest_area",
    "nest_area_change",
    "distance_to_nest_px",
    "nest_overlap",
    "nest_share",
    "in_nest",
)
# Those that need animal and nest in one frame.
RELATION_COLUMNS = ("distance_to_nest_px", "nest_overlap", "in_nest")
# An animal more than half of which lies on the nest is in it, even if its centroid is not: a
# curled-up or hollow mask can have its centroid off the nest's pixels.
IN_NEST_SHARE = 0.5


def nest_relation(
    packed_subject: np.ndarray,
    subject: Windows,
    packed_nest: np.ndarray,
    nest: Windows,
    centroid_x: np.ndarray,
    centroid_y: np.ndarray,
    area: np.ndarray,
    height: int,
    width: int,
) -> dict[str, np.ndarray]:
    """Relate the animal to the nest in the n frames where both are seen.

    ``packed_*`` uint8 [frames, ceil(height * width / 8)], row-major, first pixel in bit 7;
    ``subject`` and ``nest``: the windows of the same n frames; ``centroid_x``, ``centroid_y``,
    ``area`` float64 [n]: the animal's, in pixels. Returns

    - ``distance_to_nest_px`` float64 [n]: from the centroid to the centre of the nearest pixel of
      the nest, 0 where the pixel under the centroid belongs to the nest;
    - ``nest_overlap`` float64 [n]: part of the animal's pixels that are the nest's too, 0..1;
    - ``in_nest`` float64 [n], 1 or 0: the centroid is inside the nest or the overlap is greater
      than IN_NEST_SHARE.

    Raises ValueError where a window of the nest holds no pixel.
    """
    if len(subject) == 0:
        return {name: np.empty(0) for name in RELATION_COLUMNS}
    shared = shared_area(packed_subject, subject, packed_nest, nest.row, height, width)
    overlap = shared / area
    row, col = np.rint(centroid_y).astype(np.int64), np.rint(centroid_x).astype(np.int64)
    inside = pixels_set(packed_nest, nest.row, row, col, width)
    distance = _distance_to_runs(packed_nest, nest, centroid_x, centroid_y, height, width)
    return {
        "distance_to_nest_px": np.where(inside, 0.0, distance),
        "nest_overlap": overlap,
        "in_nest": (inside | (overlap > IN_NEST_SHARE)).astype(np.float64),
    }


def _distance_to_runs(
    packed: np.ndarray, windows: Windows, x: np.ndarray, y: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Distance from (x, y) to the nearest pixel centre of each mask, float64 [n]."""
    distances, done = [], 0
    for batch in in_batches(windows, STRIP_PIXELS):
        strip = cut_strip(packed, batch, height, width)
        runs = strip_runs(strip)
        n_runs = np.diff(runs.of_frame, append=runs.line.shape[0])
        frame = np.repeat(np.arange(len(batch)), n_runs)
        px, py = x[done + frame], y[done + frame]
        row = runs.line - strip.first_line[frame] + batch.min_row[frame]
        left = batch.min_col[frame]
        # The nearest pixel of a run is the one under the point, or the run's nearer end.
        col = np.clip(np.rint(px), runs.start + left, runs.stop - 1 + left)
        squared = (col - px) ** 2 + (row - py) ** 2
        distances.append(np.sqrt(np.minimum.reduceat(squared, runs.of_frame)))
        done += len(batch)
    return np.concatenate(distances)


def nest_share(
    distance_px: np.ndarray,
    overlap: np.ndarray,
    nest_area: np.ndarray,
    area: np.ndarray,
    axis_major_length: np.ndarray,
) -> np.ndarray:
    """Part of the animal that lies on the nest, seen or hidden: float64 [n], 0..1, NaN unknown.

    Some segmenters let the two masks overlap (the nest as it is without the animal); others give
    every pixel to one object, and then an animal in the middle of its nest overlaps it nowhere and
    only makes a hole in it. The hole is what this measures: the area that the nest lost since the
    animal was last away from it.

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


def nest_area_change(nest_area: np.ndarray, neighbours: np.ndarray, dt_s: np.ndarray) -> np.ndarray:
    """Relative change of the nest's area since the row before, per second, float64 [N].

    ``nest_area`` float64 [N], NaN where there is no nest; ``neighbours`` bool [N] and ``dt_s``
    float64 [N] as motion_features.py gives them. 0.01 means: at this rate the nest grows by 1% of
    its area a second. NaN where this row or the one before shows no nest.
    """
    change = np.full(nest_area.shape, np.nan)
    change[1:] = np.diff(nest_area) / nest_area[:-1] / dt_s[1:]
    return np.where(neighbours, change, np.nan)
