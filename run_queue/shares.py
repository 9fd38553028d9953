"""What each tenant has had of a queue, and how long jobs take: from what was measured.

A tenant is charged what a job is expected to take when it starts, and the difference to what it took
when it ends (fairness.py says what follows from that).
"""

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata
from run_queue.fairness import AGEING_SECONDS, QueueShares
from run_queue.job_tables import (
    job_runs_table,
    jobs_table,
    queue_clocks_table,
    queue_shares_table,
)

# Of a job nothing like which was ever finished.
UNMEASURED_SECONDS = 60.0
_RECENT = 50
_KEPT_SECONDS = 30.0

videos_sizes = sa.table(
    "videos", sa.column("partition_key"), sa.column("size"), schema=metadata.schema
)


@dataclass(frozen=True)
class Expectation:
    """How long jobs of one name took: medians of the last fifty that were made."""

    seconds: float
    seconds_per_byte: float | None
    count: int

    def of(self, size: int | None) -> float:
        """Seconds for a video of this size in bytes."""
        if size and self.seconds_per_byte is not None:
            return max(self.seconds_per_byte * size, 1.0)
        return max(self.seconds, 1.0)


@dataclass
class Expectations:
    """Of all jobs, by name; asked of the database now and then."""

    url: str
    _known: dict[str, Expectation] = field(default_factory=dict)
    _until: float = 0.0

    def of(self, job_name: str, size: int | None) -> float:
        """Seconds that a job is expected to take."""
        known = self.measured(job_name)
        return known.of(size) if known is not None else UNMEASURED_SECONDS

    def measured(self, job_name: str) -> Expectation | None:
        """None where no job of this name was ever finished."""
        if time.monotonic() > self._until:
            self._known = _measure(self.url)
            self._until = time.monotonic() + _KEPT_SECONDS
        return self._known.get(job_name)


def _measure(url: str) -> dict[str, Expectation]:
    runs, jobs = job_runs_table, jobs_table
    took = sa.func.extract("epoch", runs.c.finished_at - runs.c.started_at).label("seconds")
    latest = (
        sa.select(
            jobs.c.job_name,
            videos_sizes.c.size,
            took,
            sa.func.row_number()
            .over(partition_by=jobs.c.job_name, order_by=runs.c.finished_at.desc())
            .label("place"),
        )
        .join(jobs, jobs.c.job_id == runs.c.job_id)
        .outerjoin(videos_sizes, videos_sizes.c.partition_key == jobs.c.partition_key)
        .where(
            runs.c.status == "success",
            runs.c.started_at.is_not(None),
            # The index is by this; what is older says little about today.
            runs.c.finished_at > datetime.now(UTC) - timedelta(days=7),
        )
        .subquery()
    )
    with engine_for(url).begin() as connection:
        rows = connection.execute(sa.select(latest).where(latest.c.place <= _RECENT)).all()
    seconds, per_byte = defaultdict(list), defaultdict(list)
    for row in rows:
        seconds[row.job_name].append(float(row.seconds))
        if row.size:
            per_byte[row.job_name].append(float(row.seconds) / row.size)
    return {
        name: Expectation(
            statistics.median(values),
            statistics.median(per_byte[name]) if per_byte[name] else None,
            len(values),
        )
        for name, values in seconds.items()
    }


def shares_of(connection: sa.Connection, queue: str) -> QueueShares:
    """What the tenants of one queue have had."""
    clock = connection.execute(
        sa.select(queue_clocks_table.c.now).where(queue_clocks_table.c.queue == queue)
    ).scalar()
    finish = connection.execute(
        sa.select(queue_shares_table.c.tenant, queue_shares_table.c.finish).where(
            queue_shares_table.c.queue == queue
        )
    ).all()
    started = connection.execute(
        sa.select(
            jobs_table.c.tenant,
            jobs_table.c.priority,
            sa.func.max(job_runs_table.c.dequeued_at).label("at"),
        )
        .join(jobs_table, jobs_table.c.job_id == job_runs_table.c.job_id)
        .where(
            jobs_table.c.queue == queue,
            # Further back it makes no difference: there are three priorities.
            job_runs_table.c.dequeued_at
            > datetime.now(UTC) - timedelta(seconds=3 * AGEING_SECONDS),
        )
        .group_by(jobs_table.c.tenant, jobs_table.c.priority)
    ).all()
    return QueueShares(
        now=clock or 0.0,
        finish={row.tenant: row.finish for row in finish},
        last_start={(row.tenant, row.priority): row.at.timestamp() for row in started},
    )


def charge(connection: sa.Connection, queue: str, tenant: str, seconds: float) -> None:
    """A job of the tenant starts, which is expected to take so long."""
    shares = shares_of(connection, queue)
    start = shares.start_of(tenant)
    _set(connection, queue_clocks_table, {"queue": queue}, {"now": max(shares.now, start)})
    _set(
        connection,
        queue_shares_table,
        {"queue": queue, "tenant": tenant},
        {"finish": start + seconds},
    )


def settle(connection: sa.Connection, queue: str, tenant: str, seconds: float) -> None:
    """A job has taken so much more, or less, than its tenant was charged."""
    connection.execute(
        sa.update(queue_shares_table)
        .where(queue_shares_table.c.queue == queue, queue_shares_table.c.tenant == tenant)
        .values(finish=queue_shares_table.c.finish + seconds)
    )


def _set(
    connection: sa.Connection, table: sa.Table, key: dict[str, str], values: dict[str, float]
) -> None:
    statement = insert_for(connection)(table).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
