"""The bar beneath the picture: time, behaviour, mask, review window, and the whole ethogram.

Beneath and not on the picture, so that nothing of the recording is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.overlay.lettering import Lettering
from tailor_assets.compute.palette import STATE_COLOURS, VERMILION, Colour, LabelStyle
from tailor_assets.compute.report.time_columns import TimeColumns

_PAPER: Colour = (24, 26, 28)
_INK: Colour = (238, 238, 238)
_QUIET: Colour = (160, 164, 168)
_STATES = {state.label: state for state in MaskState}


@dataclass(frozen=True)
class InfoRow:
    """What the bar says of one frame."""

    time_s: float
    behavior: str
    probability: float
    mask_state: str
    flag_window: int


class InfoBar:
    """Draws the bar of one video; its height goes with the picture's width."""

    def __init__(
        self,
        width: int,
        timestamps_s: np.ndarray,
        codes: np.ndarray,
        labels: list[str],
        flagged: np.ndarray,
        styles: Mapping[str, LabelStyle],
    ) -> None:
        """codes: place of each row's label in ``labels``, -1 for "no data": int64 [n]. flagged: [n]."""
        self._unit = unit = max(10, round(width / 46))
        self.height = 2 * round((2.6 * unit + 7) / 2)
        self._lettering = Lettering(unit)
        self._styles = styles
        self._hours = bool(timestamps_s.size and timestamps_s[-1] >= 3600)
        self._base = np.full((self.height, width, 3), _PAPER, np.uint8)
        self._strip = (self.height - round(0.75 * unit) - 5, self.height - 5)
        self._first_s = float(timestamps_s[0])
        self._draw_ethogram(timestamps_s, codes, labels, flagged)

    def draw(self, bar: np.ndarray, row: InfoRow) -> None:
        """Fill ``bar``, uint8 RGB [height, width, 3]."""
        bar[:] = self._base
        unit, foot, letters = self._unit, round(1.45 * self._unit), self._lettering
        # Every part has its place whether the others are there or not, or the line would jump about.
        clock = letters.width("0:00:00.00" if self._hours else "00:00.00")
        window_at = bar.shape[1] - letters.width("window 0000") - round(1.7 * unit)
        mask_at = window_at - letters.width("mask not started") - round(2.2 * unit)
        letters.write(bar, _clock(row.time_s, self._hours), unit // 2, foot, _INK)
        self._draw_behavior(bar, row, foot, unit // 2 + clock + unit, mask_at - unit)
        state = _STATES.get(row.mask_state, MaskState.LOST)
        x = self._square(bar, mask_at, foot, STATE_COLOURS[state])
        letters.write(bar, f"mask {state.label.replace('_', ' ')}", x, foot, _INK)
        if row.flag_window:
            self._draw_flag(bar, window_at, foot, row.flag_window)
        self._draw_cursor(bar, row.time_s)

    def _draw_behavior(self, bar: np.ndarray, row: InfoRow, foot: int, x: int, stop: int) -> None:
        """Colour, label and probability between two columns; a long label is cut."""
        letters, half = self._lettering, self._unit // 2
        sure = f"{row.probability:.2f}" if np.isfinite(row.probability) else ""
        style = self._styles.get(row.behavior, self._styles[NO_DATA])
        x = self._square(bar, x, foot, style.colour)
        room = stop - x - half - letters.width("0.00")
        label = row.behavior[:60]
        while letters.width(label) > room and len(label) > 2:
            label = label[:-2].rstrip() + "…"
        x = letters.write(bar, label, x, foot, _INK)
        letters.write(bar, sure, x + half, foot, _QUIET)

    def _draw_flag(self, bar: np.ndarray, x: int, foot: int, window: int) -> None:
        """A flag on its pole, and the window's number."""
        top, half = foot - self._unit, max(2, self._unit // 3)
        for i in range(2 * half):
            bar[top + i, x + 2 : x + 2 + 2 * min(i + 1, 2 * half - i)] = VERMILION
        bar[top : foot + 1, x : x + 2] = VERMILION
        self._lettering.write(bar, f"window {window}", x + round(1.2 * self._unit), foot, _INK)

    def _square(self, bar: np.ndarray, x: int, foot: int, colour: Colour) -> int:
        """A square as high as a capital; returns where the text after it begins."""
        bar[foot - self._unit + 1 : foot + 1, x : x + self._unit] = colour
        return x + round(1.4 * self._unit)

    def _draw_ethogram(
        self, times: np.ndarray, codes: np.ndarray, labels: list[str], flagged: np.ndarray
    ) -> None:
        """The whole recording in the lowest rows, each column in the colour of its longest label."""
        width = self._base.shape[1]
        if times.size < 2:
            self._last_s = self._first_s + 1.0
            return
        columns = TimeColumns(times, most=width)
        self._last_s = columns.end_s
        places = [-1, *range(len(labels))]
        colours = np.array(
            [self._styles[NO_DATA if p < 0 else labels[p]].colour for p in places], np.uint8
        )
        shares = np.stack([columns.share(codes == p) for p in places])
        at = np.arange(width) * shares.shape[1] // width
        top, bottom = self._strip
        self._base[top:bottom] = np.where(
            (shares.max(axis=0) > 0)[:, None], colours[shares.argmax(axis=0)], _PAPER
        )[at]
        self._base[bottom + 2 :] = np.where(
            (columns.share(flagged) > 0)[:, None], VERMILION, _PAPER
        )[at]

    def _draw_cursor(self, bar: np.ndarray, time_s: float) -> None:
        width = bar.shape[1]
        along = (time_s - self._first_s) / max(self._last_s - self._first_s, 1e-9)
        x = min(width - 2, max(0, int(along * width)))
        top = self._strip[0] - 2
        bar[top:, max(0, x - 1) : x + 3] = 0
        bar[top:, x : x + 2] = 255


def _clock(seconds: float, hours: bool) -> str:
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    last = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{last}" if hours else f"{minutes:02d}:{last}"
