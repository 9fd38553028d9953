"""Hampel's filter and LOWESS with widths in seconds, for many columns at once.

Both look at the rows within half a width of time on either side, so a gap in the recording or an
uneven frame rate changes how many rows those are and not what is done. Work is proportional to rows
times rows in a window; memory beside the table is bounded (Hampel) or a few copies of it (LOWESS).
"""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.features.rolling_features import EDGE_TOLERANCE_S, window_bounds

# Standard deviation of a normal distribution over its median absolute deviation.
MAD_TO_SIGMA = 1.4826
# Values that Hampel's filter holds at once.
_VALUES_AT_ONCE = 4_000_000
# Below it the rows of a window lie, weighted, in one place: there is no line through them.
_LEAST_SPREAD = 1e-9


def hampel(
    timestamp_s: np.ndarray, values: np.ndarray, width_s: float, sigmas: float = 3.0
) -> np.ndarray:
    """Replace outliers by the median of their neighbourhood.

    timestamp_s: float64 [n], increasing. values: float64 [n, columns], NaN where there is none; such
    rows stay NaN and are left out of every window. The window of a row is all rows within
    ``width_s`` / 2; at the ends it is shorter. A value further from the window's median than
    ``sigmas`` times 1.4826 times the window's median absolute deviation becomes that median
    (Hampel 1974, J. Am. Stat. Assoc. 69:383-393; as MATLAB's ``hampel``). Returns float64
    [n, columns].
    """
    result = values.copy()
    if not values.size or width_s <= 0:
        return result
    first, stop = window_bounds(timestamp_s, width_s)
    numbers = np.arange(timestamp_s.size)
    reach = int(max((numbers - first).max(), (stop - 1 - numbers).max()))
    offsets = np.arange(-reach, reach + 1)
    step = max(1, _VALUES_AT_ONCE // (offsets.size * values.shape[1]))
    for start in range(0, values.shape[0], step):
        rows = np.arange(start, min(start + step, values.shape[0]))
        taken = rows[:, None] + offsets
        inside = (taken >= first[rows, None]) & (taken < stop[rows, None])
        taken = np.clip(taken, 0, values.shape[0] - 1)
        windows = np.where(inside[:, :, None], values[taken], np.nan)
        middle = _median(windows)
        deviation = _median(np.abs(windows - middle[:, None, :]))
        outlier = np.abs(values[rows] - middle) > sigmas * MAD_TO_SIGMA * deviation
        result[rows] = np.where(outlier, middle, values[rows])
    return result


def lowess(timestamp_s: np.ndarray, values: np.ndarray, width_s: float) -> np.ndarray:
    """Locally weighted straight lines, read at each row (not robust: Hampel's filter comes first).

    timestamp_s: float64 [n], increasing. values: float64 [n, columns], NaN where there is none; such
    rows stay NaN. A row at distance d <= h = ``width_s`` / 2 weighs (1 - (d / h)^3)^3 (Cleveland
    1979, J. Am. Stat. Assoc. 74:829-836). On even rows this is MATLAB's ``smooth(..., span,
    'lowess')`` for a span of ``width_s`` times the rate in rows, but for the ends, where MATLAB
    takes as many rows from one side and this takes the same time from it. Returns float64
    [n, columns].
    """
    if not values.size or width_s <= 0:
        return values.copy()
    half = width_s / 2
    known = ~np.isnan(values)
    # Positions are far from 0 and their spread is small: sums of small numbers lose nothing.
    level = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    moved = np.where(known, values - level, 0.0)
    s0, s1, s2, t0, t1 = (np.zeros(values.shape) for _ in range(5))
    first, stop = window_bounds(timestamp_s, width_s)
    rows = np.arange(timestamp_s.size)
    for offset in range(int((first - rows).min()), int((stop - rows).max())):
        here = rows[(rows + offset >= first) & (rows + offset < stop)]
        there = here + offset
        distance = (timestamp_s[there] - timestamp_s[here]) / half
        weight = np.clip(1.0 - np.abs(distance) ** 3, 0.0, None) ** 3
        weights = weight[:, None] * known[there]
        s0[here] += weights
        s1[here] += weights * distance[:, None]
        s2[here] += weights * distance[:, None] ** 2
        t0[here] += weights * moved[there]
        t1[here] += weights * distance[:, None] * moved[there]
    spread = s0 * s2 - s1 * s1
    with np.errstate(divide="ignore", invalid="ignore"):
        line = (s2 * t0 - s1 * t1) / spread
        mean = t0 / s0
    smooth = np.where(spread > _LEAST_SPREAD * s0 * s0, line, mean) + level
    return np.where(known, smooth, np.nan)


def fill_short_gaps(timestamp_s: np.ndarray, values: np.ndarray, longest_s: float) -> np.ndarray:
    """Draw straight lines across runs of NaN, where the known rows beside one are close in time.

    timestamp_s: float64 [n]. values: float64 [n, columns]. A run is filled when the time between
    the known rows on either side is at most ``longest_s`` (+ 1 microsecond); runs at either end,
    which have one side only, are not. Returns float64 [n, columns].
    """
    result = values.copy()
    for k in range(values.shape[1]):
        known = np.flatnonzero(~np.isnan(values[:, k]))
        if known.size < 2:
            continue
        gaps = np.flatnonzero(np.isnan(values[:, k]))
        after = np.searchsorted(known, gaps)
        inside = (after > 0) & (after < known.size)
        gaps, after = gaps[inside], after[inside]
        time = timestamp_s[known[after]] - timestamp_s[known[after - 1]]
        filled = gaps[time <= longest_s + EDGE_TOLERANCE_S]
        result[filled, k] = np.interp(timestamp_s[filled], timestamp_s[known], values[known, k])
    return result


def _median(windows: np.ndarray) -> np.ndarray:
    """Median over axis 1 of float64 [rows, window, columns] without its NaN; NaN where all are."""
    ordered = np.sort(windows, axis=1)
    count = np.sum(~np.isnan(windows), axis=1)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[:, None], axis=1)
    high = np.take_along_axis(ordered, np.maximum(count // 2, 0)[:, None], axis=1)
    return np.where(count > 0, ((low + high) / 2)[:, 0], np.nan)
