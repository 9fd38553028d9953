"""The SAM2 worker's process as a run has it: started by the run, or taken over while it waited.

sam2_worker/hand_over.py has the words that pass between the two. A worker that waits saves the time
to load a model and nothing else: whatever goes wrong with one, a new one is started.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from resources.boot import boot_id
from resources.process_group import Leader, Stranger, end_process_group, start_process_group
from resources.settings import PROJECT_ROOT
from sam2_worker import hand_over as words
from sam2_worker import request as wire

# What differs from run to run and means nothing to a worker.
_VOLATILE = ("DAGSTER_", "PYTEST_", "TAILOR_WORKER_")

# Workers of ours that stay: they are our children still, and somebody has to learn of their end.
_left_behind: list[subprocess.Popen[bytes]] = []


def worker_environment() -> dict[str, str]:
    """The child's environment: this one's, with this project and nothing else on PYTHONPATH.

    The worker imports ``sam2_worker`` and ``tailor_assets.compute`` from here, and everything else
    from its own environment, whose pins differ.
    """
    dropped = ("PYTHONHOME", "VIRTUAL_ENV", words.STAY_VARIABLE)
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    env["PYTHONPATH"] = str(PROJECT_ROOT)
    # A thread of torch that waits for another one would spin: beside one other busy process the
    # worker then took ten times as long (docs/benchmarks.md). Sleeping costs little.
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    env[wire.PARENT_PID_VARIABLE] = str(os.getpid())
    return env


def staying(
    command: Sequence[str], *, seconds: float, locks_folder: Path, device: str
) -> words.Stay | None:
    """How long and where a worker may wait for the next run; None where it may not."""
    if seconds <= 0 or sys.platform != "linux" or not boot_id():
        return None
    try:
        locks_folder.mkdir(parents=True, exist_ok=True)
        kind = f"{machine_mark()}-{_kind(command, device)}"
    except OSError:
        return None
    return words.Stay(seconds, str(locks_folder), kind)


def machine_mark() -> str:
    """Begins the kind of all workers whose process numbers mean something here."""
    return hashlib.sha256(boot_id().encode()).hexdigest()[:8]


def _kind(command: Sequence[str], device: str) -> str:
    """Equal for runs whose workers would be the same: programs, their versions, surroundings."""
    said = {
        "command": list(command),
        "device": device,
        "programs": [_state(Path(part)) for part in command if os.path.isabs(part)],
        "code": [
            _state(path)
            for folder in ("sam2_worker", "tailor_assets/compute")
            for path in sorted((PROJECT_ROOT / folder).rglob("*.py"))
        ],
        "folder": os.getcwd(),
        "environment": {
            name: value
            for name, value in sorted(worker_environment().items())
            if not name.startswith(_VOLATILE)
        },
    }
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _state(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


class WorkerProcess:
    """A worker that works for this run. Ends with ``let_go``, unless it has said that it stays."""

    def __init__(self, process: Leader, connection: words.Connection, *, reused: bool) -> None:
        """``connection``: over which the worker says that it is done."""
        self._process = process
        self._connection: words.Connection | None = connection
        self._held = connection
        self._exit_status: int | None = None
        self._stays = False
        self.reused = reused
        """Whether it has worked for another run before."""

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def exit_status(self) -> int:
        """What it said, or else how it ended (negative: by a signal)."""
        if self._exit_status is not None and (self._stays or isinstance(self._process, Stranger)):
            return self._exit_status
        assert self._process.returncode is not None
        return self._process.returncode

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done with this run, waiting for that no longer than this."""
        if self._connection is not None:
            # What it says comes before its end.
            try:
                message = self._connection.receive(timeout_s)
                self._exit_status, self._stays = int(message["exit"]), bool(message["stays"])
            except TimeoutError:
                return self._process.poll() is not None
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                pass  # it is ending
            self._connection = None
        if self._stays:
            return True
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def let_go(self, grace_s: float) -> None:
        """End it and all of its group, within ``grace_s`` + 2 s; or leave it to the next run."""
        try:
            if not self._stays:
                end_process_group(self._process, grace_s=grace_s)
            elif isinstance(self._process, subprocess.Popen):
                _left_behind.append(self._process)
        finally:
            self._held.close()


def start_worker(
    command: Sequence[str], environment: Mapping[str, str], stay: words.Stay | None
) -> WorkerProcess:
    """Start one; the variables that name its Pipes session are in ``environment``."""
    _left_behind[:] = [process for process in _left_behind if process.poll() is None]
    env = dict(environment)
    if stay is not None:
        env[words.STAY_VARIABLE] = stay.to_json()
    ours, its = socket.socketpair()
    with its:
        try:
            process = start_process_group(command, env=env, stdin=its.fileno())
        except BaseException:
            ours.close()
            raise
    return WorkerProcess(process, words.Connection(ours), reused=False)


def take_waiting_worker(pipes: Mapping[str, str], stay: words.Stay) -> WorkerProcess | None:
    """Hand this run's session over to a worker that waits; None where none takes it."""
    for path in stay.socket_paths():
        try:
            connection = words.connect(path)
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()  # it was killed
            continue
        except OSError:
            continue
        worker = None
        try:
            worker = _hand_over(connection, words.HandOver(pipes, stay))
        finally:
            if worker is None:
                connection.close()
        if worker is not None:
            return worker
    return None


def _hand_over(connection: words.Connection, order: words.HandOver) -> WorkerProcess | None:
    try:
        if connection.receive(words.ANSWER_S) != words.WAITING:
            return None
        process = Stranger(connection.peer().pid)
    except (OSError, EOFError, ValueError, psutil.Error):
        return None  # somebody else was faster, or it was just leaving
    try:
        connection.send(order.to_message(), descriptors=(1, 2))
        if connection.receive(words.ANSWER_S) == words.TAKEN:
            return WorkerProcess(process, connection, reused=True)
    except (OSError, EOFError, ValueError):
        pass
    # Perhaps it has begun: two must not write the same messages.
    with suppress(psutil.Error):
        end_process_group(process, grace_s=0.0)
    return None
