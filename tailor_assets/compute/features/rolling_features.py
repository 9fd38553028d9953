"""Statistics over windows of time around every row.

Window sums by running totals lose small spreads in rounding, and a loop over windows is slow. Here
count, mean, sums of the second to fourth powers of the deviations, minimum and maximum of 1, 2, 4,
8, ... consecutive rows are made by merging neighbours (Chan, Golub, LeVeque 1983, "Algorithms for
computing the sample variance"; Pébay 2008, SAND2008-6212, for the higher powers), and each window is
put together from at most log2(rows) of them: exact for constants, with no cancellation, whatever
the timestamps. Medians are in rolling_median.py, powers in frequency bands in band_power.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.rolling_median import rolling_median

STATISTIC_FORMULAS = {
    "mean": "mean",
    "median": "median; of an even number of values the mean of the middle two",
    "std": "standard deviation with n - 1; empty where fewer than two rows have a value",
    "skew": "skewness m3 / m2^1.5 with m_k = mean of (x - mean)^k, biased as `scipy.stats.skew`; "
    "empty where fewer than three rows have a value or all values are equal",
    "kurtosis": "excess kurtosis m4 / m2² - 3, biased as `scipy.stats.kurtosis`; empty where fewer "
    "than four rows have a value or all values are equal",
    "min": "smallest value",
    "max": "greatest value",
}
ROLLING_STATISTICS = tuple(STATISTIC_FORMULAS)
# As for flag windows: timestamps are rounded, and a row at the very edge belongs to the window.
EDGE_TOLERANCE_S = 1e-6
# Columns and rows worked on at once: bounds the memory beside the table itself, and what is worked
# on stays in a core's cache.
_COLUMNS_AT_ONCE = 4
_ROWS_AT_ONCE = 4096
# As scipy.stats: a spread within rounding of the mean is none.
_RESOLUTION = 1e-15


@dataclass
class _Statistics:
    """Statistics of spans of rows, float64 [spans, columns]; count 0 where no row has a value.

    ``squares``, ``cubes``, ``fourths``: sums of powers of the deviations from the mean.
    """

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    cubes: np.ndarray
    fourths: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of_rows(cls, values: np.ndarray) -> _Statistics:
        known = ~np.isnan(values)
        return cls(
            known.astype(np.float64),
            np.where(known, values, 0.0),
            np.zeros(values.shape),
            np.zeros(values.shape),
            np.zeros(values.shape),
            np.where(known, values, np.inf),
            np.where(known, values, -np.inf),
        )

    @classmethod
    def of_nothing(cls, shape: tuple[int, int]) -> _Statistics:
        return cls.of_rows(np.full(shape, np.nan))

    def _all(self) -> tuple[np.ndarray, ...]:
        return (
            self.count,
            self.mean,
            self.squares,
            self.cubes,
            self.fourths,
            self.minimum,
            self.maximum,
        )

    def __getitem__(self, spans: slice | np.ndarray) -> _Statistics:
        return _Statistics(*(values[spans] for values in self._all()))

    def __setitem__(self, spans: slice | np.ndarray, other: _Statistics) -> None:
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            mine[spans] = theirs

    def merged(self, other: _Statistics) -> _Statistics:
        count = self.count + other.count
        share = other.count / np.maximum(count, 1.0)
        rest = self.count / np.maximum(count, 1.0)
        apart = other.mean - self.mean
        between = apart * apart * self.count * share
        cubes = between * (rest - share) + 3.0 * (rest * other.squares - share * self.squares)
        fourths = between * (rest * rest - rest * share + share * share)
        fourths += 6.0 * (rest * rest * other.squares + share * share * self.squares)
        fourths = apart * fourths + 4.0 * (rest * other.cubes - share * self.cubes)
        return _Statistics(
            count,
            self.mean + apart * share,
            self.squares + other.squares + between,
            self.cubes + other.cubes + apart * cubes,
            self.fourths + other.fourths + apart * fourths,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )


def rolling_column(column: str, statistic: str, window_s: float) -> str:
    """Name of a rolling feature, e.g. ``speed_px_s_mean_1s``."""
    return f"{column}_{statistic}_{window_s:g}s"


def window_bounds(timestamp_s: np.ndarray, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    """First row of each row's window and the row after its last, int64 [N] each.

    Row j is in row i's window if |t_j - t_i| <= ``window_s`` / 2 (+ EDGE_TOLERANCE_S).
    """
    reach = window_s / 2 + EDGE_TOLERANCE_S
    return (
        np.searchsorted(timestamp_s, timestamp_s - reach, side="left"),
        np.searchsorted(timestamp_s, timestamp_s + reach, side="right"),
    )


def rolling_features(
    timestamp_s: np.ndarray,
    columns: Mapping[str, np.ndarray],
    windows_s: Sequence[float],
    *,
    workers: int = 1,
) -> dict[str, np.ndarray]:
    """ROLLING_STATISTICS of ``columns`` over centred windows.

    ``timestamp_s`` float64 [N], increasing; ``columns``: float64 [N] each, NaN where there is no
    value; ``windows_s``: widths in seconds. Row j is in row i's window of width w if
    |t_j - t_i| <= w / 2 (+ 1 microsecond), however many rows that makes; at the ends of the video
    windows are shorter. Rows without a value are left out of it. ``workers``: threads; the result
    does not depend on it. Returns float64 [N] for each name of ``rolling_column``: NaN where no row
    of the window has a value; STATISTIC_FORMULAS says what else has none.
    """
    bounds = [window_bounds(timestamp_s, window_s) for window_s in windows_s]
    names = list(columns)
    result = {
        rolling_column(name, statistic, window_s): np.empty(timestamp_s.shape)
        for name in names
        for window_s in windows_s
        for statistic in ROLLING_STATISTICS
    }

    def moments_of(group: list[str]) -> None:
        values = np.column_stack([columns[name] for name in group])
        for i in range(0, timestamp_s.shape[0], _ROWS_AT_ONCE):
            rows = slice(i, min(i + _ROWS_AT_ONCE, timestamp_s.shape[0]))
            for window_s, total in zip(windows_s, _windowed(values, bounds, rows), strict=True):
                for statistic, table in _finished(total).items():
                    for k, name in enumerate(group):
                        result[rolling_column(name, statistic, window_s)][rows] = table[:, k]

    def medians_of(name: str) -> None:
        medians = rolling_median(columns[name], bounds)
        for window_s, median in zip(windows_s, medians, strict=True):
            result[rolling_column(name, "median", window_s)] = median

    groups = [names[i : i + _COLUMNS_AT_ONCE] for i in range(0, len(names), _COLUMNS_AT_ONCE)]
    with ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(moments_of, group) for group in groups]
        tasks += [pool.submit(medians_of, name) for name in names]
        for task in tasks:
            task.result()
    return result


def _windowed(
    values: np.ndarray, bounds: Sequence[tuple[np.ndarray, np.ndarray]], rows: slice
) -> list[_Statistics]:
    """Statistics of ``values`` float64 [N, C] in the windows (first, stop) of some rows."""
    if not bounds:
        return []
    low = min(int(first[rows].min()) for first, _ in bounds)
    high = max(int(stop[rows].max()) for _, stop in bounds)
    shape = (rows.stop - rows.start, values.shape[1])
    totals = [_Statistics.of_nothing(shape) for _ in bounds]
    position = [first[rows] - low for first, _ in bounds]
    lengths = [stop[rows] - first[rows] for first, stop in bounds]
    longest = max(int(n.max()) for n in lengths)
    spans, span = _Statistics.of_rows(values[low:high]), 1
    while span <= longest:
        for total, at, n_rows in zip(totals, position, lengths, strict=True):
            has = np.flatnonzero(n_rows & span)
            total[has] = total[has].merged(spans[at[has]])
            at[has] += span
        if 2 * span <= longest:
            spans = spans[:-span].merged(spans[span:])
        span *= 2
    return totals


def _finished(total: _Statistics) -> dict[str, np.ndarray]:
    """ROLLING_STATISTICS but the median, float64 [spans, columns] each."""
    n = np.where(total.count == 0, np.nan, total.count)
    spread = total.squares / n
    spread = np.where(spread > (_RESOLUTION * total.mean) ** 2, spread, np.nan)
    deviation = np.sqrt(total.squares / np.maximum(total.count - 1.0, 1.0))
    skew = total.cubes / n / (spread * np.sqrt(spread))
    kurtosis = total.fourths / n / (spread * spread) - 3.0
    return {
        "mean": np.where(total.count == 0, np.nan, total.mean),
        "std": np.where(total.count < 2, np.nan, deviation),
        "skew": np.where(total.count < 3, np.nan, skew),
        "kurtosis": np.where(total.count < 4, np.nan, kurtosis),
        "min": np.where(total.count == 0, np.nan, total.minimum),
        "max": np.where(total.count == 0, np.nan, total.maximum),
    }
