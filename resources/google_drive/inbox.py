"""What lies in a tenant's ``tailor/videos``, without listing it: a mirror kept by the change feed.

One request says whether anything has changed since the last look, whatever the number of files. The
cursor and what its changes say are stored in one transaction, so a look that dies is repeated and
none is skipped. Once a day everything is listed anew, in case the feed has missed something.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata, storable
from resources.drive import (
    SIDECAR_NAME,
    VIDEO_SUFFIXES,
    DriveFile,
    DriveUnavailable,
    VideoFolder,
)
from resources.google_drive.accounts import DriveAccount
from resources.google_drive.answers import Kind
from resources.google_drive.api import GoogleApi, Refused
from resources.google_drive.folders import FOLDER_TYPE, ResultFolders
from resources.google_drive.listing import children

cursors_table = sa.Table(
    "drive_cursors",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("page_token", sa.Text, nullable=False),
    sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False),
)

inbox_table = sa.Table(
    "drive_inbox_files",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("file_id", sa.Text, primary_key=True),
    sa.Column("parent_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("is_folder", sa.Boolean, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("md5", sa.Text),
    sa.Column("revision", sa.Text),
)

_FILE = "id,name,mimeType,parents,trashed,size,md5Checksum,headRevisionId"
_LISTED_EVERY = timedelta(days=1)
_PAGE = 1000
# After a change there are mostly more; and a file is taken when two looks found it the same.
_BUSY_S = 60.0
# One look reads so many pages of changes at most; the next look goes on.
_MOST_S = 20.0


class Inbox:
    """One tenant's ``tailor/videos``."""

    def __init__(self, url: str, account: DriveAccount, api: GoogleApi) -> None:
        """``url`` is the database's. Nothing is asked yet."""
        self._url, self._account, self._api = url, account, api
        self._looked_at = self._changed_at = -math.inf

    def look(self, every_s: float = 0.0) -> list[VideoFolder]:
        """Bring the mirror up to date, and return what it shows, by name.

        Where nothing has changed for a minute, Google is asked only every ``every_s`` seconds.
        Raises what ``GoogleApi.call`` raises; then what was stored before is still there.
        """
        now = time.monotonic()
        if now - self._looked_at >= every_s or now - self._changed_at < _BUSY_S:
            self._update()
            self._looked_at = now
        return self._shown()

    def _update(self) -> None:
        cursor = self._cursor()
        if cursor is None or datetime.now(UTC) - cursor.listed_at > _LISTED_EVERY:
            self._list_everything()
        else:
            try:
                self._follow(cursor.page_token)
            except Refused as refused:
                if refused.answer.kind not in (Kind.GIVE_UP, Kind.GONE):
                    raise
                # Google keeps no cursor for ever.
                self._list_everything()

    def file(self, file_id: str) -> sa.RowMapping | None:
        """What is known of a file that is in one of the folders."""
        query = sa.select(inbox_table).where(
            inbox_table.c.tenant == self._account.tenant, inbox_table.c.file_id == file_id
        )
        with engine_for(self._url).begin() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None or row["is_folder"] else row

    def _cursor(self) -> Any:
        query = sa.select(cursors_table).where(cursors_table.c.tenant == self._account.tenant)
        with engine_for(self._url).begin() as connection:
            return connection.execute(query).first()

    # ------------------------------------------------------------------ all of it

    def _list_everything(self) -> None:
        # The cursor first: what changes during the listing is in the feed after it.
        token = self._api.call(
            "changes.getStartPageToken", **self._where(), fields="startPageToken"
        )["startPageToken"]
        self._see_that_the_folder_is_there()
        videos = self._account.videos_folder_id
        folders = [f for f in self._children([videos]) if f["mimeType"] == FOLDER_TYPE]
        found = [*folders, *self._children([folder["id"] for folder in folders])]
        own = {folder["id"] for folder in folders} | {videos}
        now = datetime.now(UTC)
        with engine_for(self._url).begin() as connection:
            connection.execute(
                sa.delete(inbox_table).where(inbox_table.c.tenant == self._account.tenant)
            )
            self._store(connection, found, own)
            self._move(connection, token, now)

    def _see_that_the_folder_is_there(self) -> None:
        # A folder that was thrown away lists as an empty one.
        if self._api.file(self._account.videos_folder_id, "trashed").get("trashed"):
            raise _removed()

    def _children(self, parents: Sequence[str]) -> Iterator[dict[str, Any]]:
        return children(self._api, self._account.drive_id, parents, _FILE)

    # ------------------------------------------------------------------ what has changed

    def _follow(self, token: str) -> None:
        end = time.monotonic() + _MOST_S
        while True:
            page = self._api.call(
                "changes.list",
                pageToken=token,
                pageSize=_PAGE,
                fields=(
                    "nextPageToken,newStartPageToken,"
                    f"changes(fileId,removed,changeType,file({_FILE}))"
                ),
                spaces="drive",
                includeRemoved=True,
                **self._where(listing=True),
            )
            changes = [c for c in page.get("changes", []) if c.get("changeType", "file") == "file"]
            arrived = self._arrived_folders(changes)
            within = list(self._children(arrived)) if arrived else []
            following = page.get("nextPageToken") or page.get("newStartPageToken") or token
            if changes:
                self._changed_at = time.monotonic()
            if changes or following != token:
                with engine_for(self._url).begin() as connection:
                    self._apply(connection, changes)
                    self._store(connection, within, self._folders(connection))
                    self._move(connection, following)
            token = following
            if not page.get("nextPageToken") or time.monotonic() > end:
                return

    def _arrived_folders(self, changes: Sequence[Mapping[str, Any]]) -> list[str]:
        """Folders that are new here: what is in them need not have changed."""
        with engine_for(self._url).begin() as connection:
            known = self._folders(connection)
        return [
            change["fileId"]
            for change in changes
            if self._is_video_folder(change) and change["fileId"] not in known
        ]

    def _is_video_folder(self, change: Mapping[str, Any]) -> bool:
        file = change.get("file") or {}
        return (
            not change.get("removed")
            and not file.get("trashed")
            and file.get("mimeType") == FOLDER_TYPE
            and self._account.videos_folder_id in file.get("parents", ())
        )

    def _apply(self, connection: sa.Connection, changes: Sequence[Mapping[str, Any]]) -> None:
        tenant, table = self._account.tenant, inbox_table
        folders = ResultFolders(self._url, self._account, self._api)
        gone: list[str] = []
        for change in changes:
            file = change.get("file") or {}
            lost = bool(change.get("removed") or file.get("trashed"))
            if change["fileId"] == self._account.videos_folder_id and lost:
                raise _removed()
            if change["fileId"] == self._account.videos_folder_id:
                continue  # renamed, or back from the trash: what is in it is as it was
            if self._is_video_folder(change):
                self._store(connection, [file], {self._account.videos_folder_id})
            else:
                gone.append(change["fileId"])
        folders.forget_what_moved(connection, changes)
        if gone:
            connection.execute(
                sa.delete(table).where(
                    table.c.tenant == tenant,
                    sa.or_(table.c.file_id.in_(gone), table.c.parent_id.in_(gone)),
                )
            )
        known = self._folders(connection)
        there = [c["file"] for c in changes if c.get("file") and not c["file"].get("trashed")]
        self._store(connection, [f for f in there if f["mimeType"] != FOLDER_TYPE], known)

    # ------------------------------------------------------------------ the tables

    def _folders(self, connection: sa.Connection) -> set[str]:
        table = inbox_table
        query = sa.select(table.c.file_id).where(
            table.c.tenant == self._account.tenant, table.c.is_folder
        )
        return set(connection.execute(query).scalars())

    def _store(
        self, connection: sa.Connection, files: Sequence[Mapping[str, Any]], parents: set[str]
    ) -> None:
        """Insert or replace those that lie in one of ``parents``."""
        rows = []
        for file in files:
            parent = next((p for p in file.get("parents", ()) if p in parents), None)
            # Nothing is looked for in a folder within a video's folder.
            nested = file["mimeType"] == FOLDER_TYPE and parent != self._account.videos_folder_id
            if parent is None or nested:
                continue
            rows.append(
                {
                    "tenant": self._account.tenant,
                    "file_id": file["id"],
                    "parent_id": parent,
                    "name": storable(file["name"]),
                    "is_folder": file["mimeType"] == FOLDER_TYPE,
                    "size": int(file.get("size", 0)),
                    "md5": file.get("md5Checksum"),
                    "revision": file.get("headRevisionId"),
                }
            )
        insert = insert_for(connection)
        for row in rows:
            connection.execute(
                insert(inbox_table)
                .values(row)
                .on_conflict_do_update(index_elements=["tenant", "file_id"], set_=row)
            )

    def _move(
        self, connection: sa.Connection, token: str, listed_at: datetime | None = None
    ) -> None:
        values: dict[str, Any] = {"page_token": token, "moved_at": datetime.now(UTC)}
        if listed_at is None:
            connection.execute(
                sa.update(cursors_table)
                .where(cursors_table.c.tenant == self._account.tenant)
                .values(values)
            )
            return
        values["listed_at"] = listed_at
        connection.execute(
            insert_for(connection)(cursors_table)
            .values(tenant=self._account.tenant, **values)
            .on_conflict_do_update(index_elements=["tenant"], set_=values)
        )

    def _shown(self) -> list[VideoFolder]:
        query = sa.select(inbox_table).where(inbox_table.c.tenant == self._account.tenant)
        with engine_for(self._url).begin() as connection:
            rows = list(connection.execute(query).mappings())
        files: dict[str, list[DriveFile]] = {}
        for row in rows:
            if not row["is_folder"] and not row["name"].startswith("."):
                files.setdefault(row["parent_id"], []).append(_listed(row))
        shown = []
        for row in rows:
            if not row["is_folder"] or row["name"].startswith("."):
                continue
            within = sorted(files.get(row["file_id"], []), key=lambda f: (f.name, f.id))
            shown.append(
                VideoFolder(
                    tenant=self._account.tenant,
                    id=row["file_id"],
                    name=row["name"],
                    videos=tuple(f for f in within if f.name.lower().endswith(VIDEO_SUFFIXES)),
                    sidecar=next((f for f in within if f.name == SIDECAR_NAME), None),
                )
            )
        return sorted(shown, key=lambda folder: (folder.name, folder.id))

    def _where(self, *, listing: bool = False) -> dict[str, Any]:
        """In which Drive: the person's own, or the shared one."""
        drive = self._account.drive_id
        if drive is None:
            return {}
        where: dict[str, Any] = {"driveId": drive, "supportsAllDrives": True}
        if listing:
            where["includeItemsFromAllDrives"] = True
        return where


def _removed() -> DriveUnavailable:
    return DriveUnavailable(
        "the folder tailor/videos has been removed: put it back from the trash, or connect the Drive "
        "again, which makes a new one"
    )


def _listed(row: sa.RowMapping) -> DriveFile:
    # Without a checksum the upload is not complete; the revision that comes with it is another mark.
    mark = f"{row['revision']}" if row["md5"] else f"incomplete {row['revision']} {row['size']}"
    return DriveFile(id=row["file_id"], name=row["name"], size=row["size"], fingerprint=mark)
