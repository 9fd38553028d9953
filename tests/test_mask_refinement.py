"""The edge of a coarse mask, moved to where the picture changes."""

import cv2
import numpy as np
import pytest

from sam2_worker.mask_output import MaskEnlarger
from sam2_worker.mask_refinement import refined_mask
from sam2_worker.view import View

SIDE = 48


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def _ellipse(
    width: int, height: int, axes: tuple[int, int], at: tuple[int, int] | None = None
) -> np.ndarray:
    truth = np.zeros((height, width), np.uint8)
    cv2.ellipse(truth, at or (width // 2, height // 2), axes, 25, 0, 360, 1, -1)
    return truth > 0


def _pictured(truth: np.ndarray, body: int, floor: int, seed: int = 0) -> np.ndarray:
    """Grey levels with a camera's noise."""
    noise = np.random.default_rng(seed).normal(0, 4, (*truth.shape, 1))
    levels = np.where(truth, float(body), float(floor))[:, :, None]
    return np.repeat(levels + noise, 3, axis=2).clip(0, 255).astype(np.uint8)


def _shares(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _coarse(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Logits as a network gives them: a soft edge on a grid, wrong by a cell here and there."""
    share = _shares(truth)
    wrong = cv2.GaussianBlur(
        np.random.default_rng(seed).normal(0, 3, (SIDE, SIDE)).astype(np.float32), (0, 0), 2
    )
    return ((cv2.GaussianBlur(share, (0, 0), 1) - 0.5) * 12 + 4 * wrong).astype(np.float32)


def _enlarged(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return MaskEnlarger(SIDE, *truth.shape, fill_hole_area=0).mask(logits)


@pytest.mark.parametrize("size", [(384, 288), (200, 300), (1920, 1080)])
@pytest.mark.parametrize(("body", "floor"), [(20, 200), (210, 90)])
def test_a_coarse_outline_becomes_the_pictures(
    size: tuple[int, int], body: int, floor: int
) -> None:
    width, height = size
    truth = _ellipse(width, height, (width // 5, height // 8))
    logits = _coarse(truth)
    before = _iou(_enlarged(logits, truth), truth)
    after = _iou(refined_mask(_pictured(truth, body, floor), logits), truth)
    assert before < 0.93
    assert after > 0.96


def test_a_piece_of_an_even_body_of_which_the_network_is_unsure_is_taken_in() -> None:
    truth = _ellipse(384, 288, (90, 45))
    piece = truth.copy()
    piece[:, :255] = False
    logits = _coarse(truth, 1) - 7 * _shares(piece)
    before = _enlarged(logits, truth)
    after = refined_mask(_pictured(truth, 15, 180), logits)
    assert (after & piece).sum() > 1.5 * (before & piece).sum()
    assert _iou(after, truth) > _iou(before, truth) + 0.02


def test_colours_that_body_and_floor_share_move_nothing() -> None:
    truth = _ellipse(384, 288, (90, 45))
    logits = _coarse(truth, 2)
    after = refined_mask(_pictured(truth, 100, 100), logits)
    assert _iou(after, _enlarged(logits, truth)) > 0.97


def test_a_wall_as_dark_as_the_mouse_is_not_taken_in() -> None:
    truth = _ellipse(384, 288, (80, 40), at=(192, 190))
    wall = np.zeros_like(truth)
    wall[225:] = True
    picture = _pictured(truth | wall, 20, 190)
    logits = _coarse(truth & ~wall, 3)
    after = refined_mask(picture, logits)
    reach = 0.12 * np.sqrt(truth.sum()) + 8
    assert not after[int(225 + reach) :].any()
    assert (after & wall).sum() < 0.2 * truth.sum()


def test_in_a_view_it_is_what_it_is_in_a_picture_of_its_own() -> None:
    view = View(60, 30, 200, 160)
    truth = _ellipse(view.width, view.height, (40, 22))
    picture, logits = _pictured(truth, 30, 170), _coarse(truth, 4)
    around = np.full((300, 400, 3), 170, np.uint8)
    around[view.slices] = picture
    found = refined_mask(around, logits, view)
    assert np.array_equal(found[view.slices], refined_mask(picture, logits))
    assert found.sum() == found[view.slices].sum() > 0


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (48, 48), (31, 400), (640, 480)])
def test_no_mask_stays_none_and_a_small_one_is_not_lost(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    logits = np.full((SIDE, SIDE), -1024, np.float32)
    assert not refined_mask(picture, logits).any()
    logits[:] = -3
    logits[20:24, 20:24] = 3
    expected = MaskEnlarger(SIDE, height, width, fill_hole_area=0).mask(logits)
    found = refined_mask(picture, logits)
    assert found.shape == (height, width)
    assert found.any() == expected.any()
    everything = refined_mask(picture, np.full((SIDE, SIDE), 5, np.float32))
    assert everything.all()
