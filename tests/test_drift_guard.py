"""The drift guard: what it empties, doubts, calls exchanged, and what it leaves alone."""

import csv
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2_worker.drift_guard import DriftGuard, Measured
from sam2_worker.identity_watch import in_frame_units
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState

FPS = 30
ASPECT = 4 / 3
BODY = 0.015  # a mouse in an open field; its length is then 0.2 of the picture's mean side


def guard(*names: str, fps: float = FPS, nests: tuple[str, ...] = ()) -> DriftGuard:
    objects = [(name, "animal") for name in names] + [(name, "nest") for name in nests]
    return DriftGuard(objects, seconds_per_step=1 / fps, aspect=ASPECT)


def mask(
    area: float = BODY, x: float = 0.5, y: float = 0.5, *, score: float = 0.99, **overlaps: float
) -> Measured:
    half = 0.5 * area**0.5
    box = (x - half, y - half, x + half, y + half)
    return Measured(score, area, (x, y) if area else None, box if area else None, overlaps)


NOTHING = mask(0.0, score=0.1)


def tracked_for(guarded: DriftGuard, frames: int, start: int = 0, **seen: Measured) -> int:
    """Feed the same masks for some frames; the next step."""
    for step in range(start, start + frames):
        guarded.judge(step, seen or {"mouse": mask()})
    return start + frames


def states(guarded: DriftGuard, seen: list[Measured], start: int) -> list[MaskState]:
    return [guarded.judge(start + k, {"mouse": one})["mouse"].state for k, one in enumerate(seen)]


def test_a_mask_that_swallows_the_frame_is_emptied_and_not_remembered():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    verdict = guarded.judge(step, {"mouse": mask(0.9)})["mouse"]
    assert verdict.state is MaskState.EXPLODED
    assert not verdict.keep_mask
    assert not verdict.keep_memory


def test_a_mask_above_the_absolute_share_is_never_believed_however_long_it_stays():
    guarded = guard("mouse")
    step = tracked_for(guarded, 10)
    assert set(states(guarded, [mask(0.4)] * FPS * 60, step)) == {MaskState.EXPLODED}
    after = states(guarded, [mask()], step + FPS * 60)
    assert after == [MaskState.TRACKED], "and does not spoil what was learnt"


def test_the_first_mask_of_a_click_that_takes_the_whole_floor_is_emptied_too():
    verdict = guard("mouse").judge(0, {"mouse": mask(0.5)}, clicked=["mouse"])["mouse"]
    assert verdict.state is MaskState.EXPLODED


def test_a_nest_may_be_larger_than_any_animal_but_not_the_whole_cage():
    guarded = guard(nests=("nest",))
    assert guarded.judge(0, {"nest": mask(0.5)})["nest"].state is MaskState.TRACKED
    assert guarded.judge(30, {"nest": mask(0.7)})["nest"].state is MaskState.EXPLODED


@pytest.mark.parametrize(
    "lost", [NOTHING, mask(0.0), mask(score=0.4), mask(score=float("nan"))],
    ids=["empty", "empty but sure", "denied by the model", "score is no number"],
)  # fmt: skip
def test_a_lost_animal_is_empty_and_not_remembered(lost):
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    verdict = guarded.judge(step, {"mouse": lost})["mouse"]
    assert verdict.state is MaskState.LOST
    assert not verdict.keep_mask
    assert not verdict.keep_memory


def test_a_mask_the_model_doubts_is_kept_and_marked():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    verdict = guarded.judge(step, {"mouse": mask(score=0.6)})["mouse"]
    assert verdict.state is MaskState.UNCERTAIN
    assert verdict.keep_mask


def test_a_sudden_growth_is_emptied_and_a_lesser_one_doubted_and_neither_is_remembered():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    large = guarded.judge(step, {"mouse": mask(4 * BODY)})["mouse"]
    doubtful = guarded.judge(step + 1, {"mouse": mask(2.5 * BODY)})["mouse"]
    usual = guarded.judge(step + 2, {"mouse": mask()})["mouse"]
    assert (large.state, large.keep_mask) == (MaskState.EXPLODED, False)
    assert (doubtful.state, doubtful.keep_mask) == (MaskState.UNCERTAIN, True)
    assert not large.keep_memory
    assert not doubtful.keep_memory
    assert usual.keep_memory


def test_a_new_size_that_stays_is_doubted_for_a_while_and_then_believed():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    seen = states(guarded, [mask(4 * BODY)] * FPS * 40, step)
    order = [MaskState.EXPLODED, MaskState.UNCERTAIN, MaskState.TRACKED]
    assert list(dict.fromkeys(seen)) == order
    assert seen.count(MaskState.EXPLODED) == pytest.approx(3 * FPS, abs=2)
    assert seen.count(MaskState.UNCERTAIN) == pytest.approx(30 * FPS, abs=2)


def test_a_size_that_wavers_or_that_the_model_doubts_is_not_believed():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    wavering = [mask(BODY * (4 + 4 * (k // 20 % 2))) for k in range(FPS * 20)]
    assert set(states(guarded, wavering, step)) == {MaskState.EXPLODED}
    unsure = [mask(4 * BODY, score=0.7)] * FPS * 20
    assert set(states(guarded, unsure, step + len(wavering))) == {MaskState.EXPLODED}


def test_a_mask_that_creeps_over_the_floor_is_noticed_before_it_is_three_times_as_large():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60 * FPS)
    growth = 2 ** (np.arange(120 * FPS) / (60 * FPS))  # doubles in a minute
    seen = states(guarded, [mask(BODY * g) for g in growth], step)
    first = next(k for k, state in enumerate(seen) if state is not MaskState.TRACKED)
    assert 1.5 < growth[first] < 3


def test_an_animal_that_comes_out_from_under_its_nest_has_not_exploded():
    guarded = guard("mouse")
    step = tracked_for(guarded, 30 * FPS)
    hidden = states(guarded, [mask(0.2 * BODY)] * FPS * 120, step)
    assert set(hidden) == {MaskState.UNCERTAIN}, "a fifth of an animal is not an animal"
    step += len(hidden)
    out = [mask(BODY * share) for share in np.linspace(0.2, 1.1, FPS // 2)] + [mask()] * 30
    assert set(states(guarded, out, step)) <= {MaskState.UNCERTAIN, MaskState.TRACKED}
    assert guarded.judge(step + len(out), {"mouse": mask()})["mouse"].state is MaskState.TRACKED


def test_a_click_is_believed_whatever_was_believed_before():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    clicked = guarded.judge(step, {"mouse": mask(5 * BODY, 0.1)}, clicked=["mouse"])["mouse"]
    assert clicked.state is MaskState.TRACKED
    assert states(guarded, [mask(5 * BODY, 0.1)], step + 1) == [MaskState.TRACKED]


@pytest.mark.parametrize(
    "at_click", [mask(), mask(score=0.6), NOTHING], ids=["seen", "faint", "lost"]
)
def test_after_a_click_everything_is_judged_as_if_the_object_began_there(at_click: Measured):
    # So that an object can be tracked again from any of its clicks, to the same masks and states.
    rng = np.random.default_rng(4)
    before = [NOTHING] * 50 + [mask(0.3)] * 20 + [mask(4 * BODY)] * 100 + [NOTHING] * 40
    after = [
        mask(BODY * rng.uniform(0.1, 4), rng.uniform(0.2, 0.8), score=rng.choice([0.3, 0.7, 0.99]))
        for _ in range(20)
    ]
    guarded, fresh = guard("mouse"), guard("mouse")
    for step, seen in enumerate(before):
        guarded.judge(step, {"mouse": seen})
    for step, seen in enumerate([at_click, *[NOTHING] * 60, *after], len(before)):
        clicked = ["mouse"] if step == len(before) else []
        expected = fresh.judge(step, {"mouse": seen}, clicked=clicked)
        assert guarded.judge(step, {"mouse": seen}, clicked=clicked) == expected


def test_an_animal_that_is_found_again_is_said_to_be_and_may_not_teach_a_new_size():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    step = tracked_for(guarded, 60, step, mouse=NOTHING)
    again = guarded.judge(step, {"mouse": mask(x=0.1)}, refound=["mouse"])["mouse"]
    assert (again.state, again.keep_memory) == (MaskState.REFOUND, True)
    bedding = guarded.judge(step + 1, {"mouse": mask(3 * BODY)}, refound=["mouse"])["mouse"]
    assert bedding.state is MaskState.EXPLODED


@pytest.mark.parametrize("fps", [5, 30, 60])
def test_a_lost_animal_is_looked_for_five_times_a_second(fps):
    guarded = guard("mouse", fps=fps, nests=("nest",))
    step = tracked_for(guarded, 2 * fps, mouse=mask(), nest=mask(0.05))
    looks, nest_looks = [], []
    for k in range(4 * fps):
        verdicts = guarded.judge(step + k, {"mouse": NOTHING, "nest": NOTHING})
        looks += [k] * verdicts["mouse"].wants_refind
        nest_looks += [k] * verdicts["nest"].wants_refind
    assert looks == list(range(fps // 5, 4 * fps, fps // 5))
    assert nest_looks == [], "nobody looks for a nest"


@pytest.mark.parametrize(("fps", "every"), [(5, 1), (10, 1), (30, 4), (60, 9)])
def test_an_animal_that_is_seen_is_checked_several_times_a_second(fps, every):
    guarded = guard("mouse", fps=fps, nests=("nest",))
    checks, nest_checks = [], []
    for step in range(4 * fps):
        verdicts = guarded.judge(step, {"mouse": mask(), "nest": mask(0.05)})
        checks += [step] * verdicts["mouse"].wants_check
        nest_checks += [step] * verdicts["nest"].wants_check
    assert checks == list(range(0, 4 * fps, every))
    assert nest_checks == [], "nobody knows what a nest looks like"


def test_an_animal_is_not_checked_in_the_first_seconds_after_a_click():
    guarded = guard("mouse", fps=10)
    checks = []
    for step in range(60):
        clicked = {"mouse"} if step == 5 else set()
        verdicts = guarded.judge(step, {"mouse": mask()}, clicked=clicked)
        checks += [step] * verdicts["mouse"].wants_check
    assert checks == [0, 1, 2, 3, 4, *range(35, 60)]


def test_animals_that_touch_and_one_that_is_gone_are_not_checked():
    guarded = guard("mouse", "rat")
    step = tracked_for(guarded, 60, mouse=mask(), rat=mask())
    merged = {"mouse": mask(rat=0.55 * BODY), "rat": mask(mouse=0.55 * BODY)}
    for k in range(30):
        verdicts = guarded.judge(step + k, merged if k < 15 else {"mouse": NOTHING})
        assert not any(verdict.wants_check for verdict in verdicts.values())


def test_an_exploded_animal_is_looked_for_like_a_lost_one_and_a_doubtful_frame_ends_no_loss():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    seen = [mask(0.8)] * 20 + [mask(score=0.6)] + [NOTHING] * 20
    wants = [
        guarded.judge(step + k, {"mouse": m})["mouse"].wants_refind for k, m in enumerate(seen)
    ]
    # As if the doubtful frame, number 20, had been one of the loss.
    assert [k for k, want in enumerate(wants) if want] == list(range(FPS // 5, 41, FPS // 5))


@pytest.mark.parametrize("gone", [0, 40])
def test_of_two_masks_on_one_animal_the_one_that_came_from_afar_is_lost(gone):
    guarded = guard("mouse", "rat")
    step = tracked_for(guarded, 60, mouse=mask(x=0.2), rat=mask(x=0.8))
    step = tracked_for(guarded, gone, step, mouse=mask(x=0.21), rat=NOTHING) if gone else step
    for k in range(30):
        x = 0.21 + 0.002 * k
        verdicts = guarded.judge(
            step + k, {"mouse": mask(x=x, rat=0.9 * BODY), "rat": mask(x=x, mouse=0.9 * BODY)}
        )
        assert verdicts["mouse"].state is MaskState.TRACKED
        assert verdicts["rat"].state is MaskState.LOST
        assert not verdicts["rat"].keep_memory
    back = guarded.judge(step + 30, {"mouse": mask(x=0.3), "rat": mask(x=0.8)})
    assert {verdict.state for verdict in back.values()} == {MaskState.TRACKED}


def test_one_that_walks_onto_another_that_rests_is_the_one_that_is_lost():
    guarded = guard("mouse", "rat")
    step = tracked_for(guarded, 60, mouse=mask(x=0.3), rat=mask(x=0.5))
    for k in range(20):  # the masks grow into one another, until the mouse's is the rat's
        shared = BODY * min(1.0, 0.05 * k + 0.05)
        verdicts = guarded.judge(
            step + k, {"mouse": mask(x=0.3 + 0.01 * k, rat=shared), "rat": mask(mouse=shared)}
        )
    assert verdicts["mouse"].state is MaskState.LOST
    assert verdicts["rat"].state is MaskState.TRACKED


def test_a_person_s_click_on_an_animal_that_another_has_taken_gets_it():
    guarded = guard("mouse", "rat")
    step = tracked_for(guarded, 60, mouse=mask(x=0.2), rat=mask(x=0.8))
    both = {"mouse": mask(x=0.2, rat=BODY), "rat": mask(x=0.2, mouse=BODY)}
    verdicts = guarded.judge(step, both, clicked=["rat"])
    assert verdicts["mouse"].state is MaskState.LOST
    assert verdicts["rat"].keep_mask


def test_an_animal_on_its_nest_has_not_merged_with_it():
    guarded = guard("mouse", nests=("nest",))
    seen = {"mouse": mask(nest=BODY), "nest": mask(0.06, mouse=BODY)}
    assert {v.state for v in guarded.judge(0, seen).values()} == {MaskState.TRACKED}


def test_an_animal_whose_mask_takes_in_the_other_is_merged_and_not_exploded():
    guarded = guard("mouse", "rat")
    step = tracked_for(guarded, 60, mouse=mask(), rat=mask(0.05, 0.8))
    both = {"mouse": mask(0.06, 0.7, rat=0.05), "rat": mask(0.05, 0.8, mouse=0.05)}
    verdicts = guarded.judge(step, both)
    assert {v.state for v in verdicts.values()} == {MaskState.MERGED}
    assert all(v.keep_mask and not v.keep_memory for v in verdicts.values())


def test_two_masks_that_swallow_half_the_picture_together_have_exploded_not_merged():
    guarded = guard("a", "b")
    step = tracked_for(guarded, 60, a=mask(x=0.2), b=mask(x=0.8))
    both = {"a": mask(0.3, b=0.3), "b": mask(0.3, a=0.3)}
    assert {v.state for v in guarded.judge(step, both).values()} == {MaskState.EXPLODED}


def test_animals_side_by_side_whose_masks_touch_have_not_merged():
    guarded = guard("a", "b")
    step = tracked_for(guarded, 60, a=mask(x=0.4), b=mask(x=0.5))
    both = {"a": mask(x=0.4, b=0.2 * BODY), "b": mask(x=0.5, a=0.2 * BODY)}
    assert {v.state for v in guarded.judge(step, both).values()} == {MaskState.TRACKED}


def test_masks_that_change_places_from_one_frame_to_the_next_are_both_reported_in_that_frame():
    guarded = guard("a", "b")
    step = tracked_for(guarded, 60, a=mask(x=0.2), b=mask(x=0.8))
    changed = {"a": mask(x=0.8), "b": mask(x=0.2)}
    verdicts = guarded.judge(step, changed)
    assert {v.state for v in verdicts.values()} == {MaskState.SWAPPED}
    assert all(v.keep_mask and not v.keep_memory for v in verdicts.values())
    after = guarded.judge(step + 1, changed)
    assert {v.state for v in after.values()} == {MaskState.TRACKED}


def test_animals_that_walk_round_each_other_have_not_been_exchanged():
    guarded = guard("a", "b")
    for step, angle in enumerate(np.linspace(0, np.pi, FPS)):
        dx, dy = 0.12 * np.cos(angle), 0.12 * np.sin(angle)
        verdicts = guarded.judge(
            step, {"a": mask(x=0.5 + dx, y=0.5 + dy), "b": mask(x=0.5 - dx, y=0.5 - dy)}
        )
        assert {v.state for v in verdicts.values()} == {MaskState.TRACKED}


def test_at_a_frame_a_second_nothing_is_said_of_animals_that_may_have_walked():
    guarded = guard("a", "b", fps=1)
    step = tracked_for(guarded, 60, a=mask(x=0.2), b=mask(x=0.8))
    verdicts = guarded.judge(step, {"a": mask(x=0.8), "b": mask(x=0.2)})
    assert {v.state for v in verdicts.values()} == {MaskState.TRACKED}


def crossing(exchanged: bool, contact: int) -> list[MaskState]:
    """Two animals run towards each other and through; the states of one after they part."""
    guarded = guard("a", "b")
    out = []
    frames = 24 + contact
    for step in range(frames + 24):
        way = 0.02 * (step - 12 - contact / 2)
        parted = step >= frames - 6
        turned = -1 if parted and exchanged else 1
        near = 12 <= step < frames - 6 and not parted
        shared = 0.6 * BODY if near else 0.0
        y = 0.03 if not near else 0.0
        verdicts = guarded.judge(
            step,
            {
                "a": mask(x=0.5 + turned * way, y=0.5 + turned * y, b=shared),
                "b": mask(x=0.5 - turned * way, y=0.5 - turned * y, a=shared),
            },
        )
        if parted:
            out.append(verdicts["a"].state)
    return out


def test_animals_that_cross_and_come_out_exchanged_are_reported_when_they_part():
    assert crossing(exchanged=True, contact=0)[0] is MaskState.SWAPPED
    assert MaskState.SWAPPED not in crossing(exchanged=True, contact=0)[1:]


def test_animals_that_cross_and_go_on_their_ways_have_not_been_exchanged():
    assert MaskState.SWAPPED not in crossing(exchanged=False, contact=0)


def test_after_a_long_contact_nothing_is_said_of_who_is_who():
    assert MaskState.SWAPPED not in crossing(exchanged=True, contact=60)


def test_a_mask_that_leaps_across_the_picture_is_doubted_and_not_remembered():
    guarded = guard("mouse")
    step = tracked_for(guarded, 60)
    verdict = guarded.judge(step, {"mouse": mask(x=0.05)})["mouse"]
    assert (verdict.state, verdict.keep_memory) == (MaskState.UNCERTAIN, False)
    assert states(guarded, [mask(x=0.05)], step + 1) == [MaskState.TRACKED]


def test_tracking_backward_is_judged_like_tracking_forward():
    def run(direction: int) -> list[MaskState]:
        guarded = guard("mouse")
        seen = [mask()] * 40 + [mask(4 * BODY)] * 20 + [NOTHING] * 40 + [mask()] * 10
        steps = range(1000, 1000 + direction * len(seen), direction)
        return [
            guarded.judge(s, {"mouse": m})["mouse"].state for s, m in zip(steps, seen, strict=True)
        ]

    assert run(1) == run(-1)


def test_no_frame_of_the_real_recording_raises_an_alarm(shared_data):
    path = shared_data / "open_field_mouse" / "m3v1_body_truth.csv"
    guarded = guard("mouse")
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    for step, row in enumerate(rows):
        x, y = float(row["centroid_x"]) / 640, float(row["centroid_y"]) / 480
        seen = mask(float(row["area_px"]) / (640 * 480), x, y)
        assert guarded.judge(step, {"mouse": seen})["mouse"].state is MaskState.TRACKED, step
    assert len(rows) == 2330


def test_the_true_masks_of_a_simulated_recording_are_all_believed(small_clip: Path):
    """On SAM2's coarse grid, as the engine measures them."""
    guarded = guard("mouse", nests=("nest",))
    with MaskReader(small_clip.with_name("clip_truth.npz")) as reader:
        for step in range(len(reader)):
            seen = {name: measured(reader.mask(name, step)) for name in ("mouse", "nest")}
            for name, verdict in guarded.judge(step, seen).items():
                assert verdict.keep_mask, (step, name)
                assert verdict.state is MaskState.TRACKED, (step, name)


def measured(truth: np.ndarray) -> Measured:
    grid = cv2.resize(truth.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA) > 0.5
    rows, cols = np.nonzero(grid)
    return mask(grid.mean(), (cols.mean() + 0.5) / 128, (rows.mean() + 0.5) / 128)


measurements = st.builds(
    mask,
    st.sampled_from([0.0, 0.003, BODY, 1.2 * BODY, 2.5 * BODY, 4 * BODY, 0.3, 0.5]),
    st.floats(0, 1),
    st.floats(0, 1),
    score=st.sampled_from([0.1, 0.6, 0.99]),
    a=st.sampled_from([0.0, 0.5 * BODY]),
    b=st.sampled_from([0.0, 0.5 * BODY]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(measurements, measurements, st.integers(1, 40)), min_size=2, max_size=30),
    st.data(),
)
def test_verdicts_after_a_resume_are_those_of_an_uninterrupted_guard(frames, data):
    # Each measurement is held for some frames, so that what takes seconds happens too.
    seen = [{"a": a, "b": b} for a, b, held in frames for _ in range(held)]
    cut = data.draw(st.integers(0, len(seen)))
    whole = guard("a", "b")
    expected = [whole.judge(step, both) for step, both in enumerate(seen)]
    first, second = guard("a", "b"), guard("a", "b")
    got = [first.judge(step, both) for step, both in enumerate(seen[:cut])]
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    got += [second.judge(step, both) for step, both in enumerate(seen[cut:], start=cut)]
    assert got == expected


def test_the_state_does_not_grow_with_the_recording():
    guarded = guard("a", "b")
    sizes = []
    for step in range(20_000):
        x = 0.5 + 0.2 * np.sin(step / 50)
        shared = BODY * (step % 100 < 10)
        guarded.judge(step, {"a": mask(x=x, b=shared), "b": mask(x=1 - x, a=shared)})
        if step in (9_999, 19_999):
            sizes.append(len(pickle.dumps(guarded.state_dict())))
    assert sizes[1] < 1.1 * sizes[0] < 20_000


def test_a_state_of_other_objects_is_refused():
    with pytest.raises(ValueError, match="mouse"):
        guard("rat").load_state_dict(guard("mouse").state_dict())


def test_places_are_in_units_in_which_a_step_is_as_long_in_every_direction():
    """In a picture four times as wide as high, of area 1."""
    assert in_frame_units((1.0, 1.0), aspect=4.0) == pytest.approx((2.0, 0.5))


def test_the_guard_needs_no_torch():
    code = (
        "import sys, sam2_worker.drift_guard, sam2_worker.nest_schedule;"
        "print([m for m in ('torch', 'sam2', 'cv2', 'scipy', 'polars') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
