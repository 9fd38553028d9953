"""Who waits, in order: jobs that have not come to Dagster's queue together with those that have."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from resources.database import engine_for
from run_queue.fairness import WaitingJob, in_order
from run_queue.job_tables import jobs_table
from run_queue.shares import Expectations, shares_of, videos_sizes

QUEUES = ("operator", "gpu", "cpu")


@dataclass(frozen=True)
class Place:
    """One that waits, ``position`` counted from 1 in its queue; times in seconds."""

    position: int
    job_id: str
    run_id: str | None
    tenant: str
    job_name: str
    partition_key: str | None
    queue: str
    priority: int
    state: str
    accepted_at: datetime
    is_retry: bool
    expected_seconds: float
    seconds_ahead: float
    """What all jobs before it in its queue are expected to take together."""


def the_line(
    url: str, expectations: Expectations, *, states: tuple[str, ...] = ("pending", "queued")
) -> dict[str, list[Place]]:
    """All jobs in these states by queue, in the order in which they are to start."""
    jobs = jobs_table
    query = (
        sa.select(
            jobs.c.job_id,
            jobs.c.run_id,
            jobs.c.tenant,
            jobs.c.job_name,
            jobs.c.partition_key,
            jobs.c.queue,
            jobs.c.priority,
            jobs.c.state,
            jobs.c.accepted_at,
            jobs.c.attempts,
            videos_sizes.c.size,
        )
        .outerjoin(videos_sizes, videos_sizes.c.partition_key == jobs.c.partition_key)
        .where(jobs.c.state.in_(states))
    )
    with engine_for(url).begin() as connection:
        rows = connection.execute(query).all()
        present = {row.queue for row in rows}
        shares = {queue: shares_of(connection, queue) for queue in present}
    waiting: dict[str, list[WaitingJob]] = defaultdict(list)
    by_id = {}
    for row in rows:
        by_id[row.job_id] = row
        waiting[row.queue].append(
            WaitingJob(
                row.job_id,
                row.tenant,
                row.priority,
                row.accepted_at.timestamp(),
                expectations.of(row.job_name, row.size),
                is_retry=row.attempts > 1,
            )
        )
    now = datetime.now(UTC).timestamp()
    line: dict[str, list[Place]] = {}
    for queue, jobs_there in waiting.items():
        ahead = 0.0
        line[queue] = []
        for position, job in enumerate(in_order(jobs_there, shares[queue], now), 1):
            row = by_id[job.job_id]
            line[queue].append(
                Place(
                    position,
                    row.job_id,
                    row.run_id,
                    row.tenant,
                    row.job_name,
                    row.partition_key,
                    row.queue,
                    row.priority,
                    row.state,
                    row.accepted_at,
                    job.is_retry,
                    job.cost,
                    ahead,
                )
            )
            ahead += job.cost
    return line
