"""Contact sheets: the worst frames side by side, truth green, mask red, for a person to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

_TILE, _CAPTION, _COLUMNS = 320, 40, 4
_GREEN, _RED = (0, 220, 0), (235, 30, 30)
_MARGIN = 30


@dataclass(frozen=True)
class Shot:
    """One frame to look at: ``picture()`` gives uint8 RGB [H, W, 3]; ``mask`` bool [H, W].

    Its truth is a mask bool [H, W], or points float64 [P, 2] (x, y), or neither. ``caption``: up to
    two lines.
    """

    picture: Callable[[], np.ndarray]
    mask: np.ndarray
    caption: tuple[str, ...]
    truth: np.ndarray | None = None
    points: np.ndarray | None = None


def write_sheet(path: Path, title: str, shots: Sequence[Shot]) -> None:
    """Draw the shots, four to a row, into one PNG."""
    rows = -(-len(shots) // _COLUMNS)
    high = _TILE + _CAPTION
    sheet = np.zeros((_CAPTION + rows * high, _COLUMNS * _TILE, 3), np.uint8)
    _write(sheet, title, 8, 26, 0.6)
    for number, shot in enumerate(shots):
        top, left = _CAPTION + number // _COLUMNS * high, number % _COLUMNS * _TILE
        sheet[top : top + _TILE, left : left + _TILE] = _tile(shot)
        for line, text in enumerate(shot.caption):
            _write(sheet, text, left + 4, top + _TILE + 15 + 17 * line, 0.42)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise OSError(f"{path} could not be written")


def _tile(shot: Shot) -> np.ndarray:
    """The part of the picture that mask and truth lie in, square, outlined."""
    picture = shot.picture()
    top, left, side = _window(shot, picture.shape[:2])
    box = (slice(top, top + side), slice(left, left + side))
    crop = picture[box]
    scale = _TILE / max(crop.shape[:2])
    size = (round(crop.shape[1] * scale), round(crop.shape[0] * scale))
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    view = tile[: size[1], : size[0]]
    view[:] = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for mask, colour in ((shot.truth, _GREEN), (shot.mask, _RED)):
        if mask is None:
            continue
        large = cv2.resize(mask[box].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        drawn = np.ascontiguousarray(view)
        cv2.drawContours(drawn, outlines, -1, colour, 1)
        view[:] = drawn
    for x, y in () if shot.points is None else shot.points:
        at = (round((x - left + 0.5) * scale), round((y - top + 0.5) * scale))
        cv2.drawMarker(tile, at, _GREEN, cv2.MARKER_CROSS, 12, 1)
    return tile


def _window(shot: Shot, shape: tuple[int, int]) -> tuple[int, int, int]:
    """(top, left, side) of a square around what there is to see, as far as the picture goes."""
    places = [np.argwhere(mask) for mask in (shot.mask, shot.truth) if mask is not None]
    if shot.points is not None:
        places.append(shot.points[:, ::-1].round().astype(int))
    seen = np.concatenate(places)
    if not len(seen):
        return 0, 0, max(shape)
    low, high = seen.min(axis=0), seen.max(axis=0)
    side = int(max(160, (high - low).max() + 2 * _MARGIN))
    middle = (low + high) // 2
    top, left = (
        int(np.clip(m - side // 2, 0, max(0, extent - side)))
        for m, extent in zip(middle, shape, strict=True)
    )
    return top, left, side


def _write(sheet: np.ndarray, text: str, x: int, y: int, size: float) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3, 1, cv2.LINE_AA)
