"""From decisions to labels a model learns from, and from a person's labels to decisions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bouts import NO_DATA, TIME_TOLERANCE_S
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.review.decisions import Decision, Piece, Verdict
from tailor_assets.compute.review.label_events import label_events, rows_within
from tailor_assets.compute.review.ranking import ReviewWindow, ranked_windows

Labels = list[str | None]


@dataclass(frozen=True)
class Proposal:
    """What a person's labels say of one window, as ``Decision`` has it."""

    window: ReviewWindow
    verdict: Verdict
    new_label: str | None = None
    pieces: tuple[Piece, ...] = ()


def labels_from_decisions(
    flags: pl.DataFrame, decisions: Iterable[Decision], *, least_confidence: float = 0.0
) -> Labels:
    """What is known of every row of the flags by decisions alone; None where nothing is.

    Rows of an accepted window have the label that was predicted for each of them ("no data" is
    none), those of a relabelled one the new label, or that of its piece. Of a rejected window it is
    known only that the prediction is wrong, which teaches no classifier of this kind anything, so
    its rows have none. Decisions with a stated confidence below ``least_confidence`` are left out.

    Raises PermanentProblem for a decision on another window than the one that is there now.
    """
    labels: Labels = [None] * flags.height
    for decision, rows in _with_rows(flags, decisions):
        if decision.confidence is None or decision.confidence >= least_confidence:
            _apply(labels, flags, decision, rows)
    return labels


def reviewed_labels(flags: pl.DataFrame, decisions: Iterable[Decision]) -> Labels:
    """The best that is known of every row: what a person decided, else what was predicted."""
    labels = _without_no_data(flags["behavior"].to_list())
    for decision, rows in _with_rows(flags, decisions):
        labels[rows] = [None] * (rows.stop - rows.start)
        _apply(labels, flags, decision, rows)
    return labels


def decisions_from_labels(flags: pl.DataFrame, labels: Sequence[str | None]) -> list[Proposal]:
    """What a person's labels, one per row of the flags, say of the windows.

    A window in which every row has the label that was predicted is accepted ("no data" and no label
    are the same); one that has no label in any row is not decided; every other one is relabelled,
    in pieces where it has several labels or rows without. In the order of time.

    Raises PermanentProblem where the labels are not as many as the rows.
    """
    if len(labels) != flags.height:
        raise PermanentProblem(
            f"There are {len(labels)} labels for {flags.height} rows of flags: label the rows that "
            "are there."
        )
    times = flags["timestamp_s"].cast(pl.Float64).to_numpy()
    labels = _without_no_data(labels)
    predicted = _without_no_data(flags["behavior"].to_list())
    # Over all rows, so that the last row of a window ends where the next one begins.
    events = label_events(labels, times, flags["flag_window"].to_numpy())
    first_rows = [event.first_row for event in events]
    found = []
    for window in sorted(ranked_windows(flags), key=lambda one: one.first_row):
        rows = slice(window.first_row, window.stop_row)
        given = labels[rows]
        if all(label is None for label in given):
            continue
        if given == predicted[rows]:
            found.append(Proposal(window, "accept"))
            continue
        inside = slice(bisect_left(first_rows, rows.start), bisect_left(first_rows, rows.stop))
        pieces = tuple(
            Piece(event.start_s, min(event.stop_s, window.stop_s), event.label)
            for event in events[inside]
        )
        lengths: dict[str, float] = {}
        for piece in pieces:
            lengths[piece.label] = lengths.get(piece.label, 0.0) + piece.stop_s - piece.start_s
        longest = max(lengths, key=lambda label: (round(lengths[label], 6), label))
        whole = len(lengths) == 1 and None not in given
        found.append(Proposal(window, "relabel", longest, () if whole else pieces))
    return found


def _apply(labels: Labels, flags: pl.DataFrame, decision: Decision, rows: slice) -> None:
    count = rows.stop - rows.start
    if decision.verdict == "accept":
        labels[rows] = _without_no_data(flags["behavior"].slice(rows.start, count).to_list())
    elif decision.verdict == "relabel" and not decision.pieces:
        labels[rows] = [decision.new_label] * count
    elif decision.verdict == "relabel":
        times = flags["timestamp_s"].cast(pl.Float64).to_numpy()
        for piece in decision.pieces:
            part = rows_within(times, piece.start_s, piece.stop_s)
            first, stop = max(part.start, rows.start), min(part.stop, rows.stop)
            labels[first:stop] = [piece.label] * max(stop - first, 0)


def _without_no_data(labels: Iterable[str | None]) -> Labels:
    return [None if label == NO_DATA else label for label in labels]


def _with_rows(flags: pl.DataFrame, decisions: Iterable[Decision]) -> list[tuple[Decision, slice]]:
    decided = list(decisions)
    if not decided:
        return []
    windows = {window.number: window for window in ranked_windows(flags)}
    found = []
    for decision in decided:
        window = windows.get(decision.flag_window)
        if window is None or not np.allclose(
            (window.start_s, window.stop_s),
            (decision.start_s, decision.stop_s),
            rtol=0,
            atol=2 * TIME_TOLERANCE_S,
        ):
            raise PermanentProblem(
                f"The decision on window {decision.flag_window} of {decision.partition_key} "
                f"({decision.start_s:g} to {decision.stop_s:g} s) is of other flags than these: "
                "look at the windows again."
            )
        found.append((decision, slice(window.first_row, window.stop_row)))
    return found
