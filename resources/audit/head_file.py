"""Which record was the last, noted outside the database: ``$TAILOR_HOME/audit_head.json``.

A chain of hashes shows whatever is changed or missing in its middle; that its last records are gone
only somebody shows who remembers them. The file has one entry per database, named by its address
without user and password, and only ever moves on along a chain that contains what it notes: once a
record it knows is gone, it stays where it is, as the evidence.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

_LOCK_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Head:
    """The last record of a chain."""

    seq: int
    hash: str


def head_file() -> Path | None:
    """The file of this machine; None where there is no home folder."""
    home = load_settings().home
    return home / "audit_head.json" if home.is_dir() else None


def database_of(url: str) -> str:
    """A database's address without user and password: ``host:port/name``."""
    parts = sa.make_url(url)
    host = parts.host or parts.query.get("host") or "localhost"
    return f"{host}:{parts.port or 5432}/{parts.database}"


def noted_head(file: Path, url: str) -> Head | None:
    """What the file notes of the database at ``url``; None where it notes nothing.

    Raises PermanentProblem for a file that cannot be read.
    """
    head = _read(file).get(database_of(url))
    return None if head is None else Head(int(head["seq"]), str(head["hash"]))


def note_head(file: Path, url: str, head: Head, is_in_chain: Callable[[Head], bool]) -> None:
    """Note the head, where it follows what is noted; ``is_in_chain`` says whether that is still there.

    Raises OSError, and PermanentProblem for a file that cannot be read.
    """
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        _lock(lock)
        before = noted_head(file, url)
        # Another process's newer record may have been noted first.
        if before is not None and (before.seq >= head.seq or not is_in_chain(before)):
            return
        _write(file, _read(file) | {database_of(url): asdict(head)})


def _lock(file: IO[str]) -> None:
    """Not for ever: whoever holds it may have been stopped, and the head may lag behind."""
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(file.read_bytes())
        if not all({"seq", "hash"} <= set(head) for head in content.values()):
            raise ValueError("an entry without seq or hash")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PermanentProblem(
            f"{file} cannot be read ({error}): restore it from a backup, or move it away, and what "
            "it knew of the end of the audit log is lost."
        ) from None
    return dict(content)


def _write(file: Path, content: dict[str, dict[str, Any]]) -> None:
    # Always the same name, under the lock: what a killed process leaves the next one writes over.
    temporary = file.with_name(f".{file.name}.new")
    with temporary.open("w") as stream:
        json.dump(content, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
