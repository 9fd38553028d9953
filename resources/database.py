"""The PostgreSQL that Dagster and tailor share: its URL, and tailor's own schema in it.

Belongs here: connecting and migrating. Does not belong here: what the tables mean
(video_registry.py), starting a server (tailor_assets/services).
"""

from pathlib import Path

import sqlalchemy as sa

from tailor_assets.compute.errors import PermanentProblem

SCHEMA = "tailor"

_MIGRATIONS = Path(__file__).parent / "migrations"
# Any number of ours: two processes that migrate at once take turns by it (PostgreSQL advisory lock).
_MIGRATION_LOCK = 0x7A110
_DRIVER = "postgresql+psycopg2"


def with_driver(postgres_url: str) -> str:
    """The URL with its driver said: ``postgresql+psycopg2://...``.

    A bare ``postgresql://`` means psycopg 3 from SQLAlchemy 2.1 on, which dagster-postgres does not
    bring along. ``postgres://``, as hosters write it, SQLAlchemy does not know at all.

    Raises PermanentProblem for a URL of anything but PostgreSQL.
    """
    scheme, separator, rest = postgres_url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise PermanentProblem(
            "The database URL is not PostgreSQL's: write it as "
            "postgresql://user:password@host:5432/name in TAILOR_POSTGRES_URL."
        )
    return f"{_DRIVER}://{rest}"


def migrate(postgres_url: str) -> None:
    """Bring the schema ``tailor`` up to date; create it in a new database. Safe to call at once
    from several processes, and again.

    Raises PermanentProblem where no database answers at the URL.
    """
    # Alembic takes 0.3 s to import, and workers that only read tables do not need it.
    from alembic import command
    from alembic.config import Config

    config = Config()  # no alembic.ini: the current folder may be anything
    # Alembic's options know no spaces or percent signs in paths unless told.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    engine = sa.create_engine(with_driver(postgres_url), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
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
