"""Whose turn it is to publish a video's results: the table ``tailor.publications``.

Two runs of one video may be alive at once: one hung, was taken for dead, and wakes up after its
successor has published. So a run claims the publication, asks before every write whether it is still
the one, and an older run never takes it back (a fencing token, as in Kleppmann, "How to do
distributed locking", 2016).

A publication that cannot be for now, because the Drive is full or its owner has to do something, is
parked here: the results are kept, and ``sensors/parked_publications.py`` has it tried again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata
from tailor_assets.compute.errors import PermanentProblem

# Artifacts whose versions a results folder names; the reconciler compares by them.
RESULTS_ARE_MADE_FROM = (
    "video", "frames", "prompts", "masks", "features", "predictions", "flags", "report",
)  # fmt: skip

publications_table = sa.Table(
    "publications",
    metadata,
    sa.Column("partition_key", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("parked_at", sa.DateTime(timezone=True)),
    sa.Column("problem", sa.Text),
    sa.Column("wanted_bytes", sa.BigInteger),
    sa.Column("not_before", sa.DateTime(timezone=True)),
)
# Of one that waits for nothing.
_NOT_PARKED = {"parked_at": None, "problem": None, "wanted_bytes": None, "not_before": None}


class Superseded(PermanentProblem):
    """A newer run publishes these results; this one must leave them alone."""


@dataclass(frozen=True)
class PublicationFence:
    """One run's claim; ``attempt`` grows from run to run of a video."""

    url: str
    partition_key: str
    what: str
    attempt: int
    run_id: str

    def check(self) -> None:
        """Raise Superseded where the publication is another run's by now."""
        with engine_for(self.url).begin() as connection:
            self._see_that_it_is_mine(connection, self._holder())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise like ``check``; until the block ends no later run can claim the publication.

        Several threads of the one who has it may hold it at once.
        """
        with engine_for(self.url).begin() as connection:
            self._see_that_it_is_mine(connection, self._holder().with_for_update(read=True))
            yield

    def _holder(self) -> sa.Select[tuple[str]]:
        table = publications_table
        return sa.select(table.c.run_id).where(
            table.c.partition_key == self.partition_key, table.c.what == self.what
        )

    def _see_that_it_is_mine(self, connection: sa.Connection, query: sa.Select[tuple[str]]) -> None:
        holder = connection.execute(query).scalar()
        if holder != self.run_id:
            raise _superseded(holder)

    def park(self, problem: str, wanted_bytes: int, rest: timedelta) -> None:
        """Say that it cannot be for now, nor before ``rest``: ``problem`` is for people."""
        table = publications_table
        with engine_for(self.url).begin() as connection:
            connection.execute(
                sa.update(table)
                .where(
                    table.c.partition_key == self.partition_key,
                    table.c.what == self.what,
                    table.c.run_id == self.run_id,
                )
                .values(
                    parked_at=datetime.now(UTC),
                    problem=problem,
                    wanted_bytes=wanted_bytes,
                    not_before=datetime.now(UTC) + rest,
                )
            )


def claim_publication(
    url: str, partition_key: str, what: str, *, run_id: str, created_at: float
) -> PublicationFence:
    """Claim the publication of ``what`` ("results", "frames") of a video.

    ``created_at``: when the run was made, in seconds; the later run is the one that counts. Claiming
    again by the same run is fine. Raises Superseded where a later run has claimed it.
    """
    table, attempt = publications_table, int(created_at * 1e6)
    values = {
        "attempt": attempt,
        "run_id": run_id,
        "claimed_at": datetime.now(UTC),
        **_NOT_PARKED,
    }
    with engine_for(url).begin() as connection:
        statement = insert_for(connection)(table).values(
            partition_key=partition_key, what=what, **values
        )
        claimed = connection.execute(
            statement.on_conflict_do_update(
                index_elements=["partition_key", "what"],
                set_=values,
                where=sa.or_(
                    table.c.attempt < attempt,
                    sa.and_(table.c.attempt == attempt, table.c.run_id <= run_id),
                ),
            )
        )
        if claimed.rowcount == 0:
            holder = connection.execute(
                sa.select(table.c.run_id).where(
                    table.c.partition_key == partition_key, table.c.what == what
                )
            ).scalar()
            raise _superseded(holder)
    return PublicationFence(url, partition_key, what, attempt, run_id)


@dataclass(frozen=True)
class ParkedPublication:
    """One that waits; ``run_id`` is the run that parked it, ``wanted_bytes`` what it would send."""

    partition_key: str
    what: str
    run_id: str
    parked_at: datetime
    problem: str
    wanted_bytes: int
    not_before: datetime


def parked_publications(url: str) -> list[ParkedPublication]:
    """Those that wait, the longest first."""
    table = publications_table
    query = (
        sa.select(
            table.c.partition_key,
            table.c.what,
            table.c.run_id,
            table.c.parked_at,
            table.c.problem,
            table.c.wanted_bytes,
            table.c.not_before,
        )
        .where(table.c.parked_at.is_not(None))
        .order_by(table.c.parked_at)
    )
    with engine_for(url).begin() as connection:
        return [
            ParkedPublication(
                row.partition_key,
                row.what,
                row.run_id,
                _in_utc(row.parked_at),
                row.problem,
                row.wanted_bytes,
                _in_utc(row.not_before),
            )
            for row in connection.execute(query)
        ]


def _in_utc(time: datetime) -> datetime:
    # SQLite has no zones; what is written is UTC.
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def forget_parked(url: str, partition_key: str, what: str) -> None:
    """Somebody does not want it any more: it waits for nothing."""
    table = publications_table
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(table)
            .where(table.c.partition_key == partition_key, table.c.what == what)
            .values(_NOT_PARKED)
        )


def _superseded(holder: str | None) -> Superseded:
    return Superseded(
        f"A newer run ({(holder or 'unknown')[:8]}) publishes this video's results, so this one leaves "
        "them alone: look at that run."
    )
