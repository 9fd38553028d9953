"""The whole of tailor as ``tailor up`` runs it, in processes that can be killed, and what must hold."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import sqlalchemy as sa
from toy_services import free_port, new_home, processes_of

from resources.artifact_store import ArtifactStore
from resources.audit.log import verify
from resources.database import engine_for
from resources.local_drive import LocalDrive
from resources.video_registry import VideoRegistry
from run_queue.job_ledger import JobRow, to_job
from run_queue.job_tables import UNFINISHED_STATES, jobs_table
from run_queue.leases import lease_of, leases_on
from run_queue.machine import host_name
from run_queue.reconciler import mend
from run_queue.reconciling.look import Look
from tailor_assets.compute.checksum import file_md5
from tailor_assets.services.health import open_instance
from tailor_assets.services.start import running_postgres_url

SERVICES = {
    "daemon": "dagster._daemon",
    "code server": "api grpc",
    "webserver": "dagster_webserver",
}
_UP_WITHIN_S = 120.0


def wait_until(ready: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer; the database may be away meanwhile."""
    until = time.monotonic() + seconds
    while True:
        answer = None
        with suppress(sa.exc.SQLAlchemyError, psutil.Error):
            answer = ready()
        if answer:
            return answer
        assert time.monotonic() < until, f"{what} did not happen in {seconds:.0f} s"
        time.sleep(0.1)


@dataclass
class CrashLab:
    """One home folder, its Drive folders, and ``tailor up`` on it."""

    home: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def drive_root(self) -> Path:
        """Folder with a folder per tenant."""
        return self.home / "drive"

    @property
    def url(self) -> str:
        """Of the database that runs."""
        # One that was killed is started again in a moment.
        return wait_until(lambda: running_postgres_url(self.home), 30, "the database")

    def up(self) -> float:
        """``tailor up``; the seconds until its web page answered."""
        begun = time.monotonic()
        with (self.home / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tailor_assets.cli", "up", "--port", str(self.port),
                 "--metrics-port", "0"],
                env={**os.environ, **self.environment, "TAILOR_HOME": str(self.home)},
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        said = (self.home / "up.log").stat().st_size

        def is_up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.home / "up.log").read_text()
            return b"tailor is up" in (self.home / "up.log").read_bytes()[said:]

        wait_until(is_up, _UP_WITHIN_S, "tailor's start")
        return time.monotonic() - begun

    def down(self) -> None:
        """As Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=60)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's, as an outsider."""
        with open_instance(self.home / "dagster", self.url) as instance:
            yield instance

    # ---------------------------------------------------------------- people

    def drop(
        self, clip: Path, tenant: str, name: str, settings: Mapping[str, Any] | None = None
    ) -> Path:
        """Put a video into a tenant's Drive, after its tailor.json; where its results will be."""
        folder = self.drive_root / tenant / "tailor" / "videos" / name
        folder.mkdir(parents=True)
        if settings is not None:
            (folder / "tailor.json").write_text(json.dumps(settings))
        shutil.copyfile(clip, folder / "recording.part")
        (folder / "recording.part").rename(folder / "recording.mp4")
        return self.drive_root / tenant / "tailor" / "results" / name

    # ------------------------------------------------------------- processes

    def service(self, name: str) -> psutil.Process:
        """One of the services."""
        for process in processes_of(self.home):
            with suppress(psutil.Error):
                if SERVICES[name] in " ".join(process.cmdline()) and process.ppid() == self._pid:
                    return process
        raise psutil.NoSuchProcess(0, name)

    @property
    def _pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def postgres(self) -> psutil.Process:
        """The server's first process."""
        return psutil.Process(
            int((self.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        )

    def run_workers(self) -> list[psutil.Process]:
        """Processes of runs."""
        found = []
        for lease in leases_on(self.url, host_name()):
            with suppress(psutil.Error):
                found.append(psutil.Process(lease.pid))
        return found

    def worker_of(self, run_id: str) -> psutil.Process:
        """The process of a run."""
        lease = lease_of(self.url, run_id)
        assert lease is not None
        return psutil.Process(lease.pid)

    @staticmethod
    def is_alive(process: psutil.Process) -> bool:
        """Whether it holds anything yet: a zombie does not."""
        with suppress(psutil.NoSuchProcess):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return False

    def kill(self, process: psutil.Process) -> None:
        """As ``kill -9``, and see it gone."""
        process.kill()
        with suppress(psutil.TimeoutExpired):
            process.wait(timeout=10)

    def power_cut(self) -> None:
        """Everything at once, and nothing gets to say a word."""
        everything = processes_of(self.home)
        with suppress(psutil.Error, OSError):
            postgres = self.postgres()
            everything += [postgres, *postgres.children()]
        # Who would start the others again, first.
        everything.sort(key=lambda process: process.pid != self._pid)
        for process in everything:
            with suppress(psutil.Error):
                process.kill()
        for process in everything:
            with suppress(psutil.Error):
                process.wait(timeout=10)
        assert self.process is not None
        self.process.wait(timeout=10)

    # ------------------------------------------------------------------ jobs

    def jobs(self) -> list[JobRow]:
        """All there are."""
        with engine_for(self.url).begin() as connection:
            rows = connection.execute(sa.select(jobs_table)).mappings().all()
        return [to_job(row) for row in rows]

    def job_of(self, tenant: str) -> JobRow | None:
        """The one job of a tenant that processes a video."""
        return next(
            (
                job
                for job in self.jobs()
                if job.tenant == tenant and job.job_name == "process_video"
            ),
            None,
        )

    def wait_for_step(self, tenant: str, step: str, seconds: float = 90.0) -> str:
        """Until the run of the tenant's video begins this step; the run's id."""

        def begun() -> str | None:
            job = self.job_of(tenant)
            if job is None or job.run_id is None:
                return None
            with self.instance() as instance:
                events = instance.all_logs(job.run_id, of_type=dg.DagsterEventType.STEP_START)
                here = any(event.step_key == step for event in events)
            return job.run_id if here else None

        return wait_until(begun, seconds, f"the step {step}")

    def wait_for_all(self, seconds: float = 300.0) -> list[JobRow]:
        """Until no job waits or runs; all jobs."""

        def over() -> list[JobRow] | None:
            jobs = self.jobs()
            rows = self.registry.without_run()
            unfinished = [job for job in jobs if job.state in UNFINISHED_STATES]
            return jobs if jobs and not unfinished and not rows else None

        try:
            return wait_until(over, seconds, "the end of all jobs")
        except AssertionError as problem:
            states = [(job.tenant, job.job_name, job.state, job.cause) for job in self.jobs()]
            raise AssertionError(f"{problem}: {states}") from None

    @property
    def registry(self) -> VideoRegistry:
        """What is known of videos."""
        return VideoRegistry(url=self.url)

    # ------------------------------------------------------------ what holds

    def require_whole(self, results: Mapping[str, Path]) -> None:
        """What must hold after anything, once all jobs are over; ``results`` by tenant."""
        wait_until(
            lambda: results.keys() <= {job.tenant for job in self.jobs()}, 60, "every video's job"
        )
        jobs = self.wait_for_all()
        for tenant, folder in results.items():
            (job,) = [
                job for job in jobs if job.tenant == tenant and job.job_name == "process_video"
            ]
            if job.state == "parked":
                assert job.cause, "parked without a cause"
                assert job.action, "parked without a way back"
                continue
            assert job.state == "completed"
            self._require_published(folder)
        self._require_nothing_held()
        self._require_no_stray()
        found = verify(self.url, self.home / "audit_head.json")
        assert found.problem is None, found.problem

    def _require_published(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        there = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.relative_to(folder).parts[0] != "frames"
        }
        # It follows with the frames, and is in no manifest.
        there.discard(f"{folder.name}_overlay.mp4")
        assert there == {*manifest["files"], "manifest.json"}, "more or less than was published"
        for name, entry in manifest["files"].items():
            assert file_md5(folder / name) == entry["md5"], f"{name} is not what was published"

    def _require_nothing_held(self) -> None:
        with self.instance() as instance:

            def is_free() -> bool:
                held = instance.event_log_storage.get_concurrency_info("gpu")
                return not held.claimed_slots and not instance.get_runs(
                    dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
                )

            wait_until(is_free, 30, "the release of the GPU's places")
        wait_until(lambda: not self.run_workers(), 60, "the end of all workers")
        zombies = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
                if process.ppid() == self._pid and process.status() == psutil.STATUS_ZOMBIE:
                    zombies.append(process)
        assert zombies == []

    def _require_no_stray(self) -> None:
        store = ArtifactStore(root=str(self.home / "artifacts"))
        drive = LocalDrive(root=str(self.drive_root)).open()
        with self.instance() as instance:
            wait_until(
                lambda: (
                    mend(
                        Look(instance, self.registry, store, drive, self.home, timedelta(hours=24)),
                        sweep=True,
                        stray_age=timedelta(0),
                    )
                    is not None
                ),
                30,
                "a look of the reconciler",
            )
        stray = [
            str(path.relative_to(self.home))
            for folder in (self.home / "artifacts", self.drive_root)
            for path in folder.rglob("*")
            if path.name.startswith((".draft-", ".old-")) or path.name.endswith(".part")
        ]
        assert stray == []


@contextmanager
def crash_lab(environment: Mapping[str, str] | None = None) -> Iterator[CrashLab]:
    """One whose ``tailor up`` is ended in the end, whatever is left of it."""
    with new_home() as home:
        lab = CrashLab(
            home,
            {
                "TAILOR_DRIVE_ROOT": str(home / "drive"),
                "TAILOR_SEGMENTER": "background",
                **(environment or {}),
            },
        )
        try:
            yield lab
        except BaseException:
            print((home / "up.log").read_text()[-3000:])
            for log in sorted((home / "logs").glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
            raise
        finally:
            with suppress(subprocess.TimeoutExpired, OSError):
                lab.down()
            for process in processes_of(home):
                with suppress(psutil.Error):
                    process.kill()
