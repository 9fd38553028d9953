"""Dagster's loops measure their waits by the wall clock; here by one that nobody can set.

Where the clock is put back by two hours, dagster 1.13 looks for due sensors, starts runs and lets
steps into their pool two hours later. All of it is module names and one comparison, without a setting.
"""

from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster._core.scheduler.instigation import InstigatorState


class _SteadyTime:
    """Stands where a module has imported ``time``, and asks it for nothing but waits."""

    time = staticmethod(monotonic)
    sleep = staticmethod(sleep)


class AtMost(float):
    """Seconds of a loop; less how long it took they are never more, however long that seems."""

    def __sub__(self, took: float) -> float:
        """What is left of them."""
        return min(float(self), float(self) - took)


def wait_for_pools_by_a_steady_clock() -> None:
    """For run workers: steps that wait for a slot."""
    from dagster._core.execution.plan import instance_concurrency_context

    instance_concurrency_context.time = _SteadyTime  # type: ignore[assignment]


def run_daemons_by_a_steady_clock() -> None:
    """For the daemon: the pauses of its loops, and which sensors are due."""
    from dagster._daemon import controller, daemon, sensor

    daemon.time = _SteadyTime  # type: ignore[assignment]
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = AtMost(  # type: ignore[assignment]
        controller.DEFAULT_DAEMON_INTERVAL_SECONDS
    )
    elapsed = _dagsters_own(sensor)

    def since_the_last_tick(state: "InstigatorState") -> float | None:
        """None, so due at once, where the last tick lies in the future."""
        seconds = elapsed(state)
        return None if seconds is not None and seconds < 0 else seconds

    since_the_last_tick.dagsters_own = elapsed  # type: ignore[attr-defined]
    sensor.get_elapsed = since_the_last_tick


def _dagsters_own(sensor: Any) -> Any:
    return getattr(sensor.get_elapsed, "dagsters_own", sensor.get_elapsed)
