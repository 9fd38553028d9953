"""``cohort.csv``: which videos belong together, and of which group, animal and day each is."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from tailor_assets.compute.errors import PermanentProblem

REQUIRED = ("video", "group", "subject")
# Columns that mean something by themselves; all others are covariates, and kept as they are.
KNOWN = (*REQUIRED, "day", "session_start")
# What the tables have beside the covariates.
RESERVED = ("day_number", "measure", "behavior", "unit", "value")
_LARGEST = 16 << 20  # bytes


@dataclass(frozen=True)
class CohortVideo:
    """One line of the file.

    ``day`` is as it was written; ``day_number`` is that number, or for dates the days since the
    earliest date of the file. ``session_start`` is when the first frame was recorded, with its offset
    from UTC, and ``no_session_start`` the sentence that says why it is not known.
    """

    video: str
    group: str
    subject: str
    day: str | None = None
    day_number: float | None = None
    session_start: datetime | None = None
    no_session_start: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """The file's lines in their order."""

    videos: Sequence[CohortVideo]
    covariates: Sequence[str]

    @property
    def groups(self) -> list[str]:
        """In the order in which they come up: the first one is what the others are compared with."""
        return list(dict.fromkeys(one.group for one in self.videos))

    @property
    def has_days(self) -> bool:
        """Whether there are two days or more, so that something can change over them."""
        return len({one.day_number for one in self.videos} - {None}) > 1


def read_cohort(path: Path) -> Cohort:
    """Read a cohort file: UTF-8, a header, separated by commas, semicolons or tabs.

    Columns ``video``, ``group``, ``subject``; optional ``day`` (a number, or YYYY-MM-DD),
    ``session_start`` (ISO 8601 with offset from UTC); any others are covariates.

    Raises PermanentProblem with one sentence: for a file that cannot be read, a missing column or
    cell, a video that is there twice, an animal in two groups, days that are numbers and dates.
    """
    header, lines = _cells(path)
    _check_header(path, header)
    rows = [dict(zip(header, cells, strict=True)) for cells in lines]
    for number, row in enumerate(rows, 1):
        empty = [name for name in REQUIRED if not row[name]]
        if empty:
            raise PermanentProblem(
                f"Video {number} of {path.name} has no {' and no '.join(empty)}: fill in the cell, "
                "or remove the line."
            )
    _check_rows(path, rows)
    days = _day_numbers(path, [row.get("day", "") for row in rows])
    covariates = [name for name in header if name not in KNOWN]
    videos = []
    for row, day in zip(rows, days, strict=True):
        start, why = _session_start(row["video"], row.get("session_start", ""))
        videos.append(
            CohortVideo(
                video=row["video"],
                group=row["group"],
                subject=row["subject"],
                day=row.get("day") or None,
                day_number=day,
                session_start=start,
                no_session_start=why,
                covariates={name: row[name] for name in covariates if row[name]},
            )
        )
    return Cohort(videos, covariates)


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and lines, stripped; lines without any text are none."""
    try:
        if path.stat().st_size > _LARGEST:
            raise PermanentProblem(
                f"{path} is larger than any list of videos: give the cohort file, a CSV with the "
                "columns video, group and subject."
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PermanentProblem(
            f"The cohort file {path} cannot be read ({error.strerror}): give a CSV with the columns "
            "video, group and subject."
        ) from None
    except UnicodeDecodeError:
        raise PermanentProblem(
            f"The cohort file {path} is no UTF-8 text: save it as CSV, UTF-8."
        ) from None
    first = text.lstrip().split("\n", 1)[0]
    # Spreadsheets write semicolons where the comma is the decimal sign.
    delimiter = max(",;\t", key=first.count)
    try:
        lines = [
            [cell.strip() for cell in line]
            for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        ]
    except csv.Error as error:
        raise PermanentProblem(
            f"The cohort file {path} is no CSV ({error}): save it again."
        ) from None
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise PermanentProblem(f"The cohort file {path} names no video: add a line for each.")
    header = lines[0]
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise PermanentProblem(
                f"Video {number} of {path.name} has {len(line)} cells and the header {len(header)}: "
                "give each line as many as the header has, and put quotes around text with a "
                f"{'tab' if delimiter == chr(9) else delimiter!r}."
            )
    return header, lines[1:]


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise PermanentProblem(
            f"{path.name} has no column {' and no column '.join(missing)}: its first line must name "
            "video, group and subject."
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise PermanentProblem(f"{path.name} has two columns {twice[0]!r}: rename one.")
    if "" in header:
        raise PermanentProblem(f"{path.name} has a column without a name: give it one.")
    taken = [name for name in header if name in RESERVED]
    if taken:
        raise PermanentProblem(
            f"{path.name} has a column {taken[0]!r}, which the results have, too: rename it."
        )


def _check_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    twice = [name for name, count in Counter(row["video"] for row in rows).items() if count > 1]
    if twice:
        raise PermanentProblem(
            f"{path.name} names the video {twice[0]!r} more than once: leave one line."
        )
    groups: dict[str, str] = {}
    for row in rows:
        if groups.setdefault(row["subject"], row["group"]) != row["group"]:
            raise PermanentProblem(
                f"{path.name} has the animal {row['subject']!r} in the groups "
                f"{groups[row['subject']]!r} and {row['group']!r}, and groups are compared as "
                "different animals: put each animal in one group (conditions that one animal went "
                "through can be a covariate)."
            )


def _day_numbers(path: Path, words: Sequence[str]) -> list[float | None]:
    numbers: list[float | None] = []
    dates: list[date | None] = []
    for word in words:
        try:
            value = float(word)
            numbers.append(value if math.isfinite(value) else None)
        except ValueError:
            numbers.append(None)
        try:
            dates.append(date.fromisoformat(word) if "-" in word else None)
        except ValueError:
            dates.append(None)
    given = [i for i, word in enumerate(words) if word]
    if all(numbers[i] is not None for i in given):
        return numbers
    wrong = next((i for i in given if numbers[i] is None and dates[i] is None), None)
    if wrong is not None:
        raise PermanentProblem(
            f"The day {words[wrong]!r} in {path.name} is neither a number nor a date: write 1, 2, ... "
            "or YYYY-MM-DD."
        )
    if any(dates[i] is None for i in given):
        raise PermanentProblem(
            f"The days in {path.name} are numbers in some lines and dates in others: write all one "
            "way."
        )
    first = min(day for day in dates if day is not None)
    return [None if day is None else float((day - first).days) for day in dates]


def _session_start(video: str, word: str) -> tuple[datetime | None, str | None]:
    if not word:
        return None, (
            f"No NWB file of {video}: it needs the moment of the first frame, so add a column "
            "session_start to the cohort file, as 2026-03-01T09:30:00+01:00."
        )
    try:
        start = datetime.fromisoformat(word)
    except ValueError:
        return None, (
            f"No NWB file of {video}: its session_start {word!r} is no moment, so write it as "
            "2026-03-01T09:30:00+01:00."
        )
    if start.tzinfo is None:
        return None, (
            f"No NWB file of {video}: its session_start {word!r} says no offset from UTC, so write "
            f"it as {start.isoformat()}+01:00, or with a Z for UTC."
        )
    return start, None
