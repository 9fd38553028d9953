"""A mask's edge, moved to where the picture changes.

The network says every fourth pixel of its input whether the object is there; the picture itself
knows more. Two old ideas, one after the other, close to the network's own edge only:

- The colours inside and outside of the mask are counted, and what is clearly of one of them belongs
  to it (Boykov and Jolly, "Interactive Graph Cuts", ICCV 2001, without the graph), the more so the
  less the two have in common: beside a wall as dark as the mouse they say nothing.
- What comes out is smoothed along the picture's edges and not across them (He, Sun and Tang,
  "Guided Image Filtering", IEEE TPAMI 35 (2013) 1397-1409).

Plain numpy and OpenCV: it runs beside the model, in the thread that packs masks.
"""

import cv2
import numpy as np

from sam2_worker.view import View

# Lengths are shares of the root of the mask's area, in pixels. All numbers were chosen on simulated
# animals of seeds that nothing else is made of; half or twice of one changes little.
_REACH = 0.12  # how far the edge may move
_SMOOTHED_OVER = 0.06
_COLOURS_COUNT = 0.5  # against the network's logits
_SURE_LOGIT = 4.0
_SURE_COLOUR = 3.0
_NOISE = 4e-4  # variance of grey (0..1) that is no edge
# More pixels across would cost time and tell little: the network gives 48.
_MOST_ACROSS = 160
# Cells of the network's mask with fewer than this have no colours to speak of.
_LEAST_PIXELS = 20


def refined_mask(picture: np.ndarray, logits: np.ndarray, view: View | None = None) -> np.ndarray:
    """Return the mask bool [height, width] of an object in ``picture`` uint8 [height, width, 3] RGB.

    ``logits`` float32 [side, side] are the network's, of ``view`` (None: the whole picture),
    foreground where > 0. An empty mask stays empty, and no other becomes so.
    """
    height, width = picture.shape[:2]
    whole = np.zeros((height, width), bool)
    view = view or View(0, 0, width, height)
    inside = logits > 0
    if not inside.any():
        return whole
    piece = _piece_around(inside, view)
    small = min(1.0, _MOST_ACROSS / max(piece.width, piece.height))
    size = (max(1, round(piece.width * small)), max(1, round(piece.height * small)))
    seen = piece.cut(view.cut(picture))
    enlarged = _enlarged(logits, view, piece, size)
    if small < 1:
        seen = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    belonging = _belonging(np.ascontiguousarray(seen), enlarged)
    if small < 1:
        belonging = cv2.resize(belonging, (piece.width, piece.height))
    np.greater(belonging, 0, out=piece.cut(view.cut(whole)))
    return whole


def _piece_around(inside: np.ndarray, view: View) -> View:
    """The part of ``view``, in its own pixels, that the edge and what is around it lie in."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    across, down = view.width / inside.shape[1], view.height / inside.shape[0]
    margin = 2 * _REACH * np.sqrt(inside.sum() * across * down) + max(across, down) + 1
    left = max(0, int(columns[0] * across - margin))
    top = max(0, int(rows[0] * down - margin))
    right = min(view.width, int(np.ceil((columns[-1] + 1) * across + margin)))
    bottom = min(view.height, int(np.ceil((rows[-1] + 1) * down + margin)))
    return View(left, top, right - left, bottom - top)


def _enlarged(logits: np.ndarray, view: View, piece: View, size: tuple[int, int]) -> np.ndarray:
    """Logits of ``piece`` of ``view``, at ``size`` (width, height): bilinear, by pixel centres."""
    rows, columns = logits.shape
    across = columns / view.width * piece.width / size[0]
    down = rows / view.height * piece.height / size[1]
    to_cells = np.array(
        [
            [across, 0, piece.left * columns / view.width + across / 2 - 0.5],
            [0, down, piece.top * rows / view.height + down / 2 - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(logits, to_cells, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _belonging(picture: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Both ideas: uint8 [h, w, 3] and float32 [h, w] -> float32 [h, w], > 0 inside."""
    inside = logits > 0
    area = int(np.count_nonzero(inside))
    if area < _LEAST_PIXELS:
        return logits
    length = float(np.sqrt(area))
    reach = max(2.0, _REACH * length)
    bits = inside.astype(np.uint8)
    deep = cv2.distanceTransform(bits, cv2.DIST_L2, 3)
    away = cv2.distanceTransform(1 - bits, cv2.DIST_L2, 3)
    evidence = np.clip(logits, -_SURE_LOGIT, _SURE_LOGIT)
    evidence += _COLOURS_COUNT * _told_by_colour(picture, inside, ~inside & (away <= 2 * reach))
    near = (deep <= reach) & (away <= reach)
    evidence = np.where(near, evidence, np.where(inside, _SURE_LOGIT, -_SURE_LOGIT))
    share = 1 / (1 + np.exp(-evidence.astype(np.float32)))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    smooth = _guided(grey, share, max(1, round(_SMOOTHED_OVER * length))) - 0.5
    return smooth if (smooth > 0).any() else logits


def _told_by_colour(picture: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Log of how much more often a pixel's colour is found inside, by how well colours tell at all."""
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, (0, 0), 0.7), cv2.COLOR_RGB2LAB)
    lightness = lab[..., 0].astype(np.int32) >> 4
    red, yellow = (np.clip((lab[..., i].astype(np.int32) >> 2) - 28, 0, 7) for i in (1, 2))
    colour = (lightness << 6) | (red << 3) | yellow
    within, around = (
        np.bincount(colour[part], minlength=1024) / max(int(np.count_nonzero(part)), 1)
        for part in (inside, outside)
    )
    apart = np.abs(within - around).sum() / 2  # total variation: 0 alike, 1 nothing in common
    rare = 2e-4
    told = np.log((within + rare) / (around + rare)).clip(-_SURE_COLOUR, _SURE_COLOUR)
    return (apart * told).astype(np.float32)[colour]


def _guided(guide: np.ndarray, values: np.ndarray, radius: int) -> np.ndarray:
    """He, Sun and Tang's filter: float32 [h, w] each."""
    window = (2 * radius + 1, 2 * radius + 1)
    guide_mean, values_mean = cv2.blur(guide, window), cv2.blur(values, window)
    variance = cv2.blur(guide * guide, window) - guide_mean * guide_mean
    shared = cv2.blur(guide * values, window) - guide_mean * values_mean
    slope = shared / (variance + _NOISE)
    offset = values_mean - slope * guide_mean
    return cv2.blur(slope, window) * guide + cv2.blur(offset, window)
