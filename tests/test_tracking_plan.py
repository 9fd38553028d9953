"""Which frames a pass looks at and writes, and by what numbers the tracker counts them."""

from pathlib import Path

import numpy as np
import pytest

from sam2_worker.request import Click
from sam2_worker.tracking_plan import (
    KnownMasks,
    TrackingPlan,
    backward_plan,
    changing_together,
    clicks_by_frame,
    forward_plan,
)
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.mask_writer import MaskWriter

HERE = [(0.5, 0.5)]
EVERY_FOURTH = np.arange(0, 40, 4)


def _looks(plan: TrackingPlan) -> list[int]:
    return plan.source_frames[plan.look].tolist()


def _written(plan: TrackingPlan) -> list[int]:
    return plan.source_frames[plan.rows >= 0].tolist()


def test_clicks_are_in_fractions_by_object_and_rising_frame() -> None:
    clicks = [
        Click("mouse", 80, 60, 9),
        Click("mouse", 40, 30, 2),
        Click("rat", 160, 120, 2),
        Click("mouse", 0, 0, 9),
    ]
    found = clicks_by_frame(clicks, height=120, width=160)
    assert found == {
        "mouse": {2: [(0.25, 0.25)], 9: [(0.5, 0.5), (0.0, 0.0)]},
        "rat": {2: [(1.0, 1.0)]},
    }
    assert list(found["mouse"]) == [2, 9]


def test_a_forward_pass_writes_every_sampled_frame_and_looks_from_the_first_click_on() -> None:
    plan = forward_plan(EVERY_FOURTH, {"mouse": {8: HERE, 20: HERE}}, {})
    assert _written(plan) == plan.source_frames.tolist() == EVERY_FOURTH.tolist()
    assert plan.rows.tolist() == plan.steps.tolist() == list(range(10))
    assert _looks(plan) == list(range(8, 40, 4))
    assert plan.clicks == {"mouse": {2: HERE, 5: HERE}}
    assert plan.starts == {}


def test_a_clicked_frame_between_two_is_looked_at_and_not_written() -> None:
    plan = forward_plan(EVERY_FOURTH, {"mouse": {8: HERE}, "rat": {13: HERE, 14: HERE}}, {})
    assert plan.source_frames.tolist() == [0, 4, 8, 12, 13, 14, 16, 20, 24, 28, 32, 36]
    assert _written(plan) == EVERY_FOURTH.tolist()
    assert plan.rows[plan.rows >= 0].tolist() == list(range(10))
    assert plan.clicks == {"mouse": {2.0: HERE}, "rat": {3.25: HERE, 3.5: HERE}}
    assert (np.diff(plan.steps) > 0).all()


def test_what_one_object_is_counted_by_does_not_depend_on_the_others() -> None:
    alone = forward_plan(EVERY_FOURTH, {"mouse": {8: HERE, 21: HERE}}, {})
    crowd = {"mouse": {8: HERE, 21: HERE}, "rat": {1: HERE, 13: HERE, 50: HERE}, "nest": {9: HERE}}
    among = forward_plan(EVERY_FOURTH, crowd, {})
    assert among.clicks["mouse"] == alone.clicks["mouse"]
    step_of = dict(zip(among.source_frames.tolist(), among.steps.tolist(), strict=True))
    assert [step_of[f] for f in alone.source_frames.tolist()] == alone.steps.tolist()

    alone_back = backward_plan(EVERY_FOURTH, {"mouse": {8: HERE, 21: HERE}}, {})
    among_back = backward_plan(EVERY_FOURTH, crowd, {})
    assert alone_back is not None
    assert among_back is not None
    assert among_back.clicks["mouse"] == alone_back.clicks["mouse"] == {-2.0: HERE}


def test_clicks_around_the_sampled_frames_have_numbers_of_their_own() -> None:
    plan = forward_plan(np.array([10, 12, 14]), {"mouse": {4: HERE, 5: HERE, 17: HERE}}, {})
    assert plan.source_frames.tolist() == [4, 5, 10, 12, 14, 17]
    assert plan.steps.tolist() == [-3.0, -2.5, 0, 1, 2, 3.5]
    one = forward_plan(np.array([10]), {"mouse": {7: HERE, 11: HERE}}, {})
    assert one.steps.tolist() == [-3, 0, 1]


def test_masks_that_are_known_are_not_looked_for() -> None:
    clicks = {"mouse": {0: HERE, 12: HERE, 28: HERE}, "rat": {0: HERE}, "nest": {4: HERE}}
    plan = forward_plan(EVERY_FOURTH, clicks, {"mouse": 28, "rat": None, "nest": None})
    assert set(plan.clicks) == {"mouse"}
    # A click's memory is looked at for ever, so all of them are, and what follows the last one.
    assert _looks(plan) == [0, 12, 28, 32, 36]
    assert plan.starts == {"mouse": 7.0}
    assert _written(plan) == EVERY_FOURTH.tolist()


def test_tracking_begins_again_at_the_last_click_before_the_change() -> None:
    # A click at 28 was taken away: what followed it follows the one at 12 now.
    plan = forward_plan(EVERY_FOURTH, {"mouse": {0: HERE, 12: HERE}}, {"mouse": 28})
    assert _looks(plan) == [0, *range(12, 40, 4)]
    assert plan.starts == {"mouse": 3.0}
    nothing = forward_plan(EVERY_FOURTH, {"mouse": {0: HERE}}, {"mouse": None})
    assert not nothing.look.any()
    assert nothing.clicks == {}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"mouse": 30, "rat": None, "nest": None}, {"mouse": 30, "rat": 30, "nest": None}),
        # The rat's first click comes later: what is seen there may have changed, and with it all
        # that was tracked backwards from it.
        ({"mouse": 5, "rat": None, "nest": None}, {"mouse": 5, "rat": 0, "nest": None}),
        ({"mouse": None, "rat": 0, "nest": 12}, {"mouse": 0, "rat": 0, "nest": 12}),
        ({"mouse": None, "rat": None, "nest": 12}, {"mouse": None, "rat": None, "nest": 12}),
        # The stranger had a point and has none: the animals were judged by where it was.
        (
            {"mouse": None, "rat": None, "nest": None, "stranger": 0},
            {"mouse": 0, "rat": 0, "nest": None, "stranger": 0},
        ),
        # A new object is tracked throughout, and so are those it is judged with.
        ({"rat": None, "nest": None}, {"mouse": 0, "rat": 0, "nest": None}),
    ],
)
def test_objects_that_are_judged_by_each_other_change_together(
    changed: dict[str, int | None], expected: dict[str, int | None]
) -> None:
    clicks = {"mouse": {4: HERE, 30: HERE}, "rat": {8: HERE}, "nest": {0: HERE}}
    companions = ["mouse", "rat", "stranger"]
    assert changing_together(changed, clicks, companions) == expected


def test_objects_that_change_together_begin_where_all_of_them_are_clicked() -> None:
    clicks = {
        "mouse": {4: HERE, 12: HERE, 16: HERE, 28: HERE},
        "rat": {8: HERE, 12: HERE, 20: HERE},
    }
    changed = {"mouse": 28, "rat": 28}
    plan = forward_plan(EVERY_FOURTH, clicks, changed, ["mouse", "rat"])
    assert plan.starts == {"mouse": 3.0, "rat": 3.0}
    assert _looks(plan) == [4, 8, *range(12, 40, 4)]
    early = forward_plan(EVERY_FOURTH, clicks, {"mouse": 10, "rat": 10}, ["mouse", "rat"])
    assert early.starts == {}, "from their first clicks on"
    assert _looks(early) == list(range(4, 40, 4))


def test_a_backward_pass_goes_from_the_latest_first_click_to_the_first_frame() -> None:
    clicks = {"mouse": {8: HERE, 30: HERE}, "rat": {17: HERE}, "nest": {0: HERE}}
    plan = backward_plan(EVERY_FOURTH, clicks, {})
    assert plan is not None
    assert plan.source_frames.tolist() == [17, 16, 12, 8, 4, 0]
    assert plan.rows.tolist() == [-1, 4, 3, 2, 1, 0]
    assert plan.steps.tolist() == [-4.25, -4, -3, -2, -1, 0]
    assert plan.look.all()
    # It knows of no later click, and not of what is clicked in the first frame.
    assert plan.clicks == {"mouse": {-2.0: HERE}, "rat": {-4.25: HERE}}


def test_companions_are_told_of_the_clicks_on_one_another_in_the_same_frame() -> None:
    there, beyond = [(0.2, 0.2)], [(0.9, 0.1)]
    clicks = {
        "mouse": {8: HERE, 20: HERE},
        "rat": {8: there, 12: there},
        "nest": {8: beyond, 20: beyond},
    }
    companions = ["mouse", "rat"]
    plan = forward_plan(EVERY_FOURTH, clicks, {}, companions)
    assert plan.beside == {"mouse": {2.0: there}, "rat": {2.0: HERE}}
    # Whether the other one is tracked again or known does not matter.
    alone = forward_plan(EVERY_FOURTH, clicks, {"rat": None, "nest": None}, companions)
    assert alone.beside == {"mouse": {2.0: there}}
    back = backward_plan(EVERY_FOURTH, clicks, {}, companions)
    assert back is not None
    assert back.beside == {"mouse": {-2.0: there}, "rat": {-2.0: HERE}}
    assert forward_plan(EVERY_FOURTH, clicks, {}).beside == {}


def test_nothing_is_tracked_backward_without_need() -> None:
    assert backward_plan(EVERY_FOURTH, {"mouse": {0: HERE}}, {}) is None
    later = {"mouse": {8: HERE, 20: HERE}}
    assert backward_plan(EVERY_FOURTH, later, {"mouse": 20}) is None
    assert backward_plan(EVERY_FOURTH, later, {"mouse": None}) is None
    assert backward_plan(EVERY_FOURTH, later, {"mouse": 0}) is not None
    # A click before the first sampled frame leaves none before it.
    assert backward_plan(np.array([4, 8]), {"mouse": {2: HERE}}, {}) is None


def test_a_click_after_the_last_sampled_frame_is_tracked_backward_from() -> None:
    plan = backward_plan(np.array([4, 8]), {"mouse": {12: HERE}}, {})
    assert plan is not None
    assert plan.source_frames.tolist() == [12, 8, 4]
    assert plan.rows.tolist() == [-1, 1, 0]


def _write(path: Path, values: list[int], *, reverse: bool = False) -> None:
    with MaskWriter(path, objects=["mouse"], height=2, width=8, segmenter="test") as writer:
        for number, value in enumerate(reversed(values) if reverse else values):
            writer.append_packed(
                source_frame=number,
                timestamp_s=number / 10,
                packed={"mouse": np.array([value, 0], np.uint8)},
                scores={"mouse": 0.5 + value / 512},
                states={"mouse": MaskState.UNCERTAIN},
            )


@pytest.mark.parametrize("reverse", [False, True])
def test_known_masks_are_those_of_their_rows(tmp_path: Path, reverse: bool) -> None:
    _write(tmp_path / "known.npz", [1, 2, 3, 4], reverse=reverse)
    with MaskReader(tmp_path / "known.npz") as reader:
        known = KnownMasks()
        known.add("mouse", reader, 3, reverse=reverse)
        assert [known.has("mouse", row) for row in range(5)] == [True] * 3 + [False] * 2
        assert not known.has("rat", 0)
        for row in range(3):
            mask = known.get("mouse", row)
            assert mask is not None
            assert mask.packed.tolist() == [row + 1, 0]
            assert mask.score == np.float32(0.5 + (row + 1) / 512)
            assert mask.state is MaskState.UNCERTAIN
        assert known.get("mouse", 3) is None
