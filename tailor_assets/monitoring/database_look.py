"""Reading the database for a look at it: nothing is written, nothing takes long."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import sqlalchemy as sa

from resources.database import with_driver
from resources.settings import Settings

# What is asked takes milliseconds; what takes this long would weigh on the queue itself.
STATEMENT_LIMIT = timedelta(seconds=2)
_CONNECT_LIMIT_S = 2  # the least that libpq knows
# All look at the same stretch of the past.
WINDOW = timedelta(hours=1)
WINDOW_NAME = "1h"


def database_url(settings: Settings) -> str | None:
    """Of the database that tailor on this machine uses; None where it has none at the moment."""
    if settings.postgres_url:
        return settings.postgres_url
    from tailor_assets.services.start import running_postgres_url

    return running_postgres_url(settings.home)


@contextmanager
def looking(url: str) -> Iterator[sa.Connection]:
    """A connection of its own, so that a database that was away is met anew.

    Raises sqlalchemy's OperationalError where none answers, and for a statement that takes long;
    PermanentProblem for a URL that is not PostgreSQL's.
    """
    with _engine(url).connect() as connection:
        yield connection


@functools.lru_cache(maxsize=4)
def _engine(url: str) -> sa.Engine:
    limit_ms = round(STATEMENT_LIMIT.total_seconds() * 1000)
    return sa.create_engine(
        with_driver(url),
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "application_name": "tailor monitoring",
            "connect_timeout": _CONNECT_LIMIT_S,
            "options": f"-c statement_timeout={limit_ms} -c default_transaction_read_only=on",
        },
    )


def reason(error: sa.exc.SQLAlchemyError) -> str:
    """The driver's own words, on one line; they hold no password."""
    words = str(getattr(error, "orig", None) or type(error).__name__).strip()
    return " ".join(words.splitlines()[0].split()) if words else type(error).__name__


# Age in seconds of each daemon's last word. Dagster's times are UTC without saying so; a clock that
# was set back makes no age below zero. Dagster forgets no daemon: one that has been silent for a
# week while others speak is one that this version does not run.
HEARTBEAT_AGES = sa.text(
    """
    WITH ages AS (
      SELECT daemon_type AS daemon,
             greatest(0, extract(epoch FROM (now() AT TIME ZONE 'utc') - "timestamp")) AS age
      FROM daemon_heartbeats
    )
    SELECT daemon, age FROM ages
    WHERE age < (SELECT min(age) FROM ages) + 7 * 86400
    ORDER BY daemon
    """
)
