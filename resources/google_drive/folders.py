"""The folders that results are put into, made once and found again: ``tailor.drive_result_folders``.

A Drive lets two folders have one name, so "look, and make it if it is not there" makes two where two
processes do it at once. Here an id is reserved and stored first; whoever makes the folder makes it
under that id, and to whoever is second the Drive says that it is there.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata
from resources.drive import UserMustAct
from resources.google_drive.accounts import DriveAccount
from resources.google_drive.api import GoogleApi, Refused
from resources.google_drive.upload_ledger import forget_uploads

FOLDER_TYPE = "application/vnd.google-apps.folder"

folders_table = sa.Table(
    "drive_result_folders",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("file_id", sa.Text, nullable=False),
    sa.Column("made_at", sa.DateTime(timezone=True)),
)

_making = threading.Lock()


class ResultFolders:
    """Folders below a tenant's ``tailor/results``.

    A path is its parts joined by a slash after each has been freed of slashes: ``<name>/frames``.
    """

    def __init__(self, url: str, account: DriveAccount, api: GoogleApi) -> None:
        """``url`` is the database's."""
        self._url, self._account, self._api = url, account, api

    def known(self, parts: Sequence[str]) -> str | None:
        """The id of a folder that was made, as far as is known."""
        table = folders_table
        query = sa.select(table.c.file_id).where(
            table.c.tenant == self._account.tenant,
            table.c.path == _path(parts),
            table.c.made_at.is_not(None),
        )
        with engine_for(self._url).begin() as connection:
            return connection.execute(query).scalar()

    def made(self, parts: Sequence[str]) -> str:
        """The id of a folder; it and those above it are made where they are not there."""
        if not parts:
            return self._account.results_folder_id
        known = self.known(parts)
        if known is not None:
            return known
        parent = self.made(parts[:-1])
        with _making:  # eight uploads into one new folder would each ask for an id
            return self.known(parts) or self._make(parts, parent)

    def see_root(self) -> None:
        """See that ``tailor/results`` is there, in one small request.

        Raises UserMustAct where somebody has thrown it away: within the trash everything that is
        sent would be thrown away, too.
        """
        if self._api.file(self._account.results_folder_id, "trashed").get("trashed"):
            raise UserMustAct(
                f"The folder tailor/results of {self._account.tenant} has been removed: put it back "
                "from the trash, then connect the Drive again with `tailor connect`; without it "
                "that makes a new one."
            )

    def still(self, parts: Sequence[str]) -> str | None:
        """The id of a folder that was made and is where it was made, under its name, untrashed.

        One small request; a folder that is not so is forgotten.
        """
        known = self.known(parts)
        if known is None:
            return None
        parent = self._account.results_folder_id if len(parts) == 1 else self.known(parts[:-1])
        found = self._api.file(known, "trashed,name,parents")
        if found.get("trashed") or found["name"] != parts[-1] or parent not in found["parents"]:
            self.forget(parts)
            return None
        return known

    def forget(self, parts: Sequence[str]) -> None:
        """A folder, and those within it, are not where they were made."""
        path = _path(parts)
        with engine_for(self._url).begin() as connection:
            self._forget(connection, [path])

    def forget_what_moved(
        self, connection: sa.Connection, changes: Sequence[Mapping[str, Any]]
    ) -> None:
        """Hear what the change feed says of folders: renamed, moved, or thrown away ones are lost."""
        table = folders_table
        ids = [change["fileId"] for change in changes]
        rows = connection.execute(
            sa.select(table).where(table.c.tenant == self._account.tenant, table.c.file_id.in_(ids))
        ).all()
        path_of = {row.file_id: row.path for row in rows}
        id_of = {row.path: row.file_id for row in rows}
        lost = []
        for change in changes:
            path = path_of.get(change["fileId"])
            if path is None:
                continue
            file = change.get("file") or {}
            above, _, name = path.rpartition("/")
            parent = self._account.results_folder_id if not above else id_of.get(above)
            moved = parent is not None and parent not in file.get("parents", (parent,))
            renamed = "name" in file and _part(file["name"]) != name
            if change.get("removed") or file.get("trashed") or moved or renamed:
                lost.append(path)
        self._forget(connection, lost)

    def _forget(self, connection: sa.Connection, paths: Sequence[str]) -> None:
        table = folders_table
        for path in paths:
            results_name, *below = (unquote(part) for part in path.split("/"))
            forget_uploads(connection, self._account.tenant, results_name, "/".join(below))
            connection.execute(
                sa.delete(table).where(
                    table.c.tenant == self._account.tenant,
                    sa.or_(
                        table.c.path == path, table.c.path.startswith(f"{path}/", autoescape=True)
                    ),
                )
            )

    def _make(self, parts: Sequence[str], parent: str) -> str:
        file_id = self._reserved(_path(parts))
        make_folder(self._api, file_id, parts[-1], parent)
        table = folders_table
        with engine_for(self._url).begin() as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.tenant == self._account.tenant, table.c.file_id == file_id)
                .values(made_at=datetime.now(UTC))
            )
        return file_id

    def _reserved(self, path: str) -> str:
        """An id for the folder; the one of whoever was first."""
        (file_id,) = self._api.new_ids(1)
        table = folders_table
        with engine_for(self._url).begin() as connection:
            connection.execute(
                insert_for(connection)(table)
                .values(tenant=self._account.tenant, path=path, file_id=file_id)
                .on_conflict_do_nothing()
            )
            return str(
                connection.execute(
                    sa.select(table.c.file_id).where(
                        table.c.tenant == self._account.tenant, table.c.path == path
                    )
                ).scalar_one()
            )


def make_folder(api: GoogleApi, file_id: str, name: str, parent: str) -> None:
    """Make a folder under an id that was reserved; one that is there already is the same one."""
    try:
        api.call(
            "files.create",
            body={"id": file_id, "name": name, "mimeType": FOLDER_TYPE, "parents": [parent]},
            fields="id",
            supportsAllDrives=True,
        )
    except Refused as refused:
        if not refused.done_before:
            raise


def _path(parts: Sequence[str]) -> str:
    return "/".join(_part(part) for part in parts)


def _part(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
