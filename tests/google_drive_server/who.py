"""Who asks: what an access token allows."""

import sqlite3
import time
from dataclasses import dataclass

from google_drive_server.errors import ApiError, not_found
from google_drive_server.store import FOLDER, Store

_ALL = "https://www.googleapis.com/auth/drive"
_READ = "https://www.googleapis.com/auth/drive.readonly"
_OWN = "https://www.googleapis.com/auth/drive.file"
_DELETES = ("organizer",)
_TRASHES = ("organizer", "fileOrganizer")
_WRITES = ("organizer", "fileOrganizer", "writer")


@dataclass(frozen=True)
class Caller:
    """A person, the app (an OAuth client) that works for them, and what they allowed it."""

    email: str
    client: str
    scopes: frozenset[str]

    def may_see(self, store: Store, row: sqlite3.Row | None) -> bool:
        """Whether a file is there for this caller."""
        if row is None:
            return False
        if row["corpus"] != self.email and store.role(row["corpus"], self.email) is None:
            return False
        if _ALL in self.scopes or _READ in self.scopes:
            return True
        return _OWN in self.scopes and (row["made_by"] == self.client or row["parent"] is None)

    def seen(self, store: Store, file_id: str, all_drives: bool) -> sqlite3.Row:
        """A file's row. Raises ApiError 404 where it is not there for this caller."""
        row = store.file(self.own_id(store, file_id))
        if row is None or not self.may_see(store, row):
            raise not_found(file_id)
        if row["corpus"] != self.email and not all_drives:
            raise not_found(file_id)
        return row

    def own_id(self, store: Store, file_id: str) -> str:
        """The id that ``root`` stands for."""
        if file_id != "root":
            return file_id
        row = store.db.execute("SELECT root_id FROM people WHERE email=?", (self.email,)).fetchone()
        return str(row["root_id"])

    def must_write(self, store: Store, row: sqlite3.Row, what: str = "write") -> None:
        """Raise ApiError 403 where this caller may not ``write``, ``trash`` or ``delete``."""
        if row["corpus"] != self.email:
            role = store.role(row["corpus"], self.email)
            allowed = {"write": _WRITES, "trash": _TRASHES, "delete": _DELETES}[what]
            if role not in allowed:
                raise ApiError(
                    403,
                    "insufficientFilePermissions",
                    f"The user does not have sufficient permissions for file {row['id']}.",
                )
        if _ALL in self.scopes:
            return
        if _OWN not in self.scopes:
            raise ApiError(
                403, "insufficientPermissions", "Request had insufficient authentication scopes."
            )
        if row["made_by"] != self.client and row["parent"] is not None:
            raise ApiError(
                403,
                "appNotAuthorizedToFile",
                f"The user has not granted the app {self.client} write access to the file "
                f"{row['id']}.",
            )

    def must_create_in(self, store: Store, parent: sqlite3.Row) -> None:
        """Raise ApiError where this caller may not put a file into a folder."""
        if parent["mime"] != FOLDER:
            raise ApiError(403, "parentNotAFolder", "The specified parent is not a folder.")
        self.must_write(store, parent)


def caller(store: Store, header: str | None) -> Caller:
    """Whose an ``Authorization`` header is. Raises ApiError 401 where it is nobody's any more."""
    word, _, token = (header or "").partition(" ")
    row = store.db.execute("SELECT * FROM access_tokens WHERE token=?", (token,)).fetchone()
    if word != "Bearer" or row is None or row["until"] < time.time():
        raise ApiError(401, "authError", "Request had invalid authentication credentials.")
    return Caller(row["email"], row["client"], frozenset(row["scopes"].split()))
