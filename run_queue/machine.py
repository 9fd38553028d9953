"""Which machine and boot this is, and whether a process of a given moment is still alive."""

import os
import socket
from pathlib import Path

import psutil

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")

# The event that names a worker's pid is written within moments of the process's start, so a
# process that began later than the event is another one that was given the same number. The
# kernel's start times are in ticks since boot: a clock that was set meanwhile shifts them.
_START_TIME_TOLERANCE_SECONDS = 5.0


def host_name() -> str:
    """Name of this machine, or of this container."""
    return socket.gethostname()


def boot_id() -> str:
    """Identity of this boot and of this container's process numbers; empty where unknown.

    Process numbers mean something only among processes that have the same one.
    """
    try:
        return f"{_BOOT_ID_FILE.read_text().strip()}/{os.readlink(_PID_NAMESPACE)}"
    except OSError:  # not Linux: start times alone have to do
        return ""


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
