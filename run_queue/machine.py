"""Which machine this is, and whether a process of a given moment is still alive."""

import socket

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
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() <= known_at + _START_TIME_TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        # It exists and is somebody else's: number reuse, because our workers are our own.
        return False
