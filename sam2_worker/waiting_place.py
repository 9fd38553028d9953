"""Where a worker that has done its video waits for another run."""

import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from sam2_worker.hand_over import (
    ANSWER_S,
    LEAVE,
    WAITING,
    Connection,
    HandOver,
    Stay,
    short_name,
)

# How soon it notices that another worker needs its GPU.
_LOOK_S = 0.2
_LISTENERS = 16


class _ToldToLeave(Exception):
    """Nothing is left to wait for."""


class WaitingPlace:
    """A socket in the locks folder, open from before the run that was worked for knows its end.

    So whoever ends a run and then looks for waiting workers finds this one.
    """

    def __init__(self, stay: Stay) -> None:
        """Open it. Raises OSError where the file system has no sockets."""
        self._stay = stay
        self._told_by: Connection | None = None
        self._path = stay.socket_path(os.getpid())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        draft = self._path.with_name(f".{self._path.name}")
        mask = os.umask(0o177)
        try:
            draft.unlink(missing_ok=True)
            with short_name(draft) as name:
                self._listener.bind(name)
            self._listener.listen(_LISTENERS)
            self._listener.setblocking(False)
            # Whoever finds it refused removes it, so it gets its name when it listens.
            os.replace(draft, self._path)
        except BaseException:
            draft.unlink(missing_ok=True)
            self._listener.close()
            raise
        finally:
            os.umask(mask)

    def next(
        self, last: Connection, gives_way: Callable[[], bool]
    ) -> tuple[HandOver, Connection] | None:
        """Wait for a run and take what it hands over; close the place.

        Returns None when the time is up, when told to leave, and when ``gives_way`` says so. Until
        the ``last`` run has hung up it may still end this worker, so no other is taken before.
        """
        deadline = time.monotonic() + self._stay.seconds
        hung_up = False
        try:
            while (left := deadline - time.monotonic()) > 0 and not gives_way():
                awaited = self._listener if hung_up else last
                if not select_one(awaited.fileno(), min(left, _LOOK_S)):
                    continue
                if not hung_up:
                    hung_up = _has_hung_up(last)
                    continue
                handed_over = self._hear_one()
                if handed_over is not None:
                    return handed_over
            return None
        except _ToldToLeave as told:
            # Open for as long as this process lives: its end is the answer.
            (self._told_by,) = told.args
            return None
        finally:
            last.close()
            self.close()

    def _hear_one(self) -> tuple[HandOver, Connection] | None:
        """What the next in the queue hands over; None where it has gone or makes no sense."""
        try:
            end, _ = self._listener.accept()
        except OSError:
            return None  # it has gone again
        connection = Connection(end)
        try:
            if connection.peer().uid != os.geteuid():
                raise PermissionError("somebody else's")
            connection.send(WAITING)
            message = connection.receive(ANSWER_S)
            if message == LEAVE:
                raise _ToldToLeave(connection)
            return HandOver.from_message(message), connection
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            connection.close()
            return None
        except _ToldToLeave:
            raise
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        """Return the place itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Nobody else is served: those in the queue are told so by the end of their connections."""
        with suppress(OSError):
            self._path.unlink()
        self._listener.close()


def _has_hung_up(connection: Connection) -> bool:
    try:
        connection.receive(_LOOK_S)
    except TimeoutError:
        return False
    except (OSError, EOFError, ValueError):
        return True
    return False


def select_one(descriptor: int, timeout_s: float) -> bool:
    """Whether it can be read from, or its other end is gone, within this time."""
    # Not select(2), which knows no descriptors above 1023.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
