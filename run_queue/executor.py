"""How a run executes its steps: in its one process, as Dagster's own does, and under a lease.

A process per step costs 8 to 14 s more per video (measured, docs/decisions.md).
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from run_queue.coordinator import database_url
from run_queue.held_connections import hold_connections
from run_queue.launcher import WORKER_HOST_TAG
from run_queue.leases import held_lease
from run_queue.machine import host_name


class LeasedExecutor(InProcessExecutor):
    """Dagster's, with a heartbeat while it works (leases.py)."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        """Run the steps. Only a run that a launcher has started is watched, so only it beats."""
        launched_by = plan_context.dagster_run.tags.get(WORKER_HOST_TAG)
        with ExitStack() as held:
            if launched_by is not None:
                # A worker's process has this one run; elsewhere the instance is somebody else's, too.
                hold_connections(plan_context.instance)
                held.enter_context(
                    held_lease(
                        database_url(plan_context.instance),
                        plan_context.run_id,
                        watched_from_here=launched_by == host_name(),
                    )
                )
            yield from super().execute(plan_context, execution_plan)


@dg.executor(name="in_process", config_schema=IN_PROC_CONFIG)
def leased_executor(init_context: dg.InitExecutorContext) -> LeasedExecutor:
    """All steps in one process, whose run is known to be alive as long as it is."""
    retries: Any = init_context.executor_config["retries"]
    mode = RetryMode.from_config(retries)
    assert mode is not None
    return LeasedExecutor(retries=mode)
