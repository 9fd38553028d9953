"""Bouts: unbroken runs of one label, their durations in seconds, and their clean-up.

What an animal did in a hole of the recording nobody knows, so a bout ends there.

Everything here counts time, never rows, so it means the same at 3, 10 or 50 rows per second and for
a variable frame rate. A label is a small integer code; ``NO_DATA_CODE`` is "no data".
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.errors import PermanentProblem

NO_DATA = "no data"
NO_DATA_CODE = -1

# A row stands for the time until the next one, but not for a hole in the recording.
LONGEST_ROW_S = 1.0
TIME_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class BoutCleanUp:
    """What is done to the labels, in this order. All off (0) by default.

    fill_gaps_ms: "no data" of at most this length between two bouts of one label takes that label.
    stitch_ms: a bout of at most this length between two bouts of one other label takes that label.
    min_bout_ms: a bout shorter than this takes the label of its longer neighbour.

    The order, and off as the default: clean-up was seen to help one recording and to hurt another.
    """

    fill_gaps_ms: float = 0.0
    stitch_ms: float = 0.0
    min_bout_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("fill_gaps_ms", "stitch_ms", "min_bout_ms"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise PermanentProblem(
                    f"The bout clean-up {name} is {value}, which is no length of time; "
                    "give milliseconds, 0 for off."
                )


def row_durations(timestamps_s: np.ndarray) -> np.ndarray:
    """Seconds each row stands for: until the next row, at most 1 s or the median step if longer.

    timestamps_s: float64 [n], increasing. Returns float64 [n]; the last row gets the median step;
    a single row, which has no step, gets 0.
    """
    timestamps_s = np.asarray(timestamps_s, dtype=np.float64)
    if timestamps_s.size < 2:
        return np.zeros(timestamps_s.size)
    steps = np.diff(timestamps_s)
    median = float(np.median(steps))
    return np.minimum(np.append(steps, median), max(LONGEST_ROW_S, median))


def longest_step_s(timestamps_s: np.ndarray) -> float:
    """Seconds from row to row above which a recording has a hole: 1, or 1.5 median steps if more.

    timestamps_s: float64 [n]. A step back, from one video to the next, is no step.
    """
    steps = np.diff(timestamps_s)
    forward = steps[steps > 0]
    return max(LONGEST_ROW_S, 1.5 * float(np.median(forward)) if forward.size else 0.0)


def after_hole(timestamps_s: np.ndarray) -> np.ndarray:
    """Whether the recording has a hole before each row: bool [n], False for the first."""
    timestamps_s = np.asarray(timestamps_s, dtype=np.float64)
    if timestamps_s.size == 0:
        return np.zeros(0, dtype=bool)
    return np.append(False, np.diff(timestamps_s) > longest_step_s(timestamps_s))


def bout_edges(
    codes: np.ndarray, breaks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """First row and one past the last row of every bout: two int64 arrays [bouts].

    breaks: bool [n], rows at which a bout begins even if the row before has the same code.
    """
    codes = np.asarray(codes)
    if codes.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    begins = codes[1:] != codes[:-1]
    if breaks is not None:
        begins = begins | breaks[1:]
    starts = np.concatenate([[0], np.flatnonzero(begins) + 1]).astype(np.int64)
    return starts, np.append(starts[1:], codes.size).astype(np.int64)


def bout_duration_of_rows(codes: np.ndarray, durations_s: np.ndarray) -> np.ndarray:
    """Seconds the bout of each row lasts: float64 [n]."""
    starts, stops = bout_edges(codes)
    totals = np.concatenate([[0.0], np.cumsum(durations_s)])
    return np.repeat(totals[stops] - totals[starts], stops - starts)


def clean_up_bouts(
    codes: np.ndarray, timestamps_s: np.ndarray, settings: BoutCleanUp
) -> np.ndarray:
    """Apply the three steps of ``settings`` in their order. O(n log n).

    codes: int64 [n], ``NO_DATA_CODE`` where there is no data. timestamps_s: float64 [n].
    Returns a new int64 [n]. "No data" is changed by ``fill_gaps_ms`` alone and never spreads, and
    nothing spreads over a hole in the recording.
    """
    codes = np.asarray(codes, dtype=np.int64).copy()
    durations_s = row_durations(timestamps_s)
    for first, stop in zip(*bout_edges(np.cumsum(after_hole(timestamps_s))), strict=True):
        codes[first:stop] = _clean_up(codes[first:stop], durations_s[first:stop], settings)
    return codes


def _clean_up(codes: np.ndarray, durations_s: np.ndarray, settings: BoutCleanUp) -> np.ndarray:
    """Of rows without a hole between them."""

    def fill(before: int | None, code: int, after: int | None, *_: float) -> int | None:
        return before if code == NO_DATA_CODE and before == after else None

    def stitch(before: int | None, code: int, after: int | None, *_: float) -> int | None:
        return before if code != NO_DATA_CODE and before == after != NO_DATA_CODE else None

    def drop(
        before: int | None, code: int, after: int | None, before_s: float, after_s: float
    ) -> int | None:
        if code == NO_DATA_CODE:
            return None
        known = [(s, c) for s, c in ((before_s, before), (after_s, after))
                 if c is not None and c != NO_DATA_CODE]  # fmt: skip
        return max(known, key=lambda pair: pair[0])[1] if known else None

    for limit_ms, relabel, inclusive in (
        (settings.fill_gaps_ms, fill, True),
        (settings.stitch_ms, stitch, True),
        (settings.min_bout_ms, drop, False),
    ):
        if limit_ms > 0:
            tolerance = TIME_TOLERANCE_S if inclusive else -TIME_TOLERANCE_S
            codes = _relabel_shortest_first(
                codes, durations_s, limit_ms / 1000 + tolerance, relabel
            )
    return codes


def _relabel_shortest_first(
    codes: np.ndarray,
    durations_s: np.ndarray,
    limit_s: float,
    relabel: Callable[[int | None, int, int | None, float, float], int | None],
) -> np.ndarray:
    """Offer every bout up to limit_s to ``relabel``, shortest first, and join equal neighbours.

    Shortest first, so that of A b A B the short b goes and the outcome does not depend on the
    direction of reading.
    """
    starts, stops = bout_edges(codes)
    count = starts.size
    totals = np.concatenate([[0.0], np.cumsum(durations_s)])
    lasts = list(totals[stops] - totals[starts])
    labels = [int(codes[row]) for row in starts]
    left = [bout - 1 for bout in range(count)]
    right = [bout + 1 if bout + 1 < count else -1 for bout in range(count)]
    first, last = list(starts), list(stops)
    alive = [True] * count
    heap = [(lasts[bout], bout) for bout in range(count) if lasts[bout] <= limit_s]
    heapq.heapify(heap)
    while heap:
        length, bout = heapq.heappop(heap)
        if not alive[bout] or length != lasts[bout]:
            continue  # it has been joined to a neighbour since
        before, after = left[bout], right[bout]
        new = relabel(
            labels[before] if before >= 0 else None,
            labels[bout],
            labels[after] if after >= 0 else None,
            lasts[before] if before >= 0 else 0.0,
            lasts[after] if after >= 0 else 0.0,
        )
        if new is None:
            continue
        labels[bout] = new
        for neighbour in (before, after):
            if neighbour >= 0 and labels[neighbour] == new:
                alive[neighbour] = False
                lasts[bout] += lasts[neighbour]
                first[bout] = min(first[bout], first[neighbour])
                last[bout] = max(last[bout], last[neighbour])
                if neighbour == before:
                    left[bout] = left[neighbour]
                    if left[bout] >= 0:
                        right[left[bout]] = bout
                else:
                    right[bout] = right[neighbour]
                    if right[bout] >= 0:
                        left[right[bout]] = bout
        for changed in (bout, left[bout], right[bout]):
            # The neighbours too: what stands beside them is new.
            if changed >= 0 and lasts[changed] <= limit_s:
                heapq.heappush(heap, (lasts[changed], changed))
    cleaned = codes.copy()
    for bout in range(count):
        if alive[bout]:
            cleaned[first[bout] : last[bout]] = labels[bout]
    return cleaned
