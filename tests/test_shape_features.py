"""Static shape features against scikit-image's regionprops, the definition they follow."""

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.spatial import ConvexHull
from skimage.measure import regionprops

from tailor_assets.compute.features.image_moments import HU_NAMES
from tailor_assets.compute.features.mask_strip import windows_around
from tailor_assets.compute.features.shape_features import (
    PLACE_COLUMNS,
    SHAPE_COLUMNS,
    place_features,
    shape_features,
)
from tailor_assets.compute.mask_geometry import mask_geometry


def measured(masks: np.ndarray) -> dict[str, np.ndarray]:
    boxes = np.array([mask_geometry(mask)[1] for mask in masks])
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    windows = windows_around(boxes, np.arange(len(masks)))
    return shape_features(packed, windows, *masks.shape[1:])


# Powers of the normalised moments in Hu's invariants: how the rounding of one grows.
HU_DEGREES = (1, 2, 2, 2, 4, 3, 4)


def expected(mask: np.ndarray) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        region = regionprops(mask.astype(np.uint8))[0]
        values = {
            name: getattr(region, name)
            for name in (
                "area",
                "axis_major_length",
                "axis_minor_length",
                "orientation",
                "eccentricity",
                "solidity",
                "extent",
                "perimeter",
                "area_convex",
                "euler_number",
            )
        }
        values["hole_ratio"] = 1 - region.area / region.area_filled
    values["centroid_y"], values["centroid_x"] = region.centroid
    for name, value in zip(("min_row", "min_col", "max_row", "max_col"), region.bbox, strict=True):
        values[f"bbox_{name}"] = value
    values["circularity"] = (
        4 * np.pi * region.area / region.perimeter**2 if region.perimeter else np.nan
    )
    values["convexity"] = (
        hull_length(region.coords) / region.perimeter if region.perimeter else np.nan
    )
    return values


def hull_length(pixels: np.ndarray) -> float:
    """Perimeter of the convex hull of points, twice the length where they lie on one line."""
    spread = np.ptp(pixels, axis=0)
    centred = pixels - pixels.mean(axis=0)
    if len(pixels) < 3 or np.linalg.matrix_rank(centred) < 2:
        return 2 * float(np.hypot(*spread))
    return float(ConvexHull(pixels).area)


def corners(mask: np.ndarray) -> np.ndarray:
    """Corners of all pixels as squares, (x, y)."""
    rows, cols = np.nonzero(mask)
    shifts = ((0, 0), (0, 1), (1, 0), (1, 1))
    return np.concatenate([np.column_stack((cols + x, rows + y)) for y, x in shifts])


def assert_hu_moments_agree(got: dict[str, float], mask: np.ndarray) -> None:
    theirs = regionprops(mask.astype(np.uint8))[0].moments_hu
    for name, h, degree in zip(HU_NAMES, theirs, HU_DEGREES, strict=True):
        rounding = 1e-12 * max(theirs[0], 1.0) ** degree
        if abs(h) > 1e3 * rounding:
            assert got[name] == pytest.approx(-np.sign(h) * np.log10(abs(h)), abs=2e-3), name
        else:
            assert np.isnan(got[name]) or abs(got[name]) > 3, name


def assert_the_smallest_rectangle_agrees(got: dict[str, float], mask: np.ndarray) -> None:
    (_, sides, _) = cv2.minAreaRect(corners(mask).astype(np.float32))
    assert got["rectangularity"] == pytest.approx(mask.sum() / (sides[0] * sides[1]), rel=1e-4)
    assert 0 <= got["elongation"] < 1
    # Another rectangle can be just as small: ours is the first, theirs perhaps another.
    length = mask.sum() / got["rectangularity"]
    long_side = np.sqrt(length / (1 - got["elongation"]))
    points = corners(mask)
    across = np.hypot(*np.ptp(points, axis=0))
    assert long_side <= across + 1e-6


def assert_the_skewness_agrees(got: dict[str, float], mask: np.ndarray) -> None:
    rows, cols = np.nonzero(mask)
    along = cols * np.sin(got["orientation"]) + rows * np.cos(got["orientation"])
    if np.ptp(along) > 1e-6:
        assert got["axis_skewness"] == pytest.approx(stats.skew(along), abs=1e-6)


def assert_agrees(masks: np.ndarray) -> None:
    ours = measured(masks)
    assert set(ours) == {*SHAPE_COLUMNS, *PLACE_COLUMNS}
    for i, mask in enumerate(masks):
        theirs = expected(mask)
        got = {name: values[i] for name, values in ours.items()}
        if theirs["eccentricity"] > 0.1:
            turns = (got["orientation"] - theirs["orientation"]) / np.pi
            assert abs(turns - round(turns)) < 1e-6
        assert -np.pi / 2 <= got["orientation"] <= np.pi / 2
        assert got["eccentricity"] == pytest.approx(theirs["eccentricity"], rel=0, abs=1e-6)
        # Pixels on one line have no width: there both sides are rounding noise around 0.
        assert got["axis_minor_length"] == pytest.approx(
            theirs["axis_minor_length"], rel=1e-6, abs=2e-6
        )
        special = {"orientation", "eccentricity", "axis_minor_length", *HU_NAMES}
        special |= {"rectangularity", "elongation"}
        for name in set(SHAPE_COLUMNS) - special:
            assert got[name] == pytest.approx(theirs[name], rel=1e-6, abs=0, nan_ok=True), name
        assert_hu_moments_agree(got, mask)
        assert_the_smallest_rectangle_agrees(got, mask)
        assert_the_skewness_agrees(got, mask)


@st.composite
def blobs(draw: st.DrawFn) -> np.ndarray:
    """Several masks of one picture size: noise, smooth blobs, lines, ellipses, lone pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    rows, cols = np.mgrid[:height, :width]
    masks = []
    for kind in draw(st.lists(st.sampled_from("nslepb"), min_size=1, max_size=8)):
        mask = np.zeros((height, width), bool)
        r, c = rng.integers(0, height, 2), rng.integers(0, width, 2)
        if kind == "n":
            mask = rng.random((height, width)) < rng.uniform(0, 0.5)
        elif kind == "s":
            noise = ndimage.gaussian_filter(rng.random((height, width)), rng.uniform(0.5, 4))
            mask = noise > 0.5 + rng.uniform(-0.05, 0.05)
        elif kind == "l":
            n = max(abs(r[1] - r[0]), abs(c[1] - c[0])) + 1
            mask[
                np.rint(np.linspace(*r, n)).astype(int), np.rint(np.linspace(*c, n)).astype(int)
            ] = True
        elif kind == "e":
            angle = rng.uniform(0, np.pi)
            u = (rows - r[0]) * np.cos(angle) + (cols - c[0]) * np.sin(angle)
            v = (cols - c[0]) * np.cos(angle) - (rows - r[0]) * np.sin(angle)
            mask = (u / rng.uniform(1, height + 1)) ** 2 + (
                v / rng.uniform(1, width / 2 + 1)
            ) ** 2 < 1
        elif kind == "p":
            mask[r, c] = True
        else:
            mask[min(r) : max(r) + 1, min(c) : max(c) + 1] = True
        mask[r[0], c[0]] |= not mask.any()
        masks.append(mask)
    return np.array(masks)


@settings(max_examples=60, deadline=None)
@given(blobs())
def test_shapes_agree_with_regionprops_whatever_the_mask(masks: np.ndarray) -> None:
    assert_agrees(masks)


def test_one_pixel_has_an_area_and_no_perimeter_and_no_circularity() -> None:
    mask = np.zeros((1, 5, 16), bool)
    mask[0, 2, 8] = True
    got = measured(mask)
    assert got["area"][0] == 1
    assert (got["centroid_x"][0], got["centroid_y"][0]) == (8, 2)
    assert got["solidity"][0] == got["extent"][0] == 1
    assert got["perimeter"][0] == 0
    assert np.isnan(got["circularity"][0])
    assert_agrees(mask)


def test_masks_that_touch_the_border_or_fill_the_picture_agree() -> None:
    for shape in ((48, 64), (47, 61)):
        masks = np.zeros((6, *shape), bool)
        masks[0] = True
        masks[1, :9, :13] = True
        masks[2, -9:, -13:] = True
        masks[3, 0, :] = True
        masks[4, :, -1] = True
        masks[5, ::2, ::2] = True
        assert_agrees(masks)


def test_pieces_that_do_not_touch_are_one_region() -> None:
    masks = np.zeros((1, 100, 128), bool)
    masks[0, 10:20, 5:30] = True
    masks[0, 60:95, 90:120] = True
    assert_agrees(masks)


def test_a_large_animal_in_a_large_picture_agrees() -> None:
    rows, cols = np.mgrid[:1080, :1920]
    masks = np.stack(
        [
            ((rows - 500) / 320) ** 2 + ((cols - 900 - k) / (700 - 100 * k)) ** 2 < 1
            for k in range(3)
        ]
    )
    assert_agrees(masks)


def test_results_do_not_depend_on_which_frames_share_a_strip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(7)
    masks = ndimage.gaussian_filter(rng.random((30, 60, 88)), (0, 3, 3)) > 0.5
    together = measured(masks)
    monkeypatch.setattr("tailor_assets.compute.features.shape_features.STRIP_PIXELS", 1)
    alone = measured(masks)
    for name in (*SHAPE_COLUMNS, *PLACE_COLUMNS):
        np.testing.assert_array_equal(together[name], alone[name])


def test_what_is_measured_of_other_animals_is_the_same() -> None:
    rng = np.random.default_rng(8)
    masks = ndimage.gaussian_filter(rng.random((30, 60, 88)), (0, 3, 3)) > 0.5
    boxes = np.array([mask_geometry(mask)[1] for mask in masks])
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    places = place_features(packed, windows_around(boxes, np.arange(len(masks))), 60, 88)
    everything = measured(masks)
    assert set(places) == set(PLACE_COLUMNS)
    for name in PLACE_COLUMNS:
        np.testing.assert_array_equal(places[name], everything[name])


def test_a_rectangle_at_any_angle_is_a_rectangle_and_a_square_is_not_elongated() -> None:
    masks = np.zeros((3, 200, 200), bool)
    masks[0, 20:40, 30:90] = True
    masks[1, 20:40, 30:50] = True
    rows, cols = np.mgrid[:200, :200]
    u, v = (rows - 100) + (cols - 100), (rows - 100) - (cols - 100)
    masks[2] = (abs(u) <= 80) & (abs(v) <= 40)
    got = measured(masks)
    np.testing.assert_allclose(got["rectangularity"], [1, 1, 0.98], atol=0.02)
    np.testing.assert_allclose(got["elongation"], [2 / 3, 0, 0.5], atol=0.01)
    np.testing.assert_allclose(got["convexity"][:2], 1)


def test_holes_and_pieces_are_counted_as_scikit_image_counts_them() -> None:
    masks = np.zeros((5, 40, 48), bool)
    masks[:, 5:30, 5:30] = True
    masks[1, 10:15, 10:15] = False  # a hole
    masks[2, 10:15, 10:15] = masks[2, 20:25, 20:27] = False
    masks[2, 35:38, 40:45] = True  # another piece
    masks[3, 10, 10] = masks[3, 9, 9] = False
    masks[3, 5:9, 8] = False  # open over a corner only
    masks[4, 10:25, 10:25] = False
    masks[4, 14:20, 14:20] = True  # an island in a hole
    masks[4, 16, 16] = False
    got = measured(masks)
    assert got["euler_number"].tolist() == [1, 0, 0, -1, 0]
    assert got["hole_ratio"][0] == 0
    assert got["hole_ratio"][1] == 25 / 625
    assert got["hole_ratio"][2] == pytest.approx(60 / (625 + 15))
    assert got["hole_ratio"][3] == 0
    assert_agrees(masks)


def test_a_spiral_is_open_to_its_very_end() -> None:
    mask = np.ones((1, 41, 41), bool)
    row, col, step, side = 0, 40, 0, 40
    heading = [(1, 0), (0, -1), (-1, 0), (0, 1)]
    row, col = 1, 39
    mask[0, 0, 39] = False
    while side > 3:
        for _ in range(side - 2):
            mask[0, row, col] = False
            row, col = row + heading[step % 4][0], col + heading[step % 4][1]
        row, col = row - heading[step % 4][0], col - heading[step % 4][1]
        step += 1
        side -= 2 if step % 2 == 0 else 0
        row, col = row + heading[step % 4][0], col + heading[step % 4][1]
    assert_agrees(mask)


def test_a_window_without_pixels_is_refused() -> None:
    packed = np.zeros((1, 8 * 2), np.uint8)
    with pytest.raises(ValueError, match="no pixel"):
        shape_features(packed, windows_around(np.array([[0, 0, 4, 4]]), np.zeros(1, int)), 8, 16)
