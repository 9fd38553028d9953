"""Jobs as they are asked for, come to Dagster's queue, are cancelled or moved: ``tailor.jobs``.

Belongs here: every change of a job that somebody makes. What happens to its runs by itself is in
``job_sync.py``, the order in ``line.py``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import sqlalchemy as sa
from dagster import DagsterRun
from dagster._core.storage.tags import PARTITION_NAME_TAG, RETRY_NUMBER_TAG, RUN_KEY_TAG

from resources.database import engine_for, insert_for, metadata, storable
from run_queue.fairness import LOW, NORMAL, PRIORITIES, URGENT
from run_queue.job_tables import (
    UNFINISHED_STATES,
    WAITING_STATES,
    job_runs_table,
    jobs_table,
)
from tailor_assets.compute.errors import PermanentProblem

JOB_TAG = "tailor/job"
PRIORITY_TAG = "tailor/priority"
TENANT_TAG = "tailor/tenant"
_DAGSTER_PRIORITY_TAG = "dagster/priority"

Queue = Literal["gpu", "cpu", "operator"]


@dataclass(frozen=True)
class JobRequest:
    """Something that a sensor wants made. ``assets``: which of the job's, None for all."""

    request_key: str
    job_name: str
    partition_key: str
    tenant: str
    queue: Queue
    assets: tuple[str, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    priority: int = NORMAL


@dataclass(frozen=True)
class JobRow:
    """One row of ``tailor.jobs``."""

    job_id: str
    request_key: str | None
    job_name: str
    partition_key: str | None
    tenant: str
    assets: tuple[str, ...] | None
    tags: Mapping[str, str]
    queue: Queue
    priority: int
    state: str
    accepted_at: datetime
    finished_at: datetime | None
    run_id: str | None
    attempts: int
    retry_at: datetime | None
    cause: str | None
    action: str | None

    @property
    def run_keys(self) -> tuple[str, str]:
        """By which Dagster knows the run that a sensor requests for it, the usual one first.

        A key never fires again, and a job may be asked for again after it was cancelled or forgotten.
        """
        key = self.request_key or f"job:{self.job_id}"
        return key, f"{key}:{self.accepted_at.timestamp():.0f}"


def to_job(row: sa.RowMapping) -> JobRow:
    """From all columns of ``tailor.jobs``."""
    values = {name: row[name] for name in JobRow.__dataclass_fields__}
    assets = values["assets"]
    values["assets"] = None if assets is None else tuple(json.loads(assets))
    values["tags"] = json.loads(values["tags"])
    return JobRow(**values)


def accept(url: str, request: JobRequest) -> str | None:
    """Take a job; its id, or None where its key was taken already.

    A job of the same video and kind that has not come to Dagster's queue yet is not made twice: it
    keeps its place and makes what either of them was to make.
    """
    with engine_for(url).begin() as connection:
        if connection.execute(
            sa.select(jobs_table.c.job_id).where(jobs_table.c.request_key == request.request_key)
        ).first():
            return None
        pending = connection.execute(
            sa.select(jobs_table)
            .where(
                jobs_table.c.partition_key == request.partition_key,
                jobs_table.c.job_name == request.job_name,
                jobs_table.c.state == "pending",
            )
            .with_for_update()
        ).mappings().first()  # fmt: skip
        if pending is not None:
            if pending["request_key"] == request.request_key:
                return None  # somebody else was faster
            connection.execute(
                sa.update(jobs_table)
                .where(jobs_table.c.job_id == pending["job_id"])
                .values(
                    request_key=request.request_key,
                    assets=_to_json(_either(to_job(pending).assets, request.assets)),
                    priority=min(pending["priority"], request.priority),
                    queue="gpu" if "gpu" in (pending["queue"], request.queue) else request.queue,
                )
            )
            return str(pending["job_id"])
        job_id = uuid4().hex
        added = connection.execute(
            insert_for(connection)(jobs_table)
            .values(
                job_id=job_id,
                request_key=request.request_key,
                job_name=request.job_name,
                partition_key=request.partition_key,
                tenant=request.tenant,
                assets=_to_json(request.assets),
                tags=json.dumps({k: storable(v) for k, v in request.tags.items()}),
                queue=request.queue,
                priority=request.priority,
                state="pending",
                accepted_at=datetime.now(UTC),
            )
            .on_conflict_do_nothing(index_elements=["request_key"])
        )
        return job_id if added.rowcount else None


def _either(some: tuple[str, ...] | None, others: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if some is None or others is None:
        return None
    return tuple(dict.fromkeys((*others, *some)))


def _to_json(assets: Sequence[str] | None) -> str | None:
    return None if assets is None else json.dumps(list(assets))


@dataclass(frozen=True)
class Registered:
    """What became of a run that was submitted; ``refused``: nobody wants it any more."""

    job_id: str
    priority: int
    refused: bool = False


def register_run(url: str, run: DagsterRun, queue: Queue) -> Registered:
    """Note a run that comes to Dagster's queue, under the job that it is an attempt at.

    An automatic retry counts as its job's next attempt and keeps its place. What a person launches or
    re-executes is a job of its own, or a parked or finished one that begins anew. Doing it twice is
    doing it once.
    """
    with engine_for(url).begin() as connection:
        known = connection.execute(
            sa.select(job_runs_table.c.job_id, jobs_table.c.priority)
            .join(jobs_table, jobs_table.c.job_id == job_runs_table.c.job_id)
            .where(job_runs_table.c.run_id == run.run_id)
        ).first()
        if known is not None:
            return Registered(known.job_id, known.priority)
        found = connection.execute(
            sa.select(jobs_table)
            .where(jobs_table.c.job_id == run.tags.get(JOB_TAG, ""))
            .with_for_update()
        ).mappings().first()  # fmt: skip
        job = to_job(found) if found is not None else None
        now = datetime.now(UTC)
        is_requested = run.parent_run_id is None
        if job is not None and is_requested:
            # Made for what the job was a moment ago: accept() has since widened it (another key).
            is_outdated = job.state == "pending" and (
                run.tags.get(RUN_KEY_TAG) not in (None, *job.run_keys)
            )
            if job.state == "cancelled" or is_outdated:
                return Registered(job.job_id, job.priority, refused=True)
        if (
            job is not None
            and job.state == "cancelled"
            and RETRY_NUMBER_TAG in run.tags
            and run.parent_run_id == job.run_id
        ):
            # Cancelled while its retry was being made. Should it be brought back, it goes on from
            # here: Dagster makes one automatic retry of a run, and this was it.
            connection.execute(
                sa.update(jobs_table)
                .where(jobs_table.c.job_id == job.job_id)
                .values(run_id=run.run_id)
            )
            return Registered(job.job_id, job.priority, refused=True)
        is_retry = (
            job is not None
            and RETRY_NUMBER_TAG in run.tags
            and run.parent_run_id == job.run_id
            and job.state in UNFINISHED_STATES
        )
        under_way = job is not None and job.state in UNFINISHED_STATES and job.run_id is not None
        if under_way and not is_retry:
            job = None  # somebody re-executes what is not over: theirs is another job
        attempt = job.attempts + 1 if job is not None and is_retry else 1
        if job is None:
            job_id = uuid4().hex
            priority = priority_of(run.tags)
            tenant = _tenant_of(connection, run)
            connection.execute(
                sa.insert(jobs_table).values(
                    job_id=job_id,
                    job_name=run.job_name,
                    partition_key=run.tags.get(PARTITION_NAME_TAG),
                    tenant=tenant,
                    assets=_to_json(
                        sorted(key.to_user_string() for key in run.asset_selection)
                        if run.asset_selection
                        else None
                    ),
                    queue=queue,
                    priority=priority,
                    state="queued",
                    accepted_at=now,
                    run_id=run.run_id,
                    attempts=1,
                )
            )
        else:
            job_id, priority, tenant = job.job_id, job.priority, job.tenant
            keeps_its_place = is_retry or job.state == "pending"
            connection.execute(
                sa.update(jobs_table)
                .where(jobs_table.c.job_id == job_id)
                .values(
                    queue=queue,
                    state="queued",
                    run_id=run.run_id,
                    attempts=attempt,
                    accepted_at=job.accepted_at if keeps_its_place else now,
                    finished_at=None,
                    retry_at=None,
                    cause=job.cause if is_retry else None,
                    action=None,
                )
            )
        connection.execute(
            sa.insert(job_runs_table).values(
                run_id=run.run_id,
                job_id=job_id,
                job_name=run.job_name,
                partition_key=run.tags.get(PARTITION_NAME_TAG),
                tenant=tenant,
                queue=queue,
                attempt=attempt,
                status="queued",
                queued_at=now,
            )
        )
    return Registered(job_id, priority)


def priority_of(tags: Mapping[str, str]) -> int:
    """The priority that a run's tags ask for.

    ``tailor/priority`` says it; Dagster's own tag, of which more is sooner, is understood too.
    """
    said = tags.get(PRIORITY_TAG)
    if said in {str(priority) for priority in PRIORITIES}:
        return int(said or NORMAL)
    try:
        more = int(tags.get(_DAGSTER_PRIORITY_TAG, "0"))
    except ValueError:
        more = 0
    return URGENT if more > 0 else LOW if more < 0 else NORMAL


# Of videos only what is needed here: their module belongs to the resources.
_videos = sa.table(
    "videos", sa.column("partition_key"), sa.column("tenant"), schema=metadata.schema
)


def _tenant_of(connection: sa.Connection, run: DagsterRun) -> str:
    if run.tags.get(TENANT_TAG):
        return run.tags[TENANT_TAG]
    partition = run.tags.get(PARTITION_NAME_TAG)
    if partition is None:
        return ""
    found = connection.execute(
        sa.select(_videos.c.tenant).where(_videos.c.partition_key == partition)
    ).scalar()
    return found or ""


def find_job(url: str, name: str) -> JobRow:
    """The job with this id, or of the run with this id, or the latest of this video.

    The beginning of an id (8 characters) is enough where only one has it. Raises PermanentProblem
    where none is found, or several.
    """
    name = name.strip()
    jobs, runs = jobs_table, job_runs_table
    with engine_for(url).begin() as connection:
        partition = connection.execute(
            sa.select(jobs)
            .where(jobs.c.partition_key == name)
            .order_by(jobs.c.state.in_(UNFINISHED_STATES).desc(), jobs.c.accepted_at.desc())
            .limit(1)
        ).mappings().first()  # fmt: skip
        if partition is not None:
            return to_job(partition)
        found: Sequence[sa.RowMapping] = []
        if len(name) >= 8:
            of_run = sa.select(runs.c.job_id).where(runs.c.run_id.startswith(name, autoescape=True))
            found = connection.execute(
                sa.select(jobs)
                .where(
                    sa.or_(
                        jobs.c.job_id.startswith(name, autoescape=True),
                        jobs.c.job_id.in_(of_run),
                    )
                )
                .limit(2)
            ).mappings().all()  # fmt: skip
    if not found:
        raise PermanentProblem(
            f"There is no job, run or video {name!r} in the queue's memory: `tailor queue` lists "
            "what there is."
        )
    if len(found) > 1:
        raise PermanentProblem(f"Several jobs begin with {name!r}: give more of the id.")
    return to_job(found[0])


def unfinished_job_of(url: str, partition_key: str, job_names: Sequence[str]) -> JobRow | None:
    """The job of these kinds that is waiting or under way for a video, if any."""
    query = (
        sa.select(jobs_table)
        .where(
            jobs_table.c.partition_key == partition_key,
            jobs_table.c.job_name.in_(job_names),
            jobs_table.c.state.in_(UNFINISHED_STATES),
        )
        .limit(1)
    )
    with engine_for(url).begin() as connection:
        row = connection.execute(query).mappings().first()
    return to_job(row) if row is not None else None


def mark_cancelled(url: str, job_id: str, cause: str, *, over: str | None = None) -> bool:
    """Cancel a job that has no run under way; whether it waited.

    What is in Dagster's queue or running has to be cancelled there, and is noticed. ``over``: its
    last run, where that is known to be over, whatever the job's state says.
    """
    waits: sa.ColumnElement[bool] = jobs_table.c.state.in_(("pending", "retrying"))
    if over is not None:
        is_over = sa.and_(jobs_table.c.state.in_(UNFINISHED_STATES), jobs_table.c.run_id == over)
        waits = sa.or_(waits, is_over)
    with engine_for(url).begin() as connection:
        changed = connection.execute(
            sa.update(jobs_table)
            .where(jobs_table.c.job_id == job_id, waits)
            .values(
                state="cancelled",
                cause=storable(cause),
                retry_at=None,
                finished_at=datetime.now(UTC),
            )
        )
    return changed.rowcount > 0


def set_priority(url: str, job_id: str, priority: int) -> bool:
    """Give a waiting job another priority; whether it still waited."""
    if priority not in PRIORITIES:
        raise PermanentProblem(f"There is no priority {priority}: 1 is urgent, 5 normal, 10 low.")
    with engine_for(url).begin() as connection:
        changed = connection.execute(
            sa.update(jobs_table)
            .where(jobs_table.c.job_id == job_id, jobs_table.c.state.in_(WAITING_STATES))
            .values(priority=priority)
        )
    return changed.rowcount > 0


def bring_back(url: str, job_id: str) -> bool:
    """Have a parked or cancelled job tried again, as soon as the daemon looks; whether it was one.

    It goes on from what is made already. A job that never had a run becomes pending again.
    """
    with engine_for(url).begin() as connection:
        changed = connection.execute(
            sa.update(jobs_table)
            .where(
                jobs_table.c.job_id == job_id,
                jobs_table.c.state.in_(("parked", "cancelled")),
                # What a person launched and deleted nobody can ask for again but a person.
                sa.or_(jobs_table.c.run_id.is_not(None), jobs_table.c.request_key.is_not(None)),
            )
            .values(
                state=sa.case((jobs_table.c.run_id.is_(None), "pending"), else_="retrying"),
                attempts=0,
                retry_at=sa.case((jobs_table.c.run_id.is_(None), None), else_=datetime.now(UTC)),
                accepted_at=datetime.now(UTC),
                finished_at=None,
                cause=None,
                action=None,
            )
        )
    return changed.rowcount > 0


def jobs_by_id(url: str, job_ids: Sequence[str]) -> dict[str, JobRow]:
    """Those of these jobs that are there."""
    query = sa.select(jobs_table).where(jobs_table.c.job_id.in_(list(job_ids)))
    with engine_for(url).begin() as connection:
        return {row["job_id"]: to_job(row) for row in connection.execute(query).mappings()}


def job_of_request(url: str, request_key: str) -> JobRow | None:
    """The job that was accepted under this key."""
    query = sa.select(jobs_table).where(jobs_table.c.request_key == request_key)
    with engine_for(url).begin() as connection:
        row = connection.execute(query).mappings().first()
    return to_job(row) if row is not None else None


def park_unknown(url: str, job: JobRow) -> None:
    """Park a pending job of a name, or of assets, that this version of tailor does not have."""
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(jobs_table)
            .where(jobs_table.c.job_id == job.job_id, jobs_table.c.state == "pending")
            .values(
                state="parked",
                finished_at=datetime.now(UTC),
                cause=f"This version of tailor has no {job.job_name} of "
                f"{', '.join(job.assets or ()) or 'all assets'}.",
                action="Launch what it was to make in the web page.",
            )
        )
