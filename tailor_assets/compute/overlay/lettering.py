"""Text on pictures, in the typeface that matplotlib brings along: sharp at any size, no font file."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tailor_assets.compute.palette import Colour


class Lettering:
    """Writes one size of DejaVu Sans onto uint8 RGB pictures."""

    def __init__(self, height_px: int) -> None:
        """``height_px``: from the foot of a line to the head of its capitals, about."""
        import matplotlib
        from matplotlib.ft2font import FT2Font

        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        self._font: Any = FT2Font(str(path))
        # Capitals of this typeface are 0.73 of its size; at 72 dots an inch a point is a pixel.
        self._font.set_size(height_px / 0.73, 72)
        self.height_px = height_px
        self._alpha = lru_cache(maxsize=512)(self._render)

    def width(self, text: str) -> int:
        """Pixels that the text takes."""
        return int(self._alpha(text)[0].shape[1])

    def write(self, picture: np.ndarray, text: str, x: int, foot: int, colour: Colour) -> int:
        """Write with the foot of the line at row ``foot``; returns the column after the text.

        What does not fit into the picture is cut off.
        """
        alpha, descent = self._alpha(text)
        top = foot + descent - alpha.shape[0]
        first, last = max(0, top), min(picture.shape[0], top + alpha.shape[0])
        left, right = max(0, x), min(picture.shape[1], x + alpha.shape[1])
        if first < last and left < right:
            part = alpha[first - top : last - top, left - x : right - x, None].astype(np.uint16)
            under = picture[first:last, left:right]
            ink = np.array(colour, np.uint16)
            under[:] = ((under * (255 - part) + ink * part + 127) // 255).astype(np.uint8)
        return x + int(alpha.shape[1])

    def _render(self, text: str) -> tuple[np.ndarray, int]:
        """Coverage uint8 [h, w], and how many of its rows are below the foot of the line."""
        plain = "".join(c if c.isprintable() else " " for c in text)
        with warnings.catch_warnings():
            # Letters that the typeface lacks are shown as boxes.
            warnings.simplefilter("ignore", UserWarning)
            self._font.set_text(plain, 0.0)
        self._font.draw_glyphs_to_bitmap(antialiased=True)
        image = np.array(self._font.get_image(), np.uint8)
        return image, round(self._font.get_descent() / 64)
