"""The run coordinator: what comes to Dagster's queue is tagged, and noted as a job's attempt.

The limits in dagster.yaml count runs by the tag ``tailor/queue``. It is decided here and nowhere
else, from the pools that the steps of this very run need: job tags do not reach the runs of an asset
backfill, and a re-execution inherits the tags of its parent although it may need less than its parent
did. Everything that is queued passes here, whoever asked for it, so here it is noted (job_ledger.py).
In which order runs then start is decided in queue_daemon.py.
"""

from collections.abc import Mapping
from typing import Any, Self, cast

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, Field
from dagster._config.config_schema import UserConfigSchema
from dagster._core.errors import DagsterRunNotFoundError
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.storage.tags import RETRY_NUMBER_TAG
from dagster._serdes import ConfigurableClassData

from resources.settings import load_settings
from run_queue.failure import MAX_RETRIES_TAG, PERMANENT_FAILURE_TAG
from run_queue.job_ledger import JOB_TAG, PRIORITY_TAG, Queue, register_run
from run_queue.one_at_a_time import alone_with_run
from run_queue.steady_clock import AtMost, run_daemons_by_a_steady_clock

QUEUE_TAG = "tailor/queue"
GPU_QUEUE: Queue = "gpu"
CPU_QUEUE: Queue = "cpu"
# What operators do to the queue does not wait in it: these jobs have places of their own.
OPERATOR_QUEUE: Queue = "operator"
OPERATOR_JOBS = frozenset(
    {"cancel_runs", "retry_runs", "reprioritise_runs", "pause_queue", "resume_queue"}
)
GPU_POOL = "gpu"

_SENSOR_LOOP = "sensor_loop_seconds"


def queue_of(run: DagsterRun) -> Queue:
    """``gpu`` if a step of this run holds a slot of the pool ``gpu``, else ``cpu`` or ``operator``."""
    if run.job_name in OPERATOR_JOBS:
        return OPERATOR_QUEUE
    pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
    return GPU_QUEUE if pools and GPU_POOL in pools else CPU_QUEUE


def look_for_due_sensors_every(seconds: float) -> None:
    """Set how often this process, if it is the daemon, looks which sensors are due.

    A module constant of 5 s in Dagster, and no setting: a sensor's own interval cannot go below it,
    and a video is seen twice (there, and still) before its run is requested.
    """
    from dagster._daemon import sensor

    sensor.MIN_INTERVAL_LOOP_TIME = AtMost(seconds)  # type: ignore[assignment]


def database_url(instance: DagsterInstance) -> str:
    """Of the database that the queue is in, which is the instance's own."""
    url = getattr(instance.run_storage, "postgres_url", None)
    return url or load_settings().postgres_url or ""


def use_our_daemons() -> None:
    """Have this process, if it is the daemon, start runs in our order and retries after our delay.

    Dagster names the classes of its daemons in one module, and has no setting for them. Their waits
    are measured by a clock that nobody sets, too.
    """
    from dagster._daemon import controller

    from run_queue.queue_daemon import TailorQueueDaemon
    from run_queue.retry_daemon import RetryDaemon

    run_daemons_by_a_steady_clock()
    controller.QueuedRunCoordinatorDaemon = TailorQueueDaemon  # type: ignore
    controller.EventLogConsumerDaemon = RetryDaemon  # type: ignore


class TailorRunCoordinator(QueuedRunCoordinator):
    """Dagster's queue, with the tags of each run decided as it is submitted.

    One setting more than Dagster's: ``sensor_loop_seconds``, how often the daemon looks which
    sensors are due.
    """

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Dagster's settings and our one."""
        own = Field(int, is_required=False, description="Seconds between looks for due sensors.")
        return {**cast(dict[str, Any], super().config_type()), _SENSOR_LOOP: own}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        """Called wherever dagster.yaml is loaded, the daemon among them."""
        # Here because the daemon's parts are made after this, and by the names in their module.
        use_our_daemons()
        if _SENSOR_LOOP in config_value:
            look_for_due_sensors_every(config_value[_SENSOR_LOOP])
        rest = {key: value for key, value in config_value.items() if key != _SENSOR_LOOP}
        return super().from_config_value(inst_data, rest)

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Tag the run, note it, then queue it; tags somebody else gave it are overwritten."""
        run = context.dagster_run
        noted = register_run(database_url(self._instance), run, queue_of(run))
        tags = {
            **self.tags_for(run),
            JOB_TAG: noted.job_id,
            PRIORITY_TAG: str(noted.priority),
        }
        self._instance.add_run_tags(run.run_id, tags)
        if noted.refused:
            self._instance.report_run_canceled(
                run, "Its job had been cancelled, or was to make something else by now."
            )
            return self._instance.get_run_by_id(run.run_id) or run
        now = self._instance.get_run_by_id(run.run_id)
        if now is not None and now.status == DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(now)  # somebody was faster than the queue
            return self._instance.get_run_by_id(run.run_id) or now
        return super().submit_run(context)

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run; not in the moment in which the daemon starts it, which would undo it."""
        with alone_with_run(database_url(self._instance), run_id):
            return super().cancel_run(run_id)

    def tags_for(self, run: DagsterRun) -> dict[str, str]:
        """The tags that the queue sets on a run, from what it needs and what it follows."""
        tags: dict[str, str] = {QUEUE_TAG: queue_of(run)}
        if run.parent_run_id is not None and RETRY_NUMBER_TAG not in run.tags:
            # Somebody re-executes a run, presumably after mending what was wrong with it: its own
            # troubles deserve the usual retries, counted from here. Dagster counts all runs that
            # descend from the same first run, and the copy inherits its parent's limit.
            try:
                group = self._instance.get_run_group(run.run_id)
            except DagsterRunNotFoundError:
                group = None  # the first of them has been deleted
            earlier_runs = len(list(group[1])) - 1 if group else 0
            tags[MAX_RETRIES_TAG] = str(earlier_runs + self._instance.run_retries_max_retries)
        if run.tags.get(PERMANENT_FAILURE_TAG) == "yes":
            tags[PERMANENT_FAILURE_TAG] = "no"
            tags.setdefault(MAX_RETRIES_TAG, str(self._instance.run_retries_max_retries))
        return tags
