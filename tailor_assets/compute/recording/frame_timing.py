"""When each frame was taken: mended timestamps, frame rate, and whether the rate varies."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

# Raised whenever the same file gets other times, so that what was made with the earlier ones is
# out of date.
TIMING_VERSION = "2"
# A stream that keeps only decoding order (H.264 in AVI) shifts a timestamp by its reorder depth,
# which H.264 and HEVC limit to 16 frames.
MAX_REORDER_FRAMES = 16
# Where more than this share of the timestamps spoils the order, as of two recordings in one file,
# nobody can say which ones are wrong.
MOST_ODD_TIMES = 0.1


def mend_timestamps(
    raw_s: np.ndarray, tick_s: float, stated_fps: float | None
) -> tuple[np.ndarray, int]:
    """Make timestamps strictly increasing and start them at 0.

    Timestamps that are all there and only attached to the wrong neighbours (a container that
    stores decoding order) are put in order. Of others that do not increase the fewest that spoil the
    order are not believed, whether they jump back or ahead, as long as they are few. Each of those,
    and one that is missing or still does not increase, becomes the previous one plus the median
    step.

    Args:
        raw_s: float64 [N], seconds as the container says; NaN where it says nothing.
        tick_s: the container's time resolution in seconds.
        stated_fps: the rate the header states; used only where no two timestamps are known.

    Returns:
        float64 [N] seconds, and how many of them are not the container's own.
    """
    raw = np.asarray(raw_s, dtype=np.float64)
    if raw.size == 0:
        return raw.copy(), 0
    times = raw.copy()
    known = times[~np.isnan(times)]
    if (np.diff(known) <= 0).any():
        believed = _in_order(times)
        order = np.argsort(times, kind="stable")
        displaced = np.abs(order - np.arange(times.size)).max()
        if (
            known.size == times.size
            and np.unique(known).size == known.size
            and displaced <= MAX_REORDER_FRAMES
            and _fewer_leaps(times[order], times[believed])
        ):
            times = times[order]
        elif np.count_nonzero(believed) >= (1 - MOST_ODD_TIMES) * known.size:
            times[~believed] = np.nan
    where = np.flatnonzero(~np.isnan(times))
    step = _typical_step(np.diff(times[where]) / np.diff(where), tick_s)
    if step is None:
        step = 1.0 / stated_fps if stated_fps and stated_fps > 0 else max(tick_s, 1e-3)
    if np.isnan(times[0]):
        times[0] = times[where[0]] - where[0] * step if where.size else 0.0
    if np.isnan(times).any() or (np.diff(times) <= 0).any():
        for i in range(1, times.size):
            if not times[i] > times[i - 1]:  # also where it is NaN
                times[i] = times[i - 1] + step
    repaired = int(np.count_nonzero(~(times == raw)))
    return times - times[0], repaired


def frames_per_second(
    timestamps_s: np.ndarray, tick_s: float = 0.0, stated_fps: float | None = None
) -> float | None:
    """Frame rate as one over the median step between timestamps; None below two frames.

    Steps within one tick of the median are averaged, so that 30 fps in a container of whole
    milliseconds (steps of 33 and 34) is about 30.0 and not 30.3; and where the steps are rounded
    so, and the rate that the header states fits the last timestamp, it is that rate.
    """
    steps = np.diff(timestamps_s)
    step = _typical_step(steps, tick_s)
    if step is None:
        return None
    rounded = np.ptp(steps) > 0.5 * tick_s
    if stated_fps and rounded and abs(steps.size / stated_fps - steps.sum()) <= 1.01 * tick_s:
        return stated_fps
    return 1.0 / step


def is_variable_frame_rate(timestamps_s: np.ndarray, tick_s: float = 0.0) -> bool:
    """Whether ``index / fps`` would misplace frames.

    True where a step differs from the typical one by more than a quarter of it (a dropped frame),
    or where the frames leave an even grid by more than half a step; rounding to the container's
    ticks and small jitter are neither.
    """
    times = np.asarray(timestamps_s, dtype=np.float64)
    steps = np.diff(times)
    typical = _typical_step(steps, tick_s)
    if typical is None:
        return False
    if np.any(np.abs(steps - typical) > max(0.25 * typical, 1.5 * tick_s)):
        return True
    even = np.linspace(times[0], times[-1], times.size)
    return bool(np.any(np.abs(times - even) > 0.5 * typical + tick_s))


def _in_order(times: np.ndarray) -> np.ndarray:
    """Bool [N]: a longest increasing subsequence, without NaN. O(N log N)."""
    ends: list[float] = []  # the least last value of an increasing run of each length
    last: list[int] = []  # where that value is
    before = np.full(times.size, -1)
    for i, time in enumerate(times.tolist()):
        if time != time:
            continue
        length = bisect_left(ends, time)
        before[i] = last[length - 1] if length else -1
        if length == len(ends):
            ends.append(time)
            last.append(i)
        else:
            ends[length], last[length] = time, i
    chosen = np.zeros(times.size, bool)
    i = last[-1] if last else -1
    while i >= 0:
        chosen[i] = True
        i = int(before[i])
    return chosen


def _fewer_leaps(times: np.ndarray, other: np.ndarray) -> bool:
    """Whether fewer steps of increasing ``times`` than of ``other`` are longer than its usual one."""
    usual = 1.5 * np.median(np.diff(times))
    return bool(np.count_nonzero(np.diff(times) > usual) < np.count_nonzero(np.diff(other) > usual))


def _typical_step(steps: np.ndarray, tick_s: float) -> float | None:
    """Median of the positive steps, freed from rounding to whole ticks; None where none is."""
    steps = steps[steps > 0]
    if steps.size == 0:
        return None
    median = float(np.median(steps))
    near = steps[np.abs(steps - median) <= 1.01 * tick_s + 1e-9]
    return float(near.mean()) if near.size else median
