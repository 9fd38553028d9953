"""Who is alive: leases of workers on this machine and on others, and what outlives its run."""

import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import psutil
import pytest
import sqlalchemy as sa
from dagster._core.launcher.base import WorkerStatus
from queue_lab import queue_lab
from toy_services import wait_for

import run_queue.leases
from resources.boot import boot_id
from resources.database import engine_for
from run_queue.job_tables import run_leases_table
from run_queue.launcher import TailorRunLauncher
from run_queue.leases import Heartbeat, held_lease, lease_of, promise, revoke
from run_queue.machine import birth, host_name
from run_queue.reaper import end_what_outlives_its_run

RUNNING, FAILED = WorkerStatus.RUNNING, WorkerStatus.FAILED


@pytest.fixture
def instance(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab.instance


def new_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    return instance.create_run_for_job(dg.GraphDefinition(name="empty").to_job(), status=status)


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return new_run(instance, dg.DagsterRunStatus.STARTED)


def take(url: str, run_id: str, pid: int, **changes: object) -> None:
    values = {
        "host": host_name(),
        "boot_id": boot_id(),
        "pid": pid,
        "process_started_at": birth(pid) or 1.0,
        "expires_at": sa.func.now() + sa.text("interval '20 seconds'"),
        **changes,
    }
    with engine_for(url).begin() as connection:
        connection.execute(sa.delete(run_leases_table).where(run_leases_table.c.run_id == run_id))
        connection.execute(sa.insert(run_leases_table).values(run_id=run_id, **values))


EXPIRED = {"expires_at": sa.func.now() - sa.text("interval '1 second'")}
ELSEWHERE = {"host": "another", "boot_id": "another boot/pid:[1]"}


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    return instance.run_launcher.check_run_worker_health(run).status


def test_on_this_machine_the_process_counts_and_no_clock(
    instance: dg.DagsterInstance, run: dg.DagsterRun, postgres_url: str
) -> None:
    worker = sleeper()
    take(postgres_url, run.run_id, worker.pid, **EXPIRED)
    assert health(instance, run) == RUNNING, "a slow database is no dead worker"
    worker.kill()
    worker.wait()
    assert health(instance, run) == FAILED
    lease = lease_of(postgres_url, run.run_id)
    assert lease is not None
    assert lease.revoked, "were it alive after all, it would have to stop"


def test_a_process_number_that_was_given_away_is_no_worker(
    instance: dg.DagsterInstance, run: dg.DagsterRun, postgres_url: str
) -> None:
    take(postgres_url, run.run_id, psutil.Process().pid, process_started_at=1.0)
    assert health(instance, run) == FAILED


def test_a_reboot_is_noticed_at_once(
    instance: dg.DagsterInstance, run: dg.DagsterRun, postgres_url: str
) -> None:
    take(postgres_url, run.run_id, psutil.Process().pid, boot_id="an earlier boot/pid:[1]")
    assert health(instance, run) == FAILED


def test_on_another_machine_the_lease_counts(
    instance: dg.DagsterInstance, run: dg.DagsterRun, postgres_url: str
) -> None:
    launcher = instance.run_launcher
    assert isinstance(launcher, TailorRunLauncher)
    take(postgres_url, run.run_id, 1, **ELSEWHERE)
    assert health(instance, run) == RUNNING
    take(postgres_url, run.run_id, 1, **ELSEWHERE, **EXPIRED)
    assert health(instance, run) == RUNNING, "the database may have been away for everybody"
    launcher._answers_since = time.monotonic() - 21
    assert health(instance, run) == FAILED


def test_a_worker_that_was_given_up_stops_at_its_next_beat(
    run: dg.DagsterRun, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queue.leases, "RENEW_EVERY_S", 0.1)
    stopped: list[bool] = []
    beat = Heartbeat(
        postgres_url, run.run_id, watched_from_here=True, stop=lambda: stopped.append(True)
    )
    beat.start()
    time.sleep(0.5)
    assert not stopped
    revoke(postgres_url, run.run_id)
    wait_for(lambda: stopped, seconds=5)
    beat.end()


def test_a_worker_elsewhere_stops_before_its_lease_ends_if_the_database_is_away(
    run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queue.leases, "RENEW_EVERY_S", 0.05)
    monkeypatch.setattr(run_queue.leases, "LEASE_SECONDS", 5.3)
    monkeypatch.setattr(run_queue.leases, "_LOOK_EVERY_S", 0.05)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    stopped: dict[bool, list[float]] = {True: [], False: []}
    begun = time.monotonic()
    beats = [
        Heartbeat(
            nowhere,
            run.run_id,
            watched_from_here=here,
            stop=lambda here=here: stopped[here].append(time.monotonic() - begun),
        )
        for here in (True, False)
    ]
    for beat in beats:
        beat.start()
    wait_for(lambda: stopped[False], seconds=5)
    assert 0.3 < stopped[False][0] < 5.3
    assert not stopped[True], "who is watched goes on: nobody will take its place while it lives"
    for beat in beats:
        beat.end()


def test_a_worker_elsewhere_that_dies_before_it_is_heard_of_is_given_up(
    instance: dg.DagsterInstance, run: dg.DagsterRun, postgres_url: str
) -> None:
    launcher = instance.run_launcher
    assert isinstance(launcher, TailorRunLauncher)
    promise(postgres_url, run.run_id, 120)
    instance.add_run_tags(run.run_id, {".dagster/grpc_info": '{"host": "another", "port": 1}'})
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert health(instance, found) == RUNNING
    take(postgres_url, run.run_id, 0, host="", **EXPIRED)
    launcher._answers_since = time.monotonic() - 21
    assert health(instance, found) == FAILED


def test_a_lease_is_renewed_while_the_run_works_and_runs_out_after_it(
    run: dg.DagsterRun, postgres_url: str
) -> None:
    promise(postgres_url, run.run_id, 120)
    with held_lease(postgres_url, run.run_id, watched_from_here=True):
        lease = lease_of(postgres_url, run.run_id)
        assert lease is not None
        assert lease.is_current
        assert (lease.host, lease.boot_id, lease.pid) == (
            host_name(), boot_id(), psutil.Process().pid,
        )  # fmt: skip
    after = lease_of(postgres_url, run.run_id)
    assert after == lease, "until the run has said that it is over, its worker may die yet"


def test_a_worker_that_does_not_end_with_its_run_ends_itself(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_queue.leases, "RENEW_EVERY_S", 0.1)
    monkeypatch.setattr(run_queue.leases, "END_GRACE_S", 0.5)
    stopped: list[bool] = []
    beat = Heartbeat(
        postgres_url, run.run_id, watched_from_here=False, stop=lambda: stopped.append(True)
    )
    beat.start()
    time.sleep(0.8)
    assert not stopped
    instance.report_run_canceling(run)
    wait_for(lambda: stopped, seconds=5)
    beat.end()


def test_what_outlives_its_cancelled_run_is_ended_with_all_it_started(
    instance: dg.DagsterInstance, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    gpu_worker = psutil.Process(int(worker.stdout.readline()))
    cancelled = new_run(instance, dg.DagsterRunStatus.CANCELING)
    take(postgres_url, cancelled.run_id, worker.pid)
    assert end_what_outlives_its_run(postgres_url, instance) == [], "it has its time to end"
    monkeypatch.setattr("run_queue.reaper.CANCEL_GRACE_S", 0.0)
    assert end_what_outlives_its_run(postgres_url, instance) == [cancelled.run_id]
    worker.wait(timeout=5)
    wait_for(
        lambda: not gpu_worker.is_running() or gpu_worker.status() == psutil.STATUS_ZOMBIE,
        seconds=5,
    )


def test_a_worker_at_work_is_left_alone(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("run_queue.reaper.CANCEL_GRACE_S", 0.0)
    monkeypatch.setattr("run_queue.reaper._OVER_GRACE_S", 0.0)
    worker = sleeper()
    take(postgres_url, run.run_id, worker.pid)
    assert end_what_outlives_its_run(postgres_url, instance) == []
    assert worker.poll() is None
    worker.kill()
    worker.wait()
