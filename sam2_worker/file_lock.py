"""Locks on files, held by the kernel until they are closed or their process ends (``flock(2)``)."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.2
_MESSAGE_EVERY_S = 15.0


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Lock the file, made where it is not there; return its descriptor, None where it is held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def wait_for(
    attempt: Callable[[], T | None], say: Callable[[str], None], message: Callable[[float], str]
) -> T:
    """Try until ``attempt`` returns something, and return that.

    Meanwhile ``say`` is told ``message(seconds waited)``: at once, then every 15 s.
    """
    started, said_at = time.monotonic(), -_MESSAGE_EVERY_S
    while (got := attempt()) is None:
        waited = time.monotonic() - started
        if waited - said_at >= _MESSAGE_EVERY_S:
            say(message(waited))
            said_at = waited
        time.sleep(_POLL_S)
    return got
