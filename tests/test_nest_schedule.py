"""When a nest is looked at: every k frames while it lies still, in every frame while it moves."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2_worker.nest_schedule import NestSchedule

FPS = 10


def looks(schedule: NestSchedule, ious: dict[int, float], steps: range) -> list[int]:
    """Drive a schedule; ``ious`` of the mask with the held one, where it is not 1."""
    out = []
    for step in steps:
        if schedule.wants(step):
            schedule.refreshed(step, ious.get(step, 1.0) if out else None)
            out.append(step)
    return out


def test_a_still_nest_is_looked_at_every_k_frames_once_it_has_been_seen_to_lie_still():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    seen = looks(schedule, {}, range(300))
    assert seen[:21] == list(range(21)), "first for two seconds on end"
    assert seen[21:] == list(range(30, 300, 30))


def test_a_nest_that_moved_is_looked_at_in_every_frame_until_it_lies_still():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    seen = looks(schedule, {90: 0.5, 95: 0.7}, range(300))
    assert set(range(90, 116)) <= set(seen)
    assert [step for step in seen if step > 115] == [120, 150, 180, 210, 240, 270]


def test_a_nest_that_wavers_a_little_is_not_taken_for_one_that_moves():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    seen = looks(schedule, dict.fromkeys(range(300), 0.93), range(300))
    assert len(seen) == 21 + 9


def test_a_slow_slide_adds_up_while_the_nest_is_watched():
    """Each frame is like the one before; only against where it began is there a move."""
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    anchor = 0
    for step in range(200):
        assert schedule.wants(step), "it never lies still"
        slid = 0.02 * (step - anchor)
        if schedule.refreshed(step, 1 - slid if step else None):
            anchor = step


def test_a_clicked_frame_is_always_looked_at_and_the_nest_watched_from_there():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS, clicked=[77])
    seen = looks(schedule, {}, range(120))
    assert set(range(77, 98)) <= set(seen)
    assert 76 not in seen


def test_a_nest_is_looked_at_in_each_frame_in_which_an_animal_stirs_on_it():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    assert looks(schedule, {}, range(45))
    assert not schedule.wants(45)
    assert schedule.wants(45, disturbed=True)
    schedule.refreshed(45, 0.97)
    assert not schedule.wants(46), "it did not move: no need to watch on"


def test_a_fast_camera_does_not_make_a_restless_nest_be_looked_at_more_than_twenty_times_a_second():
    schedule = NestSchedule(30, seconds_per_step=1 / 30)
    assert looks(schedule, {}, range(60)) == list(range(0, 60, 2))
    schedule.refreshed(91, 1.0)
    assert not schedule.wants(92, disturbed=True)
    assert schedule.wants(93, disturbed=True)


def test_with_k_1_a_nest_is_tracked_in_every_frame():
    schedule = NestSchedule(1, seconds_per_step=1 / FPS)
    assert looks(schedule, {}, range(50)) == list(range(50))


def test_a_comparison_that_is_not_a_number_counts_as_a_move():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    seen = looks(schedule, {30: float("nan")}, range(60))
    assert set(range(30, 51)) <= set(seen)


def test_asking_changes_nothing():
    schedule = NestSchedule(30, seconds_per_step=1 / FPS)
    before = schedule.state_dict()
    assert all(schedule.wants(step) for step in range(100))
    assert schedule.state_dict() == before


def test_nests_that_lie_still_are_looked_at_in_the_same_frames():
    first = NestSchedule(30, seconds_per_step=1 / FPS)
    second = NestSchedule(30, seconds_per_step=1 / FPS)
    a = looks(first, {}, range(300))
    b = looks(second, {}, range(47, 300))
    assert [s for s in a if s > 70] == [s for s in b if s > 70]


@given(
    st.lists(st.sampled_from([1.0, 0.95, 0.5]), min_size=1, max_size=200),
    st.integers(1, 40),
    st.data(),
)
def test_a_resumed_schedule_looks_at_the_same_frames(ious, k, data):
    cut = data.draw(st.integers(0, len(ious)))

    def drive(schedule: NestSchedule, steps: range, held: bool) -> list[tuple[int, bool]]:
        out = []
        for step in steps:
            if schedule.wants(step):
                out.append((step, schedule.refreshed(step, ious[step] if held else None)))
                held = True
        return out

    whole = drive(NestSchedule(k, seconds_per_step=0.1), range(len(ious)), False)
    first, second = NestSchedule(k, seconds_per_step=0.1), NestSchedule(k, seconds_per_step=0.1)
    got = drive(first, range(cut), False)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert got + drive(second, range(cut, len(ious)), bool(got)) == whole


def test_a_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k_frames"):
        NestSchedule(0, seconds_per_step=0.1)
