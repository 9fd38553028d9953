"""Work that only one process does at a time, on whichever host: a PostgreSQL advisory lock."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2.errors
import sqlalchemy as sa

from resources.database import engine_for
from tailor_assets.compute.errors import PermanentProblem

# Any numbers of ours, as in resources/database.py.
RECONCILER_LOCK = 0x7A112
RETENTION_LOCK = 0x7A113
_PATIENCE_S = 10
# So lets the lock of a process go that was stopped, not killed; what it had begun, it did not do.
_LONGEST_HELD = "2min"


@contextmanager
def only_one(url: str, lock: int) -> Iterator[bool]:
    """Whether this is the only one; who is not must not do the work.

    The lock ends with the block, or with the process.
    """
    with engine_for(url).begin() as connection:
        yield bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(lock))).scalar())


class RunIsTaken(PermanentProblem):
    """Somebody else starts or cancels this run, and does not come to an end."""


@contextmanager
def alone_with_run(url: str, run_id: str) -> Iterator[None]:
    """Wait until nobody else starts or cancels this run, and be the only one while the block runs.

    Neither is without an end: a process that was stopped in its block would stop the whole queue.
    Raises RunIsTaken after 10 s.
    """
    with engine_for(url).begin() as connection:
        for name, value in (
            ("lock_timeout", f"{_PATIENCE_S}s"),
            ("idle_in_transaction_session_timeout", _LONGEST_HELD),
        ):
            connection.execute(sa.select(sa.func.set_config(name, value, True)))
        try:
            lock = sa.func.pg_advisory_xact_lock(sa.func.hashtext(run_id))
            connection.execute(sa.select(lock))
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg2.errors.LockNotAvailable):
                raise
            raise RunIsTaken(
                f"Another process has been starting or cancelling run {run_id[:8]} for "
                f"{_PATIENCE_S} s: try again in a moment."
            ) from None
        yield
