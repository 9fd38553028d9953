"""The perimeter of a mask's convex hull, and the smallest rectangle around the mask."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.features.convex_area import Hulls

# Masks times directions times vertices worked on at once: bounds the memory.
_PRODUCTS_AT_ONCE = 1 << 18


def hull_perimeter(hulls: Hulls) -> np.ndarray:
    """Length of the hull around each mask's pixel centres, float64 [n]; 0 for one pixel."""
    n = hulls.n_frames
    same = hulls.chain[1:] == hulls.chain[:-1]
    length = np.hypot(np.diff(hulls.col), np.diff(hulls.row)) * same
    first = np.searchsorted(hulls.chain, np.arange(2 * n))
    last = np.append(first[1:], hulls.chain.shape[0]) - 1
    # The last vertex of a chain has no way to the next one: 0 stands there.
    sides = np.add.reduceat(np.append(length, 0.0), first)
    # Columns of the right side are negated: this adds the top and the bottom edge.
    across = -(hulls.col[first[:n]] + hulls.col[first[n:]])
    across = across - (hulls.col[last[:n]] + hulls.col[last[n:]])
    return sides[:n] + sides[n:] + across


def smallest_rectangle(hulls: Hulls) -> tuple[np.ndarray, np.ndarray]:
    """Sides of the rectangle of smallest area, at any angle, around each mask's pixels.

    A pixel is a square of side 1. Returns (longer, shorter) float64 [n], in pixels. One side of the
    smallest rectangle lies along an edge of the hull (Freeman and Shapira 1975, "Determining the
    minimum-area encasing rectangle for an arbitrary closed curve"); the hull of squares has the
    edges of the hull of their centres, and the lines and columns. All products are of integers.
    """
    n = hulls.n_frames
    frame = hulls.chain % n
    # One list of vertices per mask: its left side, then its right side.
    order = np.argsort(frame, kind="stable")
    frame, y = frame[order], hulls.row[order]
    x = np.where(hulls.chain[order] >= n, -hulls.col[order], hulls.col[order])
    count = np.bincount(frame, minlength=n)
    first = np.cumsum(count) - count
    # Vertices in columns, the mask's first one repeated to the length of the longest list.
    nth = np.arange(int(count.max()))
    at = first[:, None] + np.where(nth < count[:, None], nth, 0)
    top = y[first]
    x, y = x[at].astype(np.float64), (y[at] - top[:, None]).astype(np.float64)
    # From a vertex to the next of its list; where the list goes over to the right side, or begins
    # again, this is the way along a line or none, and the direction of the lines is taken.
    dx, dy = np.roll(x, -1, axis=1) - x, np.roll(y, -1, axis=1) - y
    left_count = np.bincount(hulls.chain[hulls.chain < n], minlength=n)
    other = (nth >= count[:, None] - 1) | (nth == left_count[:, None] - 1)
    dx, dy = np.where(other, 1.0, dx), np.where(other, 0.0, dy)
    longer, shorter = np.empty(n), np.empty(n)
    step = max(1, _PRODUCTS_AT_ONCE // at.shape[1] ** 2)
    for i in range(0, n, step):
        part = slice(i, i + step)
        longer[part], shorter[part] = _smallest(x[part], y[part], dx[part], dy[part])
    return longer, shorter


def _smallest(
    x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of n masks' vertices and directions, float64 [n, v] each."""
    x, y, u, v = x[:, None, :], y[:, None, :], dx[:, :, None], dy[:, :, None]
    along, across = x * u, x * v
    along += y * v
    across -= y * u
    square = np.abs(dx) + np.abs(dy)
    length = along.max(axis=2) - along.min(axis=2) + square
    width = across.max(axis=2) - across.min(axis=2) + square
    squared = dx * dx + dy * dy
    best = np.argmin(length * width / squared, axis=1)[:, None]
    norm = np.sqrt(np.take_along_axis(squared, best, axis=1)[:, 0])
    a = np.take_along_axis(length, best, axis=1)[:, 0] / norm
    b = np.take_along_axis(width, best, axis=1)[:, 0] / norm
    return np.maximum(a, b), np.minimum(a, b)
