"""Statistics over windows of time around every row.

Window sums by running totals lose small spreads in rounding, and a loop over windows is slow. Here
count, mean, sum of squared deviations, minimum and maximum of 1, 2, 4, 8, ... consecutive rows are
made by merging neighbours (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample
variance"), and each window is put together from at most log2(rows) of them: exact for constants,
with no cancellation, whatever the timestamps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ROLLING_STATISTICS = ("mean", "std", "min", "max")
# As for flag windows: timestamps are rounded, and a row at the very edge belongs to the window.
EDGE_TOLERANCE_S = 1e-6
# Columns worked on at once: bounds the memory beside the table itself.
_COLUMNS_AT_ONCE = 8


@dataclass
class _Statistics:
    """Statistics of spans of rows, float64 [spans, columns]; count 0 where no row has a value."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of_rows(cls, values: np.ndarray) -> "_Statistics":
        known = ~np.isnan(values)
        return cls(
            known.astype(np.float64),
            np.where(known, values, 0.0),
            np.zeros(values.shape),
            np.where(known, values, np.inf),
            np.where(known, values, -np.inf),
        )

    @classmethod
    def of_nothing(cls, shape: tuple[int, int]) -> "_Statistics":
        return cls.of_rows(np.full(shape, np.nan))

    def __getitem__(self, spans: slice | np.ndarray) -> "_Statistics":
        return _Statistics(
            self.count[spans],
            self.mean[spans],
            self.squares[spans],
            self.minimum[spans],
            self.maximum[spans],
        )

    def __setitem__(self, spans: np.ndarray, other: "_Statistics") -> None:
        self.count[spans] = other.count
        self.mean[spans] = other.mean
        self.squares[spans] = other.squares
        self.minimum[spans] = other.minimum
        self.maximum[spans] = other.maximum

    def merged(self, other: "_Statistics") -> "_Statistics":
        count = self.count + other.count
        share = other.count / np.maximum(count, 1.0)
        apart = other.mean - self.mean
        return _Statistics(
            count,
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.count * share,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )


def rolling_column(column: str, statistic: str, window_s: float) -> str:
    """Name of a rolling column: ``speed_px_s_mean_1s``."""
    return f"{column}_{statistic}_{window_s:g}s"


def rolling_features(
    timestamp_s: np.ndarray, columns: Mapping[str, np.ndarray], windows_s: Sequence[float]
) -> dict[str, np.ndarray]:
    """Mean, standard deviation, minimum and maximum of ``columns`` over centred windows.

    ``timestamp_s`` float64 [N], increasing; ``columns``: float64 [N] each, NaN where there is no
    value; ``windows_s``: widths in seconds. Row j is in row i's window of width w if
    |t_j - t_i| <= w / 2 (+ 1 microsecond), however many rows that makes; at the ends of the video
    windows are shorter. Rows without a value are left out of it. Returns float64 [N] for each name
    of ``rolling_column``: NaN where no row of the window has a value; the standard deviation (with
    n - 1) where fewer than two have.
    """
    bounds = []
    for window_s in windows_s:
        reach = window_s / 2 + EDGE_TOLERANCE_S
        first = np.searchsorted(timestamp_s, timestamp_s - reach, side="left")
        stop = np.searchsorted(timestamp_s, timestamp_s + reach, side="right")
        bounds.append((first, stop - first))
    names = list(columns)
    result: dict[str, np.ndarray] = {}
    for i in range(0, len(names), _COLUMNS_AT_ONCE):
        group = names[i : i + _COLUMNS_AT_ONCE]
        values = np.column_stack([columns[name] for name in group])
        for window_s, statistics in zip(windows_s, _windowed(values, bounds), strict=True):
            for statistic, table in _finished(statistics).items():
                for k, name in enumerate(group):
                    result[rolling_column(name, statistic, window_s)] = table[:, k].copy()
    return {
        rolling_column(name, statistic, window_s): result[rolling_column(name, statistic, window_s)]
        for name in names
        for window_s in windows_s
        for statistic in ROLLING_STATISTICS
    }


def _windowed(
    values: np.ndarray, bounds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[_Statistics]:
    """Statistics of ``values`` float64 [N, C] in each window (first row, number of rows)."""
    totals = [_Statistics.of_nothing(values.shape) for _ in bounds]
    position = [first.copy() for first, _ in bounds]
    longest = max((int(n.max()) for _, n in bounds if n.size), default=0)
    spans, span = _Statistics.of_rows(values), 1
    while span <= longest:
        for total, at, (_, n_rows) in zip(totals, position, bounds, strict=True):
            rows = np.flatnonzero(n_rows & span)
            total[rows] = total[rows].merged(spans[at[rows]])
            at[rows] += span
        if 2 * span <= longest:
            spans = spans[:-span].merged(spans[span:])
        span *= 2
    return totals


def _finished(total: _Statistics) -> dict[str, np.ndarray]:
    nothing = total.count == 0
    deviation = np.sqrt(total.squares / np.maximum(total.count - 1.0, 1.0))
    return {
        "mean": np.where(nothing, np.nan, total.mean),
        "std": np.where(total.count < 2, np.nan, deviation),
        "min": np.where(nothing, np.nan, total.minimum),
        "max": np.where(nothing, np.nan, total.maximum),
    }
