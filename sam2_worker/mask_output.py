"""From the tracker's low-resolution logits to packed masks of the video's size."""

from functools import lru_cache

import cv2
import numpy as np

from sam2_worker.view import View

# The official predictor's fill_hole_area: pixels of the low-resolution mask.
FILL_HOLE_AREA = 8
FILLED_LOGIT = 0.1


def fill_small_holes(logits: np.ndarray, max_area: int = FILL_HOLE_AREA) -> np.ndarray:
    """Make background components of at most ``max_area`` pixels foreground.

    ``logits`` is float32 [h, w], foreground where > 0; a new array is returned. Components are
    8-connected and filled with a small positive logit, as sam2's fill_holes_in_mask_scores does
    with its CUDA extension, which a pip install does not build. Large holes stay: a nest around an
    animal has one.
    """
    background = (logits <= 0).astype(np.uint8)
    if background.all():
        return logits
    _, labels, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] <= max_area
    small[0] = False  # label 0 is the foreground
    return np.where(small[labels], np.float32(FILLED_LOGIT), logits)


class MaskEnlarger:
    """Enlarges logits bilinearly to the video's size and packs what is foreground.

    The arithmetic of ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``, in
    its order, on the part of the picture that can be foreground at all: an animal is a hundredth of
    it. Plain numpy, because a second thread that uses torch takes the cores from the model.
    """

    def __init__(self, side: int, height: int, width: int, *, fill_hole_area: int) -> None:
        """``side`` of the square logits, ``height`` and ``width`` of the video."""
        self._side = side
        self._whole = View(0, 0, width, height)
        self._fill_hole_area = fill_hole_area

    def packed(self, logits: np.ndarray, view: View | None = None) -> np.ndarray:
        """float32 [side, side] -> uint8 [ceil(height * width / 8)] as ``numpy.packbits`` packs."""
        return np.packbits(self.mask(logits, view))

    def mask(self, logits: np.ndarray, view: View | None = None) -> np.ndarray:
        """float32 [side, side] of ``view`` (None: the whole picture) -> bool [height, width]."""
        view = view or self._whole
        whole = np.zeros((self._whole.height, self._whole.width), bool)
        mask = view.cut(whole)
        if self._fill_hole_area > 0:
            logits = fill_small_holes(logits, self._fill_hole_area)
        positive = logits > 0
        rows = np.flatnonzero(positive.any(axis=1))
        if not rows.size:
            return whole
        columns = np.flatnonzero(positive.any(axis=0))
        down, along = _taps(self._side, view.height), _taps(self._side, view.width)
        r, c = down.reached(rows[0], rows[-1]), along.reached(columns[0], columns[-1])
        if r.start == r.stop or c.start == c.stop:
            return whole  # a video smaller than the logits can lie between them
        top, bottom = down.first[r].min(), down.second[r].max() + 1
        band = logits[top:bottom]
        across = band[:, along.first[c]] * along.first_weight[c]
        across += band[:, along.second[c]] * along.second_weight[c]
        values = across[down.first[r] - top] * down.first_weight[r, None]
        values += across[down.second[r] - top] * down.second_weight[r, None]
        np.greater(values, 0, out=mask[r, c])
        return whole


class _Taps:
    """The two source indices and weights of every output index along one axis."""

    def __init__(self, source: int, target: int) -> None:
        scale = np.float32(source / target)
        place = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
        place = np.maximum(place, 0)
        self.first = place.astype(np.int64)
        self.second = np.minimum(self.first + 1, source - 1)
        self.second_weight = (place - self.first).astype(np.float32)
        self.first_weight = np.float32(1) - self.second_weight

    def reached(self, first: int, last: int) -> slice:
        """Output indices that look at any source index from ``first`` to ``last``."""
        hit = np.flatnonzero((self.second >= first) & (self.first <= last))
        return slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0)


@lru_cache(maxsize=64)
def _taps(source: int, target: int) -> _Taps:
    """Views come in few sizes."""
    return _Taps(source, target)
