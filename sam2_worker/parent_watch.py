"""The worker dies when the process that started it dies, however that one died.

A run process that is killed (``kill -9``, a reboot of its container) cannot clean up, and its retry
starts some 17 s later: by then this worker must have let go of the GPU.
"""

import ctypes
import os
import select
import signal
import sys
import threading

from sam2_worker.request import PARENT_PID_VARIABLE

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0


def die_with_parent() -> None:
    """Arrange that this process is killed when its parent is gone; return at once.

    On Linux the kernel does it (``prctl(2)``, PR_SET_PDEATHSIG), even while Python is deep in a
    kernel launch. Elsewhere, and for processes of the worker's own group, a thread watches standard
    input, whose other end only the parent holds, and the parent's process id. Does nothing where
    the worker was started by hand: the launcher sets the variable that turns it on.
    """
    expected = os.environ.get(PARENT_PID_VARIABLE)
    if expected is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(expected):  # it died before we asked
        _kill_own_group()
    threading.Thread(target=_watch, args=(int(expected),), name="parent-watch", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while True:
        readable, _, _ = select.select([0], [], [], _POLL_S)
        ended = bool(readable) and os.read(0, 4096) == b""
        if ended or os.getppid() != parent_pid:
            _kill_own_group()


def _kill_own_group() -> None:
    # The launcher gave this worker a session of its own, so the group is the worker's alone; a
    # worker started otherwise must not take its starter's shell with it.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
