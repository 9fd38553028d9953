"""Which boot of which machine this is."""

import os
from pathlib import Path

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def boot_id() -> str:
    """Identity of this boot and of this container's process numbers; empty where unknown.

    Process numbers mean something only among processes that have the same one.
    """
    try:
        return f"{_BOOT_ID_FILE.read_text().strip()}/{os.readlink(_PID_NAMESPACE)}"
    except OSError:  # not Linux
        return ""
