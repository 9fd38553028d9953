"""Starting a program in a session of its own, and ending it with everything it started.

Sending a signal to one process leaves its children running (measured: still alive 10 s after a
cancelled run). Here the program leads its own process group, which is signalled as a whole.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

import psutil

_POLL_S = 0.05
# After SIGKILL only the kernel's own work is left; a process that stays is stuck in a driver.
_KILL_WAIT_S = 2.0


class Stranger:
    """The leader of a group that another process started: it can be watched and ended.

    Only its parent is told how it ended.
    """

    UNKNOWN_STATUS = 256
    """``returncode`` once it is gone; no program can have it."""

    stdin = None

    def __init__(self, pid: int) -> None:
        """Raises psutil.NoSuchProcess where it has gone already."""
        self.pid = pid
        self.returncode: int | None = None
        self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """None for as long as it lives."""
        if self.returncode is None and not _is_alive(self._process):
            self.returncode = self.UNKNOWN_STATUS
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Raises subprocess.TimeoutExpired where it lives on."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_POLL_S)
        return status


Leader = subprocess.Popen[bytes] | Stranger


def start_process_group(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` as the leader of a new session.

    Standard output and error are the parent's; standard input is ``stdin``, or else a pipe that
    nothing is written to. Only the parent holds the other end of either: the program reads its end
    when the parent is gone.
    """
    return subprocess.Popen(
        list(command),
        env=dict(env),
        stdin=subprocess.PIPE if stdin is None else stdin,
        start_new_session=True,
    )


def end_process_group(process: Leader, *, grace_s: float = 5.0) -> None:
    """End ``process``, its group and its descendants: SIGTERM, ``grace_s`` seconds, SIGKILL.

    Returns when none is alive, at most ``grace_s`` + 2 s later. Right to call in ``finally``: where
    all have ended by themselves it does nothing, and where it is itself interrupted (a second
    Ctrl-C) it kills at once before it passes the interruption on.
    """
    members = _members(process)
    try:
        _signal_all(process, members, signal.SIGTERM)
        if not _wait_until_gone(process, members, grace_s):
            members |= _members(process)
            _signal_all(process, members, signal.SIGKILL)
            _wait_until_gone(process, members, _KILL_WAIT_S)
    except BaseException:
        _signal_all(process, members | _members(process), signal.SIGKILL)
        raise
    finally:
        if process.stdin is not None:
            process.stdin.close()


def _members(process: Leader) -> set[psutil.Process]:
    """Living processes of the group, and descendants that made a session of their own."""
    found = set()
    for candidate in psutil.process_iter():
        try:
            if os.getpgid(candidate.pid) == process.pid and _is_alive(candidate):
                found.add(candidate)
        except (OSError, psutil.Error):
            continue
    if process.returncode is None:
        with contextlib.suppress(psutil.Error):
            found |= set(psutil.Process(process.pid).children(recursive=True))
    return found


def _is_alive(member: psutil.Process) -> bool:
    # A zombie holds nothing, and where process 1 does not reap (some containers) it stays for ever.
    try:
        return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal_all(process: Leader, members: set[psutil.Process], number: signal.Signals) -> None:
    if not any(_is_alive(member) for member in members):
        return
    # An empty group is no error: what is left may be descendants outside of it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # at one stroke, also those that were forked just now
    for member in members:
        try:
            if os.getpgid(member.pid) != process.pid:
                member.send_signal(number)  # psutil checks that the pid is still this process's
        except (OSError, psutil.Error):
            continue


def _wait_until_gone(process: Leader, members: set[psutil.Process], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        process.poll()  # reaps the leader
        if not any(_is_alive(member) for member in members) and not _members(process):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
