"""What the benchmark prints: figures with their bars, one column per contender, and progress."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """The range a value has to be in, both ends included."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        """As in a table, e.g. ``>= 0.95``."""
        if self.low == self.high:
            return f"{self.low:g}"
        if self.high == math.inf:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.low == -math.inf else f"{self.low:,g}-{self.high:,g}"


@dataclass(frozen=True)
class Figure:
    """One value of one contender; NaN where the material has nothing to judge it by."""

    what: str
    value: float
    bar: Bar | None = None
    digits: int = 3
    note: str = ""

    @property
    def missed(self) -> bool:
        """Whether there is a bar, and something to judge, and the value is out of range."""
        if self.bar is None or math.isnan(self.value):
            return False
        return not self.bar.low <= self.value <= self.bar.high

    def __str__(self) -> str:
        """As in a table, e.g. ``0.963 (bar >= 0.95: PASS)``."""
        if math.isnan(self.value):
            return "nothing to judge"
        text = f"{self.value:,.{self.digits}f}" + (f" ({self.note})" if self.note else "")
        if self.bar is None:
            return text
        return f"{text} [{self.bar}: {'**missed**' if self.missed else 'PASS'}]"


def figures_table(figures: Mapping[str, Sequence[Figure]]) -> str:
    """Markdown: a row per figure, a column per contender; "-" where a contender has none."""
    whats = list(dict.fromkeys(f.what for column in figures.values() for f in column))
    columns = [{f.what: str(f) for f in column} for column in figures.values()]
    rows = [[what, *(column.get(what, "-") for column in columns)] for what in whats]
    return markdown(["", *figures], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Progress:
    """A line in the terminal that says what is being done; in a log file a line now and then."""

    def __init__(self) -> None:
        """Nothing is done yet."""
        self._what = ""
        self._last = 0.0
        self._every = 0.5 if sys.stderr.isatty() else 20.0

    def begin(self, what: str) -> None:
        """What is done from now on, e.g. ``simulated clip 3 of 24, background``."""
        self._what = what
        self(0, 0)

    def __call__(self, done: int, total: int) -> None:
        """Count."""
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        count = f": {done:,} of {total:,}" if total else ""
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"{self._what}{count}".ljust(78), end=end, file=sys.stderr, flush=True)
