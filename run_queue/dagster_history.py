"""What Dagster keeps of runs that are over, and what of it may go.

By its events Dagster knows which partitions are made, from what and with which metadata, and what
their checks found; deleting a run deletes its events, and the partition is "missing" in the web page.
So a run goes only where nothing that holds today is known from it, and of the others only the events
that nobody asks for any more. There is no interface of Dagster's that answers either question: it is
asked of Dagster's own tables (tests/test_retention.py sees that what must survive does). Runs are
deleted through the instance.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEventType as Event
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.runs.schema import BulkActionsTable, RunsTable, RunTagsTable
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG

from resources.database import engine_for
from run_queue.job_tables import job_runs_table, jobs_table
from run_queue.retention_policy import RetentionPolicy

# Log lines (no type at all), and what the machinery says of itself. Kept are materializations,
# checks, the run's own states, and the steps': by those a run is re-executed from where it failed.
_NOISE = (
    Event.ENGINE_EVENT,
    Event.STEP_WORKER_STARTING,
    Event.STEP_WORKER_STARTED,
    Event.RESOURCE_INIT_STARTED,
    Event.RESOURCE_INIT_SUCCESS,
    Event.LOGS_CAPTURED,
)
_TELLS_STATE = (Event.ASSET_MATERIALIZATION, Event.ASSET_OBSERVATION)
_EVALUATED = ("SUCCEEDED", "FAILED")
_BACKFILL_UNDER_WAY = (
    BulkActionStatus.REQUESTED,
    BulkActionStatus.CANCELING,
    BulkActionStatus.FAILING,
)
_COMPUTE_LOGS = "compute_logs"

_runs, _events, _checks = RunsTable, SqlEventLogStorageTable, AssetCheckExecutionsTable


def runs_of_no_more_use(
    url: str, policy: RetentionPolicy, *, before: int | None, most: int
) -> list[tuple[int, str]]:
    """(number, id) of runs that may be deleted, the newest first; ``before``: with lower numbers.

    Such a run is over for longer than its kind is kept, belongs to no job that is still listed, holds
    no latest materialization, observation or check of anything, and no run that stays descends from
    it: Dagster counts retries by the first run of a group, and fails where that is gone.
    """
    query = (
        sa.select(_runs.c.id, _runs.c.run_id)
        .where(
            _over_and_old(policy),
            ~_of_a_listed_job(),
            ~_has_descendants(),
            ~_of_a_backfill_under_way(),
            ~_holds_the_latest_event(),
            ~_holds_the_latest_check(),
        )
        .order_by(_runs.c.id.desc())
        .limit(most)
    )
    if before is not None:
        query = query.where(_runs.c.id < before)
    with engine_for(url).begin() as connection:
        return [(row.id, row.run_id) for row in connection.execute(query)]


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a run with all its events, and what its processes printed."""
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id, _COMPUTE_LOGS])


def delete_prints(
    instance: dg.DagsterInstance, url: str, policy: RetentionPolicy, most: int
) -> int:
    """Delete what the processes of at most so many old runs printed; of how many there was any."""
    # The event that says where it is stays until it is gone.
    query = (
        sa.select(_events.c.run_id)
        .distinct()
        .join(_runs, _runs.c.run_id == _events.c.run_id)
        .where(
            _events.c.dagster_event_type == Event.LOGS_CAPTURED.value,
            _over_and_old(policy),
            ~_of_a_listed_job(),
        )
        .limit(most)
    )
    with engine_for(url).begin() as connection:
        run_ids = list(connection.execute(query).scalars())
    if not run_ids:
        return 0
    for run_id in run_ids:
        instance.compute_log_manager.delete_logs(prefix=[run_id, _COMPUTE_LOGS])
    _delete_noise(url, policy, (Event.LOGS_CAPTURED,), _events.c.run_id.in_(run_ids), most=None)
    return len(run_ids)


def delete_noise(url: str, policy: RetentionPolicy, most: int) -> int:
    """Delete at most so many events of old runs that nobody asks for any more; how many it were."""
    others = [event for event in _NOISE if event is not Event.LOGS_CAPTURED]
    deleted = _delete_noise(url, policy, others, sa.true(), most=most)
    if deleted < most:
        deleted += _delete_noise(url, policy, None, sa.true(), most=most - deleted)
    return deleted


def _delete_noise(
    url: str,
    policy: RetentionPolicy,
    types: Sequence[Event] | None,
    where: sa.ColumnElement[bool],
    *,
    most: int | None,
) -> int:
    """``types`` None: events without one. Two queries, as an index answers either and no OR."""
    kind = (
        _events.c.dagster_event_type.is_(None)
        if types is None
        else _events.c.dagster_event_type.in_([event.value for event in types])
    )
    chosen = (
        sa.select(_events.c.id)
        .join(_runs, _runs.c.run_id == _events.c.run_id)
        .where(kind, where, _over_and_old(policy), ~_of_a_listed_job())
        .limit(most)
    )
    with engine_for(url).begin() as connection:
        return connection.execute(sa.delete(_events).where(_events.c.id.in_(chosen))).rowcount


def _over_and_old(policy: RetentionPolicy) -> sa.ColumnElement[bool]:
    now = datetime.now(UTC)
    # Unix seconds; of runs of earlier versions only the row's last change is known.
    ended = sa.func.coalesce(
        _runs.c.end_time, sa.func.extract("epoch", _runs.c.update_timestamp), type_=sa.Float
    )
    return sa.or_(
        sa.and_(
            _runs.c.status.in_(("SUCCESS", "CANCELED")),
            ended < (now - policy.finished).timestamp(),
        ),
        sa.and_(_runs.c.status == "FAILURE", ended < (now - policy.failed).timestamp()),
    )


def _of_a_listed_job() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        job_runs_table.c.run_id == _runs.c.run_id, jobs_table.c.job_id == job_runs_table.c.job_id
    )


def _has_descendants() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        RunTagsTable.c.key.in_((ROOT_RUN_ID_TAG, PARENT_RUN_ID_TAG)),
        RunTagsTable.c.value == _runs.c.run_id,
    )


def _of_a_backfill_under_way() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        BulkActionsTable.c.key == _runs.c.backfill_id,
        BulkActionsTable.c.status.in_([status.value for status in _BACKFILL_UNDER_WAY]),
    )


def _holds_the_latest_event() -> sa.ColumnElement[bool]:
    later = _events.alias("later")
    return sa.exists().where(
        _events.c.run_id == _runs.c.run_id,
        _events.c.dagster_event_type.in_([event.value for event in _TELLS_STATE]),
        ~sa.exists().where(
            later.c.asset_key == _events.c.asset_key,
            later.c.dagster_event_type == _events.c.dagster_event_type,
            _same(later.c.partition, _events.c.partition),
            later.c.id > _events.c.id,
        ),
    )


def _holds_the_latest_check() -> sa.ColumnElement[bool]:
    later = _checks.alias("later_check")
    return sa.exists().where(
        _checks.c.run_id == _runs.c.run_id,
        _checks.c.execution_status.in_(_EVALUATED),
        ~sa.exists().where(
            later.c.asset_key == _checks.c.asset_key,
            later.c.check_name == _checks.c.check_name,
            later.c.execution_status.in_(_EVALUATED),
            _same(later.c.partition, _checks.c.partition),
            later.c.id > _checks.c.id,
        ),
    )


def _same(
    one: sa.ColumnElement[str | None], other: sa.ColumnElement[str | None]
) -> sa.ColumnElement[bool]:
    # An index answers equality, and not "is not distinct from".
    return sa.or_(one == other, sa.and_(one.is_(None), other.is_(None)))
