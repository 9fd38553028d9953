"""Medians over windows of time around every row, however many rows a window has.

A wavelet matrix (Claude, Navarro and Ordóñez 2015, doi:10.1016/j.is.2014.06.002) over the ranks of
the values: one level per bit of the ranks, at which all values with a 0 come before those with a 1.
To find the k-th smallest value between two rows, count the zeros between them, go to the half that
holds the k-th, and do the same at the next bit. That is log2(rows) steps for all windows at once,
whatever their width, and exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rolling_median(
    values: np.ndarray, bounds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[np.ndarray]:
    """Median of ``values`` float64 [N] between each pair of rows, one float64 [N] per ``bounds``.

    ``bounds``: first row and the row after the last, int64 [N] each. NaN is no value and is left
    out; the median of no value is NaN, that of an even number the mean of the middle two.
    """
    known = ~np.isnan(values)
    before = np.concatenate(([0], np.cumsum(known))).astype(np.int32)
    lows = np.concatenate([before[first] for first, _ in bounds] or [before[:0]])
    highs = np.concatenate([before[stop] for _, stop in bounds] or [before[:0]])
    count = highs - lows
    some = np.flatnonzero(count > 0)
    median = np.full(count.shape, np.nan)
    if some.size:
        ordered, rank = np.unique(values[known], return_inverse=True)
        lows, highs, count = lows[some], highs[some], count[some]
        even = np.flatnonzero(count % 2 == 0)
        # The lower middle of all windows, and the upper one of those that have two.
        found = ordered[
            _kth_smallest(
                rank.astype(np.int32),
                np.concatenate((lows, lows[even])),
                np.concatenate((highs, highs[even])),
                np.concatenate(((count - 1) // 2, count[even] // 2)),
            )
        ]
        middle = found[: some.size]
        middle[even] += (found[some.size :] - middle[even]) / 2.0
        median[some] = middle
    return np.split(median, len(bounds)) if bounds else []


def _kth_smallest(rank: np.ndarray, low: np.ndarray, high: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The ``k``-th smallest (from 0) of ``rank[low:high]``, int32 [q]; ranks are not negative."""
    result = np.zeros(k.shape, np.int32)
    for bit in range(int(rank.max()).bit_length() - 1, -1, -1):
        is_one = (rank >> bit) & 1
        zeros = np.concatenate(([0], np.cumsum(1 - is_one))).astype(np.int32)
        zeros_low, zeros_high = zeros[low], zeros[high]
        n_zeros = zeros_high - zeros_low
        up = k >= n_zeros
        k = np.where(up, k - n_zeros, k)
        low = np.where(up, zeros[-1] + low - zeros_low, zeros_low)
        high = np.where(up, zeros[-1] + high - zeros_high, zeros_high)
        result |= up.astype(np.int32) << bit
        rank = np.concatenate((rank[is_one == 0], rank[is_one == 1]))
    return result
