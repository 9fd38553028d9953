"""Masks on a picture: a translucent tint and an outline, at the cost of their area alone."""

from __future__ import annotations

import cv2
import numpy as np

from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.palette import object_colours

_TINT = 0.38


class MaskLayer:
    """Draws the masks of one video, nest first, so that the animal in it stays to be seen."""

    def __init__(self, reader: MaskReader, size: tuple[int, int], nest: str | None) -> None:
        """``size``: (width, height) of the pictures that are drawn on."""
        self._reader, self._width, self._height = reader, *size
        self._scale = (self._width / reader.width, self._height / reader.height)
        self.colours = object_colours(reader.objects, nest)
        self._order = sorted(reader.objects, key=lambda name: name != nest)
        self._boxes = {name: reader.bbox(name) for name in self._order}
        self._line = max(1, round(min(size) / 300))

    def draw(self, picture: np.ndarray, row: int) -> None:
        """Tint and outline every object of the row on ``picture``, uint8 RGB [H, W, 3]."""
        for name in self._order:
            box = self._boxes[name][row]
            if box[2] > box[0] and box[3] > box[1]:
                self._draw_one(picture, name, row, box)

    def _draw_one(self, picture: np.ndarray, name: str, row: int, box: np.ndarray) -> None:
        mask = self._cut_out(name, row, box)
        top, left = round(box[0] * self._scale[1]), round(box[1] * self._scale[0])
        bottom = min(self._height, max(top + 1, round(box[2] * self._scale[1])))
        right = min(self._width, max(left + 1, round(box[3] * self._scale[0])))
        if bottom <= top or right <= left:
            return
        if mask.shape != (bottom - top, right - left):
            mask = cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
        under = picture[top:bottom, left:right]
        tint = np.empty_like(under)
        tint[:] = self.colours[name]
        cv2.copyTo(cv2.addWeighted(under, 1 - _TINT, tint, _TINT, 0), mask, under)
        contours, _ = cv2.findContours(
            mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left, top)
        )
        cv2.drawContours(picture, contours, -1, self.colours[name], self._line, cv2.LINE_AA)

    def _cut_out(self, name: str, row: int, box: np.ndarray) -> np.ndarray:
        """The mask inside its box, uint8 [h, w], 0 or 1: only the rows of the box are unpacked."""
        width = self._reader.width
        first, last = int(box[0]) * width, int(box[2]) * width
        packed = self._reader.packed(name, row)[first // 8 : -(-last // 8)]
        bits = np.unpackbits(packed)[first % 8 : first % 8 + last - first]
        return np.ascontiguousarray(bits.reshape(-1, width)[:, int(box[1]) : int(box[3])])
