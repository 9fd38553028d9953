"""The server's state on disk: people, drives, files and their history, sessions, tokens.

SQLite and a folder of contents, so it is all there after a restart, or after the server was killed.
"""

import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = "application/vnd.google-apps.folder"

_TABLES = """
CREATE TABLE IF NOT EXISTS people (
  email TEXT PRIMARY KEY, root_id TEXT NOT NULL, limit_bytes INTEGER);
CREATE TABLE IF NOT EXISTS drives (id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS members (
  drive_id TEXT, email TEXT, role TEXT NOT NULL, PRIMARY KEY (drive_id, email));
CREATE TABLE IF NOT EXISTS files (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
  mime TEXT NOT NULL, parent TEXT, corpus TEXT NOT NULL, made_by TEXT, trashed INTEGER NOT NULL,
  size INTEGER, md5 TEXT, blob TEXT, revision TEXT, version INTEGER NOT NULL,
  created TEXT NOT NULL, modified TEXT NOT NULL, app_properties TEXT NOT NULL, description TEXT);
CREATE INDEX IF NOT EXISTS files_parent ON files (parent);
CREATE TABLE IF NOT EXISTS changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, corpus TEXT NOT NULL, file_id TEXT NOT NULL,
  at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS changes_corpus ON changes (corpus, seq);
CREATE TABLE IF NOT EXISTS issued_ids (id TEXT PRIMARY KEY, email TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, email TEXT NOT NULL, method TEXT NOT NULL, file_id TEXT,
  parameters TEXT NOT NULL, body TEXT NOT NULL, mime TEXT, total INTEGER, done_id TEXT);
CREATE TABLE IF NOT EXISTS codes (
  code TEXT PRIMARY KEY, client TEXT, email TEXT, scopes TEXT, redirect TEXT, challenge TEXT);
CREATE TABLE IF NOT EXISTS refresh_tokens (
  token TEXT PRIMARY KEY, client TEXT NOT NULL, email TEXT NOT NULL, scopes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS access_tokens (
  token TEXT PRIMARY KEY, client TEXT NOT NULL, email TEXT NOT NULL, scopes TEXT NOT NULL,
  until REAL NOT NULL, refresh_token TEXT);
CREATE TABLE IF NOT EXISTS clients (id TEXT PRIMARY KEY, secret TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS service_accounts (
  email TEXT PRIMARY KEY, public_key TEXT NOT NULL, delegates TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, method TEXT NOT NULL,
  email TEXT NOT NULL, status INTEGER NOT NULL, units INTEGER NOT NULL);
"""


class Store:
    """One folder's state. One thread at a time is within ``transaction``."""

    def __init__(self, folder: Path) -> None:
        """Open it; an empty folder is a world without people."""
        folder.mkdir(parents=True, exist_ok=True)
        self.contents = folder / "contents"
        self.contents.mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self.db = sqlite3.connect(
            folder / "state.sqlite", check_same_thread=False, isolation_level=None
        )
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=OFF")  # a killed process loses nothing by it
        self.db.executescript(_TABLES)

    def close(self) -> None:
        """No more requests."""
        with self._lock:
            self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done within, or nothing."""
        with self._lock:
            if self._depth:
                yield self.db
                return
            self.db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield self.db
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            else:
                self.db.execute("COMMIT")
            finally:
                self._depth = 0

    # ------------------------------------------------------------------ files

    def file(self, file_id: str) -> sqlite3.Row | None:
        """A file's row."""
        found: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM files WHERE id = ?", (file_id,)
        ).fetchone()
        return found

    def insert_file(
        self,
        *,
        file_id: str,
        name: str,
        mime: str,
        parent: str | None,
        corpus: str,
        made_by: str | None,
        app_properties: dict[str, str] | None = None,
        description: str | None = None,
    ) -> None:
        """Make a file without content, or a folder."""
        now = now_text()
        self.db.execute(
            "INSERT INTO files (id, name, mime, parent, corpus, made_by, trashed, version, created,"
            " modified, app_properties, description) VALUES (?,?,?,?,?,?,0,1,?,?,?,?)",
            (file_id, name, mime, parent, corpus, made_by, now, now,
             json.dumps(app_properties or {}), description),
        )  # fmt: skip
        self.changed(file_id, corpus)

    def set_content(self, file_id: str, blob: str, size: int, md5: str | None) -> None:
        """Give a file a content that lies in ``contents/blob``."""
        row = self.file(file_id)
        assert row is not None
        self.db.execute(
            "UPDATE files SET blob=?, size=?, md5=?, revision=?, version=version+1, modified=?"
            " WHERE id=?",
            (blob, size, md5, new_id(), now_text(), file_id),
        )
        self.changed(file_id, row["corpus"])
        if row["blob"]:
            (self.contents / row["blob"]).unlink(missing_ok=True)

    def change_file(self, file_id: str, **columns: Any) -> None:
        """Change some of a file's columns."""
        row = self.file(file_id)
        assert row is not None
        names = ", ".join(f"{name}=?" for name in columns)
        self.db.execute(
            f"UPDATE files SET {names}, version=version+1, modified=? WHERE id=?",
            (*columns.values(), now_text(), file_id),
        )
        self.changed(file_id, row["corpus"])

    def remove_file(self, file_id: str) -> None:
        """Delete a file, or a folder with all that is in it, for good."""
        row = self.file(file_id)
        if row is None:
            return
        for (child,) in self.db.execute(
            "SELECT id FROM files WHERE parent = ?", (file_id,)
        ).fetchall():
            self.remove_file(child)
        self.db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.changed(file_id, row["corpus"])
        if row["blob"]:
            (self.contents / row["blob"]).unlink(missing_ok=True)

    def changed(self, file_id: str, corpus: str) -> None:
        """Write it into the change feed of its owner, or of its shared drive."""
        self.db.execute(
            "INSERT INTO changes (corpus, file_id, at) VALUES (?,?,?)",
            (corpus, file_id, now_text()),
        )

    def is_trashed(self, row: sqlite3.Row | None) -> bool:
        """Whether a file, or a folder that it is in, is in the trash."""
        while row is not None:
            if row["trashed"]:
                return True
            row = self.file(row["parent"]) if row["parent"] else None
        return False

    def used_bytes(self, email: str) -> int:
        """What a person's files take, trash included."""
        (used,) = self.db.execute(
            "SELECT COALESCE(SUM(size), 0) FROM files WHERE corpus = ?", (email,)
        ).fetchone()
        return int(used)

    def role(self, drive_id: str, email: str) -> str | None:
        """What a person is in a shared drive."""
        found = self.db.execute(
            "SELECT role FROM members WHERE drive_id=? AND email=?", (drive_id, email)
        ).fetchone()
        return found["role"] if found else None


def now_text() -> str:
    """As Drive writes times: RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """Of the form of Drive's ids."""
    return "1" + secrets.token_urlsafe(24)


def file_md5(path: Path) -> str:
    """In hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
