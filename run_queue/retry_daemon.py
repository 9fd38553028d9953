"""The part of the daemon that tries failed jobs again: 2, 4 and at most 8 s after they failed.

Dagster's own retries at once, and forgets a retry for good when the code server is away in that
moment, or when it sees a failure before the run's status. Here what is due is a row, and it stays due
until its run is there. What Dagster does to make a retry is used as it is: a new run that goes on
from the step that failed.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.errors import DagsterInvalidSubsetError
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import retry_run
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.daemon import DaemonIterator

from resources.database import engine_for, storable
from run_queue.coordinator import database_url
from run_queue.job_ledger import JobRow, to_job
from run_queue.job_tables import jobs_table

_LOOK_EVERY_S = 1
_AT_A_TIME = 20
# A retry that cannot be made for so long will not be: its pipeline is not there any more.
_PATIENCE = timedelta(minutes=10)

logger = logging.getLogger("tailor.queue")


class RetryDaemon(EventLogConsumerDaemon):
    """Looks each second for retries that are due."""

    def __init__(self) -> None:
        """As Dagster makes it."""
        super().__init__(interval_seconds=_LOOK_EVERY_S)

    def run_iteration(self, workspace_process_context: IWorkspaceProcessContext) -> DaemonIterator:
        """Make the retries that are due; one that cannot be made now is made at a later look."""
        url = database_url()
        for job in due_retries(url):
            yield None
            try:
                _try_again(url, workspace_process_context, job)
            except Exception as error:  # whatever it is, the others' retries are due too
                logger.warning("The retry of job %s has to wait: %s", job.job_id, error)
                _give_up_in_the_end(url, job, str(error))


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


def _try_again(url: str, workspace: IWorkspaceProcessContext, job: JobRow) -> None:
    instance = workspace.instance
    run = instance.get_run_by_id(job.run_id) if job.run_id is not None else None
    if run is None:
        raise LookupError("its last run has been deleted")
    if not run.is_finished:
        return  # the look of a moment ago is out of date
    try:
        retry_run(run, workspace)
    except DagsterInvalidSubsetError:
        # It was killed after its last step and before it could say that it is done.
        _finish(url, job, "completed", None)
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


def _give_up_in_the_end(url: str, job: JobRow, why: str) -> None:
    if job.retry_at is not None and datetime.now(UTC) - job.retry_at > _PATIENCE:
        _finish(
            url,
            job,
            "parked",
            f"It could not be tried again ({why}); before that: {job.cause or 'no cause is known'}",
        )


def _finish(url: str, job: JobRow, state: str, cause: str | None) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(jobs_table)
            .where(
                jobs_table.c.job_id == job.job_id,
                jobs_table.c.state == "retrying",
                jobs_table.c.run_id == job.run_id,
            )
            .values(
                state=state,
                cause=storable(cause),
                action="Launch it anew in the web page." if state == "parked" else None,
                retry_at=None,
                finished_at=datetime.now(UTC),
            )
        )
