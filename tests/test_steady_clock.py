"""Dagster's loops while somebody puts the clock back by two hours."""

import time
from collections.abc import Iterator
from threading import Event

import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from dagster._daemon import controller, daemon, sensor
from dagster._daemon.daemon import DaemonIterator, IntervalDaemon

from run_queue.steady_clock import AtMost, run_daemons_by_a_steady_clock

TWO_HOURS = 7200.0


@pytest.fixture(autouse=True)
def _dagsters_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no instance had been loaded in this process, which sets the clock too."""
    own = getattr(sensor.get_elapsed, "dagsters_own", sensor.get_elapsed)
    monkeypatch.setattr(sensor, "get_elapsed", own)
    monkeypatch.setattr(daemon, "time", time)
    monkeypatch.setattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", 30)


class Looker(IntervalDaemon[None]):
    """Counts its looks."""

    looks = 0

    @classmethod
    def daemon_type(cls) -> str:
        return "LOOKER"

    def run_iteration(self, workspace_process_context: None) -> DaemonIterator:
        self.looks += 1
        yield None


def look_again(looker: Looker, loop: Iterator[object], times: int, seconds: float) -> bool:
    """Whether it looks so many times more within so long."""
    enough, until = looker.looks + times, time.monotonic() + seconds
    while looker.looks < enough and time.monotonic() < until:
        next(loop)
    return looker.looks >= enough


def test_a_daemon_goes_on_looking_when_the_clock_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_daemons_by_a_steady_clock()
    looker, no_pause = Looker(interval_seconds=0.05), Event()
    no_pause.set()
    loop = looker.core_loop(None, no_pause)
    assert look_again(looker, loop, times=1, seconds=5)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - TWO_HOURS)
    assert look_again(looker, loop, times=2, seconds=5)


def state(last_tick: float) -> InstigatorState:
    """Of a sensor whose last tick was at this time."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("tailor"), "__repository__")
    return InstigatorState(
        RemoteInstigatorOrigin(repository, "inbox"),
        InstigatorType.SENSOR,
        InstigatorStatus.RUNNING,
        SensorInstigatorData(last_tick_timestamp=last_tick),
    )


def test_a_sensor_is_due_at_once_whose_last_tick_lies_in_the_future() -> None:
    run_daemons_by_a_steady_clock()
    assert sensor.get_elapsed(state(time.time() + TWO_HOURS)) is None


def test_of_any_other_sensor_it_is_known_how_long_ago_its_last_tick_was() -> None:
    run_daemons_by_a_steady_clock()
    assert sensor.get_elapsed(state(time.time() - 10)) == pytest.approx(10, abs=5)


def test_a_pause_is_never_longer_than_it_was_to_be() -> None:
    assert AtMost(1.0) - -TWO_HOURS == 1.0
    assert AtMost(1.0) - 0.25 == 0.75


def test_the_pause_between_looks_for_backfills_is_such_a_one() -> None:
    run_daemons_by_a_steady_clock()
    assert controller.DEFAULT_DAEMON_INTERVAL_SECONDS - -TWO_HOURS == 30


def test_doing_it_twice_is_doing_it_once() -> None:
    own = sensor.get_elapsed
    for _ in range(2):
        run_daemons_by_a_steady_clock()
        assert sensor.get_elapsed.dagsters_own is own
