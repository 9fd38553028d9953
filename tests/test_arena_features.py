"""Walls and corners of an arena's outline."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.arena_features import (
    ARENA_COLUMNS,
    arena_features,
    check_arena,
)

BOX = [(10.0, 20.0), (110.0, 20.0), (110.0, 80.0), (10.0, 80.0)]


def relate(
    arena: list[tuple[float, float]], x: list[float], y: list[float], angle: float = 0.0
) -> dict[str, np.ndarray]:
    cx, cy = np.array(x, float), np.array(y, float)
    seen = np.where(np.isnan(cx), np.nan, 1.0)
    with np.errstate(all="raise"):
        return arena_features(arena, cx, cy, seen * np.sin(angle), seen * np.cos(angle))


def test_distances_to_the_walls_and_corners_of_a_box() -> None:
    got = relate(BOX, [60, 12, 13, 120, np.nan, 60], [50, 50, 24, 50, np.nan, 20])
    np.testing.assert_allclose(got["distance_to_wall_px"], [30, 2, 3, 10, np.nan, 0])
    np.testing.assert_allclose(
        got["distance_to_corner_px"],
        [np.hypot(50, 30), np.hypot(2, 30), 5, np.hypot(10, 30), np.nan, 50],
    )
    np.testing.assert_equal(got["in_arena"][:5], [1, 1, 1, 0, np.nan])
    # It looks to the right: away from the left wall, and back at the right one from outside.
    np.testing.assert_allclose(got["facing_wall_cos"], [0, -1, -1, -1, np.nan, np.nan], atol=1e-12)
    assert set(got) == set(ARENA_COLUMNS)


def test_more_points_on_the_same_outline_change_nothing() -> None:
    rng = np.random.default_rng(1)
    x, y = list(rng.uniform(0, 120, 50)), list(rng.uniform(0, 100, 50))
    dense = []
    for a, b in zip(BOX, BOX[1:] + BOX[:1], strict=True):
        for part in (0.0, 0.0, 0.25, 0.5):
            dense.append((a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])))
    for outline in (dense, dense[::-1], dense[3:] + dense[:3]):
        check_arena(outline)
        for name, values in relate(outline, x, y).items():
            np.testing.assert_allclose(values, relate(BOX, x, y)[name], atol=1e-9)


def test_a_round_arena_has_a_wall_and_no_corner() -> None:
    angles = np.arange(48) * 2 * np.pi / 48
    circle = [(200 + 100 * np.cos(a), 150 + 100 * np.sin(a)) for a in angles]
    got = relate(circle, [200, 290], [150, 150])
    np.testing.assert_allclose(got["distance_to_wall_px"], [100, 10], atol=0.3)
    assert np.isnan(got["distance_to_corner_px"]).all()
    twelve = [circle[k] for k in range(0, 48, 4)]
    assert not np.isnan(relate(twelve, [200], [150])["distance_to_corner_px"]).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
def test_any_outline_agrees_with_a_loop_over_its_edges(seed: int, corners: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    if np.diff(angles, append=angles[0] + 2 * np.pi).max() >= np.pi:
        return
    radius = rng.uniform(20, 100, corners)
    star = [(r * np.cos(a), r * np.sin(a)) for r, a in zip(radius, angles, strict=True)]
    check_arena(star)
    x, y = rng.uniform(-110, 110, (2, 40))
    got = relate(star, list(x), list(y))
    outline = np.array([*star, star[0]])
    for i in range(40):
        point = np.array([x[i], y[i]])
        nearest = np.inf
        for a, b in itertools.pairwise(outline):
            part = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            nearest = min(nearest, np.hypot(*(a + part * (b - a) - point)))
        assert got["distance_to_wall_px"][i] == pytest.approx(nearest)
    inside = points_in_poly(np.column_stack((x, y)), outline)
    np.testing.assert_array_equal(got["in_arena"], inside)


@pytest.mark.parametrize(
    ("arena", "says"),
    [
        ([(0, 0), (1, 1)], "three or more corners"),
        ([(0, 0), (10, 0), (20, 0)], "encloses nothing"),
        ([(0, 0), (10, 10), (10, 0), (0, 12)], "crosses itself"),
        ([(0, 0), (10, float("nan")), (10, 0)], "no number"),
    ],
)
def test_what_is_no_outline_is_refused_in_a_sentence(
    arena: list[tuple[float, float]], says: str
) -> None:
    with pytest.raises(PermanentProblem, match=says):
        check_arena(arena)
