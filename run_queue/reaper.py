"""Ends workers that go on although their run is over, so that what they hold is free again.

A cancelled run ends its own worker within seconds. One that hangs, in a driver or on a dead disk,
does not, and Dagster then only says that it is over: the GPU would stay taken.
"""

import contextlib
import logging
import time

import psutil
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from resources.boot import boot_id
from run_queue.leases import Lease, leases_on, release
from run_queue.machine import host_name, is_the_same

# Longer than the longest honest end: TERM to the segmenter, 5 s, KILL, and the step's own clean-up.
CANCEL_GRACE_S = 20.0
_OVER_GRACE_S = 20.0

logger = logging.getLogger("tailor.queue")


def end_what_outlives_its_run(url: str, instance: DagsterInstance) -> list[str]:
    """Kill such workers of this machine, with all they have started; their runs' ids.

    Leases of workers that have gone without giving them back are forgotten, where their run is over.
    """
    leases = {lease.run_id: lease for lease in leases_on(url, host_name())}
    if not leases:
        return []
    records = instance.get_run_records(RunsFilter(run_ids=list(leases)))
    known = {record.dagster_run.run_id for record in records}
    for run_id in leases.keys() - known:
        _forget_if_gone(url, leases[run_id])
    ended = []
    for record in records:
        run = record.dagster_run
        lease = leases[run.run_id]
        since = time.time() - record.update_timestamp.timestamp()
        is_late = (run.is_finished and since > _OVER_GRACE_S) or (
            run.status == DagsterRunStatus.CANCELING and since > CANCEL_GRACE_S
        )
        if not is_late:
            continue
        if _is_here(lease):
            logger.warning("Run %s is over; its process %d is ended.", run.run_id, lease.pid)
            kill_tree(lease.pid)
            ended.append(run.run_id)
        elif run.is_finished:
            release(url, run.run_id)
    return ended


def _is_here(lease: Lease) -> bool:
    return lease.boot_id == boot_id() and is_the_same(lease.pid, lease.process_started_at)


def _forget_if_gone(url: str, lease: Lease) -> None:
    if not _is_here(lease):
        release(url, lease.run_id)


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, the youngest last."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
