"""The run coordinator: every submitted run gets the tag ``tailor/queue``, ``gpu`` or ``cpu``.

The limits in dagster.yaml count runs by this tag. It is decided here and nowhere else, from the
pools that the steps of this very run need: job tags do not reach the runs of an asset backfill, and
a re-execution inherits the tags of its parent although it may need less than its parent did.
"""

from collections.abc import Mapping
from typing import Any, Self, cast

from dagster import DagsterRun, Field
from dagster._config.config_schema import UserConfigSchema
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._serdes import ConfigurableClassData

from run_queue.failure import MAX_RETRIES_TAG, PERMANENT_FAILURE_TAG

QUEUE_TAG = "tailor/queue"
GPU_QUEUE = "gpu"
CPU_QUEUE = "cpu"
GPU_POOL = "gpu"

_SENSOR_LOOP = "sensor_loop_seconds"


def queue_of(run: DagsterRun) -> str:
    """``gpu`` if a step of this run holds a slot of the pool ``gpu``, else ``cpu``."""
    pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
    return GPU_QUEUE if pools and GPU_POOL in pools else CPU_QUEUE


def look_for_due_sensors_every(seconds: float) -> None:
    """Set how often this process, if it is the daemon, looks which sensors are due.

    A module constant of 5 s in Dagster, and no setting: a sensor's own interval cannot go below it,
    and a video is seen twice (there, and still) before its run is requested.
    """
    from dagster._daemon import sensor

    sensor.MIN_INTERVAL_LOOP_TIME = seconds  # type: ignore[assignment]


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
        if _SENSOR_LOOP in config_value:
            look_for_due_sensors_every(config_value[_SENSOR_LOOP])
        rest = {key: value for key, value in config_value.items() if key != _SENSOR_LOOP}
        return super().from_config_value(inst_data, rest)

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Tag the run, then queue it; tags somebody else gave it are overwritten."""
        run = context.dagster_run
        self._instance.add_run_tags(run.run_id, self.tags_for(run))
        return super().submit_run(context)

    def tags_for(self, run: DagsterRun) -> dict[str, str]:
        """The tags that the queue sets on a run."""
        tags = {QUEUE_TAG: queue_of(run)}
        if run.tags.get(PERMANENT_FAILURE_TAG) == "yes":
            # A person re-executes a run that had failed for good, presumably after mending the
            # cause, and the copy inherits the mark. Its own troubles deserve the usual retries,
            # counted from here: Dagster counts all runs that descend from the same first run.
            group = self._instance.get_run_group(run.run_id)
            earlier_runs = len(list(group[1])) - 1 if group else 0
            tags[PERMANENT_FAILURE_TAG] = "no"
            tags[MAX_RETRIES_TAG] = str(earlier_runs + self._instance.run_retries_max_retries)
        return tags
