"""Ends workers that go on although their run is over, so that what they hold is free again.

A cancelled run ends its own worker within seconds. One that hangs, in a driver or on a dead disk,
does not, and Dagster then only says that it is over: the GPU would stay taken.
"""

import logging
import time

import sqlalchemy as sa
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.launcher.base import WorkerStatus

from resources.database import engine_for
from run_queue.job_tables import run_leases_table
from run_queue.leases import forget, is_on_this_machine, leases_on
from run_queue.machine import host_name, kill_tree

# Where a worker lives, its own heartbeat ends it after less (leases.py); this is for one that hangs.
CANCEL_GRACE_S = 25.0
_OVER_GRACE_S = 25.0
# Of other machines nothing is known but that nobody renews the lease.
_FORGOTTEN_AFTER = sa.text("interval '1 hour'")

logger = logging.getLogger("tailor.queue")


def end_what_outlives_its_run(url: str, instance: DagsterInstance) -> list[str]:
    """Kill such workers of this machine, with all they have started; their runs' ids.

    Leases of workers that have gone are forgotten, where their run is over.
    """
    leases = {lease.run_id: lease for lease in leases_on(url, host_name())}
    records = instance.get_run_records(RunsFilter(run_ids=list(leases))) if leases else []
    ended, gone = [], []
    for record in records:
        run = record.dagster_run
        lease = leases.pop(run.run_id)
        since = time.time() - record.update_timestamp.timestamp()
        is_late = (run.is_finished and since > _OVER_GRACE_S) or (
            run.status == DagsterRunStatus.CANCELING and since > CANCEL_GRACE_S
        )
        if not is_on_this_machine(lease):
            if run.is_finished:
                gone.append(run.run_id)
        elif is_late:
            logger.warning("Run %s is over; its process %d is ended.", run.run_id, lease.pid)
            kill_tree(lease.pid)
            ended.append(run.run_id)
            if not run.is_finished:
                # Its slots are free when it is over, and it cannot say so any more.
                instance.report_run_canceled(run, "Its process did not end, and was killed.")
    # What is left are leases of runs that have been deleted.
    gone += [run_id for run_id, lease in leases.items() if not is_on_this_machine(lease)]
    if gone:
        forget(url, gone)
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.delete(run_leases_table).where(
                run_leases_table.c.expires_at < sa.func.now() - _FORGOTTEN_AFTER,
                run_leases_table.c.host != host_name(),
            )
        )
    return ended


def fail_what_died_while_it_started(instance: DagsterInstance) -> None:
    """Fail runs whose process is gone before it could say that it has started.

    Dagster's monitoring asks after those only that have, and gives the others two minutes. To be called
    where no launch is under way: until then a retry has its parent's tags.
    """
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTING])):
        found = instance.run_launcher.check_run_worker_health(run)
        now = instance.get_run_by_id(run.run_id)
        if found.status == WorkerStatus.FAILED and now and now.status == DagsterRunStatus.STARTING:
            instance.report_run_failed(now, found.msg)
