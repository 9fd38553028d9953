"""Logits to packed masks of the video's size, in numpy."""

import numpy as np
import pytest

from sam2_worker.mask_output import FILLED_LOGIT, MaskEnlarger, fill_small_holes
from sam2_worker.view import View


def _bilinear(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """float64 [height, width], corners not aligned: each output pixel's centre, weighed by hand."""
    side = len(logits)
    out = np.zeros((height, width))
    for axis_y in range(height):
        y = max((axis_y + 0.5) * side / height - 0.5, 0)
        y0 = int(y)
        y1, dy = min(y0 + 1, side - 1), y - y0
        for axis_x in range(width):
            x = max((axis_x + 0.5) * side / width - 0.5, 0)
            x0 = int(x)
            x1, dx = min(x0 + 1, side - 1), x - x0
            top = logits[y0, x0] * (1 - dx) + logits[y0, x1] * dx
            bottom = logits[y1, x0] * (1 - dx) + logits[y1, x1] * dx
            out[axis_y, axis_x] = top * (1 - dy) + bottom * dy
    return out


@pytest.mark.parametrize("size", [(48, 80), (16, 16), (9, 7), (17, 61), (1, 1), (33, 5)])
def test_enlarged_masks_are_those_of_bilinear_interpolation(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for background in (0.0, -0.8, 0.8, -2.5):
        logits = (rng.normal(0, 1, (16, 16)) + background).astype(np.float32)
        large = _bilinear(logits.astype(np.float64), *size)
        enlarger = MaskEnlarger(16, *size, fill_hole_area=0)
        mask = enlarger.mask(logits)
        assert mask.shape == size
        sure = np.abs(large) > 1e-5
        assert np.array_equal(mask[sure], (large > 0)[sure])
        assert np.array_equal(enlarger.packed(logits), np.packbits(mask))


def test_a_small_object_anywhere_is_enlarged_like_the_whole() -> None:
    for row, column in [(0, 0), (0, 15), (15, 0), (15, 15), (7, 3)]:
        logits = np.full((16, 16), -1, np.float32)
        logits[row, column] = 3
        mask = MaskEnlarger(16, 50, 70, fill_hole_area=0).mask(logits)
        assert np.array_equal(mask, _bilinear(logits, 50, 70) > 0)
        assert mask.any()


def test_the_mask_of_a_view_is_put_where_the_view_is() -> None:
    logits = np.random.default_rng(2).normal(0, 1, (16, 16)).astype(np.float32)
    view = View(left=20, top=9, width=40, height=31)
    mask = MaskEnlarger(16, 50, 70, fill_hole_area=0).mask(logits, view)
    alone = MaskEnlarger(16, 31, 40, fill_hole_area=0).mask(logits)
    assert np.array_equal(mask[9:40, 20:60], alone)
    assert mask.sum() == alone.sum() > 0


def test_nothing_is_an_empty_mask_and_everything_a_full_one() -> None:
    enlarger = MaskEnlarger(8, 5, 7, fill_hole_area=8)
    assert not enlarger.mask(np.full((8, 8), -1024, np.float32)).any()
    assert enlarger.mask(np.full((8, 8), 5, np.float32)).all()
    assert enlarger.packed(np.full((8, 8), 5, np.float32)).tolist() == [255] * 4 + [0b11100000]


def _with_holes(*holes: list[tuple[int, int]]) -> np.ndarray:
    logits = np.full((20, 20), 4, np.float32)
    for hole in holes:
        for row, column in hole:
            logits[row, column] = -3
    return logits


def test_holes_up_to_the_limit_are_filled_and_larger_ones_stay() -> None:
    small = [(3, 3), (3, 4), (4, 3)]
    large = [(10, c) for c in range(5, 9)]
    logits = _with_holes(small, large)
    filled = fill_small_holes(logits, 3)
    assert [filled[at] for at in small] == [np.float32(FILLED_LOGIT)] * 3
    assert [filled[at] for at in large] == [-3] * 4
    assert (fill_small_holes(logits, 4) > 0).all()
    assert logits[3, 3] == -3, "what was given is as it was"


def test_pixels_that_touch_at_a_corner_are_one_hole() -> None:
    diagonal = _with_holes([(n, n) for n in range(5, 10)])
    assert np.array_equal(fill_small_holes(diagonal, 4), diagonal)
    assert (fill_small_holes(diagonal, 5) > 0).all()


def test_a_gap_at_the_border_is_a_hole_too_and_an_empty_mask_has_none() -> None:
    assert (fill_small_holes(_with_holes([(0, 0), (19, 19)]), 1) > 0).all()
    empty = np.full((20, 20), -1, np.float32)
    assert np.array_equal(fill_small_holes(empty, 8), empty)
