"""A file that is only ever appended to, and that a later process continues at an agreed byte."""

import fcntl
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

_PIECE = 1 << 20


class AppendOnlyFile:
    """Bytes are written at ``length`` and never changed or cut off afterwards.

    So a place that ``place`` described stays true for ever, whatever is written behind it. The file
    is locked while it is open: of two processes that continue the same file, one would spoil it.
    """

    def __init__(self, path: Path) -> None:
        """Begin an empty file. Raises BlockingIOError when another process is writing it."""
        self.path = path
        self.length = self._synced = self._crc = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock()
            os.ftruncate(self._descriptor, 0)
        except BaseException:
            self.close()
            raise

    @classmethod
    def at(cls, path: Path, place: Mapping[str, int]) -> Self:
        """Continue a file at a described place; what lies behind it is written over.

        Raises ValueError when the file is not there, is shorter, or differs before that place, and
        BlockingIOError when another process is writing it.
        """
        file = cls.__new__(cls)
        file.path = path
        try:
            file._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ValueError(f"{path} is not there any more") from None
        try:
            file._lock()
            file.length, file._crc, file._synced = int(place["bytes"]), 0, 0
            for piece in file.pieces():
                file._crc = zlib.crc32(piece, file._crc)
            if file._crc != int(place["crc32"]):
                raise ValueError(f"{path} is not what it was when its length was noted")
        except BaseException:
            file.close()
            raise
        return file

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another process is writing {self.path}") from None

    def append(self, data: bytes) -> None:
        """Write at the end. After an exception nothing counts as written."""
        rest, offset = memoryview(data), self.length
        while rest:
            # At a place of its own, and not where the file's pointer happens to be: a write that
            # failed half-way (a full disk) may then be tried again.
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        self.length = offset
        self._crc = zlib.crc32(data, self._crc)

    def sync(self) -> None:
        """Return when everything appended so far would survive the machine."""
        if self._synced < self.length:
            os.fsync(self._descriptor)
            self._synced = self.length

    def place(self) -> dict[str, int]:
        """The end of the file as ``at`` takes it."""
        return {"bytes": self.length, "crc32": self._crc}

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to the end. Raises ValueError when the file is shorter."""
        while start < self.length:
            piece = os.pread(self._descriptor, min(_PIECE, self.length - start), start)
            if not piece:
                raise ValueError(f"{self.path} has {start} bytes, not {self.length}")
            yield piece
            start += len(piece)

    def read(self, start: int, count: int) -> bytes:
        """``count`` bytes from ``start``, fewer where the file ends before."""
        return os.pread(self._descriptor, max(0, min(count, self.length - start)), start)

    def close(self) -> None:
        """Close and unlock; calling it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
