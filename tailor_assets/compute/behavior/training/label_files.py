"""Label files as people have them, each told by its header: one label per row of the features.

- per frame: ``behavior`` and one of ``timestamp_s``, ``source_frame``, ``frame``
- bouts: ``behavior``, ``start_s``, ``stop_s`` (the stop is not in the bout)
- BORIS, tabular events: ``Time``, ``Behavior`` and ``Behavior type`` (``Status`` before version 8)
  with START, STOP and POINT
- BORIS, aggregated events: ``Behavior``, ``Behavior type`` (STATE, POINT), ``Start (s)``, ``Stop (s)``

BORIS counts time as the player does that shows the video, which is not tailor's time where a person
has said that the container's is wrong; the others are in tailor's.

BORIS: Friard and Gamba 2016, Methods in Ecology and Evolution 7:1325.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from tailor_assets.compute.behavior.bouts import TIME_TOLERANCE_S, row_durations
from tailor_assets.compute.behavior.training.label_events import (
    LabelChoice,
    LabelledEvent,
    aggregated_events,
    bout_events,
    label_of,
    tabular_events,
)
from tailor_assets.compute.behavior.training.label_table import LabelTable, read_label_table
from tailor_assets.compute.errors import PermanentProblem

BORIS_AGGREGATED = ("behavior", "behavior type", "start (s)", "stop (s)")
BORIS_TABULAR = ("time", "behavior", "behavior type")
BORIS_TABULAR_OLD = ("time", "behavior", "status")
BOUTS = ("behavior", "start_s", "stop_s")
PER_FRAME = (("behavior", "timestamp_s"), ("behavior", "source_frame"), ("behavior", "frame"))
_HEADERS = (BORIS_AGGREGATED, BORIS_TABULAR, BORIS_TABULAR_OLD, BOUTS, *PER_FRAME)

# A player's clock may end a little after the last frame's time; a second more is another video.
LONGEST_BEYOND_S = 1.0


def read_labels(
    path: Path,
    timestamps_s: np.ndarray,
    *,
    source_frames: np.ndarray | None = None,
    player_s: np.ndarray | None = None,
    choice: LabelChoice | None = None,
) -> list[str | None]:
    """The label of every row of a video's features, None where it has none.

    timestamps_s: float64 [n], increasing, seconds from the video's first frame. source_frames: int64
    [n], which a file that counts the video's frames needs. player_s: float64 [n], increasing, when a
    player shows each row, where that is another time; BORIS's files are read by it.

    A row has the label that was in force at its time; a POINT labels the one row it falls in, before
    any state that is under way.

    Raises PermanentProblem, in one sentence: a file that is none of the kinds above or not UTF-8, a
    START without its STOP, two behaviours at once, events after the video's end, several subjects,
    observations or videos in one file, labels of no row at all.
    """
    path = Path(path)
    timestamps_s = np.asarray(timestamps_s, dtype=np.float64)
    choice = choice or LabelChoice()
    shown_s = timestamps_s if player_s is None else np.asarray(player_s, dtype=np.float64)
    table = read_label_table(path, _HEADERS)
    if table.has(*BORIS_AGGREGATED):
        labels = _rows_of_events(path, aggregated_events(table, choice), shown_s)
    elif _is_tabular(table):
        labels = _rows_of_events(path, tabular_events(table, choice), shown_s)
    elif table.has(*BOUTS):
        labels = _rows_of_events(path, bout_events(table, choice), timestamps_s)
    else:
        labels = _per_frame(table, timestamps_s, source_frames, choice)
    if choice.rest is not None:
        return [choice.rest if label is None else label for label in labels]
    if all(label is None for label in labels):
        which = "" if choice.behaviors is None else f" as {', '.join(choice.behaviors)}"
        raise PermanentProblem(
            f"{path.name} labels none of the {len(labels)} frames{which}: check that it belongs to "
            "this video, and how the behaviours are spelt."
        )
    return labels


def is_of_boris(path: Path) -> bool:
    """Whether a label file is BORIS's. Raises PermanentProblem for what is no label file."""
    table = read_label_table(Path(path), _HEADERS)
    return table.has(*BORIS_AGGREGATED) or _is_tabular(table)


def _is_tabular(table: LabelTable) -> bool:
    return table.has(*BORIS_TABULAR) or table.has(*BORIS_TABULAR_OLD)


# ---------------------------------------------------------------------------------- per frame


def _per_frame(
    table: LabelTable,
    timestamps_s: np.ndarray,
    source_frames: np.ndarray | None,
    choice: LabelChoice,
) -> list[str | None]:
    given = [label_of(text, choice) for text in table.texts("behavior")]
    # Time first: a row number means another time where the video was sampled otherwise.
    if table.has("timestamp_s"):
        return _by_time(table, given, timestamps_s)
    if table.has("source_frame") and (source_frames is not None or not table.has("frame")):
        if source_frames is None:
            raise PermanentProblem(
                f"{table.path.name} counts the video's own frames and these features do not; give "
                "the labels a column timestamp_s."
            )
        wanted = {int(number): row for row, number in enumerate(source_frames)}
        return _by_number(table, "source_frame", given, wanted, len(timestamps_s), strict=False)
    wanted = {row: row for row in range(len(timestamps_s))}
    return _by_number(table, "frame", given, wanted, len(timestamps_s), strict=True)


def _by_number(
    table: LabelTable,
    column: str,
    given: list[str | None],
    wanted: dict[int, int],
    rows: int,
    *,
    strict: bool,
) -> list[str | None]:
    labels: list[str | None] = [None] * rows
    seen: dict[int, str | None] = {}
    for number, label, line in zip(table.numbers(column), given, table.lines, strict=True):
        if number is None or number < 0 or number % 1:
            raise PermanentProblem(
                f"{table.path.name}, line {line}: {column} is no whole number from 0 on; number the "
                "frames as frames.csv does."
            )
        frame = int(number)
        if seen.setdefault(frame, label) != label:
            raise PermanentProblem(
                f"{table.path.name} gives frame {frame} two labels ({seen[frame]} and {label}); "
                "leave one."
            )
        if frame in wanted:
            labels[wanted[frame]] = label
        elif strict and label is not None:
            raise PermanentProblem(
                f"{table.path.name} labels frame {frame} and the video has {rows} analysed frames: "
                "it belongs to another video or sampling; label by timestamp_s."
            )
    return labels


def _by_time(
    table: LabelTable, given: list[str | None], timestamps_s: np.ndarray
) -> list[str | None]:
    numbers = table.numbers("timestamp_s")
    missing = [line for line, number in zip(table.lines, numbers, strict=True) if number is None]
    if missing:
        raise PermanentProblem(
            f"{table.path.name}, line {missing[0]} has no timestamp_s: give every row its time."
        )
    times = np.array(numbers, dtype=np.float64)
    order = np.argsort(times, kind="stable")
    times = times[order]
    if not times.size:
        return [None] * len(timestamps_s)
    labelled = [k for k in order if given[k] is not None]
    if labelled:
        _check_within(table.path, float(numbers[labelled[-1]] or 0.0), timestamps_s)
    for before, after in pairwise(order):
        if numbers[before] == numbers[after] and given[before] != given[after]:
            raise PermanentProblem(
                f"{table.path.name} gives the time {numbers[before]:g} s two labels "
                f"({given[before]} and {given[after]}); leave one."
            )
    # Every row of theirs stands for the time around it, as far as half-way to the next.
    usual = float(np.median(np.diff(times))) if times.size > 1 else 0.0
    right = np.clip(np.searchsorted(times, timestamps_s), 1, max(times.size - 1, 1))
    right = np.minimum(right, times.size - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = timestamps_s - times[left] <= times[right] - timestamps_s
    nearest = np.where(nearer_left, left, right)
    near = np.abs(times[nearest] - timestamps_s) <= usual / 2 + 1e-3
    return [given[order[k]] if ok else None for k, ok in zip(nearest, near, strict=True)]


def _check_within(path: Path, time_s: float, timestamps_s: np.ndarray) -> None:
    last = float(timestamps_s[-1] + row_durations(timestamps_s)[-1]) if timestamps_s.size else 0.0
    if time_s > last + LONGEST_BEYOND_S:
        raise PermanentProblem(
            f"{path.name} goes on until {time_s:g} s and the video ends at {last:.3f} s: it belongs "
            "to another video, or its times are not in seconds."
        )


def _rows_of_events(
    path: Path, events: list[LabelledEvent], timestamps_s: np.ndarray
) -> list[str | None]:
    labels: list[str | None] = [None] * len(timestamps_s)
    if not events:
        return labels
    if min(event.start_s for event in events) < 0:
        raise PermanentProblem(
            f"{path.name} has an event before 0 s: give seconds from the video's first frame."
        )
    _check_within(path, max(event.stop_s for event in events), timestamps_s)
    begun: list[LabelledEvent] = []
    for event in sorted((e for e in events if e.stop_s > e.start_s), key=lambda e: e.start_s):
        for other in begun:
            shared = min(other.stop_s, event.stop_s) - event.start_s
            if other.label != event.label and shared > TIME_TOLERANCE_S:
                raise PermanentProblem(
                    f"{path.name} has {other.label} and {event.label} at once at "
                    f"{event.start_s:g} s, and a frame has one label: choose behaviours that exclude "
                    "one another."
                )
        begun = [other for other in begun if other.stop_s > event.start_s] + [event]
        first = np.searchsorted(timestamps_s, event.start_s - TIME_TOLERANCE_S, side="left")
        stop = np.searchsorted(timestamps_s, event.stop_s - TIME_TOLERANCE_S, side="left")
        labels[first:stop] = [event.label] * (int(stop) - int(first))
    points: dict[int, str] = {}
    for event in (e for e in events if e.stop_s == e.start_s):
        row = int(np.searchsorted(timestamps_s, event.start_s + TIME_TOLERANCE_S, side="right")) - 1
        row = max(row, 0)
        if points.setdefault(row, event.label) != event.label:
            raise PermanentProblem(
                f"{path.name} has {points[row]} and {event.label} in the one frame at "
                f"{event.start_s:g} s, and a frame has one label: leave one."
            )
        labels[row] = event.label
    return labels
