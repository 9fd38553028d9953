"""Moments that are worth a look although no label changes: long stretches of low confidence.

A stretch is an unbroken run of rows, outside of every window around a change, in which the two best
labels are less than ``LOW_MARGIN`` apart, and which lasts ``LEAST_STRETCH_S`` or more. Of the
stretches those with the most doubt (uncertainty times seconds, ``ranking.py``) are taken, and of each
the part of one window's width in which it is greatest, so that a minute of doubt is one short look.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bouts import TIME_TOLERANCE_S, after_hole, row_durations
from tailor_assets.compute.review.ranking import row_uncertainty

LOW_MARGIN = 0.3
LEAST_STRETCH_S = 1.0


def uncertain_windows(
    predictions: pl.DataFrame, covered: np.ndarray, *, seconds_window: float, most: int
) -> list[tuple[int, int]]:
    """At most ``most`` ranges of rows, first and one past the last, in the order of time. O(n).

    predictions: a row per frame with ``timestamp_s`` (float64, increasing) and
    ``probability_<label>``. covered: bool [n], rows of windows that are there already.
    seconds_window: total width in seconds.
    """
    times = predictions["timestamp_s"].cast(pl.Float64).to_numpy()
    if most < 1 or times.size < 2:
        return []
    uncertainty = row_uncertainty(predictions)
    unsure = np.isfinite(uncertainty) & (uncertainty > 1 - LOW_MARGIN) & ~covered
    durations_s = row_durations(times)
    hole = after_hole(times)
    before = np.append(False, unsure[:-1])
    starts = np.flatnonzero(unsure & (~before | hole))
    after = np.append(unsure[1:] & ~hole[1:], False)
    stops = np.flatnonzero(unsure & ~after) + 1

    seconds = np.concatenate([[0.0], np.cumsum(durations_s)])
    doubt = np.concatenate([[0.0], np.cumsum(np.where(unsure, uncertainty, 0.0) * durations_s)])
    long_enough = seconds[stops] - seconds[starts] >= LEAST_STRETCH_S - TIME_TOLERANCE_S
    starts, stops = starts[long_enough], stops[long_enough]
    # Of equals the earlier one; rounded, so that the last digits of a sum decide nothing.
    worst = np.argsort(-np.round(doubt[stops] - doubt[starts], 6), kind="stable")[:most]
    reach_s = seconds_window / 2 + TIME_TOLERANCE_S
    return sorted(
        _worst_part(times, doubt, seconds, int(starts[k]), int(stops[k]), reach_s) for k in worst
    )


def _worst_part(
    times: np.ndarray,
    doubt: np.ndarray,
    seconds: np.ndarray,
    start: int,
    stop: int,
    reach_s: float,
) -> tuple[int, int]:
    """Rows of the stretch within reach of the row around which the mean doubt is greatest.

    Only rows around which the stretch is as wide as the window are asked, if there are any: at an
    edge the mean would be of less.
    """
    rows = np.arange(start, stop)
    inside = (times[rows] - reach_s >= times[start]) & (times[rows] + reach_s <= times[stop - 1])
    asked = rows[inside] if inside.any() else rows[[rows.size // 2]]
    first = np.maximum(np.searchsorted(times, times[asked] - reach_s, side="left"), start)
    last = np.minimum(np.searchsorted(times, times[asked] + reach_s, side="right"), stop)
    mean = (doubt[last] - doubt[first]) / np.maximum(seconds[last] - seconds[first], 1e-9)
    rounded = np.round(mean, 6)
    equals = np.flatnonzero(rounded == rounded.max())
    best = equals[equals.size // 2]
    return int(first[best]), int(last[best])
