"""While everything fails for a cause that is nobody's own, the queue waits, and loses nothing."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from queue_lab import QueueLab, queue_lab

from resources.database import engine_for
from run_queue import operations
from run_queue.breaker import Attempt, last_attempts, next_probe, streak, watch_failures
from run_queue.failure_causes import CAUSE_KINDS, kind_in_sql, kind_of
from run_queue.job_tables import job_runs_table
from run_queue.pauses import Pause, pauses
from run_queue.queue_daemon import candidates

NOW = datetime(2026, 11, 29, 3, tzinfo=UTC)
FULL = "OSError: [Errno 28] No space left on device"


def attempts(*kinds: str, **changes: Any) -> list[Attempt]:
    """The latest first, one second apart, each of a video and tenant of its own."""
    return [
        replace(
            Attempt(f"job{n}", f"video{n}", f"tenant{n}", NOW - timedelta(seconds=n), kind, False),
            **changes,
        )
        for n, kind in enumerate(kinds)
    ]


def test_failures_of_several_videos_in_a_row_for_everybodys_cause_are_a_streak() -> None:
    assert len(streak(attempts(*["disk_full"] * 6), 6, NOW)) == 6
    assert not streak(attempts(*["disk_full"] * 4), 4, NOW), "too few"
    assert not streak(attempts("", *["disk_full"] * 6), 6, NOW), "something was made since"
    assert not streak(attempts(*["video"] * 6), 6, NOW), "each has a cause of its own"
    assert not streak(attempts(*["disk_full"] * 6, is_final=True), 6, NOW)
    assert not streak(attempts(*["disk_full"] * 6, partition_key="one"), 1, NOW), "one bad video"
    assert not streak(attempts(*["disk_full"] * 6), 6, NOW + timedelta(minutes=5)), "long ago"


def test_a_drive_may_be_one_tenants_and_a_laboratory_may_have_only_one() -> None:
    of_one = attempts(*["drive"] * 6, tenant="anna")
    assert not streak(of_one, 3, NOW)
    assert streak(of_one, 1, NOW)
    assert streak(attempts(*["drive"] * 6), 6, NOW)


def test_the_next_job_is_tried_later_each_time() -> None:
    held = Pause("failures", NOW, "the queue", "")
    assert next_probe(held, attempts("disk_full")) == NOW + timedelta(minutes=1)
    later = [replace(one, finished_at=NOW + timedelta(minutes=1)) for one in attempts("disk_full")]
    assert next_probe(held, later) == NOW + timedelta(minutes=3)
    many = [
        replace(one, finished_at=NOW + timedelta(minutes=90 - n))
        for n, one in enumerate(attempts(*["disk_full"] * 12))
    ]
    assert next_probe(held, many) == NOW + timedelta(minutes=90 + 15)


@pytest.fixture
def lab(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueLab]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab


def fail(lab: QueueLab, run: dg.DagsterRun, cause: str = FULL) -> None:
    lab.say(run, "starting", "started")
    lab.instance.report_run_failed(lab.run(run), cause)
    lab.look()


def fail_all_attempts(lab: QueueLab, video: str) -> dg.DagsterRun:
    run = lab.submit(partition=video)
    for _ in range(2):
        fail(lab, run)
        run = lab.again(run)
    fail(lab, run)
    return run


def starts(lab: QueueLab, *in_progress: dg.DagsterRun) -> list[str | None]:
    places = candidates(lab.url, lab.expectations, [lab.run(run) for run in in_progress])
    return [place.partition_key for place in places]


def time_passes(lab: QueueLab, minutes: int) -> None:
    """As if all that was, had been so much earlier."""
    with engine_for(lab.url).begin() as connection:
        for column in (
            "tailor.job_runs SET finished_at = finished_at",
            "tailor.queue_pauses SET since = since",
        ):
            connection.execute(sa.text(f"UPDATE {column} - interval '{minutes} minutes'"))


def test_a_full_disk_holds_the_queue_brings_back_what_it_parked_and_ends_with_a_success(
    lab: QueueLab,
) -> None:
    first = fail_all_attempts(lab, "one")
    assert lab.job("one").state == "parked"
    second = lab.submit(partition="two")
    fail(lab, second)
    watch_failures(lab.url)
    assert "failures" not in pauses(lab.url)
    second = lab.again(second)
    fail(lab, second)
    watch_failures(lab.url)
    assert "the disk is full" in pauses(lab.url)["failures"].why
    assert lab.job("one").state == "retrying", "brought back"

    first, second = lab.again(first), lab.again(second)
    third = lab.submit(partition="three")
    assert starts(lab) == [], "it has only just failed"
    time_passes(lab, 2)
    assert len(starts(lab)) == 1, "one is tried"
    assert starts(lab, third) == [], "and no other meanwhile"
    fail(lab, second)
    watch_failures(lab.url)
    assert lab.job("two").state == "retrying", "its third attempt, and it is not given up"
    assert starts(lab) == []

    time_passes(lab, 5)
    assert len(starts(lab)) == 1
    lab.say(third, "starting", "started", "success")
    watch_failures(lab.url)
    assert "failures" not in pauses(lab.url)
    lab.again(second)
    assert set(starts(lab)) == {"one", "two"}
    assert lab.job("one").run_id == first.run_id


def test_a_job_that_fails_for_a_cause_of_its_own_ends_the_pause_too(lab: QueueLab) -> None:
    fail_all_attempts(lab, "one")
    fail_all_attempts(lab, "two")
    watch_failures(lab.url)
    assert "failures" in pauses(lab.url)
    third = lab.submit(partition="three")
    fail(lab, third, "The video is damaged.")
    watch_failures(lab.url)
    assert "failures" not in pauses(lab.url)


def test_a_pause_that_a_person_has_ended_begins_again_only_with_another_failure(
    lab: QueueLab,
) -> None:
    fail_all_attempts(lab, "one")
    fail_all_attempts(lab, "two")
    watch_failures(lab.url)
    said = operations.resume_queue(lab.url, who="olga", why="there is room", what="failures")
    assert said == "The pause (failures) is over."
    time_passes(lab, 3)
    watch_failures(lab.url)
    assert "failures" not in pauses(lab.url)
    fail(lab, lab.submit(partition="three"))
    watch_failures(lab.url)
    assert "failures" in pauses(lab.url)


def test_kinds_of_causes_are_the_same_in_sql_and_in_python(lab: QueueLab) -> None:
    causes = [
        FULL, "CUDA out of memory", "The Drive of anna is full.", "Google answers 503",
        "cannot list /mnt/lab: Transport endpoint is not connected",
        "could not connect: psycopg2.OperationalError", "worker 12 died", "It is damaged",
        "no such template", "something else", "",
    ]  # fmt: skip
    for cause in causes:
        run = lab.submit(partition=f"of {cause}")
        with engine_for(lab.url).begin() as connection:
            connection.execute(
                sa.update(job_runs_table)
                .where(job_runs_table.c.run_id == run.run_id)
                .values(cause=cause)
            )
            query = sa.select(sa.text(kind_in_sql("job_runs.cause"))).select_from(job_runs_table)
            found = connection.execute(
                query.where(job_runs_table.c.run_id == run.run_id)
            ).scalar_one()
        assert found == kind_of(cause)
        assert found in CAUSE_KINDS
    assert last_attempts(lab.url) == []
