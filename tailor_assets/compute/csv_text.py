"""Tables as CSV text that is the same wherever and however often it is made.

The last digits of a float depend on the processor, on library versions and on what was added in
which order; the first six do not, and nothing that is measured in a video has more. So floats are
written with six significant digits, and times, which are not measured but counted, to a microsecond.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

SIGNIFICANT_DIGITS = 6
TIME_DIGITS = 6
# Columns that hold a time or a span of time in seconds, by what stands before the unit.
_TIME = re.compile(
    r"(^|_)(timestamp|start|stop|end|time|latency|duration|entry|interval"
    r"|total|known|recorded|mean|std)_s$"
)
# 10^22 is the greatest power of ten that a float64 holds exactly.
_MOST_EXACT = 22
_ROWS_AT_ONCE = 8192
_POWERS = 10.0 ** np.arange(_MOST_EXACT + 1)


def write_csv(table: pl.DataFrame, path: str | Path | IO[bytes]) -> None:
    """Write ``table`` to ``path`` as UTF-8 CSV with a header; a missing value is an empty cell.

    Floats have six significant digits at most, and those of columns of seconds (``timestamp_s``,
    ``start_s``, ``nest_latency_s``, ...) are rounded to a microsecond; integers, booleans and text
    are as they are. The text of a number is the shortest that reads back as the rounded number.
    """
    # In slices: the text of a day's recording is larger than its table, and is held nowhere whole.
    with nullcontext(path) if hasattr(path, "write") else Path(path).open("wb") as stream:
        for first in range(0, max(table.height, 1), _ROWS_AT_ONCE):
            part = table.slice(first, _ROWS_AT_ONCE)
            rounded = [c if not c.dtype.is_float() else _rounded(c) for c in part.get_columns()]
            pl.DataFrame(rounded).write_csv(stream, include_header=first == 0, null_value="")


def is_time(name: str) -> bool:
    """Whether a column holds seconds that are written to a microsecond."""
    return _TIME.search(name) is not None


def _rounded(column: pl.Series) -> pl.Series:
    # NaN stands for null in between: to a reader of the file both are an empty cell.
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    times = is_time(column.name)
    rounded = np.round(values, TIME_DIGITS) if times else round_significant(values)
    # + 0 makes -0 a 0.
    return pl.Series(column.name, rounded + 0.0, nan_to_null=True)


def round_significant(values: np.ndarray) -> np.ndarray:
    """``values`` float64 [n] rounded to SIGNIFICANT_DIGITS significant digits, half to even.

    Each result is the float64 nearest to a decimal number of so many digits, so that its shortest
    text has no more. NaN and infinity stay.
    """
    result = np.array(values, np.float64)
    size = np.abs(result)
    # Comparisons with exact powers, not logarithms: those differ between processors.
    whole_digits = np.searchsorted(_POWERS, size, side="right")
    plain = (size >= 10.0 ** -(_MOST_EXACT - SIGNIFICANT_DIGITS - 1)) & (size < _POWERS[-1])
    small = plain & (size < 1.0)
    # For 0.00123 the reciprocal says how many zeros follow the point; it may be off by one, which
    # the comparison below puts right.
    with np.errstate(divide="ignore"):
        zeros = np.where(small, np.searchsorted(_POWERS, 1.0 / np.where(small, size, 1.0)), 0)
    too_many = small & (size * _POWERS[np.clip(zeros, 0, _MOST_EXACT)] >= 10.0)
    places = SIGNIFICANT_DIGITS - np.where(small, 1 - zeros + too_many, whole_digits)
    up = plain & (places >= 0)
    factor = _POWERS[np.clip(places[up], 0, _MOST_EXACT)]
    result[up] = np.rint(result[up] * factor) / factor
    down = plain & (places < 0)
    factor = _POWERS[np.clip(-places[down], 0, _MOST_EXACT)]
    result[down] = np.rint(result[down] / factor) * factor
    # What no exact power of ten reaches: rare enough to go by text.
    odd = np.flatnonzero(~plain & np.isfinite(result) & (size > 0))
    result[odd] = [float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}") for value in result[odd].tolist()]
    return result
