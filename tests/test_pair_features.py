"""Two animals: how far apart, whether they touch, approach and face each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from tailor_assets.compute.features import mask_gap as mask_gap_module
from tailor_assets.compute.features.mask_gap import mask_gap
from tailor_assets.compute.features.mask_strip import windows_around
from tailor_assets.compute.features.motion_features import time_steps
from tailor_assets.compute.features.pair_features import PAIR_FEATURES, pair_features
from tailor_assets.compute.mask_geometry import mask_geometry


def gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    rows = np.arange(len(a))
    windows = [
        windows_around(np.array([mask_geometry(m)[1] for m in part]), rows) for part in (a, b)
    ]
    packed = [np.packbits(part.reshape(len(part), -1), axis=1) for part in (a, b)]
    return mask_gap(packed[0], windows[0], packed[1], windows[1], *a.shape[1:])


def nearest(a: np.ndarray, b: np.ndarray) -> float:
    distances, _ = cKDTree(np.argwhere(a)).query(np.argwhere(b))
    return float(distances.min())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 60),
    width=st.integers(1, 90),
    at_once=st.sampled_from([1, 300, 1 << 19]),
)
def test_the_gap_is_that_of_the_nearest_pixels(
    seed: int, height: int, width: int, at_once: int
) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 5, height, width), bool)
    for part in masks:
        for mask in part:
            kind = rng.integers(0, 3)
            if kind == 0:
                mask[:] = rng.random(mask.shape) < rng.uniform(0, 0.1)
            elif kind == 1:
                mask[:] = ndimage.gaussian_filter(rng.random(mask.shape), 3) > 0.54
            r, c = rng.integers(0, height), rng.integers(0, width)
            mask[r : r + rng.integers(1, 30), c : c + rng.integers(1, 30)] = True
    before = mask_gap_module._PAIRS_AT_ONCE
    mask_gap_module._PAIRS_AT_ONCE = at_once
    try:
        got = gaps(*masks)
    finally:
        mask_gap_module._PAIRS_AT_ONCE = before
    expected = [nearest(a, b) for a, b in zip(*masks, strict=True)]
    np.testing.assert_allclose(got, expected)


def relate(
    x: list[float], other_x: list[float], gap: list[float], heading: float = 0.0
) -> dict[str, np.ndarray]:
    time = np.arange(len(x)) / 2
    dt, neighbours = time_steps(time)

    def animal(places: list[float], angle: float) -> dict[str, np.ndarray]:
        cx = np.array(places, float)
        seen = np.where(np.isnan(cx), np.nan, 1.0)
        return {
            "centroid_x": cx,
            "centroid_y": 5 * seen,
            "body_heading_sin": seen * np.sin(angle),
            "body_heading_cos": seen * np.cos(angle),
        }

    with np.errstate(all="raise"):
        return pair_features(
            "pup",
            animal(x, heading),
            animal(other_x, np.pi),
            np.array(gap, float),
            neighbours,
            dt,
        )


def test_approach_is_positive_when_they_come_nearer_and_facing_when_it_looks_there() -> None:
    nan = float("nan")
    got = relate([0, 10, 20, nan, 20], [100, 100, 120, 120, nan], [70, 60, 2, nan, nan])
    np.testing.assert_equal(got["pair_pup_distance_px"], [100, 90, 100, nan, nan])
    np.testing.assert_equal(got["pair_pup_approach_px_s"], [nan, 20, -20, nan, nan])
    np.testing.assert_equal(got["pair_pup_facing_cos"], [1, 1, 1, nan, nan])
    np.testing.assert_equal(got["pair_pup_faced_cos"], [1, 1, 1, nan, nan])
    np.testing.assert_equal(got["pair_pup_contact"], [0, 0, 1, nan, nan])
    assert list(got) == [feature.of_other("pup").name for feature in PAIR_FEATURES]
    away = relate([0, 10], [100, 100], [70, 60], heading=np.pi)
    np.testing.assert_allclose(away["pair_pup_facing_cos"], -1)


def test_two_animals_in_one_place_face_nowhere() -> None:
    got = relate([50.0, 50.0], [50.0, 50.0], [0, 0])
    assert got["pair_pup_distance_px"].tolist() == [0, 0]
    assert np.isnan(got["pair_pup_facing_cos"]).all()
    assert got["pair_pup_contact"].tolist() == [1, 1]


@pytest.mark.parametrize(("columns", "touches"), [(0, True), (1, True), (2, False)])
def test_contact_leaves_room_for_one_pixel_between_the_outlines(
    columns: int, touches: bool
) -> None:
    a, b = np.zeros((1, 20, 40), bool), np.zeros((1, 20, 40), bool)
    a[0, 5:15, 5:15] = True
    b[0, 5:15, 15 + columns : 25 + columns] = True
    gap = gaps(a, b)
    assert gap[0] == columns + 1
    got = relate([10], [20], [gap[0]])
    assert bool(got["pair_pup_contact"][0]) is touches
