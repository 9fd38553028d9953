"""Work that only one process does at a time, on whichever host: a PostgreSQL advisory lock."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from resources.database import engine_for

# Any numbers of ours, as in resources/database.py.
RECONCILER_LOCK = 0x7A112
RETENTION_LOCK = 0x7A113


@contextmanager
def only_one(url: str, lock: int) -> Iterator[bool]:
    """Whether this is the only one; who is not must not do the work.

    The lock ends with the block, or with the process.
    """
    with engine_for(url).begin() as connection:
        yield bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(lock))).scalar())


@contextmanager
def alone_with_run(url: str, run_id: str) -> Iterator[None]:
    """Wait until nobody else starts or cancels this run, and be the only one while the block runs."""
    with engine_for(url).begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(run_id))))
        yield
