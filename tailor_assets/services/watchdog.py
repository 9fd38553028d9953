"""Ends the services if the process that started them is killed and cannot do it itself.

Run as a script with nothing but the standard library, so that it is up at once and small. Its
standard input is a pipe whose other end only the starting process holds: the end of that pipe means
that process is gone. It also holds the lock on the home folder until it has cleaned up.

Lines it reads: ``watch <process group>``, ``forget <process group>``,
``postgres <pid of the server>``, ``done``.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

# A run that is told to stop ends its segmenter first, which may take 5 s.
GRACE_SECONDS = 8.0


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def is_empty(group: int) -> bool:
    """Whether no process of this group is left."""
    return not _signal_group(group, 0)


def end_groups(groups: set[int], reap: Callable[[], None] = lambda: None) -> None:
    """Ask all processes of these groups to end; kill those that have not after the grace.

    ``reap`` collects the caller's own dead children, which would otherwise look alive.
    """
    left = {group for group in groups if _signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        reap()
        left = {group for group in left if not is_empty(group)}
    for group in left:
        _signal_group(group, signal.SIGKILL)


def main() -> None:
    """Read until the pipe ends, then end what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    postgres = 0
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "watch":
            groups.add(int(number))
        elif word == "forget":
            groups.discard(int(number))
        elif word == "postgres":
            postgres = int(number)
        elif word == "done":
            return
    end_groups(groups)
    if postgres:
        try:
            os.kill(postgres, signal.SIGINT)  # PostgreSQL's "fast shutdown"
        except (ProcessLookupError, PermissionError):
            return


if __name__ == "__main__":
    main()
