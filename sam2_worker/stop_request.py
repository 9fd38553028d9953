"""How the worker is asked to stop: SIGTERM, as a spot machine sends it 30 s before it goes away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set once. Whoever ``listens`` commits what is done and ends by itself within a moment."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._event = threading.Event()
        self._listening = False

    def set(self) -> None:
        """Ask."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether somebody has asked."""
        return self._event.is_set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In this block the request is answered by a commit."""
        self._listening = True
        try:
            yield
        finally:
            self._listening = False

    def obey_sigterm(self) -> None:
        """On SIGTERM ask; where nobody listens there is nothing to commit, and the process exits.

        So it does at the second one. Call it in the main thread.
        """
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, signal_number: int, _: FrameType | None) -> None:
        if not self._listening or self.is_set():
            raise SystemExit(128 + signal_number)
        self.set()
