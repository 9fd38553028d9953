"""A worker's word that it lives: one row per run at work, renewed every few seconds.

On the machine of the daemon a worker's process can be looked at, and nothing else is asked. Of a
worker on another machine nobody can know more than that it has not been heard of; so its lease runs
out, and the worker sees to it that it has stopped before somebody takes its place (Gray and
Cheriton, "Leases", 1989). Times are the database's, because machines' clocks differ.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from resources.boot import boot_id
from resources.database import engine_for, insert_for
from run_queue.job_tables import dagster_runs, job_runs_table, run_leases_table
from run_queue.machine import birth, host_name, is_the_same, kill_tree

LEASE_SECONDS = 20
RENEW_EVERY_S = 4.0
# A run that is cancelled, or was taken for dead, has so long to end by itself: longer than the longest
# honest end (TERM to the segmenter, 5 s, KILL, and the step's own clean-up).
END_GRACE_S = 20.0
# A worker elsewhere stops so long before its lease ends, if it cannot renew it.
_MARGIN_S = 5.0
_LOOK_EVERY_S = 0.5
_LONGEST_ANSWER_S = 5.0

logger = logging.getLogger("tailor.queue")


@dataclass(frozen=True)
class Lease:
    """``is_current``: it has not run out, by the database's clock."""

    run_id: str
    host: str
    boot_id: str
    pid: int
    process_started_at: float
    is_current: bool
    revoked: bool


def lease_of(url: str, run_id: str) -> Lease | None:
    """The lease of a run's worker; None where none was ever taken."""
    with engine_for(url).begin() as connection:
        row = connection.execute(_leases().where(run_leases_table.c.run_id == run_id)).first()
    return Lease(*row) if row is not None else None


def is_on_this_machine(lease: Lease) -> bool:
    """Whether the lease's process lives, and can be seen from here."""
    return lease.boot_id == boot_id() and is_the_same(lease.pid, lease.process_started_at)


def leases_on(url: str, host: str) -> list[Lease]:
    """All leases of workers on a machine."""
    with engine_for(url).begin() as connection:
        rows = connection.execute(_leases().where(run_leases_table.c.host == host)).all()
    return [Lease(*row) for row in rows]


def _leases() -> sa.Select[tuple[str, str, str, int, float, bool, bool]]:
    table = run_leases_table
    return sa.select(
        table.c.run_id,
        table.c.host,
        table.c.boot_id,
        table.c.pid,
        table.c.process_started_at,
        table.c.expires_at > sa.func.now(),
        table.c.revoked,
    )


def revoke(url: str, run_id: str) -> None:
    """Say that the run is given up: a worker that still lives stops at its next renewal."""
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(run_leases_table)
            .where(run_leases_table.c.run_id == run_id)
            .values(revoked=True)
        )


def promise(url: str, run_id: str, seconds: int) -> None:
    """Note that a worker is being started, which has to take its lease within so long."""
    values = {
        "host": "",
        "boot_id": "",
        "pid": 0,
        "process_started_at": 0.0,
        "expires_at": sa.func.now() + sa.text(f"interval '{seconds} seconds'"),
    }
    with engine_for(url).begin() as connection:
        statement = insert_for(connection)(run_leases_table).values(run_id=run_id, **values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["run_id"],
                set_={"expires_at": values["expires_at"]},
                where=run_leases_table.c.pid == 0,
            )
        )


def forget(url: str, run_ids: Sequence[str]) -> None:
    """Remove leases of runs that are over."""
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.delete(run_leases_table).where(run_leases_table.c.run_id.in_(run_ids))
        )


def stop_this_process() -> None:
    """At once and without a word: its run is somebody else's, and its log is not to say otherwise."""
    kill_tree(os.getpid())


class Heartbeat:
    """Renews this process's lease of a run, in a thread of its own."""

    def __init__(
        self,
        url: str,
        run_id: str,
        *,
        watched_from_here: bool,
        stop: Callable[[], None] = stop_this_process,
    ) -> None:
        """``watched_from_here``: the daemon is on this machine and looks at the process itself."""
        self._url, self._run_id = url, run_id
        self._stop = stop
        self._renewed_at = time.monotonic()
        self._to_end_since: float | None = None
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._beat, name="lease", daemon=True)]
        if not watched_from_here:
            # Of its own: a line that is cut keeps whoever renews waiting for an answer.
            self._threads.append(
                threading.Thread(target=self._watch, name="lease watch", daemon=True)
            )

    def start(self) -> None:
        """Take the lease and go on renewing it. A database that is away is tried again."""
        self._renew()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Renew no more. The lease stays: until the run has said that it is over, it may die yet."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=_LONGEST_ANSWER_S)

    def _beat(self) -> None:
        while not self._over.wait(RENEW_EVERY_S):
            self._renew()

    def _watch(self) -> None:
        """Stop before the lease runs out, if it is not renewed: its place may then be taken."""
        while not self._over.wait(_LOOK_EVERY_S):
            unheard = time.monotonic() - self._renewed_at
            if unheard > LEASE_SECONDS - _MARGIN_S:
                logger.error(
                    "Run %s stops: the database has not answered for %.0f s, and its place may be "
                    "taken by another.",
                    self._run_id,
                    unheard,
                )
                self._stop()
                return

    def _renew(self) -> None:
        table = run_leases_table
        # From before the question: the database counts from some moment after it.
        asked_at = time.monotonic()
        expires = sa.func.now() + sa.text(f"interval '{LEASE_SECONDS} seconds'")
        try:
            with engine_for(self._url).begin() as connection:
                values = {
                    "host": host_name(),
                    "boot_id": boot_id(),
                    "pid": os.getpid(),
                    "process_started_at": birth(os.getpid()),
                    "expires_at": expires,
                }
                statement = insert_for(connection)(table).values(run_id=self._run_id, **values)
                taken = connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["run_id"],
                        set_=values,
                        where=sa.not_(table.c.revoked),
                    )
                )
                connection.execute(
                    sa.update(job_runs_table)
                    .where(job_runs_table.c.run_id == self._run_id, job_runs_table.c.host.is_(None))
                    .values(host=host_name())
                )
                status = connection.execute(
                    sa.select(dagster_runs.c.status).where(dagster_runs.c.run_id == self._run_id)
                ).scalar()
        except sa.exc.SQLAlchemyError as error:
            logger.warning("The lease of run %s was not renewed: %s", self._run_id, error)
            return
        self._renewed_at = asked_at
        if taken.rowcount == 0:
            logger.error("Run %s was given up meanwhile, so it stops here.", self._run_id)
            self._stop()
        if not self._is_to_end(status):
            self._to_end_since = None
        elif self._to_end_since is None:
            self._to_end_since = time.monotonic()
        elif time.monotonic() - self._to_end_since > END_GRACE_S:
            logger.error("Run %s is over and has not ended, so it is ended.", self._run_id)
            self._stop()

    @staticmethod
    def _is_to_end(status: str | None) -> bool:
        return status in ("CANCELING", "CANCELED", "FAILURE", "SUCCESS")


@contextmanager
def held_lease(url: str, run_id: str, *, watched_from_here: bool) -> Iterator[None]:
    """Hold the lease of a run while this block runs."""
    heartbeat = Heartbeat(url, run_id, watched_from_here=watched_from_here)
    heartbeat.start()
    try:
        yield
    finally:
        heartbeat.end()
