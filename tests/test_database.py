"""The schema ``tailor``: made from nothing, made again, made by two at once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from toy_services import new_home

from resources import publications, video_registry
from resources.audit import chain, mirror_cursors
from resources.database import metadata, migrate, with_driver
from resources.google_drive import drive
from resources.notifications import episodes, preferences
from run_queue import job_tables
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services.postgres import embedded_postgres


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with (
        new_home() as folder,
        embedded_postgres(folder / "postgres", folder / "postgres.log") as server,
    ):
        yield server.url


@pytest.fixture
def database(server_url: str, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A new, empty database of its own."""
    name = f"test_{abs(hash(request.node.name))}"
    with sa.create_engine(server_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine = sa.create_engine(sa.make_url(server_url).set(database=name))
    yield engine
    engine.dispose()


def url_of(engine: sa.Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


# Each describes its tables when it is imported.
DESCRIBED = (
    publications, video_registry, drive, job_tables, chain, mirror_cursors, episodes, preferences,
)  # fmt: skip


def test_migrating_makes_all_tables_and_migrating_again_changes_nothing(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no alembic.ini here
    migrate(url_of(database))
    migrate(url_of(database))
    inspector = sa.inspect(database)
    assert set(inspector.get_table_names("tailor")) == {
        "alembic_version",
        *(table.name for table in metadata.tables.values()),
    }
    assert {"tenants", "videos", "publications", "drive_accounts"} <= set(
        inspector.get_table_names("tailor")
    )
    assert inspector.get_table_names("public") == [], "Dagster's schema is not ours to touch"
    nullable = {c["name"] for c in inspector.get_columns("videos", "tailor") if c["nullable"]}
    assert {"checksum", "admitted_at", "problem"} <= nullable
    assert not {"partition_key", "tenant", "folder_id", "results_name", "state"} & nullable


def test_what_is_migrated_is_what_the_registry_reads(database: sa.Engine) -> None:
    migrate(url_of(database))
    with database.connect() as connection:
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == "tailor",
            "include_object": lambda _, name, *__: name != "alembic_version",
            "compare_server_default": True,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_two_that_migrate_at_once_take_turns(database: sa.Engine) -> None:
    problems: list[Exception] = []

    def once() -> None:
        try:
            migrate(url_of(database))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_one_tenant_cannot_have_two_videos_with_one_results_folder(database: sa.Engine) -> None:
    migrate(url_of(database))
    insert = sa.text(
        "INSERT INTO tailor.videos"
        " (partition_key, tenant, folder_id, folder_name, results_name, state)"
        " VALUES (:key, :tenant, :key, 'day 1', 'day 1', :state)"
    )
    with database.begin() as connection:
        connection.execute(insert, {"key": "a", "tenant": "anna", "state": "settling"})
        connection.execute(insert, {"key": "b", "tenant": "ben", "state": "admitted"})
    with pytest.raises(sa.exc.IntegrityError), database.begin() as connection:
        connection.execute(insert, {"key": "c", "tenant": "anna", "state": "settling"})
    with pytest.raises(sa.exc.IntegrityError), database.begin() as connection:
        connection.execute(insert, {"key": "d", "tenant": "carl", "state": "lost"})


@pytest.mark.parametrize("given", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_the_driver_is_always_said(given: str) -> None:
    assert with_driver(f"{given}://u:p%40@h:1/n") == "postgresql+psycopg2://u:p%40@h:1/n"


@pytest.mark.parametrize("url", ["mysql://somewhere/x", "just words", "sqlite:///x.db"])
def test_another_database_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(PermanentProblem, match="TAILOR_POSTGRES_URL"):
        with_driver(url)


def test_a_database_that_does_not_answer_is_said_in_one_sentence() -> None:
    with pytest.raises(PermanentProblem, match=r"cannot be used .*check that it runs") as problem:
        migrate("postgresql://nobody@127.0.0.1:1/none")
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@h:port:1/x", "postgresql://u:secret@[::1/x"]
)
def test_a_url_that_cannot_be_read_is_said_without_its_password(url: str) -> None:
    with pytest.raises(PermanentProblem, match="cannot be read: write it as") as problem:
        with_driver(url)
    assert "secret" not in str(problem.value)


def test_tables_of_a_newer_tailor_are_left_alone_and_said(database: sa.Engine) -> None:
    migrate(url_of(database))
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE tailor.alembic_version SET version_num = '9999'"))
    with pytest.raises(
        PermanentProblem, match=r"of a newer tailor \(version 9999; this one's are 0"
    ):
        migrate(url_of(database))
    with database.begin() as connection:
        version = connection.execute(sa.text("SELECT version_num FROM tailor.alembic_version"))
        assert version.scalar() == "9999"
