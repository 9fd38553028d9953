"""Power of a quantity in bands of frequency, over windows of time around every row.

The periodogram is taken at the rows' own times (Scargle 1982, doi:10.1086/160554, the classical
periodogram), so nothing is interpolated, and on regular sampling it is that of
``scipy.signal.periodogram``. A window has a power in a band only where its rows can tell: they must
lie close enough everywhere for the band's highest frequency (a gap or a slower stretch has none),
and fill the window.

How it is fast: with frequencies that are multiples of 1 / width and a Hann taper centred on the row,
a window's sum over its rows is made of three plain sums of values times complex waves, and these are
put together from sums over 1, 2, 4, 8, ... rows, as the moments in rolling_features.py are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Hz; half-open. Those of JABS (Jackson Laboratory).
BANDS_HZ = ((0.1, 1.0), (1.0, 3.0), (3.0, 5.0), (5.0, 8.0), (8.0, 15.0))
# Timestamps are rounded, and 29.97 frames a second are to count as 30: two rows may be this much
# further apart than half a period of the band's upper edge.
INTERVAL_TOLERANCE = 1.05
# The rows of a window with an interval each must cover this part of its width.
LEAST_COVER = 0.9
_ROWS_AT_ONCE = 2048


def band_name(band: tuple[float, float]) -> str:
    """Name of a band in columns: ``power_0.1_1hz``."""
    return f"power_{band[0]:g}_{band[1]:g}hz"


def band_frequencies(band: tuple[float, float], window_s: float) -> np.ndarray:
    """Multiples of 1 / ``window_s`` in a band, as whole multipliers, int64; may be none."""
    # 3 Hz is in the band that begins there, whatever 3 * 0.2 / 0.2 is.
    first = int(np.ceil(band[0] * window_s - 1e-9))
    stop = int(np.ceil(band[1] * window_s - 1e-9))
    return np.arange(max(first, 1), stop)


def band_powers(
    timestamp_s: np.ndarray,
    columns: Mapping[str, np.ndarray],
    windows_s: Sequence[float],
    bounds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    workers: int = 1,
) -> dict[tuple[str, str, float], np.ndarray]:
    """Power of each column in each of BANDS_HZ over each window.

    ``timestamp_s`` float64 [N], increasing; ``columns``: float64 [N] each, NaN where there is no
    value; ``bounds``: of the windows (``rolling_features.window_bounds``). ``workers``: threads; the
    result does not depend on it. Returns float64 [N] by (column, ``band_name``, width), in the
    column's unit squared: the sum over the multiples f of 1 / width in the band (lower edge included)
    of P(f) / width, where P(f) = 2 |sum h x exp(-2 pi i f t)|^2 dt / sum h^2 over the window's rows
    that have a value, with x less its mean in the window, h = (1 + cos(2 pi (t - t_row) / width)) / 2
    and dt the mean interval of these rows. Over all frequencies it adds up to about the variance.
    NaN where the window has fewer than two frequencies in the band; where two consecutive values of
    the window are further apart than half a period of the band's upper edge (+ 5%); and where the
    values cover less than 0.9 of its width, as at the ends of the video.
    """
    shape = timestamp_s.shape
    result = {
        (name, band_name(band), window_s): np.full(shape, np.nan)
        for name in columns
        for window_s in windows_s
        for band in BANDS_HZ
    }

    def of_column(name: str) -> None:
        known = np.flatnonzero(~np.isnan(columns[name]))
        time, values = timestamp_s[known], columns[name][known]
        for window_s, (first, stop) in zip(windows_s, bounds, strict=True):
            low, high = np.searchsorted(known, first), np.searchsorted(known, stop)
            found = _of_window(time, values, timestamp_s, low, high, window_s)
            for band, power in zip(BANDS_HZ, found, strict=True):
                if power is not None:
                    result[name, band_name(band), window_s] = power

    with ThreadPoolExecutor(workers) as pool:
        for task in [pool.submit(of_column, name) for name in columns]:
            task.result()
    return result


def _of_window(
    time: np.ndarray,
    values: np.ndarray,
    centre: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    window_s: float,
) -> list[np.ndarray | None]:
    """Power in each band over the values ``low`` to ``high`` - 1 around each of ``centre``.

    ``time``, ``values`` float64 [K]; ``centre`` float64, ``low``, ``high`` int64 [N]. Returns
    float64 [N] per band, None where no row has any.
    """
    full, widest = _sampling(time, low, high, window_s)
    usable, frequencies = [], []
    for band in BANDS_HZ:
        inside = band_frequencies(band, window_s)
        fine = full & (widest <= INTERVAL_TOLERANCE / (2.0 * band[1]))
        usable.append(fine if inside.size >= 2 else np.zeros_like(fine))
        frequencies.append(inside)
    needed = [inside for inside, fine in zip(frequencies, usable, strict=True) if fine.any()]
    found: list[np.ndarray | None] = [
        np.full(centre.shape, np.nan) if fine.any() else None for fine in usable
    ]
    if not needed:
        return found
    top = int(max(inside[-1] for inside in needed))
    rows = np.flatnonzero(np.logical_or.reduce(usable))
    for i in range(0, rows.size, _ROWS_AT_ONCE):
        part = rows[i : i + _ROWS_AT_ONCE]
        power = _periodogram(time, values, centre[part], low[part], high[part], window_s, top)
        for table, inside, fine in zip(found, frequencies, usable, strict=True):
            if table is not None:
                sums = power[:, inside].sum(axis=1) / window_s
                table[part] = np.where(fine[part], sums, np.nan)
    return found


def _sampling(
    time: np.ndarray, low: np.ndarray, high: np.ndarray, window_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each window is filled (bool [N]), and its widest interval (float64 [N], s)."""
    n = high - low
    full, widest = np.zeros(n.shape, bool), np.full(n.shape, np.inf)
    some = np.flatnonzero(n >= 2)
    span = time[high[some] - 1] - time[low[some]]
    full[some] = span * n[some] / (n[some] - 1) >= LEAST_COVER * window_s
    # Maxima over 1, 2, 4, ... intervals; any window is two of them that may overlap.
    maxima, lengths = np.diff(time), n[some] - 1
    for level in range(int(lengths.max(initial=0)).bit_length()):
        span_rows = 1 << level
        at = np.flatnonzero(lengths >> level == 1)
        begin, end = low[some[at]], low[some[at]] + lengths[at]
        widest[some[at]] = np.maximum(maxima[begin], maxima[end - span_rows])
        maxima = np.maximum(maxima[:-span_rows], maxima[span_rows:])
    return full, widest


def _periodogram(
    time: np.ndarray,
    values: np.ndarray,
    centre: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    window_s: float,
    top: int,
) -> np.ndarray:
    """One-sided power density at 0, 1, ..., ``top`` over the width: float64 [n, top + 1]."""
    begin, end = int(low.min()), int(high.max())
    origin = centre[0]
    # exp(-2 pi i k (t - origin) / width) of k = 0..top + 1, for the values and for ones.
    wave = np.exp((-2j * np.pi / window_s) * np.outer(time[begin:end] - origin, np.arange(top + 2)))
    # A value near the window's own keeps the subtraction of the mean from losing digits.
    near = values[begin:end] - values[begin]
    sums = _window_sums(
        np.concatenate((wave * near[:, None], wave), axis=1), low - begin, high - begin
    )
    of_values, of_ones = sums[:, : top + 2], sums[:, top + 2 :]
    count = of_ones[:, 0].real
    centred = of_values - (of_values[:, 0].real / count)[:, None] * of_ones
    # The Hann taper is 1/2 plus a quarter of the waves of plus and minus one cycle over the width,
    # centred on the row.
    turn = np.exp((2j * np.pi / window_s) * (centre - origin))[:, None]
    below = np.concatenate((centred[:, 1:2].conj(), centred[:, :top]), axis=1)
    tapered = centred[:, : top + 1] / 2.0
    tapered += 0.25 * (turn.conj() * below + turn * centred[:, 1:])
    # Sum of h squared, h = (1 + cos)/2: 3/8 n + 1/2 sum cos + 1/8 sum cos of twice the angle.
    once, twice = (turn[:, 0] * of_ones[:, 1]).real, (turn[:, 0] ** 2 * of_ones[:, 2]).real
    taper = 0.375 * count + 0.5 * once + 0.125 * twice
    interval = (time[high - 1] - time[low]) / (count - 1.0)
    power = 2.0 * (tapered.real**2 + tapered.imag**2) * (interval / taper)[:, None]
    # Equal values have no power at all; what is left of them here is rounding.
    level = np.abs(near).max() if near.size else 0.0
    tiny = (1e-13 * level * count)[:, None]
    return np.where(np.abs(tapered) > tiny, power, 0.0)


def _window_sums(terms: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Sums of rows ``low`` to ``high`` - 1 of ``terms`` complex [K, C]: complex [n, C]."""
    lengths, at = high - low, low.copy()
    total = np.zeros((low.shape[0], terms.shape[1]), np.complex128)
    longest, span = int(lengths.max()), 1
    while span <= longest:
        has = np.flatnonzero(lengths & span)
        total[has] += terms[at[has]]
        at[has] += span
        if 2 * span <= longest:
            terms = terms[:-span] + terms[span:]
        span *= 2
    return total
