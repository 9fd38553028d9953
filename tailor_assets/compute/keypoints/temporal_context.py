"""What was just before each row and what comes just after it, for models that judge single rows.

A person who scores a video looks back and forth; a classifier of rows sees only what its row says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tailor_assets.compute.features.rolling_features import EDGE_TOLERANCE_S, rolling_column

CONTEXT_STATISTICS = ("mean", "max")
SIDES = (("before", -1.0), ("after", 1.0))
# A window whose middle has no row within this share of its width lies beyond the recording's end,
# or in a hole of it.
_NEAR_SHARE = 0.25


def context_column(column: str, side: str, statistic: str, window_s: float) -> str:
    """Name of a context column: ``body_speed_cm_s_before_mean_1s``."""
    return rolling_column(f"{column}_{side}", statistic, window_s)


def context_features(
    timestamp_s: np.ndarray,
    columns: Iterable[str],
    windows_s: Sequence[float],
    centred: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Window statistics of ``columns`` one width before and one width after each row.

    timestamp_s: float64 [n], increasing. centred: what ``rolling_features`` gave for all
    ``columns`` and ``windows_s``, or more. At width w, "before" is the window from 1.5 w to 0.5 w
    before the row, "after" its mirror image: the centred windows of the rows nearest to those
    middles. Returns float64 [n] per column, NaN where there is no such window or nothing is known
    in it.
    """
    names = list(columns)
    result: dict[str, np.ndarray] = {}
    for window_s in windows_s:
        for side, sign in SIDES:
            rows, there = _nearest(timestamp_s, sign * window_s, _NEAR_SHARE * window_s)
            for name in names:
                for statistic in CONTEXT_STATISTICS:
                    values = centred[rolling_column(name, statistic, window_s)]
                    result[context_column(name, side, statistic, window_s)] = np.where(
                        there, values[rows], np.nan
                    )
    return result


def _nearest(timestamp_s: np.ndarray, away_s: float, within_s: float) -> tuple[np.ndarray, ...]:
    """Row nearest to each row's time + away_s, and whether it is within_s of it: two arrays [n]."""
    wanted = timestamp_s + away_s
    last = max(timestamp_s.size - 1, 0)
    after = np.minimum(np.searchsorted(timestamp_s, wanted), last)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(timestamp_s[before] - wanted) < np.abs(timestamp_s[after] - wanted)
    rows = np.where(nearer, before, after)
    return rows, np.abs(timestamp_s[rows] - wanted) <= within_s + EDGE_TOLERANCE_S
