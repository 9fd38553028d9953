"""How a step waits for a slot of its pool: it looks every second, and sleeps in between.

Both are faults of Dagster 1.13 without a setting to mend them, both measured with the in-process
executor and GPU steps of 60 s. Looks become rarer, up to one in 15 s: 5.6 s between videos, against
0.1 s with one each second. And between two looks the step does not sleep but spins: the time to the
next look is computed with ``min(0, ...)``, so a video that waits for the GPU takes a whole
processor away from the one that is on it.
"""

import time
from typing import TYPE_CHECKING

from run_queue.steady_clock import wait_for_pools_by_a_steady_clock

if TYPE_CHECKING:
    from dagster._core.execution.plan.instance_concurrency_context import (
        InstanceConcurrencyContext,
    )

POOL_POLL_SECONDS = 1


def poll_pools_every_second() -> None:
    """Make steps of this process wait for their pool as said above.

    Call it where the definitions load, because that code runs in every run worker. A look is one
    short query, and at most (GPUs + look-ahead) runs wait at a time.
    """
    from dagster._core.execution.plan import instance_concurrency_context as waiting

    wait_for_pools_by_a_steady_clock()
    waiting.MAX_CONCURRENCY_CLAIM_BLOCKED_INTERVAL = POOL_POLL_SECONDS
    waiting.InstanceConcurrencyContext.interval_to_next_pending_claim_check = (  # type: ignore[method-assign]
        _seconds_to_next_look
    )


def _seconds_to_next_look(self: "InstanceConcurrencyContext") -> float:
    due = self._pending_timeouts.values()
    return max(0.0, min(due) - time.monotonic()) if due and self._pending_claims else 0.0
