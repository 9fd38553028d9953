"""Retries that Dagster owes and never launches, found and asked for again.

Two ways they get lost, both seen in tests. The retry daemon looks at a failed run in the moment
between its failure event and its status: it takes the run for one still going, and never looks
again. Or the code server is away in the moment of the retry: Dagster gives the run up at once.
"""

from datetime import UTC, datetime, timedelta

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

ASKED_AGAIN_TAG = "tailor/retry_asked_again"

# The retry daemon looks each 5 s; before that nothing is late.
_LATE_SECONDS = 15
# Asking again makes the failure new again, so this has to last for one round only.
_RECENT_SECONDS = 900
_MAX_TIMES = 5
_GIVEN_UP = "Failed to retry run"


def ask_again_for_lost_retries(instance: DagsterInstance) -> list[str]:
    """Ask for each retry that is owed and late; the ids of the failed runs they are retries of.

    Looks at runs that failed in the last quarter of an hour, asks at most five times for each, and
    leaves alone what was never to be retried.
    """
    now = datetime.now(UTC)
    failed = instance.get_run_records(
        RunsFilter(
            statuses=[DagsterRunStatus.FAILURE],
            updated_after=now - timedelta(seconds=_RECENT_SECONDS),
        )
    )
    asked = []
    for record in failed:
        if not _is_owed(instance, record, now.timestamp()):
            continue
        run = record.dagster_run
        times = int(run.tags.get(ASKED_AGAIN_TAG, "0"))
        if times >= _MAX_TIMES:
            continue
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "true", ASKED_AGAIN_TAG: str(times + 1)})
        # What the retry daemon listens to is the event; it then looks at the run afresh.
        instance.report_run_failed(run, "The retry of this run was lost; asking for it again.")
        asked.append(run.run_id)
    return asked


def _is_owed(instance: DagsterInstance, record: RunRecord, now: float) -> bool:
    tags = record.dagster_run.tags
    if AUTO_RETRY_RUN_ID_TAG in tags or record.end_time is None:
        return False
    if now - record.end_time < _LATE_SECONDS:
        return False
    if tags.get(WILL_RETRY_TAG) == "true":
        return True
    # Giving up also unsets the tag; the event is what tells it from a run that was not to be
    # retried at all.
    events = instance.all_logs(record.dagster_run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    return any(event.message == _GIVEN_UP for event in events)
