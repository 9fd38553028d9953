"""What a changed set of points changes, against a model of what masks follow from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailor_assets.compute.corrections import first_changed_frame
from tailor_assets.compute.prompts import ObjectPrompt

FRAMES = 12


def point(x: float, frame: int, name: str = "mouse", origin: str = "tailor.json") -> ObjectPrompt:
    return ObjectPrompt(name, "nest" if name == "nest" else "animal", x, 5.0, frame, origin)


points = st.builds(
    point,
    x=st.integers(0, 2).map(float),
    frame=st.integers(0, FRAMES - 1),
    name=st.sampled_from(["mouse", "nest"]),
    origin=st.sampled_from(["tailor.json", "run config"]),
)
prompts = st.lists(points, max_size=7, unique_by=lambda p: (p.name, p.x, p.source_frame))


def mask(given_points: list[ObjectPrompt], name: str, frame: int) -> object:
    """All that the mask of an object in a frame is made from, as the documentation says it."""
    own = {(p.source_frame, p.x) for p in given_points if p.name == name}
    if not own:
        return None
    first = min(frame_of_point for frame_of_point, _ in own)
    return {(at, x) for at, x in own if at <= max(frame, first)}


@given(prompts, prompts)
def test_masks_before_the_frame_are_the_same_and_in_it_they_are_others(
    old: list[ObjectPrompt], new: list[ObjectPrompt]
) -> None:
    changed = first_changed_frame(old, new)
    assert set(changed) == {p.name for p in (*old, *new)}
    for name, frame in changed.items():
        differing = [t for t in range(FRAMES) if mask(old, name, t) != mask(new, name, t)]
        assert frame == (differing[0] if differing else None)


@given(prompts, st.randoms(use_true_random=False))
def test_neither_the_order_of_points_nor_which_person_gave_them_changes_a_mask(
    given_points: list[ObjectPrompt], chance: object
) -> None:
    again = [point(p.x, p.source_frame, p.name, "run config") for p in given_points]
    chance.shuffle(again)  # type: ignore[attr-defined]
    assert set(first_changed_frame(given_points, again).values()) <= {None}


@given(prompts, points)
def test_a_point_added_to_one_object_leaves_the_others_as_they_are(
    old: list[ObjectPrompt], added: ObjectPrompt
) -> None:
    changed = first_changed_frame(old, [*old, added])
    assert {frame for name, frame in changed.items() if name != added.name} <= {None}
    own = [p.source_frame for p in old if p.name == added.name]
    if own and min(own) < added.source_frame:
        assert changed[added.name] in (added.source_frame, None)


@pytest.mark.parametrize(
    ("old", "new", "frame"),
    [
        ([point(1, 4)], [point(1, 4)], None),
        ([point(1, 4)], [point(1, 4), point(2, 9)], 9),
        ([point(1, 4), point(2, 9)], [point(1, 4)], 9),
        ([point(1, 4), point(2, 9)], [point(1, 4), point(2, 8)], 8),
        ([point(1, 4), point(2, 9)], [point(1, 4), point(3, 9)], 9),
        ([point(1, 4)], [point(2, 4)], 0),
        ([point(1, 4)], [point(1, 4), point(2, 4)], 0),
        ([point(1, 4)], [point(1, 4), point(2, 2)], 0),
        ([point(1, 2), point(2, 4)], [point(2, 4)], 0),
        ([], [point(1, 4)], 0),
        ([point(1, 4, "rat")], [point(1, 4)], 0),
    ],
)
def test_what_a_person_does_to_the_points_of_an_object(
    old: list[ObjectPrompt], new: list[ObjectPrompt], frame: int | None
) -> None:
    assert first_changed_frame(old, new)["mouse"] == frame


def test_an_object_that_is_another_kind_of_thing_now_is_segmented_again() -> None:
    as_nest = ObjectPrompt("mouse", "nest", 1, 5.0, 4, "tailor.json")
    assert first_changed_frame([point(1, 4)], [as_nest]) == {"mouse": 0}


def test_an_object_that_has_no_point_any_more_has_none_from_the_beginning() -> None:
    changed = first_changed_frame([point(1, 4), point(2, 0, "nest")], [point(1, 4)])
    assert changed == {"mouse": None, "nest": 0}


def test_a_point_that_a_person_confirms_counts_for_more_than_before() -> None:
    found = point(1, 4, origin="automatic")
    assert first_changed_frame([found], [point(1, 4)]) == {"mouse": 0}
    assert first_changed_frame([found], [found]) == {"mouse": None}
