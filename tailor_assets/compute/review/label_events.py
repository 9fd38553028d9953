"""Labels of rows as events in time, and back to rows: what files of labels are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.behavior.bouts import (
    NO_DATA,
    TIME_TOLERANCE_S,
    after_hole,
    row_durations,
)

# A row of no length (the only one of a video) is still a moment.
_SHORTEST_S = 1e-3


@dataclass(frozen=True)
class LabelEvent:
    """A label in the rows from ``first_row`` up to but without ``stop_row``; times in seconds."""

    label: str
    start_s: float
    stop_s: float
    first_row: int
    stop_row: int


def label_events(
    labels: Sequence[str | None],
    timestamps_s: np.ndarray,
    groups: Sequence[int] | np.ndarray | None = None,
) -> list[LabelEvent]:
    """Unbroken runs of one label, in time; rows without one (None, "no data") belong to none.

    timestamps_s: float64 [n], increasing; an event ends at a hole in the recording. groups: int [n];
    where it changes an event ends, too.
    ``stop_s`` is when its last row ends, and never after the next row begins. O(n).
    """
    timestamps_s = np.asarray(timestamps_s, dtype=np.float64)
    ends = timestamps_s + np.maximum(row_durations(timestamps_s), _SHORTEST_S)
    ends[:-1] = np.minimum(ends[:-1], timestamps_s[1:])
    stretches = np.cumsum(after_hole(timestamps_s))
    of_row = [0] * len(labels) if groups is None else [int(group) for group in groups]
    keys = [
        None if label is None or label == NO_DATA else (label, group, int(stretch))
        for label, group, stretch in zip(labels, of_row, stretches, strict=True)
    ]
    events, first = [], 0
    for row in range(1, len(keys) + 1):
        if row < len(keys) and keys[row] == keys[first]:
            continue
        begun = keys[first]
        if begun is not None:
            events.append(
                LabelEvent(begun[0], float(timestamps_s[first]), float(ends[row - 1]), first, row)
            )
        first = row
    return events


def rows_within(timestamps_s: np.ndarray, start_s: float, stop_s: float) -> slice:
    """Rows from ``start_s`` up to ``stop_s``, to a microsecond, as label files are read."""
    first = int(np.searchsorted(timestamps_s, start_s - TIME_TOLERANCE_S, side="left"))
    stop = int(np.searchsorted(timestamps_s, stop_s - TIME_TOLERANCE_S, side="left"))
    return slice(first, max(stop, first))
