"""How a worker that has done its video takes another run's: the words that pass between the two.

Plain Python, imported by both environments. Loading torch and a model takes longer than many a
video, so a worker stays for a while. It then listens on a Unix socket, a file of the locks folder.
Lines of JSON pass over a connection::

    run                                     worker
    (connects)
                                            {"waiting": true}         it is this run's turn
    {"hand_over": {...}}                                              with its stdout and stderr
                                            {"taken": true}           it works for this run
                                            {"exit": 0, "stays": true}
    (hangs up)                                                        it waits for another run

``{"leave": true}`` in place of a hand-over ends the worker. The run that *started* a worker has such
a connection too, the worker's standard input, over which only the exit is said. The end of a
connection is the death of the other side.

On Linux only: elsewhere nobody tells who is at the other end of a socket.
"""

import array
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# The run that starts a worker says in it whether and where the worker may stay (``Stay`` as JSON).
STAY_VARIABLE = "TAILOR_WORKER_STAY"

# Answers come at once from a side that lives; who does not answer is done without.
ANSWER_S = 2.0

WAITING = {"waiting": True}
TAKEN = {"taken": True}
LEAVE = {"leave": True}

_MAX_LINE = 1 << 20
_MAX_DESCRIPTORS = 2


@dataclass(frozen=True)
class Stay:
    """How long a worker waits for another run, where, and for which: those of the same ``kind``.

    A kind is a text of letters, digits and dashes that stands for all a worker cannot change: its
    programs, their environment, and the devices it may use.
    """

    seconds: float
    folder: str
    kind: str

    def to_json(self) -> str:
        """For the environment."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Stay":
        """The inverse."""
        return cls(**json.loads(text))

    def socket_path(self, pid: int) -> Path:
        """Where the worker with this number listens while it waits."""
        return Path(self.folder) / f"worker-{self.kind}-{pid}.sock"

    def socket_paths(self) -> list[Path]:
        """Where workers of this kind wait, and where some waited that were killed."""
        return sorted(Path(self.folder).glob(f"worker-{self.kind}-*.sock"))


@dataclass(frozen=True)
class HandOver:
    """What a run gives a waiting worker: where its Pipes session is, and whether to stay after it.

    ``pipes`` are the variables that a started worker finds in its environment.
    """

    pipes: Mapping[str, str]
    stay: Stay

    def to_message(self) -> dict[str, Any]:
        """As a line."""
        return {"hand_over": asdict(self)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "HandOver":
        """The inverse. Raises KeyError or TypeError on a message of another kind."""
        values = message["hand_over"]
        return cls(dict(values["pipes"]), Stay(**values["stay"]))


@dataclass(frozen=True)
class Peer:
    """The process at the other end: who listened, or who connected."""

    pid: int
    uid: int


class Connection:
    """Lines of JSON over a socket, and open files beside them."""

    def __init__(self, end: socket.socket) -> None:
        """Takes ``end`` over."""
        self._socket = end
        self._text = b""
        self.descriptors: list[int] = []
        """Open files that came; whoever takes them closes them."""

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def peer(self) -> Peer:
        """Who was at the other end when the connection was made. ``pid`` 0: in another container."""
        assert sys.platform == "linux"
        size = struct.calcsize("3i")
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack("3i", credentials)
        return Peer(pid, uid)

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a line. Raises OSError where the other side is gone or does not read."""
        self._socket.settimeout(ANSWER_S)
        line = json.dumps(message).encode() + b"\n"
        sent = 0
        if descriptors:
            files = array.array("i", descriptors)
            sent = self._socket.sendmsg(
                [line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)], socket.MSG_NOSIGNAL
            )
        if sent < len(line):  # to send nothing would fail where the other side has ended since
            self._socket.sendall(line[sent:], socket.MSG_NOSIGNAL)

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """Receive a line.

        Raises TimeoutError where none came in time, EOFError where the other side has hung up,
        OSError where it is gone and ValueError for what is no line of JSON.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._text:
            # Zero would mean "do not wait", which is another thing to a socket.
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            self._take_more()
        line, _, self._text = self._text.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError(f"{line!r} is no message")
        return message

    def _take_more(self) -> None:
        files = array.array("i")
        flags = socket.MSG_CMSG_CLOEXEC if sys.platform == "linux" else 0
        more, ancillary, _, _ = self._socket.recvmsg(
            65536, socket.CMSG_SPACE(_MAX_DESCRIPTORS * files.itemsize), flags
        )
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(content) - len(content) % files.itemsize
                files.frombytes(content[:whole])
        self.descriptors += files
        if not more:
            raise EOFError("the other side has hung up")
        self._text += more
        if len(self._text) > _MAX_LINE:
            raise ValueError("the line has no end")

    def close(self) -> None:
        """Hang up."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self.descriptors.clear()
        self._socket.close()


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name for a socket whose path may be longer than the 107 bytes that the system takes.

    Raises OSError where its folder is not there.
    """
    assert sys.platform == "linux"
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path) -> Connection:
    """Connect to a waiting worker; it is this user's own.

    Raises ConnectionRefusedError where nobody listens any more, and OSError for all else.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(ANSWER_S)
        with short_name(path) as name:
            end.connect(name)
        connection = Connection(end)
        if connection.peer().uid != os.geteuid():
            raise PermissionError(f"{path} is somebody else's")
    except BaseException:
        end.close()
        raise
    return connection
