"""Events of label files: BORIS's exports and bout tables, each as label, start and stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.behavior.training.label_table import LabelTable
from tailor_assets.compute.errors import PermanentProblem

_NO_SUBJECT = ("", "no focal subject")


@dataclass(frozen=True)
class LabelChoice:
    """What of a label file counts.

    behaviors: only these; what else was coded is left out (None: everything). subject: only this
    animal's events of a BORIS file (None: there is only one). rest: the label of all time in which
    none of them was coded, where a person watched the whole video for them (None: no label).
    """

    behaviors: tuple[str, ...] | None = None
    subject: str | None = None
    rest: str | None = None


@dataclass(frozen=True)
class LabelledEvent:
    """A label from ``start_s`` up to ``stop_s``; a point in time where both are the same."""

    label: str
    start_s: float
    stop_s: float


def label_of(text: str, choice: LabelChoice) -> str | None:
    """The label of a cell; None where it says none, or one that does not count."""
    if not text or text.lower() == NO_DATA:
        return None
    return text if choice.behaviors is None or text in choice.behaviors else None


def bout_events(table: LabelTable, choice: LabelChoice) -> list[LabelledEvent]:
    """Events of a bout table: ``behavior``, ``start_s``, ``stop_s``."""
    return _intervals(table, choice, "start_s", "stop_s", range(len(table.rows)))


def aggregated_events(table: LabelTable, choice: LabelChoice) -> list[LabelledEvent]:
    """Events of BORIS's aggregated export, whose states have a start and a stop."""
    rows = _rows_of_subject(table, choice)
    return _intervals(table, choice, "start (s)", "stop (s)", rows)


def _intervals(
    table: LabelTable, choice: LabelChoice, start: str, stop: str, rows: Sequence[int]
) -> list[LabelledEvent]:
    names, starts, stops = table.texts("behavior"), table.numbers(start), table.numbers(stop)
    kinds = table.texts("behavior type") if table.has("behavior type") else None
    events = []
    for row in rows:
        label = label_of(names[row], choice)
        if label is None:
            continue
        begin, end = starts[row], stops[row]
        point = kinds is not None and kinds[row].upper() == "POINT"
        end = begin if point else end
        if begin is None or end is None or end < begin or (end == begin and not point):
            raise PermanentProblem(
                f"{table.path.name}, line {table.lines[row]}: {label} has no start before its stop; "
                "give both in seconds."
            )
        events.append(LabelledEvent(label, begin, end))
    return events


def tabular_events(table: LabelTable, choice: LabelChoice) -> list[LabelledEvent]:
    """Events of BORIS's tabular export: each START is paired with its STOP.

    Raises PermanentProblem for one that has no other.
    """
    names, times = table.texts("behavior"), table.numbers("time")
    kinds = table.texts("behavior type" if table.has("behavior type") else "status")
    modifiers = [table.texts(name) for name in table.columns if name.startswith("modifier")]
    open_since: dict[tuple[str, ...], tuple[float, int]] = {}
    events = []
    for row in _rows_of_subject(table, choice):
        label, time, kind = label_of(names[row], choice), times[row], kinds[row].upper()
        if label is None:
            continue
        if time is None:
            raise PermanentProblem(
                f"{table.path.name}, line {table.lines[row]}: {label} has no time (observations of "
                "pictures have none); label by frame instead."
            )
        # BORIS pairs events of one behaviour with the same modifiers.
        key = (label, *(column[row] for column in modifiers))
        if kind == "POINT":
            events.append(LabelledEvent(label, time, time))
        elif kind == "START" and key not in open_since:
            open_since[key] = (time, table.lines[row])
        elif kind == "STOP" and key in open_since:
            begin, line = open_since.pop(key)
            if time < begin:
                raise PermanentProblem(
                    f"{table.path.name}, line {table.lines[row]}: {label} stops at {time:g} s before "
                    f"it starts at {begin:g} s (line {line}); export the events in order of time."
                )
            if time > begin:
                events.append(LabelledEvent(label, begin, time))
        elif kind in ("START", "STOP"):
            other = "STOP" if kind == "START" else "START"
            raise PermanentProblem(
                f"{table.path.name}, line {table.lines[row]}: a {kind} of {label} at {time:g} s has "
                f"no {other} before it; mend it with `Fix unpaired events` in BORIS and export again."
            )
        else:
            raise PermanentProblem(
                f"{table.path.name}, line {table.lines[row]}: an event of {label} is "
                f"{kinds[row]!r} and neither START, STOP nor POINT; export tabular events again."
            )
    for key, (begin, line) in open_since.items():
        raise PermanentProblem(
            f"{table.path.name}, line {line}: the START of {key[0]} at {begin:g} s has no STOP; mend "
            "it with `Fix unpaired events` in BORIS and export again."
        )
    return events


def _rows_of_subject(table: LabelTable, choice: LabelChoice) -> list[int]:
    """Rows of the one animal, from the one observation of the one video that starts at 0 s."""
    rows = list(range(len(table.rows)))
    if table.has("subject"):
        subjects = table.texts("subject")
        if choice.subject is not None:
            rows = [row for row in rows if subjects[row] == choice.subject]
            if not rows:
                raise PermanentProblem(
                    f"{table.path.name} has no event of the subject {choice.subject!r}: choose one "
                    f"of {', '.join(sorted(set(subjects)))}."
                )
        found = sorted(
            {"" if subjects[row].lower() in _NO_SUBJECT else subjects[row] for row in rows}
        )
        if len(found) > 1:
            raise PermanentProblem(
                f"{table.path.name} has events of {len(found)} subjects "
                f"({', '.join(name or 'no subject' for name in found)}): say whose count."
            )
    for column, what in (("observation id", "observations"), ("media file name", "videos")):
        if table.has(column):
            cells = table.texts(column)
            several = sorted({cells[row] for row in rows})
            if len(several) > 1:
                raise PermanentProblem(
                    f"{table.path.name} has events of {len(several)} {what} ({', '.join(several)}): "
                    "export one file for each video."
                )
    if table.has("time offset (s)"):
        offsets = table.numbers("time offset (s)")
        if any(offsets[row] for row in rows):
            raise PermanentProblem(
                f"{table.path.name} has a time offset, so its times are not those of the video; set "
                "the observation's offset to 0 in BORIS and export again."
            )
    return rows
