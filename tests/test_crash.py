"""Whatever is killed, and wherever: every video is published once or parked with its cause.

The whole of tailor runs as ``tailor up`` runs it, with real processes, and real signals end them.
"""

import os
import shutil
import signal
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from crash_lab import CrashLab, crash_lab, wait_until

from resources.settings import PROJECT_ROOT
from run_queue import operations

pytestmark = [pytest.mark.system, pytest.mark.crash]


@pytest.mark.parametrize("step", ["video", "masks", "published_results"])
def test_a_run_worker_that_is_killed_is_replaced(lab: CrashLab, clip: Path, step: str) -> None:
    tenant = f"worker-{step.replace('_', '-')}"
    results = {tenant: lab.drop(clip, tenant, "day")}
    killed = lab.wait_for_step(tenant, step)
    begun = time.monotonic()
    for worker in lab.run_workers():
        lab.kill(worker)
    job = wait_until(
        lambda: (
            (job := lab.job_of(tenant))
            and (job.run_id != killed or job.state == "completed")
            and job
        ),
        30,
        "the retry",
    )
    assert time.monotonic() - begun < 30
    lab.require_whole(results)
    assert lab.job_of(tenant) is not None
    assert job.attempts <= 2


@pytest.mark.parametrize("name", ["daemon", "code server"])
def test_a_service_that_is_killed_is_started_again_and_nothing_runs_twice(
    lab: CrashLab, clip: Path, name: str
) -> None:
    tenant = f"service-{name.replace(' ', '-')}"
    results = {tenant: lab.drop(clip, tenant, "day")}
    lab.wait_for_step(tenant, "masks")
    service = lab.service(name)
    lab.kill(service)
    wait_until(lambda: lab.service(name).pid != service.pid, 30, f"another {name}")
    lab.require_whole(results)
    job = lab.job_of(tenant)
    assert job is not None
    assert job.attempts == 1, "its worker lived, so nobody had to take its place"


def test_a_database_that_is_killed_is_started_again(lab: CrashLab, clip: Path) -> None:
    results = {"database": lab.drop(clip, "database", "day")}
    lab.wait_for_step("database", "masks")
    postgres = lab.postgres()
    lab.kill(postgres)
    wait_until(lambda: lab.postgres().pid != postgres.pid, 60, "another database")
    lab.require_whole(results)


def test_a_database_that_hangs_for_half_a_minute_loses_nothing(lab: CrashLab, clip: Path) -> None:
    results = {"frozen": lab.drop(clip, "frozen", "day")}
    lab.wait_for_step("frozen", "masks")
    frozen = [lab.postgres(), *lab.postgres().children()]
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    lab.drop(clip, "late", "day")  # somebody uploads meanwhile
    time.sleep(30)
    for process in frozen:
        with suppress(psutil.NoSuchProcess):  # it was just ending, and its parent sees it now
            process.send_signal(signal.SIGCONT)
    results["late"] = lab.drive_root / "late" / "tailor" / "results" / "day"
    wait_until(lambda: lab.job_of("late"), 60, "the late video's job")
    lab.require_whole(results)


def test_a_cancelled_job_frees_everything_within_a_minute(lab: CrashLab, clip: Path) -> None:
    lab.drop(clip, "cancelled", "day")
    run_id = lab.wait_for_step("cancelled", "masks")
    begun = time.monotonic()
    with lab.instance() as instance:
        operations.cancel(lab.url, instance, run_id, who="olga", why="a mistake")
    wait_until(
        lambda: (job := lab.job_of("cancelled")) and job.state in ("cancelled", "completed"),
        60,
        "the end of the job",
    )
    wait_until(lambda: not lab.run_workers(), 60, "the end of its worker")
    assert time.monotonic() - begun < 60
    lab.wait_for_all()


def test_after_a_reboot_everything_goes_on(clip: Path) -> None:
    with crash_lab() as lab:
        lab.up()
        tenants = [f"reboot-{n}" for n in range(3)]
        results = {tenant: lab.drop(clip, tenant, "day") for tenant in tenants}
        lab.wait_for_step(tenants[0], "masks")
        lab.power_cut()
        begun = time.monotonic()
        lab.up()
        wait_until(
            lambda: any(job.state == "running" for job in lab.jobs()),
            60,
            "a run's start after the reboot",
        )
        assert time.monotonic() - begun < 90
        lab.require_whole(results)


@pytest.mark.parametrize("hours", [2, -2])
def test_a_clock_that_jumps_loses_nothing_and_stops_nothing(
    clip: Path, tmp_path: Path, hours: int
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc, for a clock that can be set")
    library, shift = tmp_path / "clock_shift.so", tmp_path / "shift"
    source = Path(__file__).with_name("clock_shift.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    shift.write_bytes(struct.pack("=q", 0))
    for part in (tmp_path, *tmp_path.parents[:2]):
        part.chmod(0o755)  # the database is another user
    with crash_lab({"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(shift)}) as lab:
        lab.up()
        results = {"before": lab.drop(clip, "before", "day")}
        lab.wait_for_step("before", "masks")
        # In its place: cut short, it would end whoever has it mapped.
        with shift.open("r+b") as file:
            file.write(struct.pack("=q", hours * 3600))
        results["after"] = lab.drop(clip, "after", "day")
        wait_until(
            lambda: (job := lab.job_of("after")) and job.run_id is not None, 90, "the next run"
        )
        lab.require_whole(results)
        job = lab.job_of("before")
        assert job is not None
        assert job.attempts == 1, "its worker lived all the time"


def test_a_full_disk_stops_work_and_room_lets_it_go_on(clip: Path) -> None:
    with crash_lab() as lab:
        home = lab.home / "small disk"
        home.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200m,mode=755", "tmpfs", str(home)],
            capture_output=True, text=True,
        )  # fmt: skip
        if mounted.returncode != 0:
            pytest.skip(f"no small disk can be made here: {mounted.stderr.strip()}")
        small = CrashLab(home, {**lab.environment, "TAILOR_DRIVE_ROOT": str(home / "drive")})
        try:
            small.up()
            results = {"full": small.drop(clip, "full", "day")}
            small.wait_for_step("full", "video")
            ballast = home / "ballast"
            room = shutil.disk_usage(home).free
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, room - (64 << 10))
            time.sleep(20)
            assert small.process is not None
            assert small.process.poll() is None, "tailor has given up"
            ballast.unlink()
            small.require_whole(results)
        finally:
            small.down()
            subprocess.run(["umount", "--lazy", str(home)], check=False)


def test_a_killed_gpu_worker_goes_on_in_the_same_step_from_its_checkpoint(clip: Path) -> None:
    if not (PROJECT_ROOT / ".venv-sam2" / "bin" / "python").exists():
        pytest.skip("needs the SAM2 environment: make sam2")
    with crash_lab({"TAILOR_SEGMENTER": "tailor-nano", "TAILOR_WORKER_LINGER_S": "0"}) as lab:
        lab.up()
        results = {"gpu": lab.drop(clip, "gpu", "day")}
        run_id = lab.wait_for_step("gpu", "masks")
        worker = wait_until(lambda: _gpu_workers(lab), 60, "a segmentation worker")[0]
        time.sleep(1)
        lab.kill(worker)
        begun = time.monotonic()
        wait_until(lambda: _gpu_workers(lab), 10, "another segmentation worker")
        assert time.monotonic() - begun < 10
        lab.require_whole(results)
        job = lab.job_of("gpu")
        assert job is not None
        assert (job.run_id, job.attempts) == (run_id, 1), "inside the same step"


def _gpu_workers(lab: CrashLab) -> list[psutil.Process]:
    found = []
    for run in lab.run_workers():
        for process in run.children(recursive=True):
            if "sam2_worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
