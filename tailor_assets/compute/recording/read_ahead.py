"""Items of an iterator, made by a background thread that keeps a little ahead of who reads them."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """No more items come; ``error`` is what ended them early."""

    error: BaseException | None = None


class ReadAhead(Iterator[T], Generic[T]):
    """Iterates over ``items`` with a thread that works at most ``depth`` items ahead.

    The thread ends with the items, with ``close`` or the end of the ``with`` block, and when the
    iterator is dropped. Items that can be closed (generators) are, in the thread.
    """

    def __init__(
        self,
        items: Iterable[T],
        depth: int,
        name: str,
        stop: threading.Event | None = None,
    ) -> None:
        """Start the thread. ``stop`` is set when it is to end: for items that take long to make."""
        stop = stop or threading.Event()
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._error: BaseException | None = None
        # The thread knows the queue and not this iterator, so one that is dropped is collected.
        thread = threading.Thread(
            target=_fill, args=(items, self._queue, stop), name=name, daemon=True
        )
        self._close = weakref.finalize(self, _stop, thread, self._queue, stop)
        thread.start()

    def __enter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __next__(self) -> T:
        """The next item. Raises what ended the items, whenever it is asked after that."""
        if self._close.alive:
            item = self._queue.get()
            if not isinstance(item, _End):
                return item
            self._error = item.error
            self.close()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and wait for it; safe to call again."""
        self._close()


def _fill(items: Iterable[T], filled: queue.Queue[T | _End], stop: threading.Event) -> None:
    """The background thread: items into the queue, then their end."""
    end = _End()
    try:
        try:
            for item in items:
                filled.put(item)
                if stop.is_set():
                    break
        finally:
            if hasattr(items, "close"):
                items.close()
    except BaseException as error:
        end = _End(error)
    if not stop.is_set():
        filled.put(end)


def _stop(thread: threading.Thread, filled: queue.Queue, stop: threading.Event) -> None:
    stop.set()
    while thread.is_alive():
        try:
            filled.get(timeout=0.01)  # make room, so that a waiting put returns
        except queue.Empty:
            thread.join(timeout=0.01)
