"""The PostgreSQL that Dagster and tailor share: its URL, and tailor's own schema in it.

Belongs here: connecting and migrating. Does not belong here: what the tables mean
(video_registry.py, google_drive/), starting a server (tailor_assets/services).
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "tailor"
# Every module describes its own tables in it.
metadata = sa.MetaData(schema=SCHEMA)

_MIGRATIONS = Path(__file__).parent / "migrations"
# Any number of ours: two processes that migrate at once take turns by it (PostgreSQL advisory lock).
_MIGRATION_LOCK = 0x7A110
_DRIVER = "postgresql+psycopg2"


def with_driver(postgres_url: str) -> str:
    """The URL with its driver said: ``postgresql+psycopg2://...``.

    A bare ``postgresql://`` means psycopg 3 from SQLAlchemy 2.1 on, which dagster-postgres does not
    bring along. ``postgres://``, as hosters write it, SQLAlchemy does not know at all.

    Raises PermanentProblem for a URL of anything but PostgreSQL, and for one that cannot be read.
    """
    scheme, separator, rest = postgres_url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise PermanentProblem(
            "The database URL is not PostgreSQL's: write it as "
            "postgresql://user:password@host:5432/name in TAILOR_POSTGRES_URL."
        )
    url = f"{_DRIVER}://{rest}"
    try:
        sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # Their words may have a part of the password in them.
        raise PermanentProblem(
            "The database URL cannot be read: write it as postgresql://user:password@host:5432/name "
            "in TAILOR_POSTGRES_URL, with %40 for an @ in the password and %3A for a colon."
        ) from None
    return url


def migrate(postgres_url: str) -> None:
    """Bring the schema ``tailor`` up to date; create it in a new database. Safe to call at once
    from several processes, and again.

    Raises PermanentProblem where no database answers at the URL, and where its tables are of a newer
    tailor.
    """
    # Alembic takes 0.3 s to import, and workers that only read tables do not need it.
    from alembic import command
    from alembic.migration import MigrationContext

    config = _alembic_config()
    engine = sa.create_engine(with_driver(postgres_url), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            there = MigrationContext.configure(
                connection, opts={"version_table_schema": SCHEMA}
            ).get_current_revision()
            known = schema_versions()
            if there is not None and there not in known:
                raise PermanentProblem(
                    f"The tables are of a newer tailor (version {there}; this one's are {known[0]}): "
                    "start that one, or restore the database of before."
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sa.exc.OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
        raise PermanentProblem(
            f"The database cannot be used ({reason}); check that it runs and that "
            "TAILOR_POSTGRES_URL names it."
        ) from error
    finally:
        engine.dispose()


def schema_versions() -> list[str]:
    """The versions of the schema ``tailor`` that this tailor knows, the newest first."""
    from alembic.script import ScriptDirectory

    return [
        each.revision for each in ScriptDirectory.from_config(_alembic_config()).walk_revisions()
    ]


def _alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()  # no alembic.ini: the current folder may be anything
    # Alembic's options know no spaces or percent signs in paths unless told.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def storable(value: object) -> object:
    """Text without what PostgreSQL cannot hold: NUL, and halves of surrogate pairs."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def insert_for(connection: sa.Connection) -> Any:
    """The dialect's own insert, because ``ON CONFLICT`` is not in the common one."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    return postgres_insert


# Seconds, milliseconds: a server that is cut off is an error at some time, and not a wait for ever.
_PATIENCE = {"connect_timeout": 10, "tcp_user_timeout": 30_000}

# Compiled statements: the code server repeats some 50 of ours, and the library would keep 500.
_STATEMENTS_KEPT = 150

_engines: dict[str, sa.Engine] = {}
_engines_lock = threading.Lock()


def engine_for(url: str) -> sa.Engine:
    """One engine per URL and process: a resource is made anew for every run and tick.

    Raises PermanentProblem for an empty URL. In an SQLite file tables have no schema.
    """
    if not url:
        raise PermanentProblem(
            "No database is named: start tailor with `tailor up`, or set TAILOR_POSTGRES_URL."
        )
    if not url.startswith("sqlite:"):
        url = with_driver(url)
    with _engines_lock:
        if url not in _engines:
            engine = sa.create_engine(
                url,
                pool_size=2,
                max_overflow=8,
                pool_pre_ping=True,
                query_cache_size=_STATEMENTS_KEPT,
                connect_args=_PATIENCE if url.startswith(_DRIVER) else {},
            )
            if engine.dialect.name == "sqlite":
                engine = engine.execution_options(schema_translate_map={SCHEMA: None})
            _engines[url] = engine
        return _engines[url]
