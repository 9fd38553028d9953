"""What operators do to the queue, from the command line and from the web page: each noted in the audit.

Every function says in a sentence what it did. Doing the same again does no harm.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.errors import (
    DagsterRunNotFoundError,
    DagsterUserCodeProcessError,
    DagsterUserCodeUnreachableError,
)

from run_queue.failure import no_retry_follows
from run_queue.job_ledger import (
    PRIORITY_TAG,
    JobRow,
    bring_back,
    find_job,
    mark_cancelled,
    set_priority,
)
from run_queue.job_tables import FINISHED_STATES, JOB_STATES
from run_queue.pauses import PauseReason, pause, resume


def cancel(url: str, instance: DagsterInstance, name: str, *, who: str, why: str) -> str:
    """Cancel the job of this id, run or video, wherever it stands.

    Raises PermanentProblem where there is none.
    """
    job = find_job(url, name)
    if job.state in FINISHED_STATES:
        return f"{_short(job)} is {job.state} already."
    waited = mark_cancelled(url, job.job_id, f"{who} cancelled it: {why}")
    if waited:
        no_retry_follows(instance, job.run_id)
    # It may have come to Dagster's queue in this moment; what is not there is not cancelled twice.
    job = find_job(url, job.job_id)
    if job.run_id is not None:
        run = instance.get_run_by_id(job.run_id)
        if run is not None and run.is_finished:
            # It has failed, and the daemon has not noted it: no retry must come of that.
            waited = waited or mark_cancelled(
                url, job.job_id, f"{who} cancelled it: {why}", over=job.run_id
            )
            no_retry_follows(instance, job.run_id)
        elif run is not None and run.status != DagsterRunStatus.CANCELING:
            # The code server, which would tell its worker, may be away: then the worker finds it out
            # by itself, or is ended (reaper.py).
            with contextlib.suppress(DagsterUserCodeUnreachableError, DagsterUserCodeProcessError):
                instance.run_coordinator.cancel_run(job.run_id)
    _note(url, who, "job.cancelled", job, {"why": why})
    return f"{_short(job)} {'is cancelled' if waited else 'is being cancelled'}."


def retry(url: str, name: str, *, who: str, why: str) -> str:
    """Have a parked or cancelled job tried again, from where it had come."""
    job = find_job(url, name)
    if not bring_back(url, job.job_id):
        if job.run_id is None and job.request_key is None:
            return f"{_short(job)} was launched by hand, and its run is gone: launch it anew."
        return (
            f"{_short(job)} is {job.state} ({JOB_STATES[job.state]}), so there is nothing to retry."
        )
    _note(url, who, "job.retried", job, {"why": why, "cause": job.cause})
    return f"{_short(job)} is tried again within seconds, from the step that failed."


def reprioritise(
    url: str, instance: DagsterInstance, name: str, priority: int, *, who: str, why: str
) -> str:
    """Give a waiting job another priority: 1 urgent, 5 normal, 10 low."""
    job = find_job(url, name)
    if not set_priority(url, job.job_id, priority):
        return f"{_short(job)} is {job.state}: only what waits can be moved."
    if job.run_id is not None:
        with contextlib.suppress(DagsterRunNotFoundError):  # somebody has deleted it
            instance.add_run_tags(job.run_id, {PRIORITY_TAG: str(priority)})
    _note(url, who, "job.reprioritised", job, {"why": why, "to": priority, "from": job.priority})
    return f"{_short(job)} has priority {priority} now (it had {job.priority})."


def pause_queue(url: str, *, who: str, why: str) -> str:
    """Start nothing more; what is under way goes on."""
    is_new = pause(url, "operator", who=who, why=why)
    _record(url, who, "queue.paused", "operator", {"why": why})
    return "The queue is paused." if is_new else "The queue was paused already; the reason is new."


def resume_queue(url: str, *, who: str, why: str, what: PauseReason = "operator") -> str:
    """End a pause, of an operator's unless ``what`` says otherwise; others may still hold.

    One for heat or depth begins again by itself where its cause is still there.
    """
    if not resume(url, what):
        return f"The queue was not paused ({what})."
    _record(url, who, "queue.resumed", what, {"why": why})
    return f"The pause ({what}) is over."


def _short(job: JobRow) -> str:
    return f"Job {job.job_id[:8]} ({job.job_name}, {job.partition_key or 'no single video'})"


def _note(url: str, who: str, action: str, job: JobRow, details: Mapping[str, Any]) -> None:
    about = {"job": job.job_name, "partition": job.partition_key, "tenant": job.tenant}
    _record(url, who, action, job.job_id, {**about, **details})


def _record(url: str, who: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
    from resources.audit.log import record

    record(url, actor=who, action=action, subject=subject, details=details)
