"""What a person has decided about one review window, and what a sound decision is."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from tailor_assets.compute.behavior.bouts import NO_DATA, TIME_TOLERANCE_S
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from tailor_assets.compute.review.ranking import ReviewWindow

Verdict = Literal["accept", "reject", "relabel"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LONGEST_LABEL = 100


@dataclass(frozen=True)
class Piece:
    """A label from ``start_s`` up to ``stop_s`` (not included), within one window."""

    start_s: float
    stop_s: float
    label: str


@dataclass(frozen=True)
class Decision:
    """A verdict on the window ``flag_window`` of the flags ``flags_version`` of one video.

    accept: every row is what was predicted. relabel: every row is ``new_label``; where the window has
    several behaviours, ``pieces`` says which when, and ``new_label`` is the one that takes longest.
    reject: it is not what was predicted, and nobody says what it is. ``confidence``: 0..1, how sure
    the person is, None where they did not say. ``start_s`` to ``stop_s`` is the window in time.
    """

    run_id: str
    partition_key: str
    flag_window: int
    flags_version: str
    start_s: float
    stop_s: float
    predicted_label: str
    verdict: Verdict
    who: str
    decided_at: datetime
    new_label: str | None = None
    pieces: tuple[Piece, ...] = ()
    confidence: float | None = None
    note: str = ""

    def short(self) -> str:
        """The verdict in a word or two, for people."""
        return f"{self.verdict} {self.new_label}" if self.new_label else self.verdict


def find_window(windows: Sequence[ReviewWindow], number: int, video: str) -> ReviewWindow:
    """The window of that number. Raises PermanentProblem where there is none."""
    for window in windows:
        if window.number == number:
            return window
    raise PermanentProblem(
        f"{video} has no review window {number}: its flags have "
        + (f"the windows 1 to {max(w.number for w in windows)}." if windows else "no window.")
    )


def check_decision(
    window: ReviewWindow,
    verdict: str,
    *,
    new_label: str | None,
    pieces: Sequence[Piece],
    confidence: float | None,
    known_labels: Collection[str],
    new_behavior: bool,
) -> None:
    """Raise PermanentProblem, in one sentence, where a verdict makes no sense.

    known_labels: behaviours that may be named; new_behavior: others may be, too.
    """
    if verdict not in VERDICTS:
        raise PermanentProblem(
            f"{verdict!r} is no verdict on a window: give one of {', '.join(VERDICTS)}."
        )
    if verdict == "relabel" and not (new_label or "").strip():
        raise PermanentProblem(
            "A relabelled window needs its new label: say which behaviour it is."
        )
    if verdict != "relabel" and (new_label is not None or pieces):
        raise PermanentProblem(
            f"A new label goes with relabel and not with {verdict}: give one or the other."
        )
    if confidence is not None and not (math.isfinite(confidence) and 0 <= confidence <= 1):
        raise PermanentProblem(
            f"A confidence of {confidence} is none: give a number from 0 to 1, or leave it out."
        )
    for label in (*([new_label] if new_label is not None else []), *(p.label for p in pieces)):
        _check_label(label, known_labels, new_behavior)
    before = window.start_s
    for piece in pieces:
        if not (
            before - TIME_TOLERANCE_S <= piece.start_s < piece.stop_s
            and piece.stop_s <= window.stop_s + TIME_TOLERANCE_S
        ):
            raise PermanentProblem(
                f"{piece.label} from {piece.start_s:g} to {piece.stop_s:g} s is not in window "
                f"{window.number} ({window.start_s:g} to {window.stop_s:g} s), or overlaps another: "
                "give pieces of the window in order of time."
            )
        before = piece.stop_s


def _check_label(label: str, known_labels: Collection[str], new_behavior: bool) -> None:
    if label in known_labels:
        return
    if label.strip().lower() == NO_DATA:
        raise PermanentProblem(
            f"{NO_DATA!r} is no behaviour that a window could be given: reject the window instead."
        )
    printable = label.isprintable() and label == label.strip()
    if not printable or not 0 < len(label) <= LONGEST_LABEL:
        raise PermanentProblem(
            f"{label!r} is no name of a behaviour: give up to {LONGEST_LABEL} printable characters."
        )
    if not new_behavior:
        raise PermanentProblem(
            f"There is no behaviour {label!r} here: choose one of {', '.join(known_labels)}, or say "
            "that it is a new one (--new)."
        )
