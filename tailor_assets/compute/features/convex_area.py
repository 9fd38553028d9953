"""Pixels in the convex hull, counted exactly with integers instead of drawn.

The hull is that of scikit-image's ``convex_hull_image`` (offset coordinates, borders included):
every pixel stands for the middles of its four edges, and a pixel belongs to the hull if its centre
lies in or on the polygon around those points. In doubled coordinates all of them are integers. The
left border of the polygon is then the lower convex chain of one point per half line, the right
border is the same thing mirrored, and what lies between is counted line by line with divisions
that round up: no picture is drawn, no coordinate is rounded.
"""

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.mask_strip import number_within

_NO_POINT = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Hulls:
    """Vertices of the convex hulls of n masks' pixel centres, from top to bottom on either side.

    ``col``, ``row`` int64 [k]: in the strip (see mask_strip.py), columns of the right side negated;
    ``chain`` int64 [k]: the mask's number on the left side, and that + n on the right; increasing.
    """

    col: np.ndarray
    row: np.ndarray
    chain: np.ndarray
    n_frames: int


def convex_hulls(
    line: np.ndarray,
    first_col: np.ndarray,
    last_col: np.ndarray,
    frame_of_line: np.ndarray,
    n_frames: int,
) -> Hulls:
    """Find the hulls of a strip's masks.

    ``line`` int64 [k]: lines of the strip that have pixels, increasing. ``first_col``, ``last_col``
    int64 [k]: the outermost pixels of those lines, inclusive. ``frame_of_line`` int64 [lines]: the
    frame, 0..n_frames - 1, of every line of the strip. Every frame has at least one pixel.
    """
    frame = frame_of_line[line]
    col, row, chain = _convex_chains(
        np.concatenate((first_col, -last_col)),
        np.concatenate((line, line)),
        np.concatenate((frame, frame + n_frames)),
    )
    return Hulls(col, row, chain, n_frames)


def area_convex(hulls: Hulls, frame_of_line: np.ndarray) -> np.ndarray:
    """Pixels in each frame's convex hull, int64 [n_frames], as regionprops' ``area_convex``.

    ``frame_of_line`` as for ``convex_hulls``; the blank line after a crop counts as its frame's.
    """
    n_lines, n_frames = frame_of_line.shape[0], hulls.n_frames
    x, y, owner = [], [], []
    for side in range(2):
        # Only vertices of the pixels' hull can make vertices of the polygon around their edges.
        on_side = (hulls.chain >= n_frames) == bool(side)
        points = _border_points(hulls.row[on_side], hulls.col[on_side], n_lines)
        at = np.flatnonzero(points != _NO_POINT)
        x.append(points[at])
        y.append(at)
        owner.append(frame_of_line[(at + 1) // 2] + side * n_frames)
    polygon = _convex_chains(np.concatenate(x), np.concatenate(y), np.concatenate(owner))
    return _lines_between(*polygon, n_frames)


def _border_points(line: np.ndarray, col: np.ndarray, n_lines: int) -> np.ndarray:
    """Doubled column of the outermost edge middle on each half line, int64 [2 * n_lines].

    The pixel (r, c) has edge middles at (2r, 2c - 1), (2r - 1, 2c) and (2r + 1, 2c) on this side.
    """
    points = np.full(2 * n_lines, _NO_POINT)
    points[2 * line] = 2 * col - 1
    points[2 * line + 1] = 2 * col
    points[2 * line - 1] = np.minimum(points[2 * line - 1], 2 * col)
    return points


def _convex_chains(
    x: np.ndarray, y: np.ndarray, chain: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the vertices of each chain's lower hull (x as a function of y).

    A point on or right of the segment between its two neighbours is no vertex, whichever other
    points go: so all such points of all chains are dropped at once, until none is left.
    """
    while True:
        dx, dy = x[1:] - x[:-1], y[1:] - y[:-1]
        same = chain[1:] == chain[:-1]
        # A vertex bends left: the slope dx / dy grows there.
        vertex = dx[:-1] * dy[1:] < dx[1:] * dy[:-1]
        vertex |= ~(same[:-1] & same[1:])
        if vertex.all():
            return x, y, chain
        keep = np.concatenate(([True], vertex, [True]))
        x, y, chain = x[keep], y[keep], chain[keep]


def _lines_between(x: np.ndarray, y: np.ndarray, chain: np.ndarray, n_frames: int) -> np.ndarray:
    """Count the pixel centres between the left chains and the mirrored right chains."""
    edge = np.flatnonzero(chain[1:] == chain[:-1])
    x0, y0 = x[edge], y[edge]
    dx, dy = x[edge + 1] - x0, y[edge + 1] - y0
    # Pixel centres lie on even half lines; an edge owns those in [y0, y0 + dy). The first and last
    # half line of a chain are odd, so no line is lost or counted twice.
    skip = y0 & 1
    n_crossed = (dy - skip + 1) // 2
    e = np.repeat(np.arange(edge.shape[0]), n_crossed)
    nth = number_within(n_crossed)
    numerator = x0[e] * dy[e] + dx[e] * (skip[e] + 2 * nth)
    first_pixel = -((-numerator) // (2 * dy[e]))
    # 1 - ceil(left) - ceil(-right) pixels on each line; half of the 1 for either side.
    owner = chain[edge][e]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    sums = np.add.reduceat(first_pixel, starts)
    n_lines = np.diff(np.append(starts, owner.shape[0]))[:n_frames]
    return n_lines - sums[:n_frames] - sums[n_frames:]
