"""Where the animal is in its arena: how far from the walls and corners of an outline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.body_heading import facing_cos
from tailor_assets.compute.features.feature import LOST, Feature
from tailor_assets.compute.features.motion_features import shorter_way

# A vertex where the outline turns less is a point on a bent wall, or on a straight one.
CORNER_TURN_DEG = 30.0
_ROWS_AT_ONCE = 4096
_JABS = "after JABS (Jackson Laboratory), corner and wall distances"

ARENA_FEATURES = (
    Feature(
        "distance_to_wall_px",
        "px",
        "from the centroid to the nearest point of the arena's outline, inside or outside",
        _JABS,
        length_power=1,
        windows=True,
    ),
    Feature(
        "distance_to_corner_px",
        "px",
        "from the centroid to the nearest corner: a vertex where the outline turns by 30° or more",
        _JABS,
        missing=f"{LOST}, or the outline has no corner, as a circle of 13 and more vertices",
        length_power=1,
    ),
    Feature(
        "in_arena",
        "true, false",
        "the centroid is inside the outline (even-odd rule)",
        kind=pl.Boolean,
    ),
    Feature(
        "facing_wall_cos",
        "-1..1",
        "cosine of the angle between the body's heading and the direction from the centroid to the "
        "nearest point of the outline",
        missing=f"{LOST}, its heading is not known, or its centroid is on the outline",
    ),
)
ARENA_COLUMNS = tuple(feature.name for feature in ARENA_FEATURES)


def arena_features(
    arena: Sequence[tuple[float, float]],
    centroid_x: np.ndarray,
    centroid_y: np.ndarray,
    body_heading_sin: np.ndarray,
    body_heading_cos: np.ndarray,
) -> dict[str, np.ndarray]:
    """Relate the animal to its arena; see ARENA_FEATURES for the names.

    ``arena``: vertices (x, y) of a polygon in pixels of the picture, in order around it, three or
    more (``check_arena``); the others float64 [N], NaN where not known. Returns float64 [N].
    """
    corner = np.array(arena, np.float64)
    way = np.roll(corner, -1, axis=0) - corner
    moves = (way != 0).any(axis=1)
    corner, way = corner[moves], way[moves]
    angle = np.arctan2(way[:, 1], way[:, 0])
    turn = shorter_way(angle - np.roll(angle, 1))
    # Rounding of a turn of exactly 30 degrees must not decide.
    sharp = corner[np.abs(turn) >= math.radians(CORNER_TURN_DEG) - 1e-9]
    n = centroid_x.shape[0]
    wall_x, wall_y = np.full(n, np.nan), np.full(n, np.nan)
    to_corner, inside = np.full(n, np.nan), np.full(n, np.nan)
    seen = np.flatnonzero(~np.isnan(centroid_x))
    for i in range(0, seen.size, _ROWS_AT_ONCE):
        rows = seen[i : i + _ROWS_AT_ONCE]
        x, y = centroid_x[rows, None], centroid_y[rows, None]
        wall_x[rows], wall_y[rows] = _nearest_on_outline(x, y, corner, way)
        inside[rows] = _inside(x, y, corner, way)
        if sharp.size:
            to_corner[rows] = np.hypot(sharp[:, 0] - x, sharp[:, 1] - y).min(axis=1)
    return {
        "distance_to_wall_px": np.hypot(wall_x, wall_y),
        "distance_to_corner_px": to_corner,
        "in_arena": inside,
        "facing_wall_cos": facing_cos(body_heading_sin, body_heading_cos, wall_x, wall_y),
    }


def _nearest_on_outline(
    x: np.ndarray, y: np.ndarray, corner: np.ndarray, way: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vector from each point [n, 1] to the nearest point of the edges [v, 2]: float64 [n] each."""
    part = ((x - corner[:, 0]) * way[:, 0] + (y - corner[:, 1]) * way[:, 1]) / (way**2).sum(axis=1)
    part = np.clip(part, 0.0, 1.0)
    to_x, to_y = corner[:, 0] + part * way[:, 0] - x, corner[:, 1] + part * way[:, 1] - y
    nearest = np.argmin(to_x * to_x + to_y * to_y, axis=1)[:, None]
    return (
        np.take_along_axis(to_x, nearest, axis=1)[:, 0],
        np.take_along_axis(to_y, nearest, axis=1)[:, 0],
    )


def _inside(x: np.ndarray, y: np.ndarray, corner: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Whether a ray to the right crosses an odd number of edges, bool [n]."""
    above = corner[:, 1] > y
    crosses = above != np.roll(above, -1, axis=1)
    rise = np.where(way[:, 1] == 0, 1.0, way[:, 1])
    at = corner[:, 0] + (y - corner[:, 1]) / rise * way[:, 0]
    return (crosses & (x < at)).sum(axis=1) % 2 == 1


def check_arena(arena: Sequence[tuple[float, float]]) -> None:
    """Raise PermanentProblem, in one sentence, where ``arena`` is no outline of an area."""
    points = np.array(arena, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or points.shape[0] < 3:
        raise PermanentProblem(
            "The arena's outline is no polygon: give three or more corners as [x, y], in order "
            "around it."
        )
    if not np.isfinite(points).all():
        raise PermanentProblem(
            "The arena's outline has a corner that is no number: give pixels as [x, y]."
        )
    following = np.roll(points, -1, axis=0)
    doubled = (points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum()
    if abs(doubled) < 2.0:
        raise PermanentProblem(
            "The arena's outline encloses nothing: give its corners as [x, y] in pixels, in order "
            "around it."
        )
    crossed = _crossed_edges(points, following)
    if crossed is not None:
        raise PermanentProblem(
            f"The arena's outline crosses itself (edges {crossed[0] + 1} and {crossed[1] + 1}): give "
            "its corners in order around it."
        )


def _crossed_edges(start: np.ndarray, stop: np.ndarray) -> tuple[int, int] | None:
    """The first two edges that cross between their ends, or None."""
    for i in range(start.shape[0]):
        apart = _side(start, stop, start[i]) * _side(start, stop, stop[i])
        own = _side(start[i], stop[i], start) * _side(start[i], stop[i], stop)
        crossed = np.flatnonzero((apart < 0) & (own < 0))
        if crossed.size:
            return i, int(crossed[0])
    return None


def _side(a: np.ndarray, b: np.ndarray, p: np.ndarray) -> np.ndarray:
    """On which side of the line from a to b the point p lies: -1, 0 or 1."""
    way, to = b - a, p - a
    return np.sign(way[..., 0] * to[..., 1] - way[..., 1] * to[..., 0])
