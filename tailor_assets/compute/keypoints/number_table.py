"""Rows of numbers below a header, from a text file that other people's programs wrote."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from tailor_assets.compute.errors import PermanentProblem

SEPARATORS = (",", ";", "\t")
# What DeepLabCut, SLEAP, pandas, R and MATLAB write for "not found".
MISSING = ["", "nan", "NaN", "NAN", "NA", "null", "None", "-nan"]
LONGEST_HEADER = 4


@dataclass(frozen=True)
class TextTable:
    """A tracking file before it is understood: its first rows split into cells, and where it lies."""

    path: Path
    separator: str
    head: list[list[str]]

    def columns(self, header_rows: int) -> pl.DataFrame:
        """All rows below the header as text, columns ``column_1``, ``column_2``, ...

        Raises PermanentProblem when a row has more or fewer cells than the header.
        """
        width = len(self.head[header_rows - 1])
        self._check_widths(header_rows, width)
        try:
            return pl.read_csv(
                self.path,
                has_header=False,
                skip_rows=header_rows,
                separator=self.separator,
                infer_schema=False,
                null_values=MISSING,
                new_columns=[f"column_{k + 1}" for k in range(width)],
            )
        except pl.exceptions.NoDataError:
            return pl.DataFrame({f"column_{k + 1}": pl.Series([], dtype=pl.String)
                                 for k in range(width)})  # fmt: skip
        except pl.exceptions.PolarsError as error:
            raise PermanentProblem(
                f"The tracking file {self.path.name} cannot be read as a table "
                f"({str(error).splitlines()[0]}); export it again from the tracking program."
            ) from error

    def _check_widths(self, header_rows: int, width: int) -> None:
        with self.path.open(encoding="utf-8-sig", errors="replace", newline=None) as lines:
            for number, line in enumerate(lines, start=1):
                if number <= header_rows or '"' in line or not line.strip():
                    continue
                cells = line.count(self.separator) + 1
                if cells != width:
                    raise PermanentProblem(
                        f"Line {number} of the tracking file {self.path.name} has {cells} cells "
                        f"where the header has {width}, as in a file that was cut off; export it "
                        "again from the tracking program."
                    )


def open_table(path: Path) -> TextTable:
    """Look at the first rows of a file. Raises PermanentProblem when it is no text or is empty."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(4_000_000)
    except OSError as error:
        raise PermanentProblem(
            f"The tracking file {path} cannot be read ({error.strerror}); give the path of a CSV "
            "file."
        ) from error
    try:
        text = start.decode("utf-8-sig", errors="strict" if len(start) < 4_000_000 else "ignore")
    except UnicodeDecodeError as error:
        raise PermanentProblem(
            f"The tracking file {path.name} is no text; export the tracking as CSV (DeepLabCut and "
            "SLEAP both can)."
        ) from error
    first = text.split("\n", 1)[0]
    if not first.strip():
        raise PermanentProblem(
            f"The tracking file {path.name} is empty; export it again from the tracking program."
        )
    if "\0" in text:
        raise PermanentProblem(
            f"The tracking file {path.name} is no text; export the tracking as CSV (DeepLabCut and "
            "SLEAP both can)."
        )
    separator = max(SEPARATORS, key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        head = [[cell.strip() for cell in row] for row in islice(rows, LONGEST_HEADER + 1)]
    except csv.Error as error:
        raise PermanentProblem(
            f"The tracking file {path.name} cannot be read as a table ({error}); export it again "
            "from the tracking program."
        ) from error
    return TextTable(path, separator, head)


def numbers(table: pl.DataFrame, k: int, name: str, path: Path) -> np.ndarray:
    """Column ``k`` as float64 [rows], NaN where it is empty; infinite counts as not found.

    Raises PermanentProblem, naming the cell, for a text that is no number.
    """
    text = table.to_series(k).str.strip_chars()
    values = text.cast(pl.Float64, strict=False)
    bad = (values.is_null() & text.is_not_null() & (text != "")).arg_true()
    if bad.len():
        raise PermanentProblem(
            f"The tracking file {path.name} has {text[bad[0]]!r} in column {name}, row "
            f"{bad[0] + 1}, where a number belongs; export it again from the tracking program."
        )
    result = values.fill_null(np.nan).to_numpy().astype(np.float64)
    return np.where(np.isfinite(result), result, np.nan)


def whole_numbers(table: pl.DataFrame, k: int, name: str, path: Path) -> np.ndarray:
    """Column ``k`` as int64 [rows]; PermanentProblem for an empty cell or a fraction."""
    values = numbers(table, k, name, path)
    bad = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)) | (values < 0))
    if bad.size:
        raise PermanentProblem(
            f"The tracking file {path.name} has no frame number in column {name}, row "
            f"{bad[0] + 1}; every row needs one."
        )
    return values.astype(np.int64)
