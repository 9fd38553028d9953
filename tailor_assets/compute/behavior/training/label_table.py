"""A person's table of labels as text: its encoding, separator, header and numbers.

Spreadsheet programs write commas, semicolons or tabs, a byte-order mark or none, and in half of
Europe a decimal comma. What can be told for sure is read; the rest is refused in one sentence.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailor_assets.compute.errors import PermanentProblem

_SEPARATORS = ("\t", ";", ",")
# BORIS before version 8 wrote the observation's description above the table.
_HEADER_WITHIN_LINES = 200
_NOTHING = ("", "na", "nan", "n/a", "none", "null")


@dataclass(frozen=True)
class LabelTable:
    """A header and rows of as many cells; ``lines`` are the rows' numbers in the file, from 1."""

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def has(self, *columns: str) -> bool:
        """Whether all of these columns are there."""
        return all(column in self.columns for column in columns)

    def texts(self, column: str) -> list[str]:
        """Cells of a column without spaces around them."""
        place = self.columns.index(column)
        return [row[place].strip() for row in self.rows]

    def numbers(self, column: str) -> list[float | None]:
        """Numbers of a column, None where a cell says that there is none.

        Raises PermanentProblem for a cell that is no number.
        """
        return [
            self._number(text, line, column)
            for text, line in zip(self.texts(column), self.lines, strict=True)
        ]

    def _number(self, text: str, line: int, column: str) -> float | None:
        if text.lower() in _NOTHING:
            return None
        # With one comma and no point, it is a decimal comma: no thousands are written that way.
        plain = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
        try:
            number = float(plain)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise PermanentProblem(
                f"{self.path.name}, line {line}: {column} is {text!r}, which is no number; write "
                "seconds or frames with a decimal point."
            )
        return number


def read_label_table(path: Path, headers: Sequence[Sequence[str]]) -> LabelTable:
    """Read the table whose header has all words of one of ``headers`` (lower case).

    Names of columns are compared, and given back, in lower case and without spaces around them.
    Raises PermanentProblem where there is no such header, a row has more or fewer cells, or the
    file is no text in UTF-8 or UTF-16.
    """
    lines = _text(path).splitlines()
    for number, line in enumerate(lines[:_HEADER_WITHIN_LINES]):
        for separator in _SEPARATORS:
            cells = _header(line, separator)
            if any(set(header) <= set(cells) for header in headers):
                return _table(path, lines[number:], separator, cells, number)
    wanted = "; ".join(", ".join(header) for header in headers)
    raise PermanentProblem(
        f"{path.name} has no header of a label file: give a table with the columns of one of the "
        f"kinds that are known ({wanted})."
    )


def _header(line: str, separator: str) -> tuple[str, ...]:
    """Its words in lower case; the British spelling of the one that matters is taken, too."""
    cells = next(csv.reader([line], delimiter=separator), [])
    return tuple(cell.strip().lower().replace("behaviour", "behavior") for cell in cells)


def _table(
    path: Path, lines: list[str], separator: str, columns: tuple[str, ...], before: int
) -> LabelTable:
    doubled = sorted({name for name in columns if name and columns.count(name) > 1})
    if doubled:
        raise PermanentProblem(
            f"{path.name} has two columns {doubled[0]!r}, so it cannot be known which one is meant; "
            "rename or delete one."
        )
    rows, numbers = [], []
    for cells, number in _rows(lines, separator):
        if not any(cell.strip() for cell in cells):
            continue
        if number == 1:
            continue
        # Spreadsheet programs leave out, or add, empty cells at the end of a row.
        while len(cells) > len(columns) and not cells[-1].strip():
            cells = cells[:-1]
        short = len(columns) - len(cells)
        if short > 0 and len(cells) > 1:
            cells = [*cells, *[""] * short]
        if len(cells) != len(columns):
            raise PermanentProblem(
                f"{path.name}, line {number + before} has {len(cells)} cells and its header "
                f"{len(columns)}; separate all cells by the same sign, and put decimal commas "
                "between semicolons or tabs only."
            )
        rows.append(cells)
        numbers.append(number + before)
    return LabelTable(path, columns, rows, numbers)


def _rows(lines: list[str], separator: str) -> Iterator[tuple[list[str], int]]:
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
    for cells in reader:
        yield cells, reader.line_num


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PermanentProblem(
            f"The label file {path} cannot be read ({error.strerror}): give the path of one file."
        ) from None
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise PermanentProblem(
            f"{path.name} is neither UTF-8 nor UTF-16 text, so its labels cannot be read for sure; "
            "save it as CSV in UTF-8."
        ) from None
    if "\0" in text:
        raise PermanentProblem(f"{path.name} is no text: export the labels as CSV or TSV.")
    if not text.strip():
        raise PermanentProblem(f"{path.name} is empty: export the labels again.")
    return text
