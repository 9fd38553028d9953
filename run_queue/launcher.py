"""The run launcher: Dagster's own, which starts runs through the code server, plus a health check.

Without the check a run whose process is gone (a reboot, an out-of-memory kill, a crash of the code
server's machine) stays "started" for ever and holds its place in the queue (dagster #4319). Asking
the code server does not do: run processes outlive it, and a partition would be processed twice.
So the operating system is asked about the process itself, and where it is another machine's, the lease
that it renews in the database (leases.py).
"""

import json
import os
import re
import signal
import time

from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG, HIDDEN_TAG_PREFIX

from resources.boot import boot_id
from run_queue.coordinator import database_url
from run_queue.leases import (
    LEASE_SECONDS,
    Lease,
    is_on_this_machine,
    lease_of,
    promise,
    revoke,
)
from run_queue.machine import host_name, is_alive, is_the_same

# Dagster's prefix for tags that its web page does not show: nobody looks for these.
WORKER_HOST_TAG = f"{HIDDEN_TAG_PREFIX}tailor_worker_host"
WORKER_BOOT_TAG = f"{HIDDEN_TAG_PREFIX}tailor_worker_boot"

_STARTED = re.compile(r"^Started process for run \(pid: (\d+)\)")
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


class TailorRunLauncher(DefaultRunLauncher):
    """Starts runs through the code server; knows whether a run's process is still there."""

    # When the database last answered here, and since when it does.
    _answered_at = float("-inf")
    _answers_since = float("inf")

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run, noting on which machine and boot."""
        promise(
            database_url(self._instance),
            context.dagster_run.run_id,
            self._instance.run_monitoring_start_timeout_seconds,
        )
        # Before the start, so that a crash right after it leaves a run that can be judged.
        self._instance.add_run_tags(
            context.dagster_run.run_id,
            {WORKER_HOST_TAG: host_name(), WORKER_BOOT_TAG: boot_id()},
        )
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's process, here where it is here, or else through its code server.

        A code server that tells a process which is stopped, or killed in that moment, waits for its
        answer for ever, with the lock that it needs to start another (multiprocessing's Event).
        """
        lease = lease_of(database_url(self._instance), run_id)
        if lease is None or not is_on_this_machine(lease):
            return bool(super().terminate(run_id))
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        try:
            os.kill(lease.pid, signal.SIGINT)
        except ProcessLookupError:
            return False
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: this is what the launcher is for."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run lives.

        Returns FAILED only when it is certainly gone, because Dagster then fails the run and starts
        it again; a doubt counts as RUNNING.
        """
        lease = lease_of(database_url(self._instance), run.run_id)
        self._note_an_answer()
        launched_on = run.tags.get(WORKER_HOST_TAG)
        launched_in = run.tags.get(WORKER_BOOT_TAG)
        if lease is not None and lease.pid:
            return self._judge_by_lease(run, lease)
        # It has not come so far as to take one.
        if not _code_server_is_local(run.tags.get(GRPC_INFO_TAG)):
            if lease is None or lease.is_current or not self._database_was_there_throughout():
                return _running("its process is on another machine and has not been heard of yet")
            return self._give_up(run, "its process on another machine was never heard of")
        if launched_in and launched_in != boot_id():
            if launched_on == host_name():
                return _gone("the machine was started again since")
            return _running(
                f"it was started on {launched_on}; if that machine is gone, mark the run as failed"
            )
        worker = self._worker_of(run.run_id)
        if worker is None:
            return _running("it has not said its process number yet")
        pid, known_at = worker
        if is_alive(pid, known_at):
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
        return _gone(f"process {pid} is no longer there")

    def _judge_by_lease(self, run: DagsterRun, lease: Lease) -> CheckRunHealthResult:
        if lease.host == host_name():
            if lease.boot_id == boot_id():
                if is_the_same(lease.pid, lease.process_started_at):
                    return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(lease.pid))
                return self._give_up(run, f"process {lease.pid} is no longer there")
            if _machine_of(lease.boot_id) != _machine_of(boot_id()):
                return self._give_up(run, "the machine was started again since")
            # The same boot, and process numbers of another container's.
        if lease.is_current or not self._database_was_there_throughout():
            return _running(f"its worker on {lease.host} renews its lease")
        return self._give_up(
            run, f"its worker on {lease.host} has not renewed its lease for {LEASE_SECONDS} s"
        )

    def _note_an_answer(self) -> None:
        now = time.monotonic()
        if now - self._answered_at > LEASE_SECONDS:
            self._answers_since = now
        self._answered_at = now

    def _database_was_there_throughout(self) -> bool:
        """Whether it has answered here for as long as a lease lasts.

        While it was away nobody could renew anything, and nobody is dead for that.
        """
        return time.monotonic() - self._answers_since > LEASE_SECONDS

    def _give_up(self, run: DagsterRun, why: str) -> CheckRunHealthResult:
        # Before Dagster may start another: should it live after all, it stops.
        revoke(database_url(self._instance), run.run_id)
        return _gone(why)

    def _worker_of(self, run_id: str) -> tuple[int, float] | None:
        """Process number of the run's worker and the time (Unix seconds) it was known."""
        # Newest first: of several starts only the last one counts.
        events = self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
        for entry in reversed(list(events)):
            match = _STARTED.match(entry.message)
            if match:
                return int(match.group(1)), entry.timestamp
        return None


def _code_server_is_local(grpc_info: str | None) -> bool:
    """Whether the code server that started the run shares this machine's process numbers."""
    if not grpc_info:
        return False
    info = json.loads(grpc_info)
    return bool(info.get("socket")) or info.get("host") in {*_LOCAL_HOSTS, host_name()}


def _machine_of(boot: str) -> str:
    """The boot alone, without the container's process numbers."""
    return boot.partition("/")[0]


def _running(why: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.RUNNING, msg=why)


def _gone(why: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.FAILED, msg=f"The run's process died: {why}.")
