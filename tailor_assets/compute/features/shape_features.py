"""Size, place and form of one object in every frame, as scikit-image's ``regionprops`` defines them.

All pixels of a mask are one region, whether they hang together or not. The masks are never
unpacked as pictures: their bounding boxes are stacked into strips (mask_strip.py), each strip is
reduced to the horizontal runs of its pixels, and moments, boxes, hulls and holes follow from them.
"""

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.convex_area import Hulls, area_convex, convex_hulls
from tailor_assets.compute.features.feature import JABS, REGIONPROPS, Feature
from tailor_assets.compute.features.hull_shape import hull_perimeter, smallest_rectangle
from tailor_assets.compute.features.image_moments import (
    HU_FEATURES,
    CentralMoments,
    central_moments,
    ellipse,
    hu_moments,
)
from tailor_assets.compute.features.mask_strip import (
    MaskStrip,
    Windows,
    cut_strip,
    in_batches,
    left_neighbours,
    right_neighbours,
    set_bits,
)
from tailor_assets.compute.features.mask_topology import euler_number, hole_area

_BOX = "edge of the bounding box, half-open"
_THIN = "the animal is lost, or the perimeter is 0 (a pixel or two)"
SHAPE_FEATURES = (
    Feature("centroid_x", "px", "mean column of the pixels", REGIONPROPS),
    Feature("centroid_y", "px", "mean row of the pixels", REGIONPROPS),
    Feature(
        "area", "px²", "number of pixels", REGIONPROPS, length_power=2, windows=True, bands=True
    ),
    Feature("bbox_min_row", "px", _BOX, REGIONPROPS),
    Feature("bbox_min_col", "px", _BOX, REGIONPROPS),
    Feature("bbox_max_row", "px", _BOX, REGIONPROPS),
    Feature("bbox_max_col", "px", _BOX, REGIONPROPS),
    Feature(
        "axis_major_length",
        "px",
        "long axis of the ellipse of equal second moments: 4 √(larger eigenvalue of the covariance "
        "of the pixels' places); 0 for one pixel",
        REGIONPROPS,
        length_power=1,
        windows=True,
        bands=True,
    ),
    Feature(
        "axis_minor_length",
        "px",
        "short axis of that ellipse; 0 where all pixels lie on one line",
        REGIONPROPS,
        length_power=1,
        windows=True,
    ),
    Feature(
        "orientation",
        "rad",
        "angle of the long axis from the vertical, counter-clockwise, -π/2..π/2; meaningless where "
        "the eccentricity is near 0",
        REGIONPROPS,
    ),
    Feature("eccentricity", "0..1", "√(1 - (short axis / long axis)²)", REGIONPROPS, windows=True),
    Feature("solidity", "0..1", "`area` / `area_convex`", REGIONPROPS, windows=True),
    Feature("extent", "0..1", "`area` / area of the bounding box", REGIONPROPS),
    Feature(
        "perimeter",
        "px",
        "length of the outline, holes included, from the configurations of border pixels",
        "Benkrid and Crookes, as `skimage.measure.perimeter`, neighbourhood 4",
        length_power=1,
    ),
    Feature("circularity", "-", "4π · `area` / `perimeter`²", "Cox 1927", missing=_THIN),
    Feature("area_convex", "px²", "pixels in the convex hull", REGIONPROPS),
    Feature(
        "rectangularity",
        "0..1",
        "`area` / area of the smallest rectangle at any angle around the pixels (squares of side 1)",
        JABS,
    ),
    Feature(
        "elongation", "0..1", "1 - shorter side / longer side of that rectangle; 0 is square", JABS
    ),
    Feature(
        "convexity",
        "-",
        "perimeter of the convex hull, through the pixels' centres / `perimeter`; above 1 for masks "
        "a pixel or two wide, whose perimeter is counted once",
        JABS,
        missing=_THIN,
    ),
    Feature(
        "hole_ratio",
        "0..1",
        "pixels of the holes / (`area` + pixels of the holes), i.e. 1 - `area` / regionprops' "
        "`area_filled`; the background is connected over corners",
        f"{JABS}, where the ratio is to the area without its holes",
    ),
    Feature(
        "euler_number",
        "-",
        "pieces (connected over corners) - holes (connected over edges): 1 for a body in one piece",
        REGIONPROPS,
    ),
    *HU_FEATURES,
)
SHAPE_COLUMNS = tuple(feature.name for feature in SHAPE_FEATURES)
# Measured with them, and made into features of the heading (body_heading.py).
PLACE_COLUMNS = (
    "area",
    "centroid_x",
    "centroid_y",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "eccentricity",
    "axis_skewness",
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

    @property
    def count(self) -> np.ndarray:
        """Runs of each frame, int64 [n]."""
        return np.diff(self.of_frame, append=self.line.shape[0])


def strip_runs(strip: MaskStrip) -> Runs:
    """Find the runs of all crops of a strip. Raises ValueError where a crop holds no pixel."""
    flat = strip.packed.reshape(-1)
    # Blank columns end every line, so the changes alternate: a run begins, a run ends.
    change = set_bits(flat ^ left_neighbours(flat))
    line, start = np.divmod(change[0::2], strip.width)
    stop = change[1::2] - line * strip.width
    runs = Runs(line, start, stop, np.searchsorted(line, strip.first_line))
    if (runs.count == 0).any():
        raise ValueError("a window holds no pixel")
    return runs


def shape_features(
    packed: np.ndarray, windows: Windows, height: int, width: int
) -> dict[str, np.ndarray]:
    """Measure the masks in ``windows``: SHAPE_FEATURES, and ``axis_skewness``.

    ``packed`` uint8 [frames, ceil(height * width / 8)], row-major, first pixel in bit 7. Returns
    float64 [n] per name, n = len(windows). ``axis_skewness`` is the skewness of the pixels' places
    along the long axis, positive where the longer tail lies on the side of (x, y) = (sin, cos) of
    ``orientation``. NaN where a value is not defined. Raises ValueError where a window holds no
    pixel.
    """
    parts = [
        _measure(cut_strip(packed, batch, height, width))
        for batch in in_batches(windows, STRIP_PIXELS)
    ]
    names = dict.fromkeys((*SHAPE_COLUMNS, *PLACE_COLUMNS))
    return {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in names
    }


def place_features(
    packed: np.ndarray, windows: Windows, height: int, width: int
) -> dict[str, np.ndarray]:
    """Measure PLACE_COLUMNS alone, which takes less time; as ``shape_features``."""
    parts = []
    for batch in in_batches(windows, STRIP_PIXELS):
        strip = cut_strip(packed, batch, height, width)
        moments = _moments(strip, strip_runs(strip))
        parts.append(_place(strip, moments))
    return {
        name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        for name in PLACE_COLUMNS
    }


def _moments(strip: MaskStrip, runs: Runs) -> CentralMoments:
    row = runs.line - np.repeat(strip.first_line, runs.count)
    middle_x, middle_y = 4 * strip.windows.n_bytes, strip.windows.height // 2
    return central_moments(row, runs.start, runs.stop, runs.of_frame, middle_x, middle_y)


def _place(strip: MaskStrip, moments: CentralMoments) -> dict[str, np.ndarray]:
    return {
        "centroid_x": moments.x + strip.windows.min_col,
        "centroid_y": moments.y + strip.windows.min_row,
        "area": moments.area,
        **ellipse(moments),
    }


def _measure(strip: MaskStrip) -> dict[str, np.ndarray]:
    runs = strip_runs(strip)
    moments = _moments(strip, runs)
    area = moments.area
    top, left = strip.windows.min_row, strip.windows.min_col
    last_run = np.append(runs.of_frame[1:], runs.line.shape[0]) - 1
    min_row = runs.line[runs.of_frame] - strip.first_line + top
    max_row = runs.line[last_run] - strip.first_line + top + 1
    min_col = np.minimum.reduceat(runs.start, runs.of_frame) + left
    max_col = np.maximum.reduceat(runs.stop, runs.of_frame) + left
    hulls, frame_of_line = _hulls(strip, runs)
    convex = area_convex(hulls, frame_of_line)
    longer, shorter = smallest_rectangle(hulls)
    perimeter = _perimeter(strip)
    outline = np.where(perimeter > 0, perimeter, np.nan)
    holes = hole_area(runs.line, runs.start, runs.stop, strip)
    return {
        **_place(strip, moments),
        "bbox_min_row": min_row.astype(np.float64),
        "bbox_min_col": min_col.astype(np.float64),
        "bbox_max_row": max_row.astype(np.float64),
        "bbox_max_col": max_col.astype(np.float64),
        "solidity": area / convex,
        "extent": area / ((max_row - min_row) * (max_col - min_col)),
        "perimeter": perimeter,
        "circularity": 4.0 * np.pi * area / outline**2,
        "area_convex": convex.astype(np.float64),
        "rectangularity": area / (longer * shorter),
        "elongation": 1.0 - shorter / longer,
        "convexity": hull_perimeter(hulls) / outline,
        "hole_ratio": holes / (area + holes),
        "euler_number": euler_number(strip).astype(np.float64),
        **hu_moments(moments),
    }


def _hulls(strip: MaskStrip, runs: Runs) -> tuple[Hulls, np.ndarray]:
    """The hulls of the crops, and the frame of each line of the strip."""
    new_line = np.diff(runs.line) != 0
    first = np.flatnonzero(np.concatenate(([True], new_line)))
    last = np.flatnonzero(np.concatenate((new_line, [True])))
    frame_of_line = strip.frame_of_line()
    hulls = convex_hulls(
        runs.line[first],
        runs.start[first],
        runs.stop[last] - 1,
        frame_of_line,
        len(strip.windows),
    )
    return hulls, frame_of_line


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
