"""What goes wrong in the queue when two things happen at once, or one of them in a bad moment."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster import DagsterEvent, DagsterRunStatus
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.errors import DagsterInvalidSubsetError, DagsterUserCodeUnreachableError
from dagster._core.execution.asset_backfill import backfill_runs_are_complete
from dagster._core.storage.tags import GRPC_INFO_TAG
from queue_lab import QueueLab, queue_lab

import run_queue.leases
import run_queue.queue_daemon
from resources.artifact_store import ArtifactStore
from resources.database import engine_for
from resources.local_drive import LocalDriveFolder
from resources.video_registry import VideoRegistry
from run_queue import operations
from run_queue.admission import admit, situation
from run_queue.job_tables import job_runs_table, queue_shares_table
from run_queue.launcher import WORKER_BOOT_TAG, WORKER_HOST_TAG, TailorRunLauncher
from run_queue.leases import Heartbeat
from run_queue.machine import host_name
from run_queue.one_at_a_time import RunIsTaken, alone_with_run
from run_queue.pauses import pause
from run_queue.queue_daemon import TailorQueueDaemon, candidates
from run_queue.reconciling.look import Look
from run_queue.reconciling.missed_jobs import vanished_runs
from run_queue.retry_daemon import RetryDaemon
from sensors.admission import admission
from tailor_assets.definitions import defs

# Dagster's own words, the first where a run had made everything and could not say so any more.
NOTHING_IS_LEFT = DagsterInvalidSubsetError("No steps needed to be retried in the failed run.")
NO_SUCH_ASSET = DagsterInvalidSubsetError(
    "Assets provided in asset_selection argument ['masks'] do not exist in parent asset group."
)
NOBODY_THERE = ConnectionError("the code server is not up yet")
OLGA = {"who": "olga", "why": "a mistake"}


@pytest.fixture
def lab(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueLab]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab


@dataclass
class Workspace:
    """What a daemon is given; with ``error`` that is all its code server has to say."""

    instance: dg.DagsterInstance
    error: Exception | None = None

    def create_request_context(self) -> None:
        if self.error is not None:
            raise self.error


def failed(lab: QueueLab, **tags: str) -> dg.DagsterRun:
    """A run whose job is to be tried again."""
    run = lab.submit(partition="p", **tags)
    lab.say(run, "starting", "started", "failure")
    assert lab.job("p").state == "retrying"
    return run


def try_again(lab: QueueLab, error: Exception, due_for: timedelta = timedelta(seconds=1)) -> None:
    """One look of the retry daemon, at a job that is due for so long."""
    lab.set(lab.job("p").job_id, retry_at=datetime.now(UTC) - due_for)
    list(RetryDaemon().run_iteration(Workspace(lab.instance, error)))


def finish_of(lab: QueueLab) -> float:
    """How much the only tenant has had of the only queue, in seconds."""
    with engine_for(lab.url).begin() as connection:
        return connection.execute(sa.select(queue_shares_table.c.finish)).scalar_one()


# Cancelling


def test_a_job_that_is_cancelled_while_its_retry_is_being_made_stays_cancelled(
    lab: QueueLab,
) -> None:
    run = failed(lab)
    assert operations.cancel(lab.url, lab.instance, "p", **OLGA).endswith("is cancelled.")
    retry = lab.again(run)
    lab.look()
    assert lab.run(retry).status == DagsterRunStatus.CANCELED
    assert lab.job("p").state == "cancelled"


def test_a_job_that_is_cancelled_when_its_run_has_just_failed_stays_cancelled(
    lab: QueueLab,
) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started")
    lab.instance.report_run_failed(lab.run(run), "a passing trouble")  # and nobody has looked yet
    assert operations.cancel(lab.url, lab.instance, "p", **OLGA).endswith("is cancelled.")
    lab.look()
    job = lab.job("p")
    assert (job.state, job.retry_at) == ("cancelled", None)
    assert not lab.run(run).is_complete_and_waiting_to_retry


def test_a_run_that_somebody_is_cancelling_for_ever_holds_up_no_other(
    lab: QueueLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("run_queue.one_at_a_time._PATIENCE_S", 1)
    with alone_with_run(lab.url, "run"):
        begun = time.monotonic()
        with pytest.raises(RunIsTaken, match="for 1 s"), alone_with_run(lab.url, "run"):
            raise AssertionError("two at once")
    assert 0.9 < time.monotonic() - begun < 8
    with alone_with_run(lab.url, "run"):
        pass


def test_a_run_that_is_cancelled_on_its_way_to_the_queue_does_not_come_there(
    lab: QueueLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tags = lab.instance.add_run_tags

    def cancelled_meanwhile(run_id: str, tags: dict[str, str]) -> None:
        # The coordinator writes them between noting the run and queueing it.
        monkeypatch.setattr(lab.instance, "add_run_tags", add_tags)
        add_tags(run_id, tags)
        operations.cancel(lab.url, lab.instance, run_id, **OLGA)

    monkeypatch.setattr(lab.instance, "add_run_tags", cancelled_meanwhile)
    run = lab.submit(partition="p")
    lab.look()
    assert lab.run(run).status == DagsterRunStatus.CANCELED
    assert lab.job("p").state == "cancelled"


def test_a_run_that_is_cancelled_in_the_moment_of_its_start_is_cancelled(
    lab: QueueLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lab.submit(partition="p")
    report = lab.instance.report_dagster_event
    is_read, is_cancelled = threading.Event(), threading.Event()

    def report_slowly(event: DagsterEvent, *args: Any, **more: Any) -> None:
        if event.event_type == dg.DagsterEventType.PIPELINE_STARTING:
            is_read.set()  # that it is queued
            is_cancelled.wait(timeout=1)
        report(event, *args, **more)

    monkeypatch.setattr(lab.instance, "report_dagster_event", report_slowly)
    monkeypatch.setattr(TailorRunLauncher, "launch_run", lambda *_: None)
    with TailorQueueDaemon(1) as daemon, ThreadPoolExecutor(1) as pool:
        look = pool.submit(lambda: list(daemon.run_iteration(Workspace(lab.instance))))
        assert is_read.wait(timeout=30)
        lab.instance.run_coordinator.cancel_run(run.run_id)
        is_cancelled.set()
        look.result()
    assert lab.run(run).status == DagsterRunStatus.CANCELING


def test_a_run_whose_code_server_is_gone_can_be_cancelled(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started")
    nowhere = '{"host": "localhost", "socket": "/nowhere"}'
    lab.instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: nowhere})
    said = operations.cancel(lab.url, lab.instance, run.run_id, **OLGA)
    assert said.endswith("is being cancelled.")
    assert lab.run(run).status == DagsterRunStatus.CANCELING


def test_the_name_of_a_video_means_its_job_that_is_not_over(lab: QueueLab) -> None:
    first, second = lab.submit(partition="p"), lab.submit(partition="p")
    lab.say(first, "starting", "started")
    lab.say(second, "starting", "started", "success")
    assert lab.job("p").run_id == first.run_id


# Trying again


def test_a_retry_that_was_due_while_the_machine_was_off_is_not_given_up_at_the_first_look(
    lab: QueueLab,
) -> None:
    failed(lab)
    try_again(lab, NOBODY_THERE, due_for=timedelta(hours=8))
    assert lab.job("p").state == "retrying"


def test_retries_stay_due_however_long_their_pipeline_is_away_and_hide_no_others(
    lab: QueueLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("run_queue.retry_daemon._PATIENCE_S", -1.0)
    failed(lab)
    before = datetime.now(UTC)
    try_again(lab, DagsterUserCodeUnreachableError("nobody there"))
    job = lab.job("p")
    assert job.state == "retrying"
    assert job.retry_at is not None
    assert job.retry_at > before + timedelta(seconds=5), "the others are looked at first"
    try_again(lab, ValueError("it cannot be"))
    assert lab.job("p").state == "parked"


def test_a_retry_that_cannot_be_made_is_given_up_although_it_is_put_off_meanwhile(
    lab: QueueLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("run_queue.retry_daemon._PATIENCE_S", 1.0)
    failed(lab)
    daemon = RetryDaemon()

    def look(*, is_due: bool) -> None:
        if is_due:
            lab.set(lab.job("p").job_id, retry_at=datetime.now(UTC) - timedelta(seconds=1))
        list(daemon.run_iteration(Workspace(lab.instance, ValueError("it cannot be"))))

    look(is_due=True)
    assert lab.job("p").state == "retrying"
    look(is_due=False)  # it was put off, and this look has nothing to do
    time.sleep(1.1)
    look(is_due=True)
    assert lab.job("p").state == "parked"


def test_a_run_that_succeeds_although_it_was_given_up_completes_its_job(lab: QueueLab) -> None:
    run = failed(lab)
    lab.say(run, "success")
    try_again(lab, NOBODY_THERE)
    assert lab.job("p").state == "completed"


def test_what_was_to_make_an_asset_that_is_gone_is_not_called_made(lab: QueueLab) -> None:
    failed(lab)
    try_again(lab, NO_SUCH_ASSET)
    assert lab.job("p").state == "retrying"


def test_a_retry_can_be_re_executed_when_the_run_before_it_is_deleted(lab: QueueLab) -> None:
    first = failed(lab)
    second = lab.again(first)
    lab.say(second, "starting", "started", "failure")
    lab.instance.delete_run(first.run_id)
    third = lab.again(lab.run(second), by_itself=False)
    assert lab.run(third).status == DagsterRunStatus.QUEUED


def is_over(lab: QueueLab, backfill: str) -> bool:
    return backfill_runs_are_complete(backfill, lab.instance, logging.getLogger())


def test_a_backfill_does_not_wait_for_a_retry_that_was_cancelled(lab: QueueLab) -> None:
    failed(lab, dagster__backfill="cancelled")
    assert not is_over(lab, "cancelled")
    operations.cancel(lab.url, lab.instance, "p", **OLGA)
    assert is_over(lab, "cancelled")


def test_a_backfill_does_not_wait_for_a_retry_of_what_had_been_made(lab: QueueLab) -> None:
    failed(lab, dagster__backfill="made")
    assert not is_over(lab, "made")
    try_again(lab, NOTHING_IS_LEFT)
    assert lab.job("p").state == "completed"
    assert is_over(lab, "made")


# Coming to the queue


@pytest.mark.parametrize(
    "renamed", [{"job_name": "former_name"}, {"assets": ("former_name",)}], ids=("job", "asset")
)
def test_a_job_that_this_version_does_not_have_does_not_keep_the_others_out(
    lab: QueueLab, renamed: dict[str, Any]
) -> None:
    lab.accept("old", **renamed)
    lab.accept("new")
    lab.instance.add_dynamic_partitions("videos", ["anna--old", "anna--new"])
    context = dg.build_sensor_context(
        instance=lab.instance,
        repository_def=defs.get_repository_def(),
        resources={"registry": VideoRegistry(url=lab.url)},
    )
    with partition_loading_context(dynamic_partitions_store=lab.instance):
        tick = admission.evaluate_tick(context)
    assert [one.run_key for one in tick.run_requests or ()] == ["new"]
    job = lab.job("anna--old")
    assert job.state == "parked"
    assert "former_name" in (job.cause or "")


def test_what_was_launched_by_hand_and_deleted_is_not_asked_for_by_the_queue(
    lab: QueueLab, tmp_path: Path
) -> None:
    run = lab.submit(partition="p")
    lab.instance.delete_run(run.run_id)
    with engine_for(lab.url).begin() as connection:
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(sa.update(job_runs_table).values(queued_at=an_hour_ago))
    store, drive = ArtifactStore(root=str(tmp_path)), LocalDriveFolder(tmp_path)
    registry = VideoRegistry(url=lab.url)
    vanished_runs(Look(lab.instance, registry, store, drive, tmp_path, timedelta(hours=24)))
    assert lab.job("p").action == "Launch it anew in the web page."
    assert "launch it anew" in operations.retry(lab.url, "p", **OLGA)
    assert lab.job("p").state == "parked"


def test_what_is_asked_for_while_a_tick_makes_the_run_is_not_lost(lab: QueueLab) -> None:
    job_id = lab.accept("some", partition_key="p", assets=("published_results",)) or ""
    assert lab.accept("all", partition_key="p") == job_id
    late = lab.submit(tailor__job=job_id, dagster__run_key="some")  # requested before that
    assert late.status == DagsterRunStatus.CANCELED
    job = lab.job("p")
    assert (job.state, job.request_key, job.assets) == ("pending", "all", None)
    lab.submit(tailor__job=job_id, dagster__run_key="all")
    assert lab.job("p").state == "queued"


def test_what_is_asked_for_in_two_queues_waits_in_the_stricter(lab: QueueLab) -> None:
    lab.accept("some", partition_key="p", queue="cpu", assets=("published_results",))
    lab.accept("all", partition_key="p", queue="gpu")
    assert lab.job("p").queue == "gpu"
    lab.accept("some more", partition_key="p", queue="cpu", assets=("features",))
    assert lab.job("p").queue == "gpu"


def test_work_off_the_gpu_does_not_wait_for_the_depth_of_the_gpus_queue(lab: QueueLab) -> None:
    run = lab.submit("anna", "video")
    # It needs no pool, so it is in the CPU queue.
    lab.set(lab.job(run.run_id).job_id, queue="gpu")
    pause(lab.url, "depth", who="the queue", why="it is full")
    lab.accept("another")
    lab.accept("results", queue="cpu", assets=("published_results",))
    admitted, reasons = admit(situation(lab.url, lab.expectations))
    assert [one.partition_key for one in admitted] == ["anna--results"]
    assert list(reasons) == [lab.job("anna--another").job_id]


# Starting and ending


def test_deleted_runs_do_not_take_the_places_of_those_that_could_start(
    lab: QueueLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queue.queue_daemon, "CANDIDATES_PER_QUEUE", 2)
    for n in range(2):
        lab.instance.delete_run(lab.submit("anna", f"gone{n}").run_id)
    alive = lab.submit("anna", "alive")
    assert [one.run_id for one in candidates(lab.url, lab.expectations, [])] == [alive.run_id]


def test_a_run_that_was_starting_when_the_machine_went_off_is_noticed_at_the_first_look(
    lab: QueueLab,
) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting")
    launched = {
        WORKER_HOST_TAG: host_name(),
        WORKER_BOOT_TAG: "the boot before/pid:[1]",
        GRPC_INFO_TAG: '{"host": "localhost", "socket": "/nowhere"}',
    }
    lab.instance.add_run_tags(run.run_id, launched)
    with TailorQueueDaemon(1) as daemon:
        list(daemon.run_iteration(Workspace(lab.instance)))
    assert lab.run(run).status == DagsterRunStatus.FAILURE


def test_the_daemons_first_look_has_its_storages_keep_their_connections(lab: QueueLab) -> None:
    with TailorQueueDaemon(1) as daemon:
        list(daemon.run_iteration(Workspace(lab.instance)))
    assert not isinstance(lab.instance.run_storage._engine.pool, sa.NullPool)  # type: ignore[attr-defined]


def test_a_run_that_is_put_back_has_not_begun_and_costs_its_tenant_nothing(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting")
    assert finish_of(lab) > 0
    put_back = DagsterEvent.job_enqueue(lab.run(run))
    lab.instance.report_dagster_event(put_back, run_id=run.run_id)
    lab.look()
    with engine_for(lab.url).begin() as connection:
        attempt = connection.execute(sa.select(job_runs_table)).one()
    assert (attempt.status, attempt.dequeued_at, attempt.charged_seconds) == ("queued", None, None)
    assert lab.job("p").state == "queued"
    assert finish_of(lab) == 0


def test_a_tenant_is_not_charged_for_a_night_in_which_the_machine_was_off(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started")
    expected = finish_of(lab)
    with engine_for(lab.url).begin() as connection:
        began = datetime.now(UTC) - timedelta(hours=10)
        connection.execute(sa.update(job_runs_table).values(dequeued_at=began))
    lab.say(run, "failure")
    assert finish_of(lab) <= 5 * expected


def test_a_run_whose_log_cannot_be_read_does_not_hide_what_became_of_others(lab: QueueLab) -> None:
    unreadable, other = lab.submit(partition="unreadable"), lab.submit(partition="other")
    for run in (unreadable, other):
        lab.instance.report_run_failed(run)
    events = sa.table("event_logs", sa.column("run_id"), sa.column("event"))
    with engine_for(lab.url).begin() as connection:
        of_it = events.c.run_id == unreadable.run_id
        connection.execute(sa.update(events).where(of_it).values(event="no event"))
    lab.look()
    assert lab.job("other").state == "retrying"


# A worker on another machine


class Line:
    """A TCP line to a PostgreSQL that listens on a socket of this machine."""

    def __init__(self, postgres_url: str) -> None:
        """``url``: of the same database, over this line."""
        there = sa.make_url(postgres_url)
        self._server = f"{there.query['host']}/.s.PGSQL.{there.port or 5432}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._whole = threading.Event()
        self._whole.set()
        port = self._listener.getsockname()[1]
        here = there.set(host="127.0.0.1", port=port, query={})
        self.url = here.render_as_string(hide_password=False)
        threading.Thread(target=self._connect, daemon=True).start()

    def cut(self) -> None:
        """Nothing comes through, and nobody is told: a pulled cable."""
        self._whole.clear()

    def close(self) -> None:
        """Whatever was held up comes through; then it ends."""
        self._whole.set()
        engine_for(self.url).dispose()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connect(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._whole.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def line(postgres_url: str) -> Iterator[Line]:
    line = Line(postgres_url)
    yield line
    line.close()


def test_a_worker_elsewhere_stops_before_its_lease_ends_if_the_database_is_silent(
    lab: QueueLab, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queue.leases, "LEASE_SECONDS", 3)
    monkeypatch.setattr(run_queue.leases, "RENEW_EVERY_S", 0.1)
    monkeypatch.setattr(run_queue.leases, "_MARGIN_S", 1.5)
    monkeypatch.setattr(run_queue.leases, "_LOOK_EVERY_S", 0.05)
    stopped = threading.Event()
    run_id = lab.submit(partition="p").run_id
    beat = Heartbeat(line.url, run_id, watched_from_here=False, stop=stopped.set)
    beat.start()
    time.sleep(2)
    assert not stopped.is_set()
    line.cut()
    assert stopped.wait(timeout=3)
    line.close()
    beat.end()
