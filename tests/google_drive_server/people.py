"""What people do in the Drive's own pages and on their computers, and what a test asks about it."""

import base64
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google_drive_server.oauth import OAuth
from google_drive_server.store import FOLDER, Store, file_md5, new_id


class People:
    """They need no token. Everything can be called over HTTP, too, so all of it is JSON."""

    def __init__(self, store: Store, oauth: OAuth) -> None:
        """People of this server's world."""
        self._store, self._oauth = store, oauth

    # ------------------------------------------------------------------ accounts

    def add_person(self, email: str, limit_bytes: int | None = None) -> str:
        """A person with a Drive; returns the id of its root. Who is there already stays."""
        root = new_id()
        with self._store.transaction() as db:
            there = db.execute("SELECT root_id FROM people WHERE email=?", (email,)).fetchone()
            if there is not None:
                return str(there["root_id"])
            db.execute("INSERT INTO people VALUES (?,?,?)", (email, root, limit_bytes))
            self._root(root, "My Drive", email)
        return root

    def set_limit(self, email: str, limit_bytes: int | None) -> None:
        """How much their Drive holds."""
        with self._store.transaction() as db:
            db.execute("UPDATE people SET limit_bytes=? WHERE email=?", (limit_bytes, email))

    def add_drive(self, name: str, members: dict[str, str]) -> str:
        """A shared drive; ``members`` are address -> role. Returns its id."""
        drive = "0A" + secrets.token_urlsafe(20)
        with self._store.transaction() as db:
            db.execute("INSERT INTO drives VALUES (?,?)", (drive, name))
            db.executemany(
                "INSERT INTO members VALUES (?,?,?)", [(drive, e, r) for e, r in members.items()]
            )
            self._root(drive, name, drive)
        return drive

    def add_client(self, client: str, secret: str) -> None:
        """An app."""
        with self._store.transaction() as db:
            db.execute("INSERT OR REPLACE INTO clients VALUES (?,?)", (client, secret))

    def add_service_account(self, email: str, delegates: Sequence[str] = ()) -> dict[str, str]:
        """A service account that the domains ``delegates`` trust; returns its key file's content."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self.add_person(email, limit_bytes=0)
        with self._store.transaction() as db:
            db.execute(
                "INSERT INTO service_accounts VALUES (?,?,?)",
                (email, public.decode(), json.dumps(list(delegates))),
            )
        return {
            "type": "service_account",
            "client_email": email,
            "private_key_id": secrets.token_hex(8),
            "private_key": private.decode(),
            "token_uri": "",
        }

    def grant(self, email: str, client: str, scopes: str) -> str:
        """A refresh token, as consent would have given it."""
        with self._store.transaction() as db:
            return self._oauth.grant(db, client, email, scopes)

    def revoke(self, email: str) -> None:
        """They remove the app from their account."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM refresh_tokens WHERE email=?", (email,))
            db.execute("DELETE FROM access_tokens WHERE email=?", (email,))

    def expire_access_tokens(self) -> None:
        """An hour passes."""
        with self._store.transaction() as db:
            db.execute("UPDATE access_tokens SET until=0")

    # ------------------------------------------------------------------ files

    def folder(self, corpus: str, path: Sequence[str]) -> str:
        """Id of a folder of somebody's Drive, or of a shared one; made where it is not there."""
        with self._store.transaction() as db:
            row = db.execute("SELECT root_id FROM people WHERE email=?", (corpus,)).fetchone()
            at = row["root_id"] if row else corpus
            for name in path:
                found = db.execute(
                    "SELECT id FROM files WHERE parent=? AND name=? AND mime=? AND NOT trashed"
                    " ORDER BY number",
                    (at, name, FOLDER),
                ).fetchone()
                at = found["id"] if found else self.make_folder(at, name)
            return str(at)

    def make_folder(self, parent: str, name: str) -> str:
        """A new folder, even where there is one of that name."""
        with self._store.transaction():
            return self._new(parent, name, FOLDER)

    def put(self, parent: str, name: str, content: str, with_md5: bool = True) -> str:
        """A new file; ``content`` in base64. Without an md5 Google has not done with it yet."""
        return self._put(parent, name, base64.b64decode(content), with_md5)

    def put_local(self, parent: str, name: str, path: str) -> str:
        """A new file with the content of a local one, which is taken over (hard link)."""
        blob = secrets.token_hex(16)
        (self._store.contents / blob).hardlink_to(path)
        digest = file_md5(Path(path))
        with self._store.transaction():
            file_id = self._new(parent, name, "application/octet-stream")
            self._store.set_content(file_id, blob, Path(path).stat().st_size, digest)
        return file_id

    def replace(self, file_id: str, content: str) -> None:
        """A new revision of a file."""
        data = base64.b64decode(content)
        with self._store.transaction():
            self._store.set_content(file_id, *self._blob(data))

    def finish(self, file_id: str) -> None:
        """Google has done with a file that was put without an md5."""
        with self._store.transaction():
            row = self._store.file(file_id)
            assert row is not None
            digest = file_md5(self._store.contents / row["blob"])
            self._store.change_file(file_id, md5=digest)

    def rename(self, file_id: str, name: str) -> None:
        """Another name."""
        with self._store.transaction():
            self._store.change_file(file_id, name=name)

    def move(self, file_id: str, parent: str) -> None:
        """Into another folder."""
        with self._store.transaction():
            self._store.change_file(file_id, parent=parent)

    def trash(self, file_id: str) -> None:
        """Into the trash."""
        with self._store.transaction():
            self._store.change_file(file_id, trashed=1)

    def restore(self, file_id: str) -> None:
        """Out of the trash."""
        with self._store.transaction():
            self._store.change_file(file_id, trashed=0)

    def delete(self, file_id: str) -> None:
        """For good."""
        with self._store.transaction():
            self._store.remove_file(file_id)

    # ------------------------------------------------------------------ questions

    def tree(self, corpus: str) -> list[dict[str, Any]]:
        """All files that are not in the trash: path (a list of names), id, md5, size, by path.

        Folders have an md5 of None. Files of one path are all there.
        """
        with self._store.transaction() as db:
            rows = db.execute("SELECT * FROM files WHERE corpus=?", (corpus,)).fetchall()
            by_id = {row["id"]: row for row in rows}
            found = []
            for row in rows:
                if row["parent"] is None or self._store.is_trashed(row):
                    continue
                path, at = [row["name"]], by_id.get(row["parent"])
                while at is not None and at["parent"] is not None:
                    path.insert(0, at["name"])
                    at = by_id.get(at["parent"])
                found.append(
                    {"path": path, "id": row["id"], "md5": row["md5"], "size": row["size"]}
                )
        return sorted(found, key=lambda f: (f["path"], f["id"]))

    def content(self, file_id: str) -> str:
        """In base64."""
        row = self._store.file(file_id)
        assert row is not None
        return base64.b64encode((self._store.contents / row["blob"]).read_bytes()).decode()

    def requests(self, since: int = 0, email: str | None = None) -> list[dict[str, Any]]:
        """Requests after number ``since``: seq, method, email, status, units."""
        with self._store.transaction() as db:
            rows = db.execute(
                "SELECT seq, method, email, status, units FROM requests WHERE seq > ?"
                + (" AND email = ?" if email else "")
                + " ORDER BY seq",
                (since, email) if email else (since,),
            ).fetchall()
        return [dict(row) for row in rows]

    def last_request(self) -> int:
        """The number of the last one."""
        (last,) = self._store.db.execute("SELECT COALESCE(MAX(seq), 0) FROM requests").fetchone()
        return int(last)

    # ------------------------------------------------------------------ within

    def _put(self, parent: str, name: str, content: bytes, with_md5: bool = True) -> str:
        with self._store.transaction():
            file_id = self._new(parent, name, "application/octet-stream")
            blob, size, digest = self._blob(content)
            self._store.set_content(file_id, blob, size, digest if with_md5 else None)
        return file_id

    def _blob(self, content: bytes) -> tuple[str, int, str]:
        blob = secrets.token_hex(16)
        (self._store.contents / blob).write_bytes(content)
        return blob, len(content), file_md5(self._store.contents / blob)

    def _new(self, parent: str, name: str, mime: str) -> str:
        above = self._store.file(parent)
        assert above is not None, f"no folder {parent}"
        file_id = new_id()
        self._store.insert_file(
            file_id=file_id, name=name, mime=mime, parent=parent, corpus=above["corpus"],
            made_by=None,
        )  # fmt: skip
        return file_id

    def _root(self, file_id: str, name: str, corpus: str) -> None:
        self._store.insert_file(
            file_id=file_id, name=name, mime=FOLDER, parent=None, corpus=corpus, made_by=None
        )
