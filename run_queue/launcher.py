"""The run launcher: Dagster's own, which starts runs through the code server, plus a health check.

Without the check a run whose process is gone (a reboot, an out-of-memory kill, a crash of the code
server's machine) stays "started" for ever and holds its place in the queue (dagster #4319). Asking
the code server does not do: run processes outlive it, and a partition would be processed twice.
So the operating system is asked about the process itself.
"""

import json
import re

from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG, HIDDEN_TAG_PREFIX

from resources.boot import boot_id
from run_queue.machine import host_name, is_alive

# Dagster's prefix for tags that its web page does not show: nobody looks for these.
WORKER_HOST_TAG = f"{HIDDEN_TAG_PREFIX}tailor_worker_host"
WORKER_BOOT_TAG = f"{HIDDEN_TAG_PREFIX}tailor_worker_boot"

_STARTED = re.compile(r"^Started process for run \(pid: (\d+)\)")
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


class TailorRunLauncher(DefaultRunLauncher):
    """Starts runs through the code server; knows whether a run's process is still there."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run, noting on which machine and boot."""
        # Before the start, so that a crash right after it leaves a run that can be judged.
        self._instance.add_run_tags(
            context.dagster_run.run_id,
            {WORKER_HOST_TAG: host_name(), WORKER_BOOT_TAG: boot_id()},
        )
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: this is what the launcher is for."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run lives.

        Returns FAILED only when it is certainly gone, because Dagster then fails the run and starts
        it again; a doubt counts as RUNNING.
        """
        tags = run.tags
        if not _code_server_is_local(tags.get(GRPC_INFO_TAG)):
            return _running("its process is on another machine and cannot be seen from here")

        launched_on = tags.get(WORKER_HOST_TAG)
        launched_in = tags.get(WORKER_BOOT_TAG)
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


def _running(why: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.RUNNING, msg=why)


def _gone(why: str) -> CheckRunHealthResult:
    return CheckRunHealthResult(WorkerStatus.FAILED, msg=f"The run's process died: {why}.")
