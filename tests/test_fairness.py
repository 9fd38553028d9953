"""In which order waiting jobs start: the promises of fairness, by example and for any queue."""

from hypothesis import given, settings
from hypothesis import strategies as st

from run_queue.fairness import AGEING_SECONDS, QueueShares, WaitingJob, in_order

NEW = QueueShares(now=0.0, finish={}, last_start={})
NOW = 1_000_000.0


def job(tenant: str, number: int, *, priority: int = 5, cost: float = 60.0, **rest) -> WaitingJob:
    since = NOW - 1000 + number
    return WaitingJob(f"{tenant}{number}", tenant, priority, since, cost, **rest)


def names(jobs: list[WaitingJob], shares: QueueShares = NEW, now: float = NOW) -> list[str]:
    return [one.job_id for one in in_order(jobs, shares, now)]


def test_tenants_take_turns_however_many_jobs_one_of_them_has() -> None:
    jobs = [*(job("a", n) for n in range(6)), job("b", 10), job("b", 11)]
    assert names(jobs) == ["a0", "b10", "a1", "b11", "a2", "a3", "a4", "a5"]


def test_who_has_had_more_waits_until_the_others_have_had_as_much() -> None:
    shares = QueueShares(now=100.0, finish={"a": 220.0, "b": 100.0}, last_start={})
    jobs = [job("a", 0), job("a", 1), job("b", 2), job("b", 3), job("b", 4)]
    assert names(jobs, shares) == ["b2", "b3", "a0", "b4", "a1"]


def test_who_was_idle_has_not_saved_up_anything() -> None:
    shares = QueueShares(now=5000.0, finish={"idle": 100.0, "busy": 5060.0}, last_start={})
    jobs = [job("busy", 0), *(job("idle", n) for n in range(1, 4))]
    assert names(jobs, shares) == ["idle1", "busy0", "idle2", "idle3"]


def test_long_videos_count_for_more_than_short_ones() -> None:
    jobs = [job("long", n, cost=300.0) for n in range(2)]
    jobs += [job("short", n, cost=60.0) for n in range(2, 8)]
    assert names(jobs)[:7] == ["long0", "short2", "short3", "short4", "short5", "short6", "long1"]


def test_urgent_goes_before_normal_before_low_whoever_it_is() -> None:
    jobs = [job("a", 0, priority=10), job("a", 1), job("b", 2, priority=1), job("a", 3, priority=1)]
    assert names(jobs) == ["b2", "a3", "a1", "a0"]


def test_a_retry_keeps_its_place_before_its_tenants_and_others_new_jobs() -> None:
    jobs = [job("b", 0), job("a", 1), job("a", 2, is_retry=True)]
    assert names(jobs)[0] == "a2"


def test_a_low_job_moves_up_while_urgent_ones_keep_coming() -> None:
    low = job("a", 0, priority=10)
    urgent = [job("b", n, priority=1) for n in range(1, 50)]
    assert names([low, *urgent])[-1] == "a0"
    later = NOW + 2 * AGEING_SECONDS
    fresh = [WaitingJob(f"b{n}", "b", 1, later - 10 + n / 10, 60.0) for n in range(50)]
    assert names([low, *fresh], now=later)[0] == "a0"


def test_age_lifts_one_job_of_a_tenant_at_a_time() -> None:
    later = NOW + 10 * AGEING_SECONDS
    old = [job("a", n) for n in range(100)]
    new = [WaitingJob(f"b{n}", "b", 5, later - 1 + n / 10, 60.0) for n in range(3)]
    order = names([*old, *new], now=later)
    assert order[:7] == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]
    # Once something of that priority has been started, nothing of it is late.
    served = QueueShares(now=0.0, finish={"a": 60.0}, last_start={("b", 5): later})
    assert names([*old[1:], *new], served, later)[0] == "b0"


def test_who_has_hour_long_videos_is_not_urgent_whenever_others_have_had_their_turns() -> None:
    shares = QueueShares(
        now=100.0,
        finish={"long": 3700.0, "short": 160.0},
        last_start={("long", 5): NOW - 3600, ("short", 5): NOW - 60},
    )
    jobs = [WaitingJob("l", "long", 5, NOW - 9000, 3600.0), job("short", 1), job("short", 2)]
    assert names(jobs, shares) == ["short1", "short2", "l"]
    # Nor when it has itself kept everybody waiting for an hour.
    after_it = QueueShares(now=160.0, finish=shares.finish, last_start={("long", 5): NOW - 3600})
    jobs[1:] = [WaitingJob(f"short{n}", "short", 5, NOW - 3000 + n, 60.0) for n in (1, 2)]
    assert names(jobs, after_it) == ["short1", "l", "short2"]


def test_equals_go_in_the_order_in_which_they_were_last_served() -> None:
    shares = QueueShares(now=5.0, finish={}, last_start={("a", 5): NOW - 10, ("b", 5): NOW - 20})
    assert names([job("a", 1), job("b", 2)], shares) == ["b2", "a1"]


jobs_of_a_lab = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.sampled_from((1, 5, 10)),
        st.floats(0, 3000),
        st.floats(1, 600),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(jobs_of_a_lab, st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1e5)))
def test_every_job_has_one_place_and_the_same_question_has_the_same_answer(drawn, finish) -> None:
    jobs = [
        WaitingJob(str(number), tenant, priority, NOW - age, cost, retry)
        for number, (tenant, priority, age, cost, retry) in enumerate(drawn)
    ]
    shares = QueueShares(now=500.0, finish=finish, last_start={})
    order = in_order(jobs, shares, NOW)
    assert sorted(one.job_id for one in order) == sorted(one.job_id for one in jobs)
    assert in_order(list(reversed(jobs)), shares, NOW) == order


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 5))
def test_a_flood_never_delays_others_by_more_than_one_job_a_round(
    flood: int, others: int, each: int
) -> None:
    jobs = [job("flood", n) for n in range(flood)]
    for tenant in range(others):
        jobs += [job(f"t{tenant}", 500 + tenant * 10 + n) for n in range(each)]
    order = in_order(jobs, NEW, NOW)
    last = max(place for place, one in enumerate(order, 1) if one.tenant != "flood")
    alone = others * each
    assert last <= alone + each + 1
