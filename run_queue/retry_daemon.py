"""The part of the daemon that tries failed jobs again: 2, 4 and at most 8 s after they failed.

Dagster's own retries at once, and forgets a retry for good when the code server is away in that
moment, or when it sees a failure before the run's status. Here what is due is a row, and it stays due
until its run is there. What Dagster does to make a retry is used as it is: a new run that goes on
from the step that failed.
"""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.errors import (
    DagsterCodeLocationLoadError,
    DagsterInvalidSubsetError,
    DagsterUserCodeUnreachableError,
)
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, BACKFILL_ID_TAG
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import retry_run
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.daemon import DaemonIterator

from resources.database import engine_for, storable
from run_queue.coordinator import database_url
from run_queue.failure import no_retry_follows
from run_queue.job_ledger import JobRow, to_job
from run_queue.job_tables import jobs_table

_LOOK_EVERY_S = 1
_AT_A_TIME = 20
# A retry that cannot be made for so long will not be: its pipeline is not there any more.
_PATIENCE_S = 600.0
_PUT_OFF = timedelta(seconds=10)

logger = logging.getLogger("tailor.queue")


class RetryDaemon(EventLogConsumerDaemon):
    """Looks each second for retries that are due."""

    def __init__(self) -> None:
        """As Dagster makes it."""
        super().__init__(interval_seconds=_LOOK_EVERY_S)
        # Since when (monotonic) the retries of these jobs fail here.
        self._failing_since: dict[str, float] = {}

    def run_iteration(self, workspace_process_context: IWorkspaceProcessContext) -> DaemonIterator:
        """Make the retries that are due; one that cannot be made now is made at a later look."""
        url = database_url(workspace_process_context.instance)
        now = time.monotonic()
        # What somebody has cancelled is forgotten in time.
        self._failing_since = {
            job_id: since
            for job_id, since in self._failing_since.items()
            if now - since < 2 * _PATIENCE_S
        }
        for job in due_retries(url):
            yield None
            try:
                _try_again(url, workspace_process_context, job)
                self._failing_since.pop(job.job_id, None)
            except (DagsterUserCodeUnreachableError, DagsterCodeLocationLoadError) as error:
                # However long: without its pipeline nothing of a job can be judged.
                self._failing_since.pop(job.job_id, None)
                logger.warning("The retry of job %s has to wait: %s", job.job_id, error)
                _put_off(url, job)
            except Exception as error:  # whatever it is, the others' retries are due too
                logger.warning("The retry of job %s has to wait: %s", job.job_id, error)
                _put_off(url, job)
                # From the first try on: the machine may have been off since it was due.
                since = self._failing_since.setdefault(job.job_id, time.monotonic())
                if time.monotonic() - since > _PATIENCE_S:
                    _give_up(url, workspace_process_context.instance, job, str(error))


def due_retries(url: str) -> Sequence[JobRow]:
    """Jobs whose next attempt is due, the longest overdue first."""
    now = datetime.now(UTC)
    is_due = sa.or_(
        jobs_table.c.retry_at <= now,
        # No delay is so long: the clock has been put back meanwhile.
        jobs_table.c.retry_at > now + timedelta(minutes=1),
    )
    query = (
        sa.select(jobs_table)
        .where(jobs_table.c.state == "retrying", is_due)
        .order_by(jobs_table.c.retry_at)
        .limit(_AT_A_TIME)
    )
    with engine_for(url).begin() as connection:
        return [to_job(row) for row in connection.execute(query).mappings()]


def _put_off(url: str, job: JobRow) -> None:
    """Look at it again a little later: those that cannot be made must not hide those that can."""
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(jobs_table)
            .where(_still_waits(job))
            .values(retry_at=datetime.now(UTC) + _PUT_OFF)
        )


def _still_waits(job: JobRow) -> sa.ColumnElement[bool]:
    """For the retry that this look has seen: nobody has made or cancelled it since."""
    jobs = jobs_table
    return sa.and_(
        jobs.c.job_id == job.job_id, jobs.c.state == "retrying", jobs.c.run_id == job.run_id
    )


def _try_again(url: str, workspace: IWorkspaceProcessContext, job: JobRow) -> None:
    instance = workspace.instance
    run = instance.get_run_by_id(job.run_id) if job.run_id is not None else None
    if run is None:
        raise LookupError("its last run has been deleted")
    if not run.is_finished:
        return  # the look of a moment ago is out of date
    if run.status == DagsterRunStatus.SUCCESS:
        # It was given up for dead, and was not.
        _finish(url, instance, job, "completed", None)
        return
    if job.attempts and _is_of_a_cancelled_backfill(instance, run):
        _finish(url, instance, job, "cancelled", "Its backfill was cancelled.")
        return
    try:
        retry_run(run, workspace)
    except DagsterInvalidSubsetError as error:
        if "No steps needed" not in str(error):
            raise  # an asset that its job does not have any more
        # It was killed after its last step and before it could say that it is done.
        _finish(url, instance, job, "completed", None)
        return
    if not _has_successor(instance, run.run_id):
        raise LookupError("Dagster made no run of it: its job may have been removed or renamed")


def _has_successor(instance: DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    successor = run.tags.get(AUTO_RETRY_RUN_ID_TAG) if run is not None else None
    if successor is None:
        return False
    found = instance.get_run_by_id(successor)
    return found is not None and found.status != DagsterRunStatus.NOT_STARTED


def _is_of_a_cancelled_backfill(instance: DagsterInstance, run: DagsterRun) -> bool:
    backfill_id = run.tags.get(BACKFILL_ID_TAG)
    backfill = instance.get_backfill(backfill_id) if backfill_id is not None else None
    return backfill is not None and backfill.status in (
        BulkActionStatus.CANCELING,
        BulkActionStatus.CANCELED,
    )


def _give_up(url: str, instance: DagsterInstance, job: JobRow, why: str) -> None:
    before = job.cause or "no cause is known"
    cause = f"It could not be tried again ({why}); before that: {before}"
    _finish(url, instance, job, "parked", cause)


def _finish(
    url: str, instance: DagsterInstance, job: JobRow, state: str, cause: str | None
) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(jobs_table)
            .where(_still_waits(job))
            .values(
                state=state,
                cause=storable(cause),
                action="Launch it anew in the web page." if state == "parked" else None,
                retry_at=None,
                finished_at=datetime.now(UTC),
            )
        )
    no_retry_follows(instance, job.run_id)
