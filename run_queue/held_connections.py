"""Connections that Dagster's PostgreSQL storages keep, in the processes where that pays."""

from typing import Any

from dagster import DagsterInstance
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from dagster_postgres.utils import create_pg_engine

_KINDS = (PostgresRunStorage, PostgresEventLogStorage, PostgresScheduleStorage)
_KEPT = 2  # of each storage; what several threads need at once beyond that is closed again
# Milliseconds: a kept connection over a link that was cut is an error then, and not a quarter of an
# hour's wait. A database that only stands still answers for its machine, and is waited for.
_CUT_OFF = {"tcp_user_timeout": 30_000}


def hold_connections(instance: DagsterInstance) -> None:
    """Let the instance's PostgreSQL storages keep what they open; others stay as they are.

    Dagster opens a connection for every single question, and PostgreSQL starts a process for each: an
    idle daemon asked fifty times a second, which was most of what an idle tailor cost. One that
    has broken is noticed when it is taken, and replaced, so a database that was started anew is met as
    before.

    For a process that has one instance for as long as it lives: the daemon, a run's worker. Not for the
    code server, which makes an instance at every tick and would keep the connections of all of them.
    """
    for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
        if isinstance(storage, _KINDS):
            _hold(storage)


def _hold(storage: Any) -> None:
    # As the storage's own optimize_for_webserver does, but that one neither looks whether a kept
    # connection still works nor lets a statement take its time.
    before = storage._engine
    storage._engine = create_pg_engine(
        storage.postgres_url,
        storage._token_provider,
        isolation_level="AUTOCOMMIT",
        pool_size=_KEPT,
        max_overflow=-1,
        pool_pre_ping=True,
        connect_args=_CUT_OFF,
    )
    before.dispose()
