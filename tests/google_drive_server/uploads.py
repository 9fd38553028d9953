"""Contents on their way in: in one request, or in a resumable session.

After Google's "Upload file data": a session keeps what has arrived, in whole pieces of 256 KiB; it
says so with status 308 and a Range; ``bytes */N`` asks for it; the last byte makes the file.
"""

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google_drive_server import files
from google_drive_server.bodies import Body, Cut
from google_drive_server.discovery import Method
from google_drive_server.errors import ApiError
from google_drive_server.faults import Fault
from google_drive_server.store import FOLDER, Store, file_md5
from google_drive_server.who import Caller

PIECE = 256 << 10
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Reply:
    """An answer to a session's request; ``answer`` is a file."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    answer: dict[str, Any] | None = None
    parameters: dict[str, str] = field(default_factory=dict)


class Uploads:
    """Everything below ``/upload/``."""

    def __init__(self, store: Store) -> None:
        """``store`` keeps sessions, too."""
        self._store = store
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def at_once(
        self,
        who: Caller,
        method: Method,
        path: Mapping[str, str],
        parameters: dict[str, str],
        body: dict[str, Any],
        content: bytes,
        mime: str | None,
    ) -> dict[str, Any]:
        """A file with its content in one request."""
        blob = secrets.token_hex(16)
        (self._store.contents / blob).write_bytes(content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        try:
            with self._store.transaction():
                return self._finished(
                    who, method, path.get("fileId"), parameters, body, mime, blob, len(content),
                    digest,
                )  # fmt: skip
        except ApiError:
            (self._store.contents / blob).unlink(missing_ok=True)
            raise

    def begin(
        self,
        who: Caller,
        method: Method,
        path: Mapping[str, str],
        parameters: dict[str, str],
        body: dict[str, Any],
        headers: Mapping[str, str],
    ) -> str:
        """A new session's id. What can be refused is refused now."""
        total = headers.get("X-Upload-Content-Length")
        session = "AAN" + secrets.token_urlsafe(60)
        with self._store.transaction() as db:
            if method.id == "files.create":
                if "id" in body:
                    files.check_new_id(self._store, who, body["id"])
                parents = body.get("parents") or ["root"]
                parent = who.seen(
                    self._store, parents[0], parameters.get("supportsAllDrives") == "true"
                )
                who.must_create_in(self._store, parent)
                files.check_room(self._store, who, parent["corpus"], int(total or 0))
            else:
                row = who.seen(
                    self._store, path["fileId"], parameters.get("supportsAllDrives") == "true"
                )
                who.must_write(self._store, row)
            db.execute(
                "INSERT INTO sessions VALUES (?,?,?,?,?,?,?,?,NULL)",
                (session, who.email, method.id, path.get("fileId"), json.dumps(parameters),
                 json.dumps(body), headers.get("X-Upload-Content-Type"), total),
            )  # fmt: skip
        return session

    def put(
        self, who: Caller, method: Method, session: str, content_range: str | None, body: Body,
        fault: Fault | None,
    ) -> Reply:  # fmt: skip
        """Bytes for a session, or the question how many it has."""
        row = self._store.db.execute("SELECT * FROM sessions WHERE id=?", (session,)).fetchone()
        if row is None or row["email"] != who.email or row["method"] != method.id:
            raise ApiError(404, "notFound", "Upload session not found.")
        parameters = json.loads(row["parameters"])
        with self._lock_of(session):
            row = self._store.db.execute("SELECT * FROM sessions WHERE id=?", (session,)).fetchone()
            if row["done_id"] is not None:
                body.drain()
                done = files.get(self._store, who, row["done_id"], {"supportsAllDrives": "true"})
                return Reply(200, answer=done, parameters=parameters)
            part = self._store.contents / f"session-{session}"
            total = self._take(part, row["total"], content_range, body, fault)
            held = part.stat().st_size if part.exists() else 0
            if total is None or held < total:
                last = {"Range": f"bytes=0-{held - 1}"} if held else {}
                return Reply(308, last)
            part.touch()  # nothing has arrived, and there is nothing to arrive
            digest = file_md5(part)
            with self._store.transaction() as db:
                blob = secrets.token_hex(16)
                answer = self._finished(
                    who, method, row["file_id"], parameters, json.loads(row["body"]), row["mime"],
                    blob, held, digest,
                )  # fmt: skip
                part.rename(self._store.contents / blob)
                db.execute("UPDATE sessions SET done_id=? WHERE id=?", (answer["id"], session))
            return Reply(200, answer=answer, parameters=parameters)

    def forget_sessions(self) -> int:
        """As if a week had passed; returns how many there were."""
        with self._store.transaction() as db:
            for path in self._store.contents.glob("session-*"):
                path.unlink()
            return db.execute("DELETE FROM sessions").rowcount

    def _take(
        self, part: Path, promised: int | None, content_range: str | None, body: Body,
        fault: Fault | None,
    ) -> int | None:  # fmt: skip
        """Append what has arrived to the part; returns the file's size where it is known."""
        held = part.stat().st_size if part.exists() else 0
        start: int | None = 0
        total = promised
        if content_range is not None:
            found = _RANGE.fullmatch(content_range)
            if found is None:
                raise ApiError(400, "invalid", "Failed to parse Content-Range header.")
            start = None if found[1] is None else int(found[1])
            if found[3] != "*":
                if promised is not None and int(found[3]) != promised:
                    raise ApiError(400, "invalid", "The size is not the one that was promised.")
                total = int(found[3])
        if start is None:
            body.drain()
            return total
        if start > held:
            body.drain()
            raise ApiError(
                400,
                "invalid",
                f"According to the Content-Range header, the upload offset is {start} byte(s), "
                f"which exceeds already uploaded size of {held} byte(s).",
            )
        skip = held - start
        try:
            with open(part, "ab") as stream:
                for block in body.blocks():
                    if skip >= len(block):
                        skip -= len(block)
                        continue
                    stream.write(_spoilt(block[skip:], fault))
                    skip = 0
        except Cut:
            self._truncate(part, total)
            raise
        if content_range is None and total is None:
            total = part.stat().st_size  # one request with the whole
        if fault is not None and fault.forget_bytes:
            with open(part, "ab") as stream:
                stream.truncate(max(held, stream.tell() - fault.forget_bytes))
            self._truncate(part, total)
        size = part.stat().st_size
        if total is not None and size > total:
            part.unlink()
            raise ApiError(400, "invalid", "More bytes arrived than were promised.")
        if size != total and size % PIECE:
            self._truncate(part, total)
            if fault is None:
                raise ApiError(400, "invalid", "A piece's size must be a multiple of 256 KiB.")
        return total

    @staticmethod
    def _truncate(part: Path, total: int | None) -> None:
        size = part.stat().st_size
        if size != total:
            with open(part, "ab") as stream:
                stream.truncate(size - size % PIECE)

    def _finished(
        self, who: Caller, method: Method, file_id: str | None, parameters: Mapping[str, str],
        body: Mapping[str, Any], mime: str | None, blob: str, size: int, digest: str,
    ) -> dict[str, Any]:  # fmt: skip
        store = self._store
        if method.id == "files.create":
            file_id = files.make(store, who, body, parameters, mime)
        else:
            assert file_id is not None
            file_id = files.change(store, who, file_id, body, parameters)
        row = files.must_exist(store, file_id)
        if row["mime"] == FOLDER:
            raise ApiError(400, "invalid", "A folder has no content.")
        files.check_room(store, who, row["corpus"], size)
        store.set_content(file_id, blob, size, digest)
        return files.shown(store, who, files.must_exist(store, file_id))

    def _lock_of(self, session: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(session, threading.Lock())


def _spoilt(block: bytes, fault: Fault | None) -> bytes:
    if fault is None or not fault.corrupt or not block:
        return block
    fault.corrupt = False
    return bytes([block[0] ^ 1]) + block[1:]
