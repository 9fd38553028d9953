"""The part of the daemon that starts runs: Dagster's, with our order.

Dagster sorts by a tag whatever is in its queue, and reads every queued run in full at each look (10,000
of them take longer than a second). Here the order comes from ``tailor.jobs`` (line.py), and only
the few runs are read that could start now. Limits are checked by Dagster's own counters.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.instance.config import ConcurrencyConfig
from dagster._core.op_concurrency_limits_counter import GlobalOpConcurrencyLimitsCounter
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster._daemon.daemon import DaemonIterator
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)
from dagster._utils.tags import TagConcurrencyLimitsCounter

from resources.database import engine_for
from run_queue.admission import NO_LIMITS, quotas_of, running_on_gpu
from run_queue.breaker import may_probe, watch_failures
from run_queue.coordinator import OPERATOR_QUEUE, QUEUE_TAG, database_url, queue_of
from run_queue.held_connections import hold_connections
from run_queue.job_sync import adopt_runs, follow_runs
from run_queue.job_tables import dagster_runs
from run_queue.line import QUEUES, Place, the_line
from run_queue.one_at_a_time import RunIsTaken, alone_with_run
from run_queue.pauses import pauses
from run_queue.reaper import end_what_outlives_its_run, fail_what_died_while_it_started
from run_queue.shares import Expectations
from run_queue.waiting_tags import WaitingTags

# Of each queue, how many of the first in line are read; the limits allow fewer to start at once.
CANDIDATES_PER_QUEUE = 16
_REAP_EVERY_S = 5.0

logger = logging.getLogger("tailor.queue")


class TailorQueueDaemon(QueuedRunCoordinatorDaemon):
    """Notes what has become of runs, then starts the next ones."""

    def __init__(self, interval_seconds: float) -> None:
        """As Dagster makes it."""
        super().__init__(interval_seconds)
        self._expectations: Expectations | None = None
        self._tags = WaitingTags()
        self._reaped_at = 0.0
        self._holds_connections = False

    def run_iteration(
        self,
        workspace_process_context: IWorkspaceProcessContext,
        fixed_iteration_time: float | None = None,
    ) -> DaemonIterator:
        """One look: what has changed, what starts, and now and then what people are told."""
        instance = workspace_process_context.instance
        if not self._holds_connections:
            # Of the daemon's whole process: all its threads have the same instance.
            hold_connections(instance)
            self._holds_connections = True
        url = database_url(instance)
        expectations = self._expected(url)
        if follow_runs(url, instance, expectations):
            self._watch_failures(url)
        try:
            adopt_runs(url, instance, queue_of)
        except Exception:  # whatever it is, what is known has to move
            logger.exception("Runs that came past the coordinator could not be noted.")
        yield None
        yield from super().run_iteration(workspace_process_context, fixed_iteration_time)
        yield None
        self._tags.show(url, instance, expectations)
        if time.monotonic() - self._reaped_at > _REAP_EVERY_S:
            self._reaped_at = time.monotonic()
            # Here, where no launch is under way: until then a retry has its parent's tags.
            fail_what_died_while_it_started(instance)
            end_what_outlives_its_run(url, instance)

    @staticmethod
    def _watch_failures(url: str) -> None:
        try:
            watch_failures(url)
        except Exception:  # it guards the queue, and must not stop it
            logger.exception("The last failures could not be judged.")

    def _expected(self, url: str) -> Expectations:
        if self._expectations is None:
            self._expectations = Expectations(url)
        return self._expectations

    def _dequeue_run(
        self, instance: DagsterInstance, workspace: Any, run: DagsterRun, *more: Any
    ) -> bool:
        try:
            with alone_with_run(database_url(instance), run.run_id):
                self._tags.clear(instance, run.run_id)
                return super()._dequeue_run(instance, workspace, run, *more)
        except RunIsTaken as taken:
            logger.warning("%s", taken)
            return False  # the others are started, and this one at a later look

    def _get_runs_to_dequeue(
        self,
        instance: DagsterInstance,
        concurrency_config: ConcurrencyConfig,
        fixed_iteration_time: float | None,
    ) -> list[DagsterRun]:
        """Runs that start now, in the order of the line."""
        settings = concurrency_config.run_queue_config
        assert settings is not None
        records = self._get_in_progress_run_records(instance)
        room = settings.max_concurrent_runs - len(records)
        if settings.max_concurrent_runs != -1 and room <= 0:
            return []
        now = fixed_iteration_time or time.time()
        with self._location_timeouts_lock:
            resting = {name for name, until in self._location_timeouts.items() if until > now}
        in_progress = [record.dagster_run for record in records]
        url = database_url(instance)
        runs = _runs_of(instance, candidates(url, self._expected(url), in_progress))
        by_tag = TagConcurrencyLimitsCounter(settings.tag_concurrency_limits or [], in_progress)
        by_pool = _pool_counter(instance, concurrency_config, runs, records)
        chosen = []
        for run in runs:
            if by_tag.is_blocked(run) or (by_pool is not None and by_pool.is_blocked(run)):
                continue
            origin = run.remote_job_origin
            if origin is not None and origin.location_name in resting:
                continue
            by_tag.update_counters_with_launched_item(run)
            if by_pool is not None:
                by_pool.update_counters_with_launched_item(run)
            chosen.append(run)
        return chosen[:room] if settings.max_concurrent_runs != -1 else chosen


def candidates(
    url: str, expectations: Expectations, in_progress: Sequence[DagsterRun]
) -> list[Place]:
    """The first of each queue that nothing but the queue's own places keeps from starting."""
    line = the_line(url, expectations, states=("queued",))
    held = pauses(url)
    queued = _in_dagsters_queue(url)
    busy = {run.tags.get(PARTITION_NAME_TAG) for run in in_progress} - {None}
    with engine_for(url).begin() as connection:
        quotas = quotas_of(connection)
        running = running_on_gpu(connection)
    under_way = [run for run in in_progress if run.tags.get(QUEUE_TAG) != OPERATOR_QUEUE]
    failures = held.get("failures")
    stands = "operator" in held or (
        failures is not None and (bool(under_way) or not may_probe(url, failures))
    )
    found: list[Place] = []
    for queue in (OPERATOR_QUEUE,) if stands else QUEUES:
        first: list[Place] = []
        for place in line.get(queue, ()):
            limit = quotas.get(place.tenant, NO_LIMITS).concurrent
            full = queue == "gpu" and limit is not None and running[place.tenant] >= limit
            # A run may have been deleted, or be on its way out: it must not take a candidate's place.
            if place.run_id not in queued or place.partition_key in busy or full:
                continue
            first.append(place)
            if place.partition_key is not None:
                busy.add(place.partition_key)
            running[place.tenant] += queue == "gpu"
            if len(first) == CANDIDATES_PER_QUEUE:
                break
        found += first
    if failures is not None:
        # One at a time, to see whether it works again.
        operators = [place for place in found if place.queue == OPERATOR_QUEUE]
        return found[: len(operators) + 1]
    return found


def _in_dagsters_queue(url: str) -> set[str]:
    runs = dagster_runs
    with engine_for(url).begin() as connection:
        query = sa.select(runs.c.run_id).where(runs.c.status == "QUEUED")
        return set(connection.execute(query).scalars())


def _runs_of(instance: DagsterInstance, places: Sequence[Place]) -> list[DagsterRun]:
    ids = [place.run_id for place in places if place.run_id is not None]
    if not ids:
        return []
    runs = {
        run.run_id: run
        for run in instance.get_runs(
            RunsFilter(run_ids=ids, statuses=[DagsterRunStatus.QUEUED]), limit=len(ids)
        )
    }
    return [runs[run_id] for run_id in ids if run_id in runs]


def _pool_counter(
    instance: DagsterInstance,
    config: ConcurrencyConfig,
    runs: Sequence[DagsterRun],
    in_progress: Sequence[RunRecord],
) -> GlobalOpConcurrencyLimitsCounter | None:
    settings = config.run_queue_config
    if settings is None or not settings.should_block_op_concurrency_limited_runs or not runs:
        return None
    try:
        return GlobalOpConcurrencyLimitsCounter(
            instance,
            list(runs),
            in_progress,
            concurrency_keys=instance.event_log_storage.get_concurrency_keys(),
            pool_limits=instance.event_log_storage.get_pool_limits(),
            slot_count_offset=settings.op_concurrency_slot_buffer,
            pool_granularity=config.pool_config.pool_granularity,
        )
    except Exception:  # as in Dagster: the pool itself keeps its limit, and runs wait before it
        logger.exception("The pools could not be counted.")
        return None
