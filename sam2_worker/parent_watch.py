"""The worker dies when the run it works for dies, however that one died.

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


class RunWatch:
    """A thread that kills this process, and its group, when the run is gone, until ``release``.

    It watches a descriptor whose other end only the run holds, and the run's process.
    """

    def __init__(
        self, descriptor: int, *, parent: int | None = None, process: int | None = None
    ) -> None:
        """``parent``: number of the run's process where it started this one; else ``process``."""
        self._descriptor = descriptor
        self._parent = parent
        self._process = _process_descriptor(process) if process else None
        self._released, self._release = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="run-watch", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """From now on this process outlives the run."""
        if self._parent is not None:
            _die_with_parent_thread(signal_number=0)
        os.write(self._release, b".")
        self._thread.join()
        for descriptor in (self._released, self._release, self._process):
            if descriptor is not None:
                os.close(descriptor)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._released, select.POLLIN)
        poll.register(self._descriptor, select.POLLIN)
        if self._process is not None:
            poll.register(self._process, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(_POLL_S * 1000)}
            if self._released in ready:
                return
            if (
                self._process in ready
                or (self._descriptor in ready and _has_ended(self._descriptor))
                or (self._parent is not None and os.getppid() != self._parent)
            ):
                _kill_own_group()


def die_with_parent(descriptor: int = 0) -> RunWatch | None:
    """Arrange that this process is killed when its parent is gone; return at once.

    On Linux the kernel does it (``prctl(2)``, PR_SET_PDEATHSIG), even while Python is deep in a
    kernel launch. Elsewhere, and for processes of the worker's own group, a thread watches
    ``descriptor`` (standard input), whose other end only the parent holds, and the parent's process
    id. Does nothing, and returns None, where the worker was started by hand: the launcher sets the
    variable that turns it on.
    """
    expected = os.environ.get(PARENT_PID_VARIABLE)
    if expected is None:
        return None
    _die_with_parent_thread(signal.SIGKILL)
    if os.getppid() != int(expected):  # it died before we asked
        _kill_own_group()
    return RunWatch(descriptor, parent=int(expected))


def _die_with_parent_thread(signal_number: int) -> None:
    # The kernel means the *thread* that started this process; the launcher's waits for its end.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def _process_descriptor(pid: int) -> int | None:
    """Readable when the process ends; None where the kernel has no such thing."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        _kill_own_group()
    except OSError:
        pass
    return None


def _has_ended(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 4096) == b""
    except BlockingIOError:
        return False
    except OSError:  # a connection whose other side was killed may be reset instead
        return True


def _kill_own_group() -> None:
    # The launcher gave this worker a session of its own, so the group is the worker's alone; a
    # worker started otherwise must not take its starter's shell with it.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
