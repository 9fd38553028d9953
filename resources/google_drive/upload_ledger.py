"""What is on its way into a Drive: the table ``tailor.drive_uploads``.

A file's id is reserved and written down before its first byte is sent, and so is the address of its
upload session. Whoever goes on with it, in this process or another, goes on with that id, so that
nothing arrives twice. The key has the content's md5: another content is another file, and a late
upload of what is out of date cannot overwrite what has replaced it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata, storable
from resources.google_drive.api import GoogleApi
from resources.google_drive.token_box import TokenBox
from resources.video_registry import videos_table
from tailor_assets.compute.errors import PermanentProblem

uploads_table = sa.Table(
    "drive_uploads",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("results_name", sa.Text, primary_key=True),
    sa.Column("relative", sa.Text, primary_key=True),
    sa.Column("md5", sa.Text, primary_key=True),
    sa.Column("file_id", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("session", sa.LargeBinary),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
)

_IDS_AT_ONCE = 1000


def relock_sessions(url: str, box: TokenBox) -> None:
    """Encrypt the addresses of all sessions with the first key; forget those none decrypts."""
    table = uploads_table
    with engine_for(url).begin() as connection:
        rows = connection.execute(
            sa.select(table).where(table.c.session.is_not(None)).with_for_update()
        ).all()
        for row in rows:
            try:
                locked: bytes | None = box.relock(bytes(row.session))
            except PermanentProblem:
                locked = None
            connection.execute(
                sa.update(table)
                .where(table.c.tenant == row.tenant, table.c.file_id == row.file_id)
                .values(session=locked)
            )


def forget_uploads(connection: sa.Connection, tenant: str, results_name: str, below: str) -> None:
    """Forget what was put into a folder that is not where it was: it is not tailor's any more.

    ``below`` is the folder's path within the results folder, empty for that itself.
    """
    table = uploads_table
    within = table.c.relative.startswith(f"{below}/", autoescape=True) if below else sa.true()
    connection.execute(
        sa.delete(table).where(
            table.c.tenant == tenant, table.c.results_name == storable(results_name), within
        )
    )


def forget_old_reservations(
    url: str, before: datetime, wanted: Callable[[Sequence[str]], Collection[str]]
) -> int:
    """Forget what was reserved or begun before then and never arrived; how many uploads it were.

    ``wanted`` says of which videos, by partition key, a publication may yet go on with it. A file that
    had arrived without anybody hearing of it bears tailor's mark, and the next publication finds it.
    """
    table, videos = uploads_table, videos_table
    old = sa.and_(table.c.state == "reserved", table.c.updated_at < before)
    of_video = sa.and_(
        videos.c.tenant == table.c.tenant, videos.c.results_name == table.c.results_name
    )
    with engine_for(url).begin() as connection:
        folders = connection.execute(
            sa.select(table.c.tenant, table.c.results_name, videos.c.partition_key)
            .outerjoin(videos, of_video)
            .where(old)
            .distinct()
        ).all()
    keys = [folder.partition_key for folder in folders if folder.partition_key is not None]
    still = wanted(keys) if keys else ()
    count = 0
    for folder in folders:
        if folder.partition_key in still:
            continue
        with engine_for(url).begin() as connection:
            count += connection.execute(
                sa.delete(table).where(
                    old,
                    table.c.tenant == folder.tenant,
                    table.c.results_name == folder.results_name,
                )
            ).rowcount
    return count


@dataclass(frozen=True)
class Content:
    """What is to be put at ``relative``: ``md5`` in hexadecimal, ``size`` in bytes."""

    relative: str
    md5: str
    size: int


@dataclass(frozen=True)
class Upload:
    """A content with the id it has, or will have, in the Drive; ``session`` where one was begun."""

    content: Content
    file_id: str
    session: str | None
    arrived: bool


class UploadLedger:
    """The uploads of one results folder."""

    def __init__(
        self,
        url: str,
        tenant: str,
        results_name: str,
        api: GoogleApi,
        box: TokenBox,
        attempt: int = 0,
    ) -> None:
        """``url`` is the database's; ``box`` hides session addresses, which need no other token.

        ``attempt`` is the publication's (resources/publications.py): what a later one wants is not
        an earlier one's to take away.
        """
        self._url, self._api, self._box, self._attempt = url, api, box, attempt
        self._tenant = tenant
        self._results_name = str(storable(results_name))

    def reserved(self, contents: Sequence[Content]) -> list[Upload]:
        """An upload for each content, in their order: the one begun earlier, or a new one."""
        known = self.all()
        missing = [c for c in contents if (c.relative, c.md5) not in known]
        for start in range(0, len(missing), _IDS_AT_ONCE):
            some = missing[start : start + _IDS_AT_ONCE]
            self._insert(zip(some, self._api.new_ids(len(some)), strict=True))
        self._stamp(contents)
        if missing:
            known = self.all()
        return [known[(content.relative, content.md5)] for content in contents]

    def all(self) -> dict[tuple[str, str], Upload]:
        """All uploads of the folder, by (relative, md5)."""
        with engine_for(self._url).begin() as connection:
            rows = connection.execute(sa.select(uploads_table).where(self._ours())).all()
        return {
            (row.relative, row.md5): Upload(
                Content(row.relative, row.md5, row.size),
                row.file_id,
                None if row.session is None else self._opened(bytes(row.session)),
                row.state == "arrived",
            )
            for row in rows
        }

    def arrived_id(self, relative: str) -> str | None:
        """Id of a file that has arrived under this name."""
        table = uploads_table
        query = sa.select(table.c.file_id).where(
            self._ours(), table.c.relative == relative, table.c.state == "arrived"
        )
        with engine_for(self._url).begin() as connection:
            return connection.execute(query).scalar()

    def note_session(self, upload: Upload, session: str | None) -> None:
        """An upload session was begun, or has ended."""
        locked = None if session is None else self._box.lock(session)
        self._update([upload.content], session=locked)

    def note_arrived(self, contents: Sequence[Content]) -> None:
        """They are in the Drive, whole."""
        self._update(contents, state="arrived", session=None)

    def renew(self, upload: Upload) -> Upload:
        """The same content under a new id: what has the old one is not what was sent."""
        self.forget([upload.content])
        return self.reserved([upload.content])[0]

    def withdraw(self, file_id: str) -> bool:
        """Forget a file that no later attempt wants; whether nobody does, so that it may go."""
        table = uploads_table
        this = sa.and_(self._ours(), table.c.file_id == file_id)
        with engine_for(self._url).begin() as connection:
            connection.execute(sa.delete(table).where(this, table.c.attempt <= self._attempt))
            return connection.execute(sa.select(table.c.file_id).where(this)).first() is None

    def forget(self, contents: Sequence[Content]) -> None:
        """They are not in the Drive any more."""
        table = uploads_table
        with engine_for(self._url).begin() as connection:
            for content in contents:
                connection.execute(
                    sa.delete(table).where(
                        self._ours(),
                        table.c.relative == content.relative,
                        table.c.md5 == content.md5,
                    )
                )

    def _opened(self, session: bytes) -> str | None:
        try:
            return self._box.open(session)
        except PermanentProblem:
            return None  # of a key that is gone: the upload begins again, under the same id

    def _ours(self) -> sa.ColumnElement[bool]:
        table = uploads_table
        return sa.and_(table.c.tenant == self._tenant, table.c.results_name == self._results_name)

    def _stamp(self, contents: Sequence[Content]) -> None:
        """Say that this attempt wants them."""
        table = uploads_table
        with engine_for(self._url).begin() as connection:
            for start in range(0, len(contents), _IDS_AT_ONCE):
                connection.execute(
                    sa.update(table)
                    .where(
                        self._ours(),
                        sa.tuple_(table.c.relative, table.c.md5).in_(
                            [(c.relative, c.md5) for c in contents[start : start + _IDS_AT_ONCE]]
                        ),
                        table.c.attempt < self._attempt,
                    )
                    .values(attempt=self._attempt)
                )

    def _insert(self, reserved: Iterable[tuple[Content, str]]) -> None:
        now = datetime.now(UTC)
        rows: list[Mapping[str, object]] = [
            {
                "tenant": self._tenant,
                "results_name": self._results_name,
                "relative": content.relative,
                "md5": content.md5,
                "file_id": file_id,
                "size": content.size,
                "state": "reserved",
                "attempt": self._attempt,
                "updated_at": now,
            }
            for content, file_id in reserved
        ]
        with engine_for(self._url).begin() as connection:
            # Another process may have reserved some meanwhile; its ids count.
            statement = insert_for(connection)(uploads_table).on_conflict_do_nothing()
            connection.execute(statement, rows)

    def _update(self, contents: Sequence[Content], **values: object) -> None:
        table = uploads_table
        with engine_for(self._url).begin() as connection:
            for content in contents:
                connection.execute(
                    sa.update(table)
                    .where(
                        self._ours(),
                        table.c.relative == content.relative,
                        table.c.md5 == content.md5,
                    )
                    .values(updated_at=datetime.now(UTC), **values)
                )
