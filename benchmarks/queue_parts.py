"""What the benchmarks of the queue share: the tests' helpers, and how figures are shown."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # queue_lab, toy_services


def timed(what: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Wall seconds of a call, and its answer."""
    began = time.monotonic()
    answer = what(*arguments)
    return time.monotonic() - began, answer


def median_and_worst(seconds: Sequence[float], *, unit: str = "s") -> str:
    """For a cell of a table; ``unit``: s or ms."""
    factor, digits = (1000, 0) if unit == "ms" else (1, 1)
    middle, worst = statistics.median(seconds) * factor, max(seconds) * factor
    return f"**{middle:,.{digits}f}** ({worst:,.{digits}f})"


def progress(text: str) -> None:
    """For whoever waits; the tables go to stdout."""
    print(text, file=sys.stderr, flush=True)


def verdict(missed: Sequence[str]) -> int:
    """Say which bars were missed; the exit status."""
    print("\nBars missed: " + ("; ".join(missed) or "none"))
    return 1 if missed else 0
