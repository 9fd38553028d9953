"""What is known of each video of each tenant: the table ``tailor.videos``.

One row per partition: where the video is in the Drive, whether it holds still, what its
``tailor.json`` says, and what it waits for. The Drive sensor writes rows, assets read them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import dagster as dg
import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata, storable
from resources.publications import publications_table
from resources.review_decisions import review_decisions_table
from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

videos_table = sa.Table(
    "videos",
    metadata,
    sa.Column("partition_key", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("folder_id", sa.Text, nullable=False),
    sa.Column("folder_name", sa.Text, nullable=False),
    sa.Column("results_name", sa.Text, nullable=False),
    sa.Column("file_id", sa.Text),
    sa.Column("file_name", sa.Text),
    sa.Column("size", sa.BigInteger),
    sa.Column("fingerprint", sa.Text),
    sa.Column("checksum", sa.Text),
    sa.Column("sidecar_fingerprint", sa.Text),
    sa.Column("sidecar_text", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("observed_at", sa.DateTime(timezone=True)),
    sa.Column("admitted_at", sa.DateTime(timezone=True)),
    sa.Column("run_key", sa.Text),
    sa.Column("waiting_for", sa.Text),
    sa.Column("waiting_since", sa.DateTime(timezone=True)),
    sa.Column("problem", sa.Text),
    sa.UniqueConstraint("tenant", "results_name", name="videos_results_name"),
    sa.UniqueConstraint("tenant", "folder_id", name="videos_folder_id"),
)

tenants_table = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("publish_frames", sa.Boolean, nullable=False, server_default=sa.true()),
)

VideoState = Literal["settling", "admitted", "rejected"]


@dataclass(frozen=True)
class VideoRow:
    """One row of ``tailor.videos``.

    ``fingerprint`` is the video file's at the last look; while it changes the video is
    ``settling``. ``run_key`` names the run an admitted video wants, ``admitted_at`` is when that run
    was seen to exist. ``problem`` is the sentence that says why a folder is
    ``rejected``, or what is wrong with its tailor.json.
    """

    partition_key: str
    tenant: str
    folder_id: str
    folder_name: str
    results_name: str
    state: VideoState
    file_id: str | None = None
    file_name: str | None = None
    size: int | None = None
    fingerprint: str | None = None
    checksum: str | None = None
    sidecar_fingerprint: str | None = None
    sidecar_text: str | None = None
    observed_at: datetime | None = None
    admitted_at: datetime | None = None
    run_key: str | None = None
    waiting_for: str | None = None
    waiting_since: datetime | None = None
    problem: str | None = None


_ROW_FIELDS = [field.name for field in fields(VideoRow)]


class VideoRegistry(dg.ConfigurableResource):
    """The registry in PostgreSQL.

    ``url`` is an SQLAlchemy URL; empty means ``TAILOR_POSTGRES_URL``. ``tailor run`` gives an SQLite
    file, which has no schemas, for the one video it works on.
    """

    url: str = ""

    @property
    def database_url(self) -> str:
        """Of the database that the registry is in."""
        return self.url or load_settings().postgres_url or ""

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with engine_for(self.database_url).begin() as connection:
            yield connection

    def create_in_sqlite(self) -> None:
        """Make the tables in an SQLite file. PostgreSQL is migrated by ``tailor up`` instead."""
        metadata.create_all(engine_for(self.url))

    def get(self, partition_key: str) -> VideoRow:
        """The row of a partition. Raises PermanentProblem where there is none."""
        query = sa.select(videos_table).where(videos_table.c.partition_key == partition_key)
        with self._connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise PermanentProblem(
                f"Nothing is known of a video {partition_key!r}: put it into the Drive folder "
                "tailor/videos/<name>/ and let the sensor find it."
            )
        return _to_row(row)

    def of_tenant(self, tenant: str) -> dict[str, VideoRow]:
        """All rows of one tenant, by folder id."""
        query = sa.select(videos_table).where(videos_table.c.tenant == tenant)
        with self._connect() as connection:
            rows = [_to_row(row) for row in connection.execute(query).mappings()]
        return {row.folder_id: row for row in rows}

    def partitions_of(self, tenant: str) -> list[str]:
        """Partition keys of a tenant's videos."""
        return sorted(row.partition_key for row in self.of_tenant(tenant).values())

    def file_ids_of(self, tenant: str) -> list[str]:
        """The Drive's ids of a tenant's videos."""
        return sorted(row.file_id for row in self.of_tenant(tenant).values() if row.file_id)

    def forget(self, tenant: str) -> None:
        """Delete what is known of a tenant and its videos."""
        of_tenant = sa.select(videos_table.c.partition_key).where(videos_table.c.tenant == tenant)
        with self._connect() as connection:
            for table in (publications_table, review_decisions_table):
                connection.execute(sa.delete(table).where(table.c.partition_key.in_(of_tenant)))
            for table in (videos_table, tenants_table):
                connection.execute(sa.delete(table).where(table.c.tenant == tenant))

    def waiting(self) -> list[VideoRow]:
        """Rows that wait for something a person gives, the longest wait first."""
        query = (
            sa.select(videos_table)
            .where(videos_table.c.waiting_for.is_not(None))
            .order_by(videos_table.c.waiting_since)
        )
        with self._connect() as connection:
            return [_to_row(row) for row in connection.execute(query).mappings()]

    def with_problems(self) -> list[VideoRow]:
        """Rows whose folder or tailor.json a person has to mend, by tenant and folder."""
        query = (
            sa.select(videos_table)
            .where(videos_table.c.problem.is_not(None))
            .order_by(videos_table.c.tenant, videos_table.c.folder_name)
        )
        with self._connect() as connection:
            return [_to_row(row) for row in connection.execute(query).mappings()]

    def without_run(self) -> list[VideoRow]:
        """Admitted rows whose run has not been seen yet, in the order they were observed."""
        query = (
            sa.select(videos_table)
            .where(videos_table.c.state == "admitted", videos_table.c.admitted_at.is_(None))
            .order_by(videos_table.c.observed_at)
        )
        with self._connect() as connection:
            return [_to_row(row) for row in connection.execute(query).mappings()]

    def save(self, rows: Sequence[VideoRow]) -> None:
        """Insert or replace rows, all or none.

        ``waiting_for`` and ``waiting_since`` belong to the assets and are left as they are. Raises
        PermanentProblem for a partition key that belongs to another folder: two folders' keys may
        be equal by chance or by somebody's design, and one must not take the other's results.
        """
        if not rows:
            return
        with self._connect() as connection:
            insert = insert_for(connection)
            for row in rows:
                values = {
                    name: storable(value)
                    for name, value in asdict(row).items()
                    if name not in ("waiting_for", "waiting_since")
                }
                statement = insert(videos_table).values(values)
                saved = connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["partition_key"],
                        set_={k: v for k, v in values.items() if k != "partition_key"},
                        where=sa.and_(
                            videos_table.c.tenant == values["tenant"],
                            videos_table.c.folder_id == values["folder_id"],
                        ),
                    )
                )
                if saved.rowcount == 0:
                    raise PermanentProblem(
                        f"The folder {row.folder_name!r} would get the key {row.partition_key} of "
                        "another folder: rename it."
                    )

    def ask_again(self, partition_key: str, failed_run_key: str | None) -> None:
        """Have the whole of a video made again, as soon as its tenant's Drive can be reached.

        Where another run than the one that failed is asked for already, that one will do.
        """
        row = self.get(partition_key)
        another = row.admitted_at is None and row.run_key != failed_run_key
        if another or row.state != "admitted":
            return
        # A run key fires once, so it is another; and never one that was there before.
        word = sha256(f"{row.run_key} again".encode()).hexdigest()[:8]
        self.save([replace(row, run_key=f"{row.file_id}:{row.checksum}:{word}", admitted_at=None)])

    def set_waiting(self, partition_key: str, waiting_for: str | None) -> None:
        """Say what the video waits for, or that it waits no more."""
        with self._connect() as connection:
            connection.execute(
                sa.update(videos_table)
                .where(videos_table.c.partition_key == partition_key)
                .values(
                    waiting_for=waiting_for,
                    waiting_since=datetime.now(UTC) if waiting_for else None,
                )
            )

    def publishes_frames(self, tenant: str) -> bool:
        """Whether the tenant's full ``frames/`` go to the Drive (they do unless switched off)."""
        query = sa.select(tenants_table.c.publish_frames).where(tenants_table.c.tenant == tenant)
        with self._connect() as connection:
            answer = connection.execute(query).scalar()
        return True if answer is None else bool(answer)

    def set_publishes_frames(self, tenant: str, publish: bool) -> None:
        """Switch the publication of full ``frames/`` for one tenant."""
        with self._connect() as connection:
            statement = insert_for(connection)(tenants_table).values(
                tenant=tenant, publish_frames=publish
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["tenant"], set_={"publish_frames": publish}
                )
            )


def _to_row(row: sa.RowMapping) -> VideoRow:
    return VideoRow(**{name: row[name] for name in _ROW_FIELDS})
