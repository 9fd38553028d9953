"""Jobs and their attempts, from the request to the end, on a real database and Dagster instance."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from queue_lab import QueueLab, queue_lab

from resources.database import engine_for
from run_queue.failure import MAX_RETRIES_TAG
from run_queue.job_ledger import JOB_TAG, PRIORITY_TAG, bring_back, mark_cancelled, priority_of
from run_queue.job_sync import delay_before
from run_queue.job_tables import job_runs_table, queue_shares_table
from run_queue.retry_daemon import due_retries
from tailor_assets.compute.errors import PermanentProblem


@pytest.fixture
def lab(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueLab]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab


def attempts(lab: QueueLab, job_id: str) -> list[sa.Row]:
    query = (
        sa.select(job_runs_table)
        .where(job_runs_table.c.job_id == job_id)
        .order_by(job_runs_table.c.attempt, job_runs_table.c.queued_at)
    )
    with engine_for(lab.url).begin() as connection:
        return list(connection.execute(query).all())


# Asking


def test_asking_twice_is_asking_once_whoever_asks_at_the_same_moment(lab: QueueLab) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: lab.accept("one"), range(16)))
    (job_id,) = [one for one in ids if one is not None]
    assert lab.job(job_id).state == "pending"


def test_a_job_that_has_not_come_to_the_queue_takes_on_what_is_asked_for_meanwhile(
    lab: QueueLab,
) -> None:
    first = lab.accept("a", partition_key="p", assets=("masks", "features"), priority=10)
    before = lab.job("p")
    assert lab.accept("b", partition_key="p", assets=("frames", "masks", "features")) == first
    job = lab.job("p")
    assert set(job.assets or ()) == {"frames", "masks", "features"}
    assert (job.priority, job.accepted_at) == (5, before.accepted_at)
    assert lab.accept("c", partition_key="p") == first
    assert lab.job("p").assets is None, "the whole of it"


def test_a_jobs_run_that_comes_to_the_queue_is_its_first_attempt(lab: QueueLab) -> None:
    job_id = lab.accept("one")
    run = lab.submit(tailor__job=job_id or "")
    job = lab.job("anna--one")
    assert (job.state, job.run_id, job.attempts) == ("queued", run.run_id, 1)
    assert lab.run(run).tags[PRIORITY_TAG] == "5"
    lab.say(run, "starting", "started", "success")
    job = lab.job("anna--one")
    assert (job.state, job.finished_at is not None) == ("completed", True)
    (attempt,) = attempts(lab, job.job_id)
    assert attempt.status == "success"
    assert attempt.queued_at <= attempt.dequeued_at <= attempt.finished_at
    assert attempt.started_at is not None


def test_what_a_person_launches_is_a_job_of_its_own(lab: QueueLab) -> None:
    run = lab.submit("ben", "ben--day", dagster__priority="3")
    job = lab.job(run.run_id)
    assert (job.tenant, job.partition_key, job.state) == ("ben", "ben--day", "queued")
    assert job.priority == 1, "of Dagster's priorities the greater comes first"
    assert lab.run(run).tags[JOB_TAG] == job.job_id
    assert priority_of({"dagster/priority": "-10"}) == 10
    assert priority_of({"tailor/priority": "7", "dagster/priority": "x"}) == 5


# Failing


def test_three_attempts_with_growing_delays_then_it_is_parked_with_its_cause(
    lab: QueueLab,
) -> None:
    run = lab.submit(partition="p")
    place = lab.job("p").accepted_at
    for attempt in (1, 2):
        lab.say(run, "starting", "started", "failure")
        job = lab.job("p")
        assert (job.state, job.attempts) == ("retrying", attempt)
        assert job.retry_at is not None
        ended = attempts(lab, job.job_id)[-1].finished_at
        assert job.retry_at - ended == timedelta(seconds=2 * attempt)
        run = lab.again(run)
        assert lab.job("p").accepted_at == place, "a retry keeps its place"
    lab.say(run, "starting", "started", "failure")
    job = lab.job("p")
    assert (job.state, job.attempts) == ("parked", 3)
    assert "a passing trouble" in (job.cause or "")
    assert "tailor queue retry" in (job.action or "")
    assert [one.status for one in attempts(lab, job.job_id)] == ["failure"] * 3


def test_delays_double_up_to_eight_seconds() -> None:
    assert [delay_before(n).total_seconds() for n in (1, 2, 3, 4)] == [2, 4, 8, 8]


def test_what_trying_again_cannot_mend_is_parked_at_once(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started")
    lab.instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
    lab.say(run, "failure")
    assert lab.job("p").state == "parked"


def test_a_parked_job_that_is_brought_back_begins_its_attempts_anew(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
    lab.say(run, "starting", "started", "failure")
    job = lab.job("p")
    assert bring_back(lab.url, job.job_id)
    assert not bring_back(lab.url, job.job_id), "once is enough"
    assert [due.job_id for due in due_retries(lab.url)] == [job.job_id]
    again = lab.again(run)
    job = lab.job("p")
    assert (job.state, job.attempts, job.cause) == ("queued", 1, None)
    lab.say(again, "starting", "started", "success")
    assert lab.job("p").state == "completed"


def test_what_was_parked_is_settled_by_a_later_job_of_the_same_video_and_by_no_other(
    lab: QueueLab,
) -> None:
    parked = {}
    for name, partition in (("same", "p"), ("another video", "q")):
        parked[name] = lab.submit(partition=partition)
        lab.instance.add_run_tags(parked[name].run_id, {MAX_RETRIES_TAG: "0"})
        lab.say(parked[name], "starting", "started", "failure")
    making = lab.submit(partition="p")
    # Asked for after the one that makes it: what it was to make may be newer.
    parked["later"] = lab.submit(partition="p")
    lab.instance.add_run_tags(parked["later"].run_id, {MAX_RETRIES_TAG: "0"})
    lab.say(parked["later"], "starting", "started", "failure")
    lab.say(making, "starting", "started", "success")
    states = {name: lab.job(run.run_id).state for name, run in parked.items()}
    assert states == {"same": "cancelled", "another video": "parked", "later": "parked"}
    assert "has made it since" in (lab.job(parked["same"].run_id).cause or "")


def test_a_persons_re_execution_of_a_parked_job_is_that_job_with_the_usual_retries(
    lab: QueueLab,
) -> None:
    run = lab.submit(partition="p")
    lab.instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
    lab.say(run, "starting", "started", "failure")
    before = lab.job("p")
    again = lab.again(run, by_itself=False)
    job = lab.job(again.run_id)
    assert job.job_id == before.job_id
    assert (job.attempts, job.state) == (1, "queued")
    assert job.accepted_at > before.accepted_at
    assert lab.run(again).tags[MAX_RETRIES_TAG] == "3", "one run before it, and two retries"


def test_re_executing_what_is_under_way_is_another_job(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started")
    again = lab.again(run, by_itself=False)
    assert lab.job(again.run_id).job_id != lab.job(run.run_id).job_id
    lab.say(run, "success")
    assert lab.job(run.run_id).state == "completed"
    assert lab.job(again.run_id).state == "queued"


def test_a_retry_is_due_after_its_delay_also_when_the_clock_was_put_back(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started", "failure")
    assert due_retries(lab.url) == [], "not yet"
    lab.set(lab.job("p").job_id, retry_at=datetime.now(UTC) - timedelta(seconds=1))
    assert len(due_retries(lab.url)) == 1
    lab.set(lab.job("p").job_id, retry_at=datetime.now(UTC) + timedelta(hours=1))
    assert len(due_retries(lab.url)) == 1


def test_whatever_happened_while_nobody_looked_is_found_at_the_next_look(lab: QueueLab) -> None:
    runs = [lab.submit(partition=f"p{n}") for n in range(3)]
    for run, word in zip(runs, ("success", "failure", "canceled"), strict=True):
        if word == "success":
            event = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name)
            lab.instance.report_dagster_event(event, run_id=run.run_id)
        elif word == "failure":
            lab.instance.report_run_failed(run)
        else:
            lab.instance.report_run_canceled(run)
    assert lab.look() == 3
    assert [lab.job(f"p{n}").state for n in range(3)] == ["completed", "retrying", "cancelled"]
    assert lab.look() == 0


# Cancelling


def test_a_job_that_is_cancelled_while_it_is_pending_never_runs(lab: QueueLab) -> None:
    job_id = lab.accept("one") or ""
    assert mark_cancelled(lab.url, job_id, "not wanted")
    late = lab.submit(tailor__job=job_id)  # its run had been requested in that moment
    assert late.status == dg.DagsterRunStatus.CANCELED
    assert lab.job(job_id).state == "cancelled"
    assert lab.accept("one") is None, "it is not asked for again by itself"


def test_a_cancelled_run_is_a_cancelled_job_and_not_tried_again(lab: QueueLab) -> None:
    run = lab.submit(partition="p")
    lab.say(run, "starting", "started", "canceled")
    assert (lab.job("p").state, lab.job("p").retry_at) == ("cancelled", None)


# Shares


def test_a_tenant_is_charged_what_a_job_took(lab: QueueLab) -> None:
    run = lab.submit("anna", "p")
    with engine_for(lab.url).begin() as connection:
        assert connection.execute(sa.select(queue_shares_table)).all() == []
    lab.say(run, "starting")
    with engine_for(lab.url).begin() as connection:
        (share,) = connection.execute(sa.select(queue_shares_table)).all()
    assert (share.tenant, share.finish) == ("anna", 60.0), "what is expected of an unknown job"
    lab.say(run, "started", "success")
    with engine_for(lab.url).begin() as connection:
        (share,) = connection.execute(sa.select(queue_shares_table)).all()
    assert 0 <= share.finish < 10, "and the rest is given back"


# Finding


def test_jobs_are_found_by_video_run_or_the_beginning_of_an_id(lab: QueueLab) -> None:
    run = lab.submit("anna", "anna--day")
    job = lab.job("anna--day")
    assert lab.job(run.run_id[:8]).job_id == job.job_id
    assert lab.job(job.job_id[:8]).job_id == job.job_id
    for nothing in ("", "no such", "%%%%%%%%", run.run_id[:7]):
        with pytest.raises(PermanentProblem, match="There is no job"):
            lab.job(nothing)
