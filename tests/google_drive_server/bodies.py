"""A request's body as it comes in, in blocks; and bodies of several parts."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from google_drive_server.errors import ApiError

BLOCK = 1 << 20


class Cut(Exception):
    """The connection has ended, or is to be ended now."""


class Body:
    """Bytes of a request. ``cut_after`` has them end early, as if the connection had."""

    def __init__(
        self, stream: BinaryIO, headers: Mapping[str, str], cut_after: int | None = None
    ) -> None:
        """Nothing is read yet."""
        self._stream = stream
        self._chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._left = int(headers.get("Content-Length") or 0)
        self._cut_after = cut_after
        self.heard: Callable[[int], None] = lambda count: None
        # One for all readers: whoever drains goes on where another stopped.
        self._blocks = self._raw()

    def blocks(self) -> Iterator[bytes]:
        """The bytes. Raises Cut where they end before their time."""
        for block in self._blocks:
            self.heard(len(block))
            if self._cut_after is not None:
                if len(block) >= self._cut_after:
                    yield block[: self._cut_after]
                    raise Cut
                self._cut_after -= len(block)
            yield block

    def all(self) -> bytes:
        """All of them, at most 64 MiB."""
        content = bytearray()
        for block in self.blocks():
            content += block
            if len(content) > 64 << 20:
                raise ApiError(413, "uploadTooLarge", "The request is too large.")
        return bytes(content)

    def drain(self) -> None:
        """Read what is left, so that the connection can be used again."""
        for _ in self._blocks:
            pass

    def _raw(self) -> Iterator[bytes]:
        if self._chunked:
            while size := self._chunk_size():
                while size:
                    block = self._stream.read(min(size, BLOCK))
                    if not block:
                        raise Cut
                    size -= len(block)
                    yield block
                self._stream.readline()
            self._stream.readline()
            return
        while self._left:
            block = self._stream.read1(min(self._left, BLOCK))  # type: ignore[attr-defined]
            if not block:
                raise Cut
            self._left -= len(block)
            yield block

    def _chunk_size(self) -> int:
        line = self._stream.readline()
        if not line:  # it ends without the chunk of size 0
            raise Cut
        return int(line.split(b";")[0], 16)


def parts(content: bytes, content_type: str) -> list[tuple[dict[str, str], bytes]]:
    """The parts of a ``multipart/...`` body (RFC 2046): (headers in lower case, content)."""
    found = re.search(r'boundary=(?:"([^"]+)"|([^;\s]+))', content_type)
    if found is None:
        raise ApiError(400, "parseError", "A body of several parts has no boundary.")
    line = b"--" + (found[1] or found[2]).encode()
    # The client library ends lines with LF; a content that ends with CR keeps it.
    ends = b"\r\n" if content.startswith(line + b"\r\n") else b"\n"
    result = []
    for piece in (ends + content).split(ends + line)[1:]:
        if piece.startswith(b"--"):
            break
        result.append(headed(piece.removeprefix(ends)))
    return result


def headed(piece: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and what follows them."""
    end = re.search(rb"\r?\n\r?\n", piece)
    if end is None:
        return _headers(piece), b""
    return _headers(piece[: end.start()]), piece[end.end() :]


def _headers(text: bytes) -> dict[str, str]:
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", text)
    lines = unfolded.decode("utf-8", "replace").splitlines()
    return {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
        if value
    }
