"""A recording of any length, cut into as many stretches of time as a picture has columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tailor_assets.compute.behavior.bouts import row_durations

# As wide as a figure is drawn; what is finer cannot be seen.
MOST_COLUMNS = 1200


@dataclass(frozen=True)
class TimeColumns:
    """Columns of equal length over the rows' time, never more than rows.

    timestamps_s: float64 [n], increasing, n >= 2. A row counts in a column for as long as it lies
    in it (``row_durations``), so holes in the recording are empty.
    """

    timestamps_s: np.ndarray
    most: int = MOST_COLUMNS

    @cached_property
    def durations_s(self) -> np.ndarray:
        """Seconds each row stands for, float64 [n]."""
        return row_durations(self.timestamps_s)

    @property
    def end_s(self) -> float:
        """When the last row ends."""
        return float(self.timestamps_s[-1] + self.durations_s[-1])

    @cached_property
    def edges_s(self) -> np.ndarray:
        """Borders of the columns, float64 [columns + 1]."""
        count = max(1, min(self.most, self.timestamps_s.size))
        return np.linspace(float(self.timestamps_s[0]), self.end_s, count + 1)

    def seconds(self, weights: np.ndarray) -> np.ndarray:
        """Sum over each column of weight times seconds; float64 or bool [n] in, [columns] out."""
        moments = np.stack([self.timestamps_s, self.timestamps_s + self.durations_s], 1).ravel()
        gained = np.concatenate([[0.0], np.cumsum(weights * self.durations_s)])
        sums = np.stack([gained[:-1], gained[1:]], 1).ravel()
        return np.diff(np.interp(self.edges_s, np.maximum.accumulate(moments), sums))

    def share(self, where: np.ndarray) -> np.ndarray:
        """Which part of each column's recorded time is ``where`` (bool [n]); 0 where there is none."""
        recorded = self.seconds(np.ones(where.size))
        return np.divide(
            self.seconds(where), recorded, out=np.zeros(recorded.size), where=recorded > 1e-9
        ).clip(0, 1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over time of each column's values, float64 [columns]; NaN where all are NaN."""
        there = np.isfinite(values)
        known = self.seconds(there)
        return np.divide(
            self.seconds(np.where(there, values, 0.0)),
            known,
            out=np.full(known.size, np.nan),
            where=known > 1e-9,
        )

    def lowest(self, values: np.ndarray) -> np.ndarray:
        """Least value in each column; NaN where all are NaN."""
        return self._reduced(values, np.fmin.reduce)

    def highest(self, values: np.ndarray) -> np.ndarray:
        """Greatest value in each column; NaN where all are NaN."""
        return self._reduced(values, np.fmax.reduce)

    def _reduced(self, values: np.ndarray, reduce: Callable[[np.ndarray], float]) -> np.ndarray:
        return np.array(
            [
                reduce(values[first:stop]) if first < stop else np.nan
                for first, stop in zip(*self._rows, strict=True)
            ]
        )

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """First row and one past the last row that lie in each column by more than a rounding."""
        slack = 1e-6 * (self.edges_s[1] - self.edges_s[0])
        ends = self.timestamps_s + self.durations_s
        first = np.searchsorted(ends, self.edges_s[:-1] + slack, side="right")
        stop = np.searchsorted(self.timestamps_s, self.edges_s[1:] - slack, side="left")
        return first, stop


def time_unit(length_s: float) -> tuple[str, float]:
    """In which unit a time axis of this length is read best, and how many seconds it has."""
    if length_s <= 180:
        return "s", 1.0
    return ("min", 60.0) if length_s <= 3 * 3600 else ("h", 3600.0)


def clock_time(seconds: float) -> str:
    """``12.3 s``, ``2:05.0``, ``1:02:05``: as people read a clock."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.95:
        minutes, rest = divmod(round(seconds, 1), 60)
        return f"{minutes:.0f}:{rest:04.1f} min"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{rest:02.0f} h"
