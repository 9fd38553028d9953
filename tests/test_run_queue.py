"""The queue plug-ins, in real services on a toy pipeline: tags, retries, failures, health."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.execution.plan import instance_concurrency_context
from dagster._core.launcher.base import WorkerStatus
from toy_services import (
    REEXECUTE,
    add_toy,
    ask,
    done,
    drop_toy,
    finished_runs_of,
    launch_backfill,
    launch_job,
    new_home,
    runs_of,
    toy_services,
    wait_for,
)

from resources.boot import boot_id
from resources.database import migrate
from run_queue.coordinator import QUEUE_TAG
from run_queue.failure import permanent_failure
from run_queue.launcher import WORKER_BOOT_TAG, WORKER_HOST_TAG, TailorRunLauncher
from run_queue.machine import host_name, is_alive
from run_queue.pool_polling import poll_pools_every_second
from tailor_assets.services.start import RunningServices

pytestmark = pytest.mark.system

SUCCESS = dg.DagsterRunStatus.SUCCESS
FAILURE = dg.DagsterRunStatus.FAILURE


@pytest.fixture(scope="module")
def services() -> Iterator[RunningServices]:
    with new_home() as home, toy_services(home) as running:
        # Dagster looks for new backfills each 30 s: asked for now, they run beside the other tests.
        backfill(running, "toy-backfill-decoded", "decoded")
        backfill(running, "toy-backfill-segmented", "segmented")
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    with new_home() as folder:
        yield folder


def failure_texts(services: RunningServices, run_id: str) -> list[str]:
    events = services.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return [
        event.dagster_event.step_failure_data.user_failure_data.description
        for event in events
        if event.dagster_event.step_failure_data.user_failure_data
    ]


def backfill(services: RunningServices, name: str, asset: str) -> None:
    add_toy(services, name)
    launch_backfill(services.web_url, [asset], [name], {})


# What the coordinator decides


def test_a_job_run_is_tagged_from_its_pools_whatever_its_tags_said(
    services: RunningServices,
) -> None:
    launch_job(services, "toy-job", {QUEUE_TAG: "cpu"})
    (run,) = finished_runs_of(services, "toy-job")
    assert run.status == SUCCESS
    assert run.tags[QUEUE_TAG] == "gpu"


def test_a_run_that_a_sensor_requests_is_tagged(services: RunningServices) -> None:
    drop_toy(services.home, "toy-dropped")
    (run,) = finished_runs_of(services, "toy-dropped")
    assert run.tags[QUEUE_TAG] == "gpu"
    assert [what for what, _ in done(services, "toy-dropped")] == [
        "decoded", "segmenting", "segmented", "scored",
    ]  # fmt: skip


def test_a_retry_that_needs_no_gpu_leaves_the_gpu_queue_of_its_parent(
    services: RunningServices,
) -> None:
    launch_job(services, "stumble-1")
    first, second = finished_runs_of(services, "stumble-1")
    assert (first.status, first.tags[QUEUE_TAG]) == (FAILURE, "gpu")
    assert (second.status, second.tags[QUEUE_TAG]) == (SUCCESS, "cpu")
    made = [what for what, _ in done(services, "stumble-1")]
    assert made == ["decoded", "segmenting", "segmented", "scored"], "finished steps ran again"


def test_a_video_has_one_run_at_a_time(services: RunningServices) -> None:
    launch_job(services, "slow-2-twice")
    launch_job(services, "slow-2-twice")
    finished_runs_of(services, "slow-2-twice")
    records = services.instance.get_run_records(
        dg.RunsFilter(tags={"dagster/partition": "slow-2-twice"})
    )
    second, first = records
    assert first.end_time is not None
    assert second.start_time is not None
    assert second.start_time >= first.end_time


# Failing for good, and not


def test_a_permanent_failure_runs_once_and_says_why(services: RunningServices) -> None:
    launch_job(services, "bad-1")
    (run,) = finished_runs_of(services, "bad-1")
    assert run.status == FAILURE
    assert failure_texts(services, run.run_id) == ["The toy is bad and has to be replaced."]
    time.sleep(5)  # a retry would be due after 2 s
    assert len(runs_of(services, "bad-1")) == 1


def test_a_person_may_try_a_permanent_failure_again_with_the_usual_retries(
    services: RunningServices,
) -> None:
    launch_job(services, "mended-1")
    (first,) = finished_runs_of(services, "mended-1")
    assert first.tags["dagster/max_retries"] == "0"
    ask(services.web_url, REEXECUTE, {"parentRunId": first.run_id, "strategy": "FROM_FAILURE"})
    wait_for(lambda: len(runs_of(services, "mended-1")) == 2)
    # The copy inherits the limit of 0, and would give up at the first passing trouble with it.
    runs = finished_runs_of(services, "mended-1")
    assert [run.status for run in runs] == [FAILURE, FAILURE, SUCCESS]


def test_a_passing_trouble_is_tried_three_times(services: RunningServices) -> None:
    launch_job(services, "unlucky-1")
    runs = finished_runs_of(services, "unlucky-1")
    assert [run.status for run in runs] == [FAILURE] * 3
    assert [what for what, _ in done(services, "unlucky-1")] == ["decoded", *["segmenting"] * 3]


def test_permanent_failure_works_without_services_and_keeps_what_was_emitted() -> None:
    letters = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(partitions_def=letters, backfill_policy=dg.BackfillPolicy.single_run())
    def many(context: dg.AssetExecutionContext) -> None:
        context.log_event(dg.AssetMaterialization("many", partition="a"))
        permanent_failure(context, "b has no data; record it again.")

    with dg.instance_for_test() as instance:
        result = dg.materialize(
            [many],
            instance=instance,
            raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": "a",
                "dagster/asset_partition_range_end": "b",
            },
        )
        assert not result.success
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert run.tags["dagster/max_retries"] == "0"
        assert instance.get_materialized_partitions(dg.AssetKey("many")) == {"a"}


# What was asked for when the services started


@pytest.mark.parametrize(("asset", "queue"), [("decoded", "cpu"), ("segmented", "gpu")])
def test_a_run_of_an_asset_backfill_is_tagged_although_it_has_no_job_tags(
    services: RunningServices, asset: str, queue: str
) -> None:
    name = f"toy-backfill-{asset}"
    (run,) = finished_runs_of(services, name)
    assert run.status == SUCCESS
    assert run.job_name == "__ASSET_JOB"
    assert run.tags[QUEUE_TAG] == queue


# Who is alive


def test_a_process_number_that_was_given_away_again_does_not_count_as_alive() -> None:
    now = time.time()
    assert is_alive(os.getpid(), now)
    born = psutil.Process().create_time()
    assert not is_alive(os.getpid(), born - 60), "a worker of that time cannot be this process"


def test_a_dead_child_that_nobody_has_collected_does_not_count_as_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not is_alive(child.pid, time.time())
    child.wait()
    assert not is_alive(child.pid, time.time())


def run_with_worker(instance: dg.DagsterInstance, pid: int, **tags: str) -> dg.DagsterRun:
    run = instance.create_run_for_job(dg.GraphDefinition(name="empty").to_job())
    all_tags = {
        ".dagster/grpc_info": '{"host": "localhost", "socket": "/somewhere"}',
        WORKER_HOST_TAG: host_name(),
        WORKER_BOOT_TAG: boot_id(),
        **{f".dagster/tailor_{key}": value for key, value in tags.items()},
    }
    instance.add_run_tags(run.run_id, all_tags)
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run)
    stored = instance.get_run_by_id(run.run_id)
    assert stored is not None
    return stored


def test_the_health_check_fails_a_run_only_when_its_process_is_certainly_gone(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(postgres_url)
    monkeypatch.setenv("TAILOR_POSTGRES_URL", postgres_url)
    overrides = {
        "run_launcher": {"module": "run_queue.launcher", "class": "TailorRunLauncher"},
    }
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with dg.instance_for_test(overrides=overrides) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, TailorRunLauncher)
        assert launcher.supports_check_run_worker_health

        def status(pid: int, **tags: str) -> WorkerStatus:
            return launcher.check_run_worker_health(run_with_worker(instance, pid, **tags)).status

        me = os.getpid()
        assert status(me) == WorkerStatus.RUNNING
        assert status(child.pid) == WorkerStatus.FAILED
        # After a reboot the number may be anybody's.
        assert status(me, worker_boot="an earlier boot") == WorkerStatus.FAILED
        # Another machine's processes cannot be seen from here, and a doubt never runs a video twice.
        elsewhere = {"worker_boot": "another boot", "worker_host": "another host"}
        assert status(child.pid, **elsewhere) == WorkerStatus.RUNNING


def test_waiting_steps_look_at_their_pool_every_second() -> None:
    poll_pools_every_second()
    waits = [instance_concurrency_context._calculate_timeout_interval(None, n) for n in (0, 10, 99)]
    assert max(waits) <= 1.0


def test_a_run_that_waits_for_the_gpu_leaves_the_processor_alone(services: RunningServices) -> None:
    launch_job(services, "slow-15-first")
    wait_for(lambda: done(services, "slow-15-first")[1:])
    launch_job(services, "slow-0-second")
    ((_, pid),) = wait_for(lambda: done(services, "slow-0-second"))
    worker = psutil.Process(pid)
    time.sleep(1)  # it is decoded, and waits now
    before = sum(worker.cpu_times()[:2])
    time.sleep(2)
    used = sum(worker.cpu_times()[:2]) - before
    assert done(services, "slow-0-second")[1:] == [], "it was to wait"
    assert used < 0.5, f"{used:.2f} s of processor time in 2 s of waiting"


# What is killed


def segmenting(services: RunningServices, name: str) -> int:
    """Process number of the run worker that is at work on a toy."""
    started = wait_for(lambda: [pid for what, pid in done(services, name) if what == "segmenting"])
    return started[-1]


@pytest.mark.crash
def test_a_killed_run_process_is_noticed_and_retried_once(services: RunningServices) -> None:
    launch_job(services, "slow-6-killed")
    os.kill(segmenting(services, "slow-6-killed"), signal.SIGKILL)
    runs = finished_runs_of(services, "slow-6-killed")
    assert [run.status for run in runs] == [FAILURE, SUCCESS]
    made = [what for what, _ in done(services, "slow-6-killed")]
    assert made == ["decoded", "segmenting", "segmenting", "segmented", "scored"]


@pytest.mark.crash
def test_a_killed_code_server_does_not_run_a_video_twice(services: RunningServices) -> None:
    launch_job(services, "slow-20-orphan")
    segmenting(services, "slow-20-orphan")
    before = services.process_ids()["code server"]
    os.kill(before, signal.SIGKILL)
    # It is started again, and goes on taking runs while the orphan is at work.
    wait_for(lambda: services.process_ids()["code server"] != before)
    drop_toy(services.home, "toy-meanwhile")
    (meanwhile,) = finished_runs_of(services, "toy-meanwhile")
    assert meanwhile.status == SUCCESS
    (run,) = finished_runs_of(services, "slow-20-orphan")
    assert run.status == SUCCESS
    made = [what for what, _ in done(services, "slow-20-orphan")]
    assert made == ["decoded", "segmenting", "segmented", "scored"]


@pytest.mark.crash
def test_a_run_process_that_dies_after_its_code_server_is_noticed(
    services: RunningServices,
) -> None:
    launch_job(services, "slow-8-both")
    worker = segmenting(services, "slow-8-both")
    os.kill(services.process_ids()["code server"], signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    runs = finished_runs_of(services, "slow-8-both")
    assert [run.status for run in runs] == [FAILURE, SUCCESS]


@pytest.mark.crash
def test_after_a_power_cut_the_video_is_finished_by_the_next_start(home: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from toy_services import toy_services, launch_job\n"
        "with toy_services(pathlib.Path(sys.argv[1])) as services:\n"
        "    launch_job(services, 'slow-5-cut')\n"
        "    time.sleep(600)\n"
    )
    tests = str(Path(__file__).parent)
    starter = subprocess.Popen([sys.executable, "-c", script, str(home), tests])
    wait_for(
        lambda: (home / "done.txt").exists() and "segmenting" in (home / "done.txt").read_text()
    )
    everything = [
        psutil.Process(starter.pid),
        *psutil.Process(starter.pid).children(recursive=True),
    ]
    postmaster = int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    everything += [psutil.Process(postmaster), *psutil.Process(postmaster).children()]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended because another had
            process.kill()
    starter.wait()

    with toy_services(home) as services:
        runs = finished_runs_of(services, "slow-5-cut")
        assert [run.status for run in runs] == [FAILURE, SUCCESS]
