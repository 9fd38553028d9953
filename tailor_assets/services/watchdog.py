"""Ends the services if the process that started them is killed and cannot do it itself.

Run as a script with nothing but the standard library, so that it is up at once and small. Its
standard input is a pipe whose other end only the starting process holds: the end of that pipe means
that process is gone. It also holds the lock on the home folder until it has cleaned up.

Lines it reads: ``watch <process group>``, ``forget <process group>``,
``postgres <pid of the server>``, ``workers <mark> <folder>``, ``done``.
"""

import contextlib
import glob
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

# A segmentation worker that waits for a video has nothing to finish.
LEAVE_SECONDS = 2.0
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


def end_waiting_workers(mark: str, folder: str) -> None:
    """End the segmentation workers that wait in ``folder`` for another run's video.

    They belong to no run, and so to no group that anybody ends. ``mark`` tells this machine's from
    those of others with the same folder. Once it is told, a worker takes no video any more.
    """
    for path in glob.glob(os.path.join(glob.escape(folder), f"worker-{mark}-*.sock")):
        try:
            _see_worker_leave(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)  # it was killed
        except OSError:
            continue


def _see_worker_leave(path: str) -> None:
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LEAVE_SECONDS)
            # The path itself may be longer than a socket's may be.
            connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, user, _ = struct.unpack("3i", credentials)
            try:
                connection.sendall(b'{"leave": true}\n')
                while connection.recv(4096):
                    continue
            except TimeoutError:
                if user == os.geteuid() and pid > 1:
                    _signal_group(pid, signal.SIGKILL)
            except ConnectionResetError:
                return
    finally:
        os.close(directory)


def main() -> None:
    """Read until the pipe ends, then end what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    workers: list[tuple[str, str]] = []
    postgres = 0
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "watch":
            groups.add(int(number))
        elif word == "forget":
            groups.discard(int(number))
        elif word == "postgres":
            postgres = int(number)
        elif word == "workers":
            mark, _, folder = number.partition(" ")
            workers.append((mark, folder))
        elif word == "done":
            return
    end_groups(groups)
    for mark, folder in workers:
        end_waiting_workers(mark, folder)
    if postgres:
        try:
            os.kill(postgres, signal.SIGINT)  # PostgreSQL's "fast shutdown"
        except (ProcessLookupError, PermissionError):
            return


if __name__ == "__main__":
    main()
