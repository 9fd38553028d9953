"""Child processes of `tailor up`: each with its own process group and log, kept alive."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resources.worker_process import machine_mark
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services import watchdog

_LOOK_SECONDS = 0.5
# A service that dies this often within this time has a reason that starting it again cannot mend.
_MAX_DEATHS = 5
_DEATHS_WITHIN_SECONDS = 120.0
_POSTGRES_REST_SECONDS = 5.0
_TAIL_LINES = 15
# One earlier log is kept; a service that logs for months must not fill the disk.
_MAX_LOG_BYTES = 20_000_000


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Last lines of a log, or an empty string."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@dataclass
class Service:
    """One child process; ``name`` is what people read, its log is ``<name>.log``."""

    name: str
    command: Sequence[str]
    log: Path
    before_start: Callable[[], None] | None = None
    is_vital: bool = True
    """Whether tailor ends where it cannot be kept alive."""
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_DEATHS))


def _dies_too_often(service: Service) -> bool:
    return (
        len(service.deaths) == _MAX_DEATHS
        and time.monotonic() - service.deaths[0] < _DEATHS_WITHIN_SECONDS
    )


class Services:
    """The child processes, kept alive until ``stop``."""

    def __init__(
        self, *, environment: Mapping[str, str], folder: Path, logs: Path, lock: int
    ) -> None:
        """``folder``: where the children run; ``lock``: descriptor of the home folder's lock."""
        self._logs = logs
        self._environment = dict(environment)
        self._folder = folder
        self._services: list[Service] = []
        self._groups: set[int] = set()
        self._workers: list[Path] = []
        self._postgres = 0
        self._start_postgres: Callable[[], int] | None = None
        self._postgres_rests_until = 0.0
        self._database_answers: Callable[[], bool] = lambda: True
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self.problem: str | None = None
        """One sentence once a service cannot be kept alive."""
        self._watchdog = subprocess.Popen(
            # -I -S: its own standard library and nothing of the project; it must not fail.
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock,),
            cwd="/",
        )
        self._keeper = threading.Thread(target=self._keep_alive, name="services", daemon=True)

    def start(self, service: Service) -> None:
        """Start one service; it is kept alive from ``keep_alive`` on."""
        with self._guard:
            self._spawn(service)
            self._services.append(service)

    def keep_alive(self) -> None:
        """From now on start again what dies."""
        self._keeper.start()

    def keep_postgres(self, pid: int, start_again: Callable[[], int]) -> None:
        """Have PostgreSQL started again when it dies, and stopped too if this process is killed.

        ``start_again`` does nothing to one that runs, and returns its process number.
        """
        self._tell(f"postgres {pid}")
        self._postgres, self._start_postgres = pid, start_again

    def wait_for_database(self, answers: Callable[[], bool]) -> None:
        """Start no service again while the database does not answer: it would die of that."""
        self._database_answers = answers

    def watch_workers(self, folder: Path) -> None:
        """Have segmentation workers that wait in this folder ended in the end."""
        self._workers.append(folder)
        self._tell(f"workers {machine_mark()} {folder}")

    def check(self) -> None:
        """Raise PermanentProblem if a service has ended while starting or cannot be kept alive."""
        if self.problem:
            raise PermanentProblem(self.problem)
        if not self._keeper.is_alive():
            for service in self._services:
                if service.process and service.process.poll() is not None:
                    raise PermanentProblem(
                        f"The {service.name} ended as it started (exit code "
                        f"{service.process.returncode}); the end of {service.log} says:\n"
                        f"{tail(service.log)}"
                    )

    def process_ids(self) -> dict[str, int]:
        """Process number of each service."""
        with self._guard:
            return {s.name: s.process.pid for s in self._services if s.process}

    def kill(self, name: str, pid: int, why: str) -> None:
        """Kill the service where it is still this process; it is started again.

        It alone: run processes outlive their code server, and are left to finish.
        """
        with self._guard:
            for service in self._services:
                if service.name == name and service.process and service.process.pid == pid:
                    service.process.kill()
                    self._say(f"The {name} (process {pid}) is killed: {why}.")

    def stop(self, *, first: str) -> None:
        """End all services and what they started: ``first`` before the others."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        pid = self.process_ids().get(first)
        if pid is not None:
            watchdog.end_groups({pid}, self._reap)
        watchdog.end_groups(self._groups, self._reap)
        self._reap()
        for folder in self._workers:
            watchdog.end_waiting_workers(machine_mark(), str(folder))

    def dismiss_watchdog(self) -> None:
        """Say that everything has been ended properly."""
        self._tell("done")
        if self._watchdog.stdin:
            self._watchdog.stdin.close()
        self._watchdog.wait()

    def _spawn(self, service: Service) -> None:
        if service.before_start:
            service.before_start()
        with service.log.open("ab") as log:
            service.process = subprocess.Popen(
                list(service.command),
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: a Ctrl-C in the terminal reaches us, and we end it in order.
                start_new_session=True,
            )
        self._groups.add(service.process.pid)
        self._tell(f"watch {service.process.pid}")

    def _reap(self) -> None:
        for service in self._services:
            if service.process:
                service.process.poll()

    def _keep_alive(self) -> None:
        while self.problem is None and not self._stopping.wait(_LOOK_SECONDS):
            for duty in (
                self._keep_postgres_alive,
                self._keep_services_alive,
                self._forget_empty_groups,
                self._shorten_logs,
            ):
                # On a full disk a log cannot be opened; the next look may find room again. Whatever
                # one duty meets, the others are done.
                with contextlib.suppress(OSError):
                    duty()

    def _keep_services_alive(self) -> None:
        dead = [one for one in self._services if one.process and one.process.poll() is not None]
        if not dead or not self._database_answers():
            return
        for service in dead:
            if _dies_too_often(service):
                if not service.is_vital:
                    continue
                self.problem = (
                    f"The {service.name} ended {_MAX_DEATHS} times within "
                    f"{_DEATHS_WITHIN_SECONDS:.0f} s; the end of {service.log} says:\n"
                    f"{tail(service.log)}"
                )
                return
            # Its group may still have members: run processes outlive their code server. They are
            # left to finish, and stay known by the old group, because they end with us.
            with self._guard:
                self._spawn(service)
            service.deaths.append(time.monotonic())

    def _keep_postgres_alive(self) -> None:
        now = time.monotonic()
        if self._start_postgres is None or now < self._postgres_rests_until:
            return
        try:
            pid = self._start_postgres()
        except PermanentProblem as problem:
            # A full disk may have room again, and there is nothing else to be done meanwhile.
            self._postgres_rests_until = now + _POSTGRES_REST_SECONDS
            self._say(str(problem))
            return
        if pid != self._postgres:
            self._postgres = pid
            self._tell(f"postgres {pid}")
            self._say(f"PostgreSQL had died and runs again (process {pid}).")

    def _say(self, text: str) -> None:
        with (self._logs / "services.log").open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _shorten_logs(self) -> None:
        for log in self._logs.glob("*.log"):
            if log.stat().st_size > _MAX_LOG_BYTES:
                # Its writer keeps it open, for appending: emptied, not moved.
                earlier = log.with_suffix(".log.1")
                try:
                    shutil.copyfile(log, earlier)
                except OSError:  # no room for a second one: what is there makes some
                    earlier.unlink(missing_ok=True)
                os.truncate(log, 0)
        for log in self._logs.glob("*.jsonl"):
            if log.stat().st_size > _MAX_LOG_BYTES:
                # Its writers open it for each line: moved, and none is lost.
                os.replace(log, log.with_suffix(".jsonl.1"))

    def _forget_empty_groups(self) -> None:
        # Soon, because the number of an empty group may be given to a stranger.
        for group in [group for group in self._groups if watchdog.is_empty(group)]:
            self._groups.discard(group)
            self._tell(f"forget {group}")

    def _tell(self, line: str) -> None:
        if self._watchdog.stdin:
            self._watchdog.stdin.write(f"{line}\n".encode())
            self._watchdog.stdin.flush()
