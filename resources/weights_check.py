"""The sha256 of weights: computed once for each file, and remembered until the file changes."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from resources.atomic_write import write_atomically

OnBytes = Callable[[int, int | None], None]
"""Called as (bytes done, bytes in all or None where that is not known)."""

_AT_A_TIME = 1 << 20


def hash_stream(
    stream: BinaryIO, size: int, on_bytes: OnBytes | None = None, algorithm: str = "sha256"
) -> "hashlib._Hash":
    """The hash object of what is left of ``stream``, about ``size`` bytes, in constant memory."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    while piece := stream.read(_AT_A_TIME):
        digest.update(piece)
        done += len(piece)
        if on_bytes is not None:
            on_bytes(done, size)
    return digest


def sha256_of(path: Path, on_bytes: OnBytes | None = None) -> str:
    """The sha256 of a file, in hexadecimal. Raises OSError where it cannot be read."""
    with path.open("rb", buffering=0) as stream:
        return hash_stream(stream, path.stat().st_size, on_bytes).hexdigest()


class WeightsCheck:
    """The sha256 of files, from ``<home>/verified_weights.json`` while size and time are the same.

    It is in the home and not beside the weights, because their folder may be a whole laboratory's:
    what another person's tailor says it has seen is not what this one has seen.
    """

    def __init__(self, home: Path) -> None:
        """Nothing is read or written yet."""
        self._file = home / "verified_weights.json"

    def sha256(self, path: Path, on_bytes: OnBytes | None = None) -> str:
        """The file's sha256; the file is only read where it is not known from before.

        Raises OSError where it cannot be read.
        """
        now = _state(path)
        known = self._read().get(str(path))
        if isinstance(known, dict) and {**known, "sha256": None} == {**now, "sha256": None}:
            return str(known.get("sha256"))
        return self._remember(path, now, sha256_of(path, on_bytes))

    def remember(self, path: Path, sha256: str) -> None:
        """Note a sha256 that was computed elsewhere a moment ago."""
        self._remember(path, _state(path), sha256)

    def _remember(self, path: Path, state: dict[str, Any], sha256: str) -> str:
        known = {**self._read(), str(path): {**state, "sha256": sha256}}
        # A home that cannot be written to costs time at the next look, and nothing else.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(self._file) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
        return sha256

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _state(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
