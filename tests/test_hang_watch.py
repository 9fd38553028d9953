"""A service that lives and does not answer is killed and started again; one that answers is not."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toy_services import new_home, toy_services, wait_for

from tailor_assets.services.hang_watch import DaemonPulse, HangWatch, Question
from tailor_assets.services.health import code_server_answers
from tailor_assets.services.processes import Service, Services
from tailor_assets.services.sockets import socket_folder

TICKING = """
import pathlib, sys, time
while True:
    pathlib.Path(sys.argv[1]).write_text(str(time.monotonic_ns()))
    time.sleep(0.05)
"""


class Ticks:
    """A service that writes a file again and again, asked whether it still does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "ticks"
        self.database = True
        self.told: list[str] = []

    def go_on(self) -> bool:
        before = self.file.read_text() if self.file.exists() else ""
        time.sleep(0.3)
        return self.file.exists() and self.file.read_text() != before

    @contextmanager
    def watched(self) -> Iterator[Services]:
        with (self.folder / "lock").open("w") as lock:
            services = Services(
                environment={}, folder=self.folder, logs=self.folder, lock=lock.fileno()
            )
            command = [sys.executable, "-c", TICKING, str(self.file)]
            services.start(Service("ticker", command, self.folder / "ticker.log"))
            services.keep_alive()
            question = Question("ticker", self.go_on, patience_s=1.5)
            watch = HangWatch(
                services, [question], lambda: self.database,
                tell=self.told.append, look_s=0.1, first_patience_s=0,
            )  # fmt: skip
            watch.start()
            try:
                yield services
            finally:
                watch.stop()
                services.stop(first="ticker")
                services.dismiss_watchdog()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def test_a_service_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    ticks = Ticks(tmp_path)
    with ticks.watched() as services:
        wait_for(ticks.go_on, seconds=10)
        before = services.process_ids()["ticker"]
        time.sleep(2)
        assert services.process_ids()["ticker"] == before, "it answered, and was left alone"
        stop(before)
        wait_for(lambda: services.process_ids()["ticker"] != before, seconds=10)
        assert wait_for(ticks.go_on, seconds=10)
    said = (tmp_path / "services.log").read_text()
    assert f"The ticker (process {before}) is killed: it has not answered for" in said
    assert len(ticks.told) == 1
    assert ticks.told[0].startswith("The ticker was killed, and is started again: ")


def test_without_a_database_no_service_is_taken_to_hang(tmp_path: Path) -> None:
    ticks = Ticks(tmp_path)
    with ticks.watched() as services:
        wait_for(ticks.go_on, seconds=10)
        before = services.process_ids()["ticker"]
        ticks.database = False
        stop(before)
        time.sleep(3)
        assert services.process_ids()["ticker"] == before
        ticks.database = True
        time.sleep(0.8)
        assert services.process_ids()["ticker"] == before, "patience begins anew"
        wait_for(lambda: services.process_ids()["ticker"] != before, seconds=10)


def test_daemons_go_on_as_long_as_each_of_them_says_something_new() -> None:
    beats = {"queue": 1.0, "sensors": 1.0}
    pulse = DaemonPulse(lambda: beats)
    assert pulse.goes_on()
    assert not pulse.goes_on()
    beats = {"queue": 2.0, "sensors": 1.0}
    assert not pulse.goes_on(), "one of them is silent"
    assert not pulse.goes_on()
    beats = {"queue": 2.0, "sensors": 0.5}
    assert pulse.goes_on(), "a clock that was put back is no silence"


def test_daemons_that_cannot_be_asked_about_are_silent() -> None:
    def away() -> dict[str, float]:
        raise ConnectionError("the database is away")

    assert not DaemonPulse(away).goes_on()


@pytest.mark.system
def test_the_code_server_is_asked_over_its_socket() -> None:
    with new_home() as home, toy_services(home) as services:
        socket = socket_folder(services.dagster_home, "code.sock") / "code.sock"
        assert code_server_answers(socket)
        pid = services.process_ids()["code server"]
        stop(pid)
        assert not code_server_answers(socket, within_s=1)
        os.kill(pid, signal.SIGCONT)
        assert code_server_answers(socket)
    assert not code_server_answers(socket, within_s=1)
