"""The registry of videos, in a real PostgreSQL and in the SQLite file of ``tailor run``."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.database import migrate
from resources.video_registry import (
    VideoRegistry,
    VideoRow,
    metadata,
    tenants_table,
    videos_table,
)
from tailor_assets.cli import main
from tailor_assets.commands import serve
from tailor_assets.compute.errors import PermanentProblem

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ROW = VideoRow(
    partition_key="anna--day-1--0a1b2c3d",
    tenant="anna",
    folder_id="anna/tailor/videos/day 1",
    folder_name="day 1",
    results_name="day 1",
    state="settling",
    file_id="anna/tailor/videos/day 1/v.mp4",
    file_name="v.mp4",
    size=1 << 40,
    fingerprint="1-2-3",
    observed_at=NOW,
)


@pytest.fixture(params=["postgres", "sqlite"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VideoRegistry]:
    if request.param == "sqlite":
        registry = VideoRegistry(url=f"sqlite:///{tmp_path / 'registry.db'}")
        registry.create_in_sqlite()
        yield registry
        return
    url = request.getfixturevalue("postgres_url")
    migrate(url)
    yield VideoRegistry(url=url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for table in (videos_table, tenants_table):
            connection.execute(sa.delete(table))
    engine.dispose()


def another(number: int, **changes: object) -> VideoRow:
    row = replace(
        ROW,
        partition_key=f"anna--x--{number:08x}",
        folder_id=f"folder {number}",
        results_name=f"x {number}",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def test_a_row_comes_back_as_it_was_saved(registry: VideoRegistry) -> None:
    registry.save([ROW])
    got = registry.get(ROW.partition_key)
    # SQLite keeps no time zone; PostgreSQL does.
    assert got.observed_at is not None
    assert replace(got, observed_at=got.observed_at.replace(tzinfo=UTC)) == ROW
    assert list(registry.of_tenant("anna")) == [ROW.folder_id]
    assert registry.of_tenant("ben") == {}


def test_saving_again_replaces_but_leaves_what_belongs_to_the_assets(
    registry: VideoRegistry,
) -> None:
    registry.save([ROW])
    registry.set_waiting(ROW.partition_key, "points")
    registry.save([replace(ROW, state="admitted", checksum="c", fingerprint=None)])
    got = registry.get(ROW.partition_key)
    assert (got.state, got.checksum, got.fingerprint) == ("admitted", "c", None)
    assert got.waiting_for == "points"
    assert got.waiting_since is not None


def test_an_unknown_video_is_said_with_what_to_do(registry: VideoRegistry) -> None:
    with pytest.raises(PermanentProblem, match=r"'nobody--x--00000000'.*tailor/videos"):
        registry.get("nobody--x--00000000")


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "failed before it was seen"])
def test_a_video_whose_run_could_not_fetch_it_asks_for_another(
    registry: VideoRegistry, seen: bool
) -> None:
    admitted = replace(ROW, state="admitted", checksum="c", run_key="first")
    registry.save([replace(admitted, admitted_at=NOW if seen else None)])
    registry.ask_again(ROW.partition_key, "first")
    (row,) = registry.without_run()
    assert row.run_key not in (None, "first")
    registry.ask_again(ROW.partition_key, "first")
    assert registry.get(ROW.partition_key) == row, "the other run will do"
    registry.ask_again(ROW.partition_key, row.run_key)
    assert registry.get(ROW.partition_key).run_key not in ("first", row.run_key)
    registry.forget("anna")


def test_those_that_wait_are_listed_the_longest_wait_first(registry: VideoRegistry) -> None:
    registry.save([another(1), another(2), another(3)])
    for number in (3, 1):
        registry.set_waiting(another(number).partition_key, "points")
    assert [row.folder_id for row in registry.waiting()] == ["folder 3", "folder 1"]
    registry.set_waiting(another(3).partition_key, None)
    (row,) = registry.waiting()
    assert row.folder_id == "folder 1"
    assert registry.get(another(3).partition_key).waiting_since is None


def test_what_a_person_has_to_mend_is_listed_by_tenant_and_folder(registry: VideoRegistry) -> None:
    empty = another(2, folder_name="b", problem="It is empty.")
    registry.save([empty, another(1, folder_name="a", problem="Two videos."), another(3)])
    assert [row.problem for row in registry.with_problems()] == ["Two videos.", "It is empty."]
    registry.save([replace(empty, problem=None)])
    assert [row.folder_id for row in registry.with_problems()] == ["folder 1"]


def test_the_command_lists_who_waits_and_what_is_to_be_mended(
    registry: VideoRegistry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(serve, "running_registry", lambda: registry)
    registry.save(
        [another(1, folder_name="a"), another(2, folder_name="b", problem="b.mp4 is empty.")]
    )
    registry.set_waiting(another(1).partition_key, "points")
    assert main(["waiting"]) == 0
    waiting, mend = capsys.readouterr().out.splitlines()
    assert waiting.startswith("anna\ta\tpoints\tsince 20")
    assert mend == "anna\tb\tto be mended\tb.mp4 is empty."


def test_admitted_videos_whose_run_was_not_seen_are_listed_in_order(
    registry: VideoRegistry,
) -> None:
    later = NOW + timedelta(seconds=5)
    registry.save(
        [
            another(1, state="admitted", observed_at=later),
            another(2, state="admitted", observed_at=NOW),
            another(3, state="settling"),
            another(4, state="rejected"),
            another(5, state="admitted", admitted_at=NOW),
        ]
    )
    assert [row.folder_id for row in registry.without_run()] == ["folder 2", "folder 1"]


def test_all_rows_are_saved_or_none(registry: VideoRegistry) -> None:
    twin = another(2, results_name="x 1")
    with pytest.raises(sa.exc.IntegrityError):
        registry.save([another(1), twin])
    assert registry.of_tenant("anna") == {}
    registry.save([])


def test_a_key_that_belongs_to_another_folder_is_not_taken_over(registry: VideoRegistry) -> None:
    """Eight hexadecimal digits can be made to collide on purpose."""
    registry.save([ROW])
    thief = replace(
        ROW, tenant="ben", folder_id="ben's", folder_name="gotcha", file_id="ben's file"
    )
    with pytest.raises(PermanentProblem, match=r"'gotcha'.*rename it"):
        registry.save([thief])
    assert registry.get(ROW.partition_key).tenant == "anna"


def test_text_that_a_database_cannot_hold_is_made_harmless(registry: VideoRegistry) -> None:
    registry.save([replace(ROW, problem="nul \0 and half \ud800", file_name="new\nline 🐭")])
    got = registry.get(ROW.partition_key)
    assert got.problem == "nul \ufffd and half ?"
    assert got.file_name == "new\nline 🐭"


def test_frames_are_published_unless_a_tenant_switches_it_off(registry: VideoRegistry) -> None:
    assert registry.publishes_frames("anna")
    registry.set_publishes_frames("anna", False)
    registry.set_publishes_frames("anna", False)
    assert not registry.publishes_frames("anna")
    assert registry.publishes_frames("ben")
    registry.set_publishes_frames("anna", True)
    assert registry.publishes_frames("anna")


def test_quotes_in_values_are_values(registry: VideoRegistry) -> None:
    hostile = "'; DROP TABLE tailor.videos; --"
    registry.save([replace(ROW, tenant=hostile, folder_name=hostile, results_name=hostile)])
    assert registry.get(ROW.partition_key).tenant == hostile
    assert list(registry.of_tenant(hostile)) == [ROW.folder_id]
    with pytest.raises(PermanentProblem):
        registry.get(hostile)


def test_without_a_database_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAILOR_POSTGRES_URL", raising=False)
    with pytest.raises(PermanentProblem, match="tailor up"):
        VideoRegistry().waiting()


def test_the_url_of_the_environment_is_used_in_every_spelling(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(postgres_url)
    for scheme in ("postgresql+psycopg2://", "postgresql://", "postgres://"):
        url = postgres_url.replace("postgresql+psycopg2://", scheme)
        monkeypatch.setenv("TAILOR_POSTGRES_URL", url)
        assert VideoRegistry().waiting() == []


def test_the_tables_are_those_that_the_migrations_make(postgres_url: str) -> None:
    migrate(postgres_url)
    engine = sa.create_engine(postgres_url)
    inspector = sa.inspect(engine)
    for table in metadata.sorted_tables:
        made = inspector.get_columns(table.name, table.schema)
        assert {column["name"]: column["nullable"] for column in made} == {
            column.name: column.nullable for column in table.columns
        }
    engine.dispose()
