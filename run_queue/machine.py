"""Which machine this is, and whether a process of a given moment is still alive."""

import contextlib
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
    """Whether the process that had number ``pid`` at ``known_at`` (Unix seconds) still runs.

    Where the clock was set forward since, it seems to have begun later; so a process that is a run's
    worker by its command line is given the benefit of the doubt.
    """
    born = _born(pid)
    if born is None:
        return False
    return born <= known_at + _START_TIME_TOLERANCE_SECONDS or _is_a_run_worker(pid)


def _is_a_run_worker(pid: int) -> bool:
    try:
        return any("multiprocessing.spawn" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


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


def kill_tree(pid: int) -> None:
    """Kill all descendants of a process, and then it."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
