"""Progress of long work: lines in a run's log, and whoever else listens (the terminal's bars)."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class _Log(Protocol):
    def info(self, msg: object) -> None: ...


# Called as listener(what, unit, done, total) in the process that does the work.
Listener = Callable[[str, str, int, int], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have ``listener`` told of all progress in this process meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class LogProgress:
    """A ``(done, total)`` callback that logs share, rate and time left at most every few seconds."""

    def __init__(
        self, log: "_Log | logging.Logger", what: str, unit: str, every_s: float = 5.0
    ) -> None:
        """``what`` and ``unit`` are words of the line, ``every_s`` the least time between lines."""
        self._log, self._what, self._unit, self._every = log, what, unit, every_s
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` units are done (``total`` 0 or None: not known)."""
        for listener in _listeners:
            listener(self._what, self._unit, done, total or 0)
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = done / max(now - self._start, 1e-9)
        line = f"{self._what}: {done:,}"
        if total:
            line += f" of {total:,}"
        # Models take seconds or minutes each.
        line += f" {self._unit}, " + (
            f"{1 / rate:,.0f} s each" if 0 < rate < 1 else f"{rate:,.0f}/s"
        )
        if total and rate:
            line += f", {max(total - done, 0) / rate:,.0f} s to go"
        self._log.info(line)
