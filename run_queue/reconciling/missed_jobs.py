"""Videos without a job, jobs without a run, retries nobody noted, limits of a day that is over."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEventType
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, RUN_KEY_TAG
from dagster_shared.error import SerializableErrorInfo

from resources.database import engine_for
from resources.drive import DriveMustWait
from resources.video_registry import videos_table
from run_queue.coordinator import queue_of
from run_queue.job_ledger import JobRow, bring_back, register_run, to_job
from run_queue.job_tables import UNFINISHED_STATES, dagster_runs, job_runs_table, jobs_table
from run_queue.reconciling.look import AT_A_TIME, SETTLED, Look, name_of, parked_publications

_OVERDUE = timedelta(seconds=60)

# Where Google's days turn.
_GOOGLE_DAYS = ZoneInfo("America/Los_Angeles")
_AFTER_MIDNIGHT = time(0, 15)
_DAYS_LOOKED_BACK = timedelta(days=3)


def lost_videos(look: Look) -> list[str]:
    """Admitted videos that have neither a job nor a run, and do not wait: asked for again."""
    videos, now = videos_table, datetime.now(UTC)
    query = (
        sa.select(videos.c.partition_key, videos.c.run_key, videos.c.tenant, videos.c.folder_name)
        .where(
            videos.c.state == "admitted",
            videos.c.waiting_for.is_(None),
            videos.c.run_key.is_not(None),
            videos.c.admitted_at.between(now - look.memory, now - SETTLED),
            ~sa.exists().where(jobs_table.c.request_key == videos.c.run_key),
            # Asked for twice in a row, it is made once, under the later key.
            ~sa.exists().where(
                jobs_table.c.partition_key == videos.c.partition_key,
                jobs_table.c.accepted_at >= videos.c.admitted_at - SETTLED,
            ),
        )
        .limit(AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        rows = connection.execute(query).all()
    mended = []
    for row in rows:
        filters = dg.RunsFilter(tags={RUN_KEY_TAG: row.run_key})
        if look.instance.get_runs(filters, limit=1):
            continue
        with engine_for(look.url).begin() as connection:
            changed = connection.execute(
                sa.update(videos)
                # Whatever the Drive's sensor has learned since counts.
                .where(
                    videos.c.partition_key == row.partition_key,
                    videos.c.run_key == row.run_key,
                    videos.c.admitted_at < now - SETTLED,
                )
                .values(admitted_at=None)
            )
        if changed.rowcount:
            mended.append(
                f"{row.tenant}, {row.folder_name}: its job was lost; it is asked for again."
            )
    return mended


def vanished_runs(look: Look) -> list[str]:
    """Unfinished jobs whose run somebody has deleted: parked, to be begun anew when wanted."""
    jobs, runs, before = jobs_table, job_runs_table, datetime.now(UTC) - _OVERDUE
    query = (
        sa.select(jobs)
        .where(
            jobs.c.state.in_(UNFINISHED_STATES),
            jobs.c.run_id.is_not(None),
            ~sa.exists().where(runs.c.run_id == jobs.c.run_id, runs.c.queued_at > before),
        )
        .limit(AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        unfinished = [to_job(row) for row in connection.execute(query).mappings()]
    ids = [job.run_id for job in unfinished if job.run_id is not None]
    there = look.instance.get_runs(dg.RunsFilter(run_ids=ids)) if ids else []
    present = {run.run_id for run in there}
    return [
        f"{name_of(job)}: its run was deleted; the job is parked."
        for job in unfinished
        if job.run_id not in present and _park_without_run(look.url, job)
    ]


def unstarted_runs(look: Look) -> list[str]:
    """Unfinished jobs whose run was made and noted, but never came to Dagster's queue: failed, as
    any other attempt that a machine's death has ended.

    The daemon died in between; Dagster itself takes up such a run nowhere.
    """
    jobs, runs, before = jobs_table, job_runs_table, datetime.now(UTC) - _OVERDUE
    query = (
        sa.select(jobs)
        .where(
            jobs.c.state.in_(UNFINISHED_STATES),
            sa.exists().where(runs.c.run_id == jobs.c.run_id, runs.c.queued_at <= before),
            sa.exists().where(
                dagster_runs.c.run_id == jobs.c.run_id, dagster_runs.c.status == "NOT_STARTED"
            ),
        )
        .limit(AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        found = [to_job(row) for row in connection.execute(query).mappings()]
    mended = []
    for job in found:
        run = look.instance.get_run_by_id(job.run_id) if job.run_id is not None else None
        if run is not None and run.status == dg.DagsterRunStatus.NOT_STARTED:
            look.instance.report_run_failed(
                run, "The daemon died before it had put the run into the queue."
            )
            mended.append(f"{name_of(job)}: its run never came to the queue; it counts as failed.")
    return mended


def _park_without_run(url: str, job: JobRow) -> bool:
    jobs, runs, now = jobs_table, job_runs_table, datetime.now(UTC)
    cause = "Its run was deleted before it was over."
    with engine_for(url).begin() as connection:
        parked = connection.execute(
            sa.update(jobs)
            .where(
                jobs.c.job_id == job.job_id,
                jobs.c.run_id == job.run_id,
                jobs.c.state.in_(UNFINISHED_STATES),
            )
            .values(
                state="parked",
                # Without one it becomes pending again when it is brought back.
                run_id=None,
                retry_at=None,
                finished_at=now,
                cause=cause,
                action="Launch it anew in the web page."
                if job.request_key is None
                else f"To have it made after all: tailor queue retry {job.job_id[:8]}",
            )
        )
        if parked.rowcount:
            connection.execute(
                sa.update(runs)
                .where(runs.c.run_id == job.run_id, runs.c.finished_at.is_(None))
                .values(finished_at=now, cause=cause)
            )
    return parked.rowcount > 0


def overdue_retries(look: Look) -> list[str]:
    """Retries that were made, and that the job did not hear of; now it has.

    One that was not made is made by the retry daemon, as long as there is one.
    """
    query = sa.select(jobs_table).where(
        jobs_table.c.state == "retrying", jobs_table.c.retry_at < datetime.now(UTC) - _OVERDUE
    ).limit(AT_A_TIME)  # fmt: skip
    with engine_for(look.url).begin() as connection:
        overdue = [to_job(row) for row in connection.execute(query).mappings()]
    mended = []
    for job in overdue:
        failed = look.instance.get_run_by_id(job.run_id) if job.run_id is not None else None
        successor_id = failed.tags.get(AUTO_RETRY_RUN_ID_TAG) if failed is not None else None
        retry = look.instance.get_run_by_id(successor_id) if successor_id is not None else None
        if retry is None or retry.status == dg.DagsterRunStatus.NOT_STARTED:
            continue
        register_run(look.url, retry, queue_of(retry))
        mended.append(f"{name_of(job)}: its retry {retry.run_id[:8]} had not been noted.")
    return mended


def limits_of_the_day(look: Look) -> list[str]:
    """Jobs that ended because a Drive gave no more that day: tried again when the day has turned."""
    jobs, now = jobs_table, datetime.now(UTC)
    later = jobs.alias("later")
    query = (
        sa.select(jobs)
        .where(
            jobs.c.state == "parked",
            jobs.c.run_id.is_not(None),
            jobs.c.partition_key.is_not(None),
            # What was not brought back when its day turned is left to people.
            jobs.c.finished_at > now - _DAYS_LOOKED_BACK,
            ~sa.exists().where(
                later.c.partition_key == jobs.c.partition_key,
                later.c.job_name == jobs.c.job_name,
                later.c.accepted_at > jobs.c.accepted_at,
            ),
        )
        .order_by(jobs.c.finished_at.desc())
        .limit(AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        parked = [to_job(row) for row in connection.execute(query).mappings()]
    return [
        f"{name_of(job)}: the Drive's day has turned; it is tried again."
        for job in parked
        if job.finished_at is not None
        and turn_of_the_day(job.finished_at) <= now
        and not _is_parked_publication(look.url, job)
        and _failed_with(look.instance, job.run_id or "", DriveMustWait.__name__)
        and bring_back(look.url, job.job_id)
    ]


def turn_of_the_day(after: datetime) -> datetime:
    """When Google's limits of the day are new again: a little after midnight, Pacific time."""
    local = after.astimezone(_GOOGLE_DAYS)
    turn = datetime.combine(local.date(), _AFTER_MIDNIGHT, _GOOGLE_DAYS)
    if turn <= local:
        turn = datetime.combine(local.date() + timedelta(days=1), _AFTER_MIDNIGHT, _GOOGLE_DAYS)
    return turn


def _failed_with(instance: dg.DagsterInstance, run_id: str, error_class: str) -> bool:
    """Whether a step of the run failed by this error, or by one that it led to."""
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        error = event.step_failure_data.error if event is not None else None
        if error is not None and _is_or_follows(error, error_class):
            return True
    return False


def _is_or_follows(error: SerializableErrorInfo, error_class: str) -> bool:
    before = (error.cause, error.context)
    return error.cls_name == error_class or any(
        _is_or_follows(earlier, error_class) for earlier in before if earlier is not None
    )


def _is_parked_publication(url: str, job: JobRow) -> bool:
    """Whether the publication itself is parked: then another sensor has it tried again, and sooner."""
    return bool(parked_publications(url, [job.partition_key or ""]))
