"""A person's verdicts: kept once per window, history in the audit, never on other windows."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from reviewed_videos import put_video

from resources.artifact_store import ArtifactStore
from resources.audit.log import newest_records, verify
from resources.database import engine_for, migrate
from resources.review_decisions import (
    Wanted,
    decide,
    decisions_of,
    partitions_with_decisions,
    review_decisions_table,
)
from resources.video_registry import VideoRegistry, VideoRow
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.review.decisions import Piece
from tailor_assets.compute.review.ranking import ranked_windows

KEY = "anna--day-1--0a1b2c3d"


@pytest.fixture(params=["postgres", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        registry = VideoRegistry(url=f"sqlite:///{tmp_path / 'registry.db'}")
        registry.create_in_sqlite()
        yield registry.url
        return
    yield request.getfixturevalue("migrated_url")


@pytest.fixture
def migrated_url(postgres_url: str) -> Iterator[str]:
    migrate(postgres_url)
    yield postgres_url
    with engine_for(postgres_url).begin() as connection:
        connection.execute(sa.delete(review_decisions_table))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(root=str(tmp_path / "artifacts"))
    put_video(store, KEY, 1)
    return store


def rows(url: str) -> int:
    with engine_for(url).begin() as connection:
        count = sa.select(sa.func.count()).select_from(review_decisions_table)
        return int(connection.execute(count).scalar_one())


def test_a_verdict_is_kept_with_all_that_belongs_to_it(url: str, store: ArtifactStore) -> None:
    window = next(w for w in ranked_windows(store.read_table(KEY, "flags")) if w.number == 2)
    middle = (window.start_s + window.stop_s) / 2
    pieces = (Piece(window.start_s, middle, "run"), Piece(middle, window.stop_s, "groom"))
    (made,) = decide(
        url,
        store,
        KEY,
        [Wanted(2, "relabel", "groom", pieces)],
        who="anna",
        confidence=0.75,
        note="looks like it \u2713",
    )
    assert (made.run_id, made.flag_window, made.flags_version) == ("run-1", 2, "flags-1-3.0-None")
    assert (made.start_s, made.stop_s) == (window.start_s, window.stop_s)
    assert made.predicted_label == ", ".join(window.predicted)
    found = decisions_of(url, store, KEY)
    assert found.current == (made,), "what is read is what was written"
    assert found.stale == ()
    assert partitions_with_decisions(url) == [KEY]


def test_deciding_again_replaces_the_verdict_and_saying_the_same_again_changes_nothing(
    url: str, store: ArtifactStore
) -> None:
    (first,) = decide(url, store, KEY, [Wanted(1, "accept")], who="anna")
    (same,) = decide(url, store, KEY, [Wanted(1, "accept")], who="ben")
    assert (same.who, same.decided_at) == (first.who, first.decided_at)
    decide(url, store, KEY, [Wanted(1, "reject")], who="ben")
    (now,) = decisions_of(url, store, KEY).current
    assert (now.verdict, now.who) == ("reject", "ben")
    assert rows(url) == 1


def test_the_history_of_a_verdict_is_in_the_audit_log(
    migrated_url: str, store: ArtifactStore
) -> None:
    decide(migrated_url, store, KEY, [Wanted(3, "accept")], who="anna", note="sure")
    decide(migrated_url, store, KEY, [Wanted(3, "accept")], who="anna", note="sure")
    decide(migrated_url, store, KEY, [Wanted(3, "relabel", "groom")], who="ben")
    *_, first, second = newest_records(migrated_url, 10)
    assert (first.actor, first.action, first.subject) == ("anna", "review.decided", KEY)
    assert '"verdict":"accept"' in first.details
    assert '"before":null' in first.details
    assert (second.actor, second.action) == ("ben", "review.decided")
    assert '"new_label":"groom"' in second.details
    assert '"who":"anna"' in second.details, "what was said before is kept"
    assert verify(migrated_url).problem is None


def test_decisions_on_flags_that_were_made_otherwise_are_kept_and_stale(
    url: str, store: ArtifactStore
) -> None:
    decide(url, store, KEY, [Wanted(1, "accept"), Wanted(2, "reject")], who="anna")
    put_video(store, KEY, 1, window_s=1.0, run_id="run-2")
    found = decisions_of(url, store, KEY)
    assert found.current == ()
    assert [one.run_id for one in found.stale] == ["run-1", "run-1"]

    decide(url, store, KEY, [Wanted(1, "reject")], who="anna")
    found = decisions_of(url, store, KEY)
    assert [(one.run_id, one.verdict) for one in found.current] == [("run-2", "reject")]
    assert len(found.stale) == 2
    assert rows(url) == 3


def test_a_run_that_made_the_same_flags_again_leaves_decisions_in_force(
    url: str, store: ArtifactStore
) -> None:
    decide(url, store, KEY, [Wanted(1, "accept")], who="anna")
    put_video(store, KEY, 1, run_id="run-9")
    decide(url, store, KEY, [Wanted(1, "reject"), Wanted(2, "accept")], who="anna")
    found = decisions_of(url, store, KEY)
    assert [(one.flag_window, one.verdict) for one in found.current] == [
        (1, "reject"),
        (2, "accept"),
    ]
    assert found.stale == ()


def test_one_run_makes_flags_of_many_videos_and_each_has_its_own_decisions(
    url: str, store: ArtifactStore
) -> None:
    put_video(store, "anna--day-2--0a1b2c3e", 2)
    for key, verdict in ((KEY, "accept"), ("anna--day-2--0a1b2c3e", "reject")):
        decide(url, store, key, [Wanted(1, verdict)], who="anna")
    assert decisions_of(url, store, KEY).current[0].verdict == "accept"
    assert decisions_of(url, store, "anna--day-2--0a1b2c3e").current[0].verdict == "reject"


@pytest.mark.parametrize(
    ("wanted", "more", "sentence"),
    [
        (Wanted(99, "accept"), {}, "has no review window 99: its flags have the windows 1 to"),
        (Wanted(0, "accept"), {}, "has no review window 0"),
        (
            Wanted(1, "relabel", "grom"),
            {},
            "There is no behaviour 'grom' here: choose one of groom",
        ),
        (Wanted(1, "relabel"), {}, "needs its new label"),
        (Wanted(1, "accept"), {"run_id": "run-7"}, "of the run run-1 and not of run-7"),
        (Wanted(1, "accept"), {"who": " "}, "Say who decides"),
        (Wanted(1, "accept"), {"note": "x" * 1001}, "in 1,000 or fewer"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(
    url: str, store: ArtifactStore, wanted: Wanted, more: dict[str, str], sentence: str
) -> None:
    with pytest.raises(PermanentProblem, match=sentence) as told:
        decide(url, store, KEY, [wanted], **{"who": "anna", **more})
    assert "\n" not in str(told.value)
    assert rows(url) == 0


def test_of_several_verdicts_all_are_checked_before_one_is_kept(
    url: str, store: ArtifactStore
) -> None:
    with pytest.raises(PermanentProblem, match="no review window 99"):
        decide(url, store, KEY, [Wanted(1, "accept"), Wanted(99, "accept")], who="anna")
    assert rows(url) == 0


def test_a_new_behaviour_is_known_once_somebody_has_named_it(
    url: str, store: ArtifactStore
) -> None:
    decide(url, store, KEY, [Wanted(1, "relabel", "rear")], who="anna", new_behavior=True)
    decide(url, store, KEY, [Wanted(2, "relabel", "rear")], who="ben")


def test_a_video_without_flags_cannot_be_decided_about(url: str, store: ArtifactStore) -> None:
    with pytest.raises(PermanentProblem, match="flags of nobody--x--1 are not there"):
        decide(url, store, "nobody--x--1", [Wanted(1, "accept")], who="anna")


def test_the_database_itself_takes_no_verdict_that_makes_no_sense(
    migrated_url: str, store: ArtifactStore
) -> None:
    decide(migrated_url, store, KEY, [Wanted(1, "accept")], who="anna")
    for change in (
        {"verdict": "perhaps"},
        {"new_label": "run"},
        {"verdict": "relabel"},
        {"confidence": 2.0},
    ):
        with pytest.raises(sa.exc.IntegrityError), engine_for(migrated_url).begin() as connection:
            connection.execute(sa.update(review_decisions_table).values(change))


def test_a_tenant_that_leaves_takes_their_decisions_along(url: str, store: ArtifactStore) -> None:
    registry = VideoRegistry(url=url)
    registry.save(
        [
            VideoRow(
                partition_key=KEY,
                tenant="anna",
                folder_id="f",
                folder_name="day 1",
                results_name="day 1",
                state="admitted",
            )
        ]
    )
    decide(url, store, KEY, [Wanted(1, "accept")], who="anna")
    registry.forget("anna")
    assert rows(url) == 0


def test_the_time_of_a_decision_has_its_zone_in_sqlite_too(tmp_path: Path, store) -> None:
    registry = VideoRegistry(url=f"sqlite:///{tmp_path / 'r.db'}")
    registry.create_in_sqlite()
    (made,) = decide(registry.url, store, KEY, [Wanted(1, "accept")], who="anna")
    (read,) = decisions_of(registry.url, store, KEY).current
    assert read.decided_at == made.decided_at
    with sqlite3.connect(tmp_path / "r.db") as connection:
        assert connection.execute("SELECT count(*) FROM review_decisions").fetchone() == (1,)
