"""Size, place and form of one object in every frame, as scikit-image's ``regionprops`` defines them.

All pixels of a mask are one region, whether they hang together or not. The masks are never
unpacked as pictures: their bounding boxes are stacked into strips (mask_strip.py), each strip is
reduced to the horizontal runs of its pixels, and moments, boxes and hulls follow from the runs.
"""

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.convex_area import area_convex
from tailor_assets.compute.features.mask_strip import (
    MaskStrip,
    Windows,
    cut_strip,
    in_batches,
    left_neighbours,
    right_neighbours,
    set_bits,
)

SHAPE_COLUMNS = (
    "centroid_x",
    "centroid_y",
    "area",
    "bbox_min_row",
    "bbox_min_col",
    "bbox_max_row",
    "bbox_max_col",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "eccentricity",
    "solidity",
    "extent",
    "perimeter",
    "circularity",
)

# A strip of this many pixels and what is computed from it stays in a core's cache.
STRIP_PIXELS = 1 << 20

# Perimeter weights by 1 + 2 * (border pixels among the 4 edge neighbours) + 10 * (among the 4
# corner neighbours): Benkrid and Crookes, "Design and FPGA implementation of a perimeter
# estimator", Queen's University of Belfast, as in skimage.measure.perimeter(neighborhood=4).
_PERIMETER_WEIGHT = np.zeros(50)
_PERIMETER_WEIGHT[[5, 7, 15, 17, 25, 27]] = 1.0
_PERIMETER_WEIGHT[[21, 33]] = np.sqrt(2.0)
_PERIMETER_WEIGHT[[13, 23]] = (1.0 + np.sqrt(2.0)) / 2.0


@dataclass(frozen=True)
class Runs:
    """Horizontal runs of pixels of a strip, in reading order.

    ``line``, ``start``, ``stop`` int64 [k]: line of the strip and columns, half-open. ``of_frame``
    int64 [n]: index of each frame's first run.
    """

    line: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    of_frame: np.ndarray


def strip_runs(strip: MaskStrip) -> Runs:
    """Find the runs of all crops of a strip. Raises ValueError where a crop holds no pixel."""
    flat = strip.packed.reshape(-1)
    # Blank columns end every line, so the changes alternate: a run begins, a run ends.
    change = set_bits(flat ^ left_neighbours(flat))
    line, start = np.divmod(change[0::2], strip.width)
    stop = change[1::2] - line * strip.width
    of_frame = np.searchsorted(line, strip.first_line)
    if (np.diff(of_frame, append=line.shape[0]) == 0).any():
        raise ValueError("a window holds no pixel")
    return Runs(line, start, stop, of_frame)


def shape_features(
    packed: np.ndarray, windows: Windows, height: int, width: int
) -> dict[str, np.ndarray]:
    """Measure the masks in ``windows``; see SHAPE_COLUMNS for the names.

    ``packed`` uint8 [frames, ceil(height * width / 8)], row-major, first pixel in bit 7. Returns
    float64 [n] per column, in pixels, square pixels or radians, n = len(windows): ``centroid_x``
    is the column, ``centroid_y`` the row (down); ``bbox_*`` half-open; axes are those of the
    ellipse of equal second moments; ``orientation`` is the angle of the major axis from the
    vertical (row) axis, counter-clockwise, in [-pi/2, pi/2]; ``solidity`` = area / area_convex;
    ``extent`` = area / area of the bounding box; ``circularity`` = 4 pi area / perimeter^2, NaN
    where the perimeter is 0 (a pixel or two). Definitions: scikit-image 0.26,
    ``skimage.measure.regionprops``. Raises ValueError where a window holds no pixel.
    """
    parts = [
        _measure(cut_strip(packed, batch, height, width))
        for batch in in_batches(windows, STRIP_PIXELS)
    ]
    return {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in SHAPE_COLUMNS
    }


def _measure(strip: MaskStrip) -> dict[str, np.ndarray]:
    runs = strip_runs(strip)
    n_runs = np.diff(runs.of_frame, append=runs.line.shape[0])
    frame = np.repeat(np.arange(len(strip.windows)), n_runs)

    # Sums over pixels, exact in int64, in coordinates that begin at the crop's corner: small
    # numbers, so that the subtraction in the central moments loses nothing that matters.
    row = runs.line - strip.first_line[frame]
    length = runs.stop - runs.start
    sum_x = (runs.start + runs.stop - 1) * length // 2
    sum_xx = _squares_below(runs.stop) - _squares_below(runs.start)
    m00, m10, m01, m20, m11, m02 = (
        np.add.reduceat(v, runs.of_frame).astype(np.float64)
        for v in (length, sum_x, row * length, sum_xx, row * sum_x, row * row * length)
    )
    x, y = m10 / m00, m01 / m00
    var_x = np.maximum(m20 / m00 - x * x, 0.0)
    var_y = np.maximum(m02 / m00 - y * y, 0.0)
    cov = m11 / m00 - x * y
    major, minor, orientation, eccentricity = _ellipse(var_x, var_y, cov)

    last_run = np.append(runs.of_frame[1:], runs.line.shape[0]) - 1
    min_row, max_row = row[runs.of_frame], row[last_run] + 1
    min_col = np.minimum.reduceat(runs.start, runs.of_frame)
    max_col = np.maximum.reduceat(runs.stop, runs.of_frame)
    convex = _area_convex(strip, runs)
    perimeter = _perimeter(strip)
    with np.errstate(divide="ignore", invalid="ignore"):
        circularity = np.where(perimeter > 0, 4.0 * np.pi * m00 / perimeter**2, np.nan)
    top, left = strip.windows.min_row, strip.windows.min_col
    return {
        "centroid_x": x + left,
        "centroid_y": y + top,
        "area": m00,
        "bbox_min_row": (min_row + top).astype(np.float64),
        "bbox_min_col": (min_col + left).astype(np.float64),
        "bbox_max_row": (max_row + top).astype(np.float64),
        "bbox_max_col": (max_col + left).astype(np.float64),
        "axis_major_length": major,
        "axis_minor_length": minor,
        "orientation": orientation,
        "eccentricity": eccentricity,
        "solidity": m00 / convex,
        "extent": m00 / ((max_row - min_row) * (max_col - min_col)),
        "perimeter": perimeter,
        "circularity": circularity,
    }


def _squares_below(n: np.ndarray) -> np.ndarray:
    """Sum of i^2 for 0 <= i < n."""
    return (n - 1) * n * (2 * n - 1) // 6


def _ellipse(
    var_x: np.ndarray, var_y: np.ndarray, cov: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Axis lengths, orientation and eccentricity from the second central moments."""
    mean, half = (var_x + var_y) / 2.0, np.hypot((var_x - var_y) / 2.0, cov)
    large = mean + half
    small = np.maximum(mean - half, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        eccentricity = np.where(large > 0, np.sqrt(1.0 - small / large), 0.0)
    orientation = np.where(
        var_x == var_y,
        np.where(cov > 0, np.pi / 4.0, -np.pi / 4.0),
        0.5 * np.arctan2(2.0 * cov, var_y - var_x),
    )
    return 4.0 * np.sqrt(large), 4.0 * np.sqrt(small), orientation, eccentricity


def _area_convex(strip: MaskStrip, runs: Runs) -> np.ndarray:
    new_line = np.diff(runs.line) != 0
    first = np.flatnonzero(np.concatenate(([True], new_line)))
    last = np.flatnonzero(np.concatenate((new_line, [True])))
    return area_convex(
        runs.line[first],
        runs.start[first],
        runs.stop[last] - 1,
        strip.frame_of_line(),
        len(strip.windows),
    )


def _perimeter(strip: MaskStrip) -> np.ndarray:
    """Perimeter of each crop, float64 [n]; see _PERIMETER_WEIGHT."""
    # Border: pixels that an erosion by the four edge neighbours takes away. The first and the last
    # line are blank, so all of them lie between.
    flat, n = strip.packed.reshape(-1), strip.packed.shape[1]
    inner = left_neighbours(flat) & right_neighbours(flat)
    inner[n:-n] &= flat[: -2 * n] & flat[2 * n :]
    border = flat & ~inner
    at, pixel, width = set_bits(border), np.unpackbits(border), strip.width
    code = np.ones(at.shape[0], np.uint8)
    for step in (-1, 1, -width, width):
        code += pixel[at + step] * np.uint8(2)
    for step in (-width - 1, -width + 1, width - 1, width + 1):
        code += pixel[at + step] * np.uint8(10)
    starts = np.searchsorted(at, strip.first_line * width)
    return np.add.reduceat(_PERIMETER_WEIGHT[code], starts)
