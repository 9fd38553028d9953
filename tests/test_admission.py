"""Which jobs come to the run queue, which start next, and what people are told of those that do not."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from queue_lab import QueueLab, queue_lab

from resources.audit.log import newest_records
from resources.database import engine_for
from run_queue import operations
from run_queue.admission import (
    AHEAD_PER_TENANT,
    AT_A_TIME,
    PAUSE_ABOVE,
    RESUME_AT,
    Quota,
    Situation,
    admit,
    pause_for_depth,
    tenants_at_their_limit,
)
from run_queue.explain import explain
from run_queue.job_tables import job_runs_table, tenant_quotas_table
from run_queue.line import Place
from run_queue.pauses import Pause, pause, pauses
from run_queue.places import places_of
from run_queue.queue_daemon import candidates
from run_queue.waiting_tags import ESTIMATED_START_TAG, POSITION_TAG, WAITS_FOR_TAG, WaitingTags
from sensors.admission import admit_some
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def place(number: int, tenant: str = "anna", state: str = "pending", **changes: Any) -> Place:
    plain = Place(
        position=number,
        job_id=f"job{number}",
        run_id=None,
        tenant=tenant,
        job_name="process_video",
        partition_key=f"{tenant}--{number}",
        queue="gpu",
        priority=5,
        state=state,
        accepted_at=NOW + timedelta(seconds=number),
        is_retry=False,
        expected_seconds=60.0,
        seconds_ahead=60.0 * (number - 1),
    )
    return replace(plain, **changes)


def situation(*places: Place, **changes: Any) -> Situation:
    values: dict[str, Any] = {
        "line": {"gpu": list(places)},
        "pauses": {},
        "quotas": {},
        "began_today": {},
        "began_this_month": {},
        "busy_partitions": {},
        "present": frozenset((one.queue, one.tenant) for one in places if one.state == "queued"),
    }
    return Situation(**{**values, **changes})


def admitted(now: Situation) -> list[str]:
    return [one.job_id for one in admit(now)[0]]


def held(what: str) -> Mapping[Any, Pause]:
    return {what: Pause(what, NOW, "ben", f"the {what} is why")}  # type: ignore[arg-type]


def test_some_of_each_tenant_come_and_the_rest_keep_their_places() -> None:
    now = situation(*(place(n) for n in range(1, 20)), place(20, "ben"))
    come, reasons = admit(now)
    assert [one.tenant for one in come] == ["anna"] * AHEAD_PER_TENANT + ["ben"]
    assert "8 jobs of anna are before it" in reasons["job9"]


def test_no_more_come_at_once_than_a_tick_can_launch() -> None:
    many = [place(n, f"t{n}") for n in range(1, 60)]
    assert len(admitted(situation(*many))) == AT_A_TIME


def test_work_for_the_processor_does_not_wait_behind_a_tenants_gpu_jobs() -> None:
    there = [place(n, state="queued") for n in range(1, 9)]
    cpu = place(1, queue="cpu", job_id="frames", partition_key="other")
    now = situation(line={"gpu": there, "cpu": [cpu]}, present=frozenset({("gpu", "anna")}))
    assert admitted(now) == ["frames"]


def test_an_aged_job_that_is_first_in_line_comes_whatever_its_priority() -> None:
    there = [place(n + 1, state="queued") for n in range(1, 9)]
    assert admitted(situation(place(1, priority=10), *there)) == ["job1"]


def test_an_urgent_job_comes_although_its_tenant_has_its_share_there() -> None:
    there = [place(n + 1, state="queued") for n in range(1, 9)]
    now = situation(place(1, priority=1), *there, place(10), pauses=held("depth"))
    assert admitted(now) == ["job1"]


def test_a_video_has_one_job_at_a_time_there() -> None:
    now = situation(
        place(1, partition_key="x"), place(2, partition_key="x"), place(3, partition_key="busy"),
        busy_partitions={"busy": 0},
    )  # fmt: skip
    come, reasons = admit(now)
    assert [one.job_id for one in come] == ["job1"]
    assert "another job of this video" in reasons["job2"]
    assert "another job of this video" in reasons["job3"]


def test_what_is_less_urgent_and_has_not_begun_does_not_hold_a_video_up() -> None:
    now = situation(
        place(1, partition_key="frames wait"), place(2, partition_key="results wait"),
        place(3, partition_key="frames wait"),
        busy_partitions={"frames wait": 10, "results wait": 5},
    )  # fmt: skip
    come, reasons = admit(now)
    assert [one.job_id for one in come] == ["job1"]
    assert "another job of this video" in reasons["job2"]
    assert "another job of this video" in reasons["job3"], "one at a time all the same"


def test_a_full_queue_takes_nothing_more_of_who_has_something_there() -> None:
    crowd = [place(n, f"t{n}", "queued") for n in range(1, PAUSE_ABOVE + 1)]
    now = situation(*crowd, place(90, "t1"), place(91, "new"))
    for held_by, why in (({}, "Dagster's queue is full"), (held("depth"), "the depth is why")):
        come, reasons = admit(replace(now, pauses=held_by))
        assert [one.job_id for one in come] == ["job91"], "each tenant keeps a place of its own"
        assert reasons["job90"] == why


def test_what_operators_or_the_heat_hold_back_stays_where_it_is() -> None:
    jobs = (place(1), place(2, "ben", queue="cpu"))
    line = {"gpu": [jobs[0]], "cpu": [jobs[1]]}
    come, reasons = admit(situation(line=line, pauses=held("operator")))
    assert come == []
    assert reasons["job1"] == "ben has paused the queue: the operator is why"
    assert admitted(situation(line=line, pauses=held("heat"))) == ["job2"]


def test_a_pause_for_failures_lets_one_job_come_where_there_is_none_to_try() -> None:
    waiting = (place(1), place(2), place(3, "ben"))
    come, reasons = admit(situation(*waiting, pauses=held("failures")))
    assert [one.job_id for one in come] == ["job1"]
    assert reasons["job2"] == reasons["job3"] == "the failures is why"
    # One in the queue, about to be tried again, or under way is enough.
    there = situation(*waiting, pauses=held("failures"), present=frozenset({("cpu", "carl")}))
    assert admitted(there) == []


def test_quotas_of_a_day_and_a_month_are_per_tenant() -> None:
    now = situation(
        place(1), place(2), place(3), place(4, "ben"), place(5, "carl"),
        quotas={"anna": Quota(per_day=5), "carl": Quota(per_month=2)},
        began_today={"anna": 3},
        began_this_month={"carl": 2},
    )  # fmt: skip
    come, reasons = admit(now)
    assert [one.job_id for one in come] == ["job1", "job2", "job4"]
    assert reasons["job3"] == "anna has begun its 5 jobs of today (UTC)"
    assert reasons["job5"] == "carl has begun its 2 jobs of this month (UTC)"


def test_admission_fills_the_queue_to_the_brim_and_never_pauses_itself() -> None:
    crowd = [place(n, f"t{n}", "queued") for n in range(1, PAUSE_ABOVE - 1)]
    now = situation(*crowd, *(place(90 + n, f"t{n}") for n in range(1, 9)))
    assert len(admitted(now)) == 2


# On a real database


@pytest.fixture
def lab(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueLab]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab


def test_admission_pauses_above_fifty_and_resumes_at_forty(
    postgres_url: str, lab: QueueLab
) -> None:
    assert pause_for_depth(lab.url, PAUSE_ABOVE, False) is None
    assert pause_for_depth(lab.url, PAUSE_ABOVE + 1, False) is True
    assert pause_for_depth(lab.url, PAUSE_ABOVE + 1, True) is None, "said once"
    assert pause_for_depth(lab.url, RESUME_AT + 1, True) is None
    assert "depth" in pauses(lab.url)
    assert pause_for_depth(lab.url, RESUME_AT, True) is False
    assert pauses(lab.url) == {}


def requested(lab: QueueLab) -> list[dg.RunRequest]:
    """What one tick of the sensor asks Dagster for."""
    answer = admit_some(lab.instance, lab.url, videos)
    return [] if isinstance(answer, dg.SkipReason) else list(answer.run_requests or ())


def test_the_sensor_asks_for_the_same_run_until_it_is_there(lab: QueueLab) -> None:
    job_id = lab.accept("one", assets=("masks", "features")) or ""
    (request,) = requested(lab)
    assert requested(lab) == [request]
    assert (request.run_key, request.partition_key) == ("one", "anna--one")
    assert {key.to_user_string() for key in request.asset_selection or ()} == {"masks", "features"}
    lab.submit(tailor__job=job_id, dagster__run_key="one")
    assert requested(lab) == []


def test_a_run_whose_tick_died_before_its_job_heard_of_it_is_found(lab: QueueLab) -> None:
    job_id = lab.accept("one") or ""
    run = lab.instance.create_run_for_job(
        dg.GraphDefinition(name="x").to_job(),
        tags={"tailor/job": job_id, "dagster/run_key": "one"},
        status=dg.DagsterRunStatus.FAILURE,
    )
    assert requested(lab) == [], "the key of that run does not fire again"
    assert lab.job(job_id).run_id == run.run_id
    lab.look()
    assert lab.job(job_id).state == "retrying"


def names(lab: QueueLab, *running: dg.DagsterRun) -> list[str | None]:
    return [one.partition_key for one in candidates(lab.url, lab.expectations, running)]


def test_runs_start_in_the_order_of_the_line_and_not_as_they_came(lab: QueueLab) -> None:
    for n in range(3):
        lab.submit("anna", f"a{n}")
    lab.submit("ben", "b0")
    lab.submit("ben", "b1", tailor__priority="1")
    lab.submit("carl", "c0", tailor__priority="10")
    assert names(lab) == ["b1", "a0", "a1", "b0", "a2", "c0"]


def test_a_video_under_way_does_not_keep_those_behind_it_from_starting(lab: QueueLab) -> None:
    running = lab.submit("anna", "a")
    lab.say(running, "starting", "started")
    lab.submit("anna", "a")
    lab.submit("anna", "b")
    assert names(lab, lab.run(running)) == ["b"]


def test_a_paused_queue_starts_nothing_but_what_operators_do(lab: QueueLab) -> None:
    lab.submit("anna", "a")
    pause(lab.url, "operator", who="ben", why="maintenance")
    assert names(lab) == []
    run = lab.submit("", "x")
    lab.set(lab.job(run.run_id).job_id, queue="operator")
    assert names(lab) == ["x"]


def test_a_tenant_has_no_more_under_way_than_its_quota(lab: QueueLab) -> None:
    with engine_for(lab.url).begin() as connection:
        connection.execute(sa.insert(tenant_quotas_table).values(tenant="anna", concurrent=1))
    for n in range(3):
        run = lab.submit("anna", f"a{n}")
        # It needs no pool, so it is in the CPU queue.
        lab.set(lab.job(run.run_id).job_id, queue="gpu")
    assert names(lab) == ["a0"]
    lab.set(lab.job("a0").job_id, state="running")
    assert names(lab) == []


def test_a_quota_counts_the_first_attempts_on_the_gpu_of_today_or_of_this_month(
    lab: QueueLab,
) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before_today, before_the_month = (
        midnight - timedelta(seconds=1), midnight.replace(day=1) - timedelta(seconds=1)
    )  # fmt: skip
    numbers = iter(range(100))

    def begun(tenant: str, at: datetime, *, attempt: int = 1, queue: str = "gpu") -> None:
        number = next(numbers)
        with engine_for(lab.url).begin() as connection:
            connection.execute(
                sa.insert(job_runs_table).values(
                    run_id=f"run{number}", job_id=f"job{number}", tenant=tenant, queue=queue,
                    attempt=attempt, status="success", queued_at=at,
                )
            )  # fmt: skip

    with engine_for(lab.url).begin() as connection:
        connection.execute(sa.insert(tenant_quotas_table).values(tenant="anna", per_day=2))
        connection.execute(sa.insert(tenant_quotas_table).values(tenant="carl", per_month=2))
    for _ in range(3):
        begun("anna", before_today)
        begun("carl", before_the_month)
    for tenant in ("anna", "carl"):
        begun(tenant, midnight)
        begun(tenant, midnight, attempt=2)
        begun(tenant, midnight, queue="cpu")
    assert tenants_at_their_limit(lab.url) == set()
    begun("anna", midnight)
    assert tenants_at_their_limit(lab.url) == {"anna"}
    begun("carl", midnight)
    assert tenants_at_their_limit(lab.url) == {"anna", "carl"}


# What operators do


def test_operators_cancel_what_is_pending_queued_or_parked_and_it_is_in_the_audit(
    lab: QueueLab,
) -> None:
    lab.accept("one")
    said = operations.cancel(lab.url, lab.instance, "anna--one", who="olga", why="a mistake")
    assert "is cancelled" in said
    assert lab.job("anna--one").state == "cancelled"
    run = lab.submit("anna", "two")
    operations.cancel(lab.url, lab.instance, run.run_id, who="olga", why="a mistake")
    lab.look()
    assert lab.run(run).status == dg.DagsterRunStatus.CANCELED
    assert lab.job("two").state == "cancelled"
    assert "already" in operations.cancel(lab.url, lab.instance, "two", who="olga", why="x")
    with pytest.raises(PermanentProblem, match="There is no job"):
        operations.cancel(lab.url, lab.instance, "three", who="olga", why="x")
    newest = list(newest_records(lab.url, 2))
    assert [(one.actor, one.action) for one in newest] == [("olga", "job.cancelled")] * 2


def test_operators_bring_back_what_was_cancelled_before_it_ever_ran(lab: QueueLab) -> None:
    lab.accept("one")
    operations.cancel(lab.url, lab.instance, "anna--one", who="olga", why="a mistake")
    operations.retry(lab.url, "anna--one", who="olga", why="no mistake")
    assert lab.job("anna--one").state == "pending"
    assert [one.run_key for one in requested(lab)] == ["one"]


def test_what_is_asked_for_again_gets_a_run_although_its_key_has_fired(lab: QueueLab) -> None:
    job_id = lab.accept("one") or ""
    operations.cancel(lab.url, lab.instance, job_id, who="olga", why="a mistake")
    refused = lab.submit(tailor__job=job_id, dagster__run_key="one")  # requested in that moment
    assert refused.status == dg.DagsterRunStatus.CANCELED
    operations.retry(lab.url, job_id, who="olga", why="no mistake")
    (request,) = requested(lab)
    assert (request.run_key or "").startswith("one:")
    lab.submit(tailor__job=job_id, dagster__run_key=request.run_key or "")
    assert lab.job(job_id).state == "queued"


def test_operators_move_what_waits(lab: QueueLab) -> None:
    for n in range(3):
        lab.submit("anna", f"a{n}")
    operations.reprioritise(lab.url, lab.instance, "a2", 1, who="olga", why="the talk is tomorrow")
    assert names(lab) == ["a2", "a0", "a1"]
    moved = lab.instance.get_run_by_id(lab.job("a2").run_id or "")
    assert moved is not None
    assert moved.tags["tailor/priority"] == "1"


def test_a_job_whose_run_was_deleted_is_moved_all_the_same_and_it_is_in_the_audit(
    lab: QueueLab,
) -> None:
    run = lab.submit("anna", "a0")
    lab.instance.delete_run(run.run_id)
    said = operations.reprioritise(lab.url, lab.instance, "a0", 1, who="olga", why="a talk")
    assert "has priority 1 now" in said
    assert lab.job("a0").priority == 1
    (newest,) = newest_records(lab.url, 1)
    assert (newest.actor, newest.action) == ("olga", "job.reprioritised")


# What people are told


def told(lab: QueueLab, name: str) -> str:
    job = lab.job(name)
    lab.expectations._until = 0.0
    return "\n".join(
        explain(lab.url, job, lab.expectations, places=places_of(lab.instance)).lines()
    )


def test_why_names_the_place_and_what_is_before_it(lab: QueueLab) -> None:
    for n in range(3):
        lab.submit("anna", f"a{n}")
    lab.submit("ben", "b0")
    said = told(lab, "a2")
    assert "position 4 of 4 in the cpu queue" in said
    assert "3 before it: 2 of its own tenant, 1 of others" in said
    assert "not known, as no job of this kind has been finished yet" in said
    assert "it starts within seconds" in told(lab, "a0")
    pause(lab.url, "operator", who="olga", why="maintenance")
    assert "- olga has paused the queue: maintenance." in told(lab, "a0")


def test_why_estimates_the_start_from_what_was_measured(lab: QueueLab) -> None:
    for n in range(4):
        run = lab.submit("anna", f"done{n}")
        lab.say(run, "starting", "started", "success")
    for n in range(3):
        lab.submit("anna", f"a{n}")
    said = told(lab, "a2")
    assert "estimated start: 20" in said


def test_why_tells_of_parked_retrying_and_running_jobs_too(lab: QueueLab) -> None:
    run = lab.submit("anna", "a")
    lab.say(run, "starting", "started")
    assert "is at work on it (attempt 1)" in told(lab, "a")
    lab.say(run, "failure")
    assert "attempt 1 failed: a passing trouble" in told(lab, "a")
    lab.set(lab.job("a").job_id, state="parked", cause="it is broken", action="mend it")
    assert "it failed: it is broken" in told(lab, "a")
    assert "to bring it back: mend it" in told(lab, "a")


def test_the_tags_of_queued_runs_say_what_they_wait_for(lab: QueueLab) -> None:
    runs = [lab.submit("anna", f"a{n}") for n in range(3)]
    WaitingTags().show(lab.url, lab.instance, lab.expectations)
    tags = [lab.run(run).tags for run in runs]
    assert [one[POSITION_TAG] for one in tags] == ["1", "2", "3"]
    assert "2 before it" in tags[2][WAITS_FOR_TAG]
    assert tags[0][ESTIMATED_START_TAG] == "unknown"
