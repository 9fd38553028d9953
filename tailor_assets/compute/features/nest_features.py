"""Where the animal is relative to its nest, and how the nest itself changes."""

import numpy as np
import polars as pl

from tailor_assets.compute.features.feature import (
    ANIMAL,
    EITHER_LOST,
    NEST,
    NEST_LOST,
    Feature,
)
from tailor_assets.compute.features.mask_strip import (
    Windows,
    cut_strip,
    in_batches,
    pixels_set,
    shared_area,
)
from tailor_assets.compute.features.shape_features import STRIP_PIXELS, strip_runs

_BOTH = (ANIMAL, NEST)
_ZONE = "the convention of zones, as in EthoVision XT (In zone)"
NEST_FEATURES = (
    Feature(
        "nest_mask_quality",
        "0..1",
        "the segmenter's score of the nest's mask; 0 where it is not found",
        missing="the template has no nest",
        needs=(),
    ),
    Feature(
        "nest_mask_state",
        "text",
        "what happened to the nest's mask, in the words of `mask_state`",
        missing="the template has no nest",
        kind=pl.String,
        needs=(),
    ),
    Feature(
        "nest_area",
        "px²",
        "number of pixels of the nest's mask",
        missing=NEST_LOST,
        needs=(NEST,),
        length_power=2,
        windows=True,
    ),
    Feature(
        "nest_area_change",
        "1/s",
        "change of the nest's area since the row before / that area / seconds",
        missing=f"{NEST_LOST} in this row or the one before; in the first row and after a pause",
        needs=(NEST,),
        windows=True,
    ),
    Feature(
        "distance_to_nest_px",
        "px",
        "from the animal's centroid to the centre of the nearest pixel of the nest; 0 where the "
        "pixel under the centroid is the nest's",
        missing=EITHER_LOST,
        needs=_BOTH,
        length_power=1,
        windows=True,
    ),
    Feature(
        "nest_overlap",
        "0..1",
        "part of the animal's pixels that are the nest's too",
        missing=EITHER_LOST,
        needs=_BOTH,
        windows=True,
    ),
    Feature(
        "nest_share",
        "0..1",
        "part of the animal that lies on the nest, seen or hidden: `nest_overlap` or, if greater, "
        "the area that the nest has lost since the animal was last away from it / `area` "
        "(segmenters that give every pixel to one object leave a hole in the nest instead of an "
        "overlap); the second only within half a body length of the nest",
        missing=EITHER_LOST,
        needs=_BOTH,
    ),
    Feature(
        "in_nest",
        "true, false",
        "the pixel under the centroid is the nest's, or `nest_share` > 0.5",
        _ZONE,
        missing=EITHER_LOST,
        kind=pl.Boolean,
        needs=_BOTH,
    ),
    Feature(
        "nest_occlusion",
        "0..1",
        "part of the nest that the animal covers: shared pixels / `nest_area` or, if greater, the "
        "area that the nest has lost since the animal was last away from it / the area then; the "
        "second only within half a body length of the nest",
        missing=EITHER_LOST,
        needs=_BOTH,
    ),
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
        frame = np.repeat(np.arange(len(batch)), runs.count)
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
    near = distance_px <= axis_major_length / 2
    lost = _whole_area(distance_px, nest_area, axis_major_length) - nest_area
    hidden = np.where(near, lost / area, 0.0)
    return np.where(np.isfinite(overlap), np.fmax(overlap, np.clip(hidden, 0.0, 1.0)), np.nan)


def nest_occlusion(
    distance_px: np.ndarray,
    overlap: np.ndarray,
    nest_area: np.ndarray,
    area: np.ndarray,
    axis_major_length: np.ndarray,
) -> np.ndarray:
    """Part of the nest that the animal covers: float64 [n], 0..1, NaN unknown.

    Arguments as for ``nest_share``, of which this is the other side: what the two masks share, or
    what the nest lost since the animal was last away, as a part of the nest.
    """
    whole = _whole_area(distance_px, nest_area, axis_major_length)
    near = distance_px <= axis_major_length / 2
    hidden = np.where(near, (whole - nest_area) / whole, 0.0)
    shared = overlap * area / nest_area
    covered = np.fmax(shared, np.clip(hidden, 0.0, 1.0))
    return np.where(np.isfinite(overlap), np.minimum(covered, 1.0), np.nan)


def _whole_area(
    distance_px: np.ndarray, nest_area: np.ndarray, axis_major_length: np.ndarray
) -> np.ndarray:
    """The nest's area when the animal was last away from it, float64 [n]."""
    away = (distance_px > axis_major_length) & np.isfinite(nest_area)
    if np.any(away):
        rows = np.flatnonzero(away)
        latest = np.searchsorted(rows, np.arange(away.size), side="right") - 1
        return nest_area[rows[np.maximum(latest, 0)]]
    seen = nest_area[np.isfinite(nest_area)]
    return np.full(away.size, seen.max() if seen.size else np.nan)


def nest_area_change(nest_area: np.ndarray, neighbours: np.ndarray, dt_s: np.ndarray) -> np.ndarray:
    """Relative change of the nest's area since the row before, per second, float64 [N].

    ``nest_area`` float64 [N], NaN where there is no nest; ``neighbours`` bool [N] and ``dt_s``
    float64 [N] as motion_features.py gives them. 0.01 means: at this rate the nest grows by 1% of
    its area a second. NaN where this row or the one before shows no nest.
    """
    change = np.full(nest_area.shape, np.nan)
    change[1:] = np.diff(nest_area) / nest_area[:-1] / dt_s[1:]
    return np.where(neighbours, change, np.nan)
