"""A file on its way here: kept through interruptions, held by one process at a time.

The bytes so far lie in ``<file>.part``; what the server said of them, by which they can be continued,
in ``<file>.part.json``. The lock is a ``flock`` on the part itself: it ends with its process and
leaves nothing behind.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from resources.atomic_write import write_atomically
from resources.weights_check import OnBytes, hash_stream
from tailor_assets.compute.errors import PermanentProblem

_POLL_S = 0.2


@dataclass(frozen=True)
class Origin:
    """Where bytes are from: the address, and the server's marks of the version it gave."""

    url: str
    etag: str | None = None
    last_modified: str | None = None


class PartUnwritable(PermanentProblem):
    """Of a part on this disk. ``errno`` is the operating system's word for why."""

    def __init__(self, sentence: str, errno: int | None) -> None:
        """``sentence`` is for people."""
        super().__init__(sentence)
        self.errno = errno


class PartialFile:
    """The bytes that are here so far and their hash. Held (``hold_partial_file``) while it lives."""

    def __init__(self, path: Path, stream: io.FileIO, algorithm: str) -> None:
        """Of a part that is open and locked. Nothing of it is known before ``read``."""
        self.path = path
        self._stream = stream
        self._notes = notes_of(path)
        self._algorithm = algorithm
        self._digest = self._new_digest()
        self.size = 0
        self.origin: Origin | None = None

    def read(self, on_bytes: OnBytes | None = None) -> None:
        """Learn what an earlier process left: ``size``, ``digest`` and ``origin``."""
        with self._problems():
            self._stream.seek(0)
            self._digest = hash_stream(
                self._stream,
                os.fstat(self._stream.fileno()).st_size,
                on_bytes,
                self._algorithm,
            )
            self.size = self._stream.tell()
        self.origin = _read_origin(self._notes)

    @property
    def digest(self) -> str:
        """Of the bytes so far, in hexadecimal."""
        return self._digest.hexdigest()

    def append(self, piece: bytes) -> None:
        """Add bytes. Raises PartUnwritable where the disk is full; what is here is kept."""
        with self._problems():
            left = memoryview(piece)
            while left:
                left = left[self._stream.write(left) :]
        self._digest.update(piece)
        self.size += len(piece)

    def start_over(self, origin: Origin) -> None:
        """Forget all bytes, and note where the next ones are from."""
        with self._problems():
            # In this order: old bytes never stand beside the marks of new ones.
            self._notes.unlink(missing_ok=True)
            self._stream.seek(0)
            self._stream.truncate()
            with write_atomically(self._notes) as temporary:
                temporary.write_text(json.dumps(asdict(origin)))
        self._digest, self.size = self._new_digest(), 0
        self.origin = origin

    def put_in_place(self, target: Path) -> None:
        """Make it ``target``, whole and on the disk; the part is gone."""
        with self._problems():
            os.fsync(self._stream.fileno())
            os.replace(self.path, target)
            self._notes.unlink(missing_ok=True)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self) -> None:
        """Delete the part and its notes."""
        self._notes.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self._digest, self.size = self._new_digest(), 0

    def _new_digest(self) -> "hashlib._Hash":
        return hashlib.new(self._algorithm, usedforsecurity=False)

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PartUnwritable(
                f"{self.path} cannot be written ({error.strerror}): make room or give the folder "
                f"to this user, then run the same command again{self.goes_on}.",
                error.errno,
            ) from None

    @property
    def goes_on(self) -> str:
        """What the next try will do, as the end of a clause; empty where it starts from nothing."""
        kept = os.fstat(self._stream.fileno()).st_size
        return f", which goes on after the {kept:,} bytes that are kept" if kept else ""


def part_of(target: Path) -> Path:
    """Where the bytes of ``target`` lie while it is on its way."""
    return target.with_name(f"{target.name}.part")


def notes_of(part: Path) -> Path:
    """Where it is noted what the server said of them."""
    return part.with_name(f"{part.name}.json")


@contextmanager
def hold_partial_file(
    target: Path, wait: Callable[[], None], algorithm: str = "sha256"
) -> Iterator[PartialFile]:
    """Hold the part of ``target``; where another process does, call ``wait`` once and wait.

    Meanwhile the other process may have finished: look for ``target`` once more. A part that is
    empty at the end is removed. Raises PermanentProblem where the folder cannot be written to.
    """
    path = part_of(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = _lock(path, wait)
    except OSError as error:
        raise PermanentProblem(
            f"{path} cannot be written ({error.strerror}): give the folder to this user, or name "
            "another one in the environment (TAILOR_MODELS for weights, TAILOR_HOME)."
        ) from None
    part = PartialFile(path, stream, algorithm)
    try:
        yield part
    finally:
        with contextlib.suppress(OSError):
            if _is_still(path, stream) and os.fstat(stream.fileno()).st_size == 0:
                part.remove()
        stream.close()


def _lock(path: Path, wait: Callable[[], None]) -> io.FileIO:
    waiting = False
    while True:
        # Another member of the laboratory must not have this process write through a link of theirs.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        stream = io.FileIO(os.open(path, flags, 0o666), "r+")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process before may have put it in its place, or removed it, since it was opened.
            if _is_still(path, stream):
                return stream
            stream.close()
        except BlockingIOError:
            stream.close()
            if not waiting:
                wait()
            waiting = True
            time.sleep(_POLL_S)
        except BaseException:
            stream.close()
            raise


def _is_still(path: Path, stream: io.FileIO) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _read_origin(notes: Path) -> Origin | None:
    try:
        origin = Origin(**json.loads(notes.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    # They go into a request's header.
    texts = (origin.url, origin.etag or "", origin.last_modified or "")
    return origin if all(isinstance(text, str) and text.isprintable() for text in texts) else None
