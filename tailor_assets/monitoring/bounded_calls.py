"""Calls that may hang, and are given up on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class BoundedCalls:
    """Runs functions in threads of their own. Used by many threads.

    A call that hangs cannot be ended, so there is never more than one of a name: who asks again
    meanwhile waits for the one that is under way, and a hanging database costs one thread.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, function: Callable[[], T]) -> "Future[T]":
        """Begin a call, or join the one of this name that is under way."""
        with self._lock:
            before = self._under_way.get(name)
            if before is not None and not before.done():
                return before
            future: Future[T] = Future()
            self._under_way[name] = future

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        # A daemon: a program that ends does not wait for what hangs.
        threading.Thread(target=run, name=name, daemon=True).start()
        return future
