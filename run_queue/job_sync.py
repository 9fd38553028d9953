"""What has become of jobs: read from Dagster's runs, which are the truth, into ``tailor.jobs``.

The daemon does this each second, with one query for all that is not over. Nothing here listens to
events, so nothing is missed while something was down: whatever happened is found at the next look.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from dagster import DagsterEventType, DagsterInstance, DagsterRun, MetadataValue, RunsFilter
from dagster._core.events import EngineEventData

from resources.database import engine_for, storable
from run_queue.breaker import spares
from run_queue.failure import MAX_RETRIES_TAG
from run_queue.job_ledger import Queue, register_run
from run_queue.job_tables import ATTEMPTS, dagster_runs, job_runs_table, jobs_table
from run_queue.shares import Expectations, charge, settle, videos_sizes

_FIRST_DELAY_S = 2.0
_LONGEST_DELAY_S = 8.0
_UNDER_WAY = ("starting", "started", "canceling")
_OVER = ("success", "failure", "canceled")
# A look handles so many changes, so that one after a long absence takes several and not for ever.
_AT_A_TIME = 500

# What did not end well counts for so many times what was expected of it at most.
_MOST_TIMES = 5

logger = logging.getLogger("tailor.queue")


@dataclass(frozen=True)
class _Changed:
    run_id: str
    job_id: str
    attempt: int
    status: str
    start_time: float | None
    end_time: float | None


def delay_before(attempt: int) -> timedelta:
    """How long after the failure of an attempt (counted from 1) the next is due: 2, 4, 8 s."""
    return timedelta(seconds=min(_FIRST_DELAY_S * 2 ** (attempt - 1), _LONGEST_DELAY_S))


def follow_runs(url: str, instance: DagsterInstance, expectations: Expectations) -> int:
    """Bring jobs up to date with their runs; how many runs had changed."""
    changed = _changed_runs(url)
    for change in changed:
        try:
            _follow(url, instance, change, expectations)
        except Exception:  # whatever it is, the others have changed too, and the queue has to move
            logger.exception("Run %s could not be followed.", change.run_id)
    return len(changed)


def _follow(
    url: str, instance: DagsterInstance, change: _Changed, expectations: Expectations
) -> None:
    cause = failure_cause(instance, change.run_id) if change.status == "failure" else None
    final = cause is not None and _is_final(instance, change)
    if _note(url, change, cause, final, expectations) and change.status in _OVER:
        _show_timeline(url, instance, change.run_id)


def adopt_runs(url: str, instance: DagsterInstance, queue_of: Any) -> list[str]:
    """Note runs in Dagster's queue that came there past the coordinator; their ids.

    So it is with runs that were queued by an earlier version.
    """
    query = (
        sa.select(dagster_runs.c.run_id)
        .where(
            dagster_runs.c.status == "QUEUED",
            ~sa.exists().where(job_runs_table.c.run_id == dagster_runs.c.run_id),
        )
        .limit(_AT_A_TIME)
    )
    with engine_for(url).begin() as connection:
        found = list(connection.execute(query).scalars())
    for run in instance.get_runs(RunsFilter(run_ids=found)) if found else []:
        queue: Queue = queue_of(run)
        register_run(url, run, queue)
    return found


def _changed_runs(url: str) -> Sequence[_Changed]:
    own = job_runs_table
    query = (
        sa.select(
            own.c.run_id,
            own.c.job_id,
            own.c.attempt,
            sa.func.lower(dagster_runs.c.status).label("status"),
            dagster_runs.c.start_time,
            dagster_runs.c.end_time,
        )
        .join(dagster_runs, dagster_runs.c.run_id == own.c.run_id)
        .where(own.c.finished_at.is_(None), sa.func.lower(dagster_runs.c.status) != own.c.status)
        .limit(_AT_A_TIME)
    )
    with engine_for(url).begin() as connection:
        return [_Changed(**row) for row in connection.execute(query).mappings()]


def _note(
    url: str, change: _Changed, cause: str | None, final: bool, expectations: Expectations
) -> bool:
    """Write one change down; whether the run belongs to a job that is there."""
    runs, jobs = job_runs_table, jobs_table
    now = datetime.now(UTC)
    with engine_for(url).begin() as connection:
        run = connection.execute(
            sa.select(runs).where(runs.c.run_id == change.run_id).with_for_update()
        ).one()
        if run.finished_at is not None:
            return False  # another daemon was faster
        job = connection.execute(
            sa.select(jobs, videos_sizes.c.size)
            .outerjoin(videos_sizes, videos_sizes.c.partition_key == jobs.c.partition_key)
            .where(jobs.c.job_id == change.job_id)
            .with_for_update(of=jobs)
        ).first()
        values: dict[str, Any] = {"status": change.status, "cause": storable(cause)}
        is_over = change.status in _OVER
        has_started = change.status in _UNDER_WAY or (is_over and change.start_time is not None)
        if has_started:
            values["dequeued_at"] = run.dequeued_at or _time(change.start_time) or now
        if change.start_time is not None:
            values["started_at"] = _time(change.start_time)
        charged = run.charged_seconds
        if job is not None and has_started and run.dequeued_at is None and not is_over:
            charged = expectations.of(job.job_name, job.size)
            charge(connection, job.queue, job.tenant, charged)
            values["charged_seconds"] = charged
        if change.status == "queued" and run.dequeued_at is not None:
            # The code server was away, and Dagster has put it back.
            values |= {"dequeued_at": None, "charged_seconds": None}
            if job is not None and charged is not None:
                settle(connection, job.queue, job.tenant, -charged)
        if is_over:
            ended = _time(change.end_time) or now
            values["finished_at"] = ended
            if job is not None and charged is None and change.start_time is not None:
                # It began and ended between two looks.
                charged = 0.0
                charge(connection, job.queue, job.tenant, charged)
            if job is not None and charged is not None:
                began = run.dequeued_at or _time(change.start_time) or ended
                took = (ended - began).total_seconds()
                if change.status != "success" and charged:
                    # The machine may have been off for a night meanwhile: nobody had that time.
                    took = min(took, _MOST_TIMES * charged)
                settle(connection, job.queue, job.tenant, max(took, 0.0) - charged)
                values["charged_seconds"] = None
        connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(values))
        # Of a job's runs only the latest says how it stands.
        if job is None or job.run_id != change.run_id:
            return job is not None
        state = _state_after(change, final or change.attempt >= ATTEMPTS)
        if state == "parked" and not final and spares(connection, cause or ""):
            state = "retrying"
        if job.state == "cancelled" and state in ("retrying", "parked"):
            return True  # somebody was faster, and wants no more of it
        if state is not None:
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.job_id == job.job_id)
                .values(**_job_values(state, change, cause, values.get("finished_at")))
            )
        if state == "completed" and job.partition_key is not None:
            # What was parked before, of the same video and kind, has been made all the same.
            connection.execute(
                sa.update(jobs)
                .where(
                    jobs.c.partition_key == job.partition_key,
                    jobs.c.job_name == job.job_name,
                    jobs.c.state == "parked",
                    jobs.c.accepted_at < job.accepted_at,
                    sa.true() if job.assets is None else jobs.c.assets == job.assets,
                )
                .values(
                    state="cancelled",
                    cause=f"job {job.job_id[:8]} has made it since",
                    action=None,
                )
            )
    if state == "parked":
        _tell(url, job, cause or "")
    return True


def _state_after(change: _Changed, last: bool) -> str | None:
    if change.status == "failure":
        return "parked" if last else "retrying"
    return {
        "queued": "queued",
        "starting": "running",
        "started": "running",
        "success": "completed",
        "canceled": "cancelled",
    }.get(change.status)


def _job_values(
    state: str, change: _Changed, cause: str | None, ended: datetime | None
) -> dict[str, Any]:
    values: dict[str, Any] = {"state": state}
    if state == "retrying":
        values |= {
            "retry_at": (ended or datetime.now(UTC)) + delay_before(change.attempt),
            "cause": storable(cause),
        }
    elif state == "parked":
        values |= {
            "finished_at": ended,
            "cause": storable(cause),
            "action": f"When the cause is gone: tailor queue retry {change.run_id[:8]}, or the job "
            "retry_runs in the web page.",
        }
    elif state in ("completed", "cancelled"):
        values |= {"finished_at": ended, "cause": None, "action": None}
    return values


def _is_final(instance: DagsterInstance, change: _Changed) -> bool:
    """Whether the asset itself said that trying again will not help (failure.py)."""
    run = instance.get_run_by_id(change.run_id)
    return run is not None and run.tags.get(MAX_RETRIES_TAG) == "0"


def failure_cause(instance: DagsterInstance, run_id: str) -> str:
    """Why a run failed, in one sentence where there is one."""
    events = instance.all_logs(
        run_id, of_type={DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    )
    for entry in events:
        event = entry.dagster_event
        if event is None or event.event_type != DagsterEventType.STEP_FAILURE:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return data.user_failure_data.description
        if data.error is not None:
            # What the asset raised; Dagster wraps it in words of its own.
            error = data.error.cause or data.error
            return error.message.strip().splitlines()[0] if error.message.strip() else str(error)
    for entry in reversed(list(events)):
        event = entry.dagster_event
        if event is not None and event.event_type == DagsterEventType.RUN_FAILURE:
            return (event.message or entry.user_message or "").strip() or _UNKNOWN
    return _UNKNOWN


_UNKNOWN = "The run failed without saying why: its log in the web page may."


def _tell(url: str, job: sa.Row[Any], cause: str) -> None:
    from resources.audit.log import record

    record(
        url,
        actor="queue",
        action="job.parked",
        subject=job.job_id,
        details={
            "job": job.job_name,
            "partition": job.partition_key,
            "tenant": job.tenant,
            "cause": cause,
        },
    )


def _show_timeline(url: str, instance: DagsterInstance, run_id: str) -> None:
    """Put the run's timeline into its own log, where people look."""
    run = instance.get_run_by_id(run_id)
    if run is not None:
        instance.report_engine_event(
            "Timeline and cost of this run", run, EngineEventData(timeline_of(url, run))
        )


def timeline_of(url: str, run: DagsterRun) -> dict[str, MetadataValue[Any]]:
    """When a run was queued, dequeued, started and so on, and what it cost, as metadata."""
    with engine_for(url).begin() as connection:
        row = connection.execute(
            sa.select(job_runs_table).where(job_runs_table.c.run_id == run.run_id)
        ).mappings().first()  # fmt: skip
    if row is None:
        return {}
    times = (
        "queued_at", "dequeued_at", "started_at", "gpu_started_at", "gpu_finished_at",
        "published_at", "finished_at",
    )  # fmt: skip
    shown: dict[str, MetadataValue[Any]] = {
        name.removesuffix("_at").replace("_", " "): MetadataValue.timestamp(row[name])
        for name in times
        if row[name] is not None
    }
    shown |= {
        "attempt": MetadataValue.int(row["attempt"]),
        "GPU": MetadataValue.text(row["gpu_uuid"] or row["gpu_name"] or "none"),
        "GPU seconds": MetadataValue.float(round(row["gpu_seconds"], 3)),
        "API units": MetadataValue.int(row["api_units"]),
        "bytes downloaded": MetadataValue.int(row["bytes_downloaded"]),
        "bytes uploaded": MetadataValue.int(row["bytes_uploaded"]),
    }
    return shown


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
