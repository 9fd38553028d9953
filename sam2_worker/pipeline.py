"""Stages of work that overlap: each in a thread of its own, with a short queue to the next.

What takes long in each (decoding, resizing, the model, packing, writing) runs outside Python's
lock, so threads are enough. Every stage knows how long it worked; whoever is busy all the time is
what the others wait for.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_END = object()


class StageClock:
    """Seconds of work per stage."""

    def __init__(self) -> None:
        """Begin with the first stage that works."""
        self._busy: dict[str, float] = {}
        self._started = time.monotonic()

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Count the block's duration. Each stage belongs to one thread."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._busy[stage] = self._busy.get(stage, 0.0) + time.perf_counter() - started

    def shares(self) -> dict[str, float]:
        """Share of the time since the start that each stage worked, 0..1."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        return {stage: round(min(busy / elapsed, 1.0), 3) for stage, busy in self._busy.items()}


class Behind(Generic[T]):
    """Hands items to ``work`` in a thread, in order; ``put`` waits where ``depth`` are waiting.

    Use as a context manager: leaving the block waits until all is done; an exception in the block
    drops what waits. An error of ``work`` is raised by the next ``put``, or at the end.
    """

    def __init__(self, work: Callable[[T], None], depth: int, name: str) -> None:
        """Start the thread."""
        self._work = work
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            if self._error is not None or self._dropped.is_set():
                continue  # keep the queue moving, so that nobody waits for ever
            try:
                self._work(item)  # type: ignore[arg-type]
            except BaseException as error:
                self._error = error

    def put(self, item: T) -> None:
        """Hand over one item."""
        self._raise()
        self._queue.put(item)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        """Return the stage itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what waits, or drop it after an exception; wait for the thread."""
        if kind is not None:
            self._dropped.set()
        self._queue.put(_END)
        self._thread.join()
        if kind is None:
            self._raise()
