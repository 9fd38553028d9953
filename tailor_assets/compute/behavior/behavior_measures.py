"""How fast an animal went and how well that could be measured, on a fixed base of time.

A speed from one frame to the next means something else at 3 and at 50 frames per second, and at
high rates is mostly the jitter of the outline. So speed here is displacement over about 0.3 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.motion_features import shorter_way

TIME_TOLERANCE_S = 1e-6
# Across a longer hole nothing is known.
LONGEST_REACH_S = 1.0


@dataclass(frozen=True)
class Spans:
    """For every row, the rows it is measured from and to: two int64 [n]."""

    first: np.ndarray
    last: np.ndarray


def spans_around(timestamps_s: np.ndarray, before_s: float, after_s: float) -> Spans:
    """Rows from ``before_s`` before each row to ``after_s`` after it, in seconds.

    timestamps_s: float64 [n], increasing. On a side that is asked for (more than 0 s) at least the
    next neighbour is taken, unless it is farther away than 1 s (or than one and a half median
    steps, where that is more): then the row itself is the end.
    """
    rows = np.arange(timestamps_s.size)
    first = last = rows
    if rows.size < 2:
        return Spans(first, last)
    reach = max(LONGEST_REACH_S, 1.5 * float(np.median(np.diff(timestamps_s)))) + TIME_TOLERANCE_S
    if before_s > 0:
        earliest = timestamps_s - before_s - TIME_TOLERANCE_S
        first = np.searchsorted(timestamps_s, earliest, side="left")
        first = np.minimum(first, np.maximum(rows - 1, 0))
        first = np.where(timestamps_s - timestamps_s[first] <= reach, first, rows)
    if after_s > 0:
        latest = timestamps_s + after_s + TIME_TOLERANCE_S
        last = np.searchsorted(timestamps_s, latest, side="right") - 1
        last = np.maximum(last, np.minimum(rows + 1, rows.size - 1))
        last = np.where(timestamps_s[last] - timestamps_s <= reach, last, rows)
    return Spans(first, last)


def displacement_speed(
    timestamps_s: np.ndarray, x: np.ndarray, y: np.ndarray, spans: Spans
) -> np.ndarray:
    """Distance between the ends of each span over the time between: float64 [n], NaN without.

    timestamps_s, x, y: float64 [n] without NaN. Unit: that of x and y, per second.
    """
    first, last = spans.first, spans.last
    span = timestamps_s[last] - timestamps_s[first]
    distance = np.hypot(x[last] - x[first], y[last] - y[first])
    return np.divide(distance, span, out=np.full(span.shape, np.nan), where=span > 0)


def turning_speed(timestamps_s: np.ndarray, orientation: np.ndarray, spans: Spans) -> np.ndarray:
    """Turn of the body's axis, the shorter way round, in degrees per second: float64 [n] >= 0.

    orientation: float64 [n], radians, modulo pi. NaN where either end of the span has none.
    """
    span = timestamps_s[spans.last] - timestamps_s[spans.first]
    turn = orientation[spans.last] - orientation[spans.first]
    turn = np.degrees(np.abs(shorter_way(turn, period=np.pi)))
    return np.divide(turn, span, out=np.full(span.shape, np.nan), where=span > 0)


def centroid_noise(x: np.ndarray, y: np.ndarray) -> float:
    """Standard deviation of the jitter of a position along one axis, in the unit of x and y.

    From second differences, whose standard deviation is sqrt(6) times that of white noise and
    which an even walk does not touch. Their lower quartile is taken (0.3186 standard deviations of
    a normal distribution), for that is when the animal is calm; 0 below 5 rows. An animal that
    is never calm makes this too large, so users of it need an upper limit.
    """
    if x.size < 5:
        return 0.0
    second = np.abs(np.concatenate([np.diff(x, 2), np.diff(y, 2)]))
    return float(np.quantile(second, 0.25) / 0.3186 / np.sqrt(6.0))


def mean_of_steps(values: np.ndarray, spans: Spans) -> np.ndarray:
    """Mean of ``values`` over the steps within each span, missing values left out; NaN where none.

    values: float64 [n] that tell of the step *into* a row, so that of the first row is outside.
    """
    first, last = spans.first, spans.last
    known = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    count = counts[last + 1] - counts[first + 1]
    total = totals[last + 1] - totals[first + 1]
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
