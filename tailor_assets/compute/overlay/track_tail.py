"""Where the animal has just come from: a tail that grows thinner with age."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from tailor_assets.compute.palette import Colour

_PIECES = 4
_SUBPIXELS = 4  # in bits: cv2 draws at sixteenths of a pixel


class TrackTail:
    """The way of one animal over the last seconds."""

    def __init__(
        self,
        centroids: np.ndarray,
        timestamps_s: np.ndarray,
        *,
        seconds: float,
        scale: tuple[float, float],
        colour: Colour,
        line: int,
    ) -> None:
        """centroids: float64 [n, 2] of (row, column), NaN where it is lost. scale: of x and y."""
        points = (centroids[:, ::-1] + 0.5) * scale - 0.5
        self._lost = np.asarray(~np.isfinite(points).all(axis=1))
        self._points = np.round(np.nan_to_num(points) * (1 << _SUBPIXELS)).astype(np.int32)
        self._first = np.searchsorted(timestamps_s, timestamps_s - seconds, side="left")
        self._colour, self._line = colour, line

    def draw(self, picture: np.ndarray, row: int) -> None:
        """Draw the tail that ends in this row; it is interrupted where the animal was lost."""
        first = int(self._first[row])
        if row == first:
            return
        borders = np.linspace(first, row, min(_PIECES, row - first) + 1).round().astype(int)
        for age, (begin, end) in enumerate(pairwise(borders)):
            self._stroke(picture, begin, end + 1, self._line + (age * self._line) // _PIECES)

    def _stroke(self, picture: np.ndarray, begin: int, stop: int, line: int) -> None:
        rows = np.arange(begin, stop)
        # Unbroken pieces between rows without the animal.
        gaps = np.flatnonzero(self._lost[rows])
        for piece in np.split(rows, gaps):
            points = self._points[piece[~self._lost[piece]]]
            if len(points) > 1:
                cv2.polylines(picture, [points], False, self._colour, line, cv2.LINE_AA, _SUBPIXELS)
