"""Which machine this is, and whether a process of a given moment is still alive."""

import os
import socket
from pathlib import Path

import psutil

# The event that names a worker's pid is written within moments of the process's start, so a
# process that began later than the event is another one that was given the same number. The
# kernel's start times are in ticks since boot: a clock that was set meanwhile shifts them.
_START_TIME_TOLERANCE_SECONDS = 5.0


def host_name() -> str:
    """Name of this machine, or of this container."""
    return socket.gethostname()


def is_alive(pid: int, known_at: float) -> bool:
    """Whether the process that had number ``pid`` at ``known_at`` (Unix seconds) still runs."""
    born = _born(pid)
    return born is not None and born <= known_at + _START_TIME_TOLERANCE_SECONDS


def is_the_same(pid: int, born_at: float) -> bool:
    """Whether the process with this number that has this ``birth`` still runs."""
    return _born(pid) is not None and birth(pid) == born_at


def birth(pid: int) -> float | None:
    """When a process began, on a clock that nobody sets; None where there is none.

    Seconds since boot on Linux. Elsewhere Unix seconds, which move when the clock is set.
    """
    try:
        # Its name, which may hold anything, is in brackets; the 22nd word is the start in ticks.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(words[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        pass
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _born(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        # Of one that exists and may not be asked the number was given away: our workers are ours.
        return None
