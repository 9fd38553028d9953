"""Which part of the picture the network is shown."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from sam2_worker.view import View
from sam2_worker.view_follower import Extent, ViewFollower

PICTURE = (640, 480)


def box_at(x: float, y: float, length: float = 60.0) -> Extent:
    """A mouse with a box of ``length`` pixels around a pixel."""
    half = length / 2
    box = ((x - half) / 640, (y - half) / 480, (x + half) / 640, (y + half) / 480)
    return Extent(box, 0.3 * length**2 / (640 * 480))


def inside(extent: Extent, view: View | None) -> bool:
    if view is None:
        return True
    box = extent.box
    x0, y0, x1, y1 = box[0] * 640, box[1] * 480, box[2] * 640, box[3] * 480
    return (
        view.left <= x0
        and view.top <= y0
        and x1 <= view.left + view.width
        and y1 <= view.top + view.height
    )


def test_an_animal_is_seen_larger_than_in_the_whole_picture() -> None:
    follower = ViewFollower("animal", PICTURE, 128)
    view = follower.begin(box_at(300, 200))
    assert view is not None
    assert view.width == view.height
    assert 2 * 60 < view.width < 3.2 * 60
    assert inside(box_at(300, 200, 120), view)


def test_the_view_is_always_inside_the_picture_and_the_animal_inside_the_view() -> None:
    follower = ViewFollower("animal", PICTURE, 128)
    rng = np.random.default_rng(0)
    x, y, length = 320.0, 240.0, 60.0
    follower.begin(box_at(x, y, length))
    moves = 0
    for _ in range(2000):
        before = follower.view
        x, y = np.clip(np.array([x, y]) + rng.normal(0, 0.13 * length, 2), [40, 40], [600, 440])
        length = float(np.clip(length * math.exp(rng.normal(0, 0.03)), 20, 140))
        box = box_at(x, y, min(length, 2 * min(x, y, 640 - x, 480 - y)))
        assert inside(box, before)  # it did not get away from one frame to the next
        follower.seen(box)
        view = follower.view
        moves += view != before
        if view is not None:
            assert min(view.left, view.top) >= 0
            assert view.left + view.width <= 640
            assert view.top + view.height <= 480
    # Every move makes what is remembered lie elsewhere in the view.
    assert 50 < moves < 600


def test_an_animal_at_rest_does_not_move_its_view() -> None:
    follower = ViewFollower("animal", PICTURE, 128)
    first = follower.begin(box_at(100, 100))
    rng = np.random.default_rng(1)
    for _ in range(300):
        follower.seen(box_at(*(100 + rng.normal(0, 2, 2)), 60 + rng.normal(0, 3)))
        assert follower.view == first


@pytest.mark.parametrize("corner", [(20, 20), (620, 20), (20, 460), (620, 460)])
def test_an_animal_in_a_corner_does_not_move_its_view_for_ever(corner: tuple[int, int]) -> None:
    follower = ViewFollower("animal", PICTURE, 128)
    follower.begin(box_at(*corner, 40))
    follower.seen(box_at(*corner, 40))
    view = follower.view
    follower.seen(box_at(*corner, 40))
    assert follower.view == view


def test_a_lost_animal_is_looked_for_in_an_ever_larger_view_and_then_everywhere() -> None:
    follower = ViewFollower("animal", PICTURE, 128)
    follower.begin(box_at(300, 200))
    sides = []
    for _ in range(60):
        follower.seen(None)
        sides.append(640 if follower.view is None else follower.view.width)
    assert sides == sorted(sides)
    assert sides[0] < sides[20] < sides[-1] == 640
    assert follower.view is None
    follower.seen(box_at(500, 400))
    assert follower.view is not None
    assert inside(box_at(500, 400), follower.view)


def test_a_large_animal_is_seen_in_the_whole_picture() -> None:
    follower = ViewFollower("animal", PICTURE, 128)
    assert follower.begin(box_at(320, 240, 300)) is None


def test_a_view_is_never_smaller_than_asked_for() -> None:
    view = ViewFollower("animal", PICTURE, 128).begin(box_at(320, 240, 8))
    assert view is not None
    assert view.width >= 120


def test_a_click_that_hits_nothing_is_looked_at_in_the_whole_picture() -> None:
    follower = ViewFollower("nest", PICTURE, 128)
    follower.begin(box_at(300, 200))
    assert follower.begin(None) is None
    assert follower.view is None


def test_a_follower_goes_on_where_its_state_was_taken() -> None:
    follower, other = (ViewFollower("animal", PICTURE, 128) for _ in range(2))
    follower.begin(box_at(300, 200))
    for _ in range(7):
        follower.seen(None)
    other.restore(follower.state())
    for _ in range(30):
        follower.seen(None)
        other.seen(None)
        assert follower.view == other.view


def test_a_point_of_the_picture_has_its_place_in_the_view() -> None:
    view = View(left=100, top=50, width=200, height=100)
    assert view.place((200 / 640, 100 / 480), PICTURE) == pytest.approx((0.5, 0.5))


def test_in_a_mirrored_view_left_is_right() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)
    view = View(left=100, top=50, width=200, height=100)
    mirrored = dataclasses.replace(view, mirrored=True)
    assert np.array_equal(mirrored.cut(picture), view.cut(picture)[:, ::-1])
    x, y = mirrored.place((150 / 640, 75 / 480), PICTURE)
    assert (x, y) == pytest.approx((0.75, 0.25))
    assert mirrored != view


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_point_is_where_the_turned_view_shows_it(turns: int, mirrored: bool) -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[75, 160] = 255
    view = View(left=100, top=50, width=200, height=100, turns=turns, mirrored=mirrored)
    shown = view.cut(picture)
    assert shown.shape[:2] == ((200, 100) if turns % 2 else (100, 200))
    ((row, column),) = np.argwhere(shown[..., 0])
    x, y = view.place((160.5 / 640, 75.5 / 480), PICTURE)
    assert (x * shown.shape[1], y * shown.shape[0]) == pytest.approx((column + 0.5, row + 0.5))


def test_a_follower_that_begins_with_a_view_looks_there_until_the_object_leaves_it() -> None:
    follower, view = ViewFollower("animal", PICTURE, 128), View(200, 120, 190, 190)
    for _ in range(12):
        follower.seen(None)
    follower.begin_with(view)
    follower.seen(box_at(295, 215, 60))
    assert follower.view == view
    follower.seen(box_at(215, 215, 60))
    assert follower.view != view


def test_what_a_click_is_on_is_looked_for_in_views_of_every_size() -> None:
    follower = ViewFollower("animal", PICTURE, 96)
    views = follower.views_about([(0.5, 0.5), (0.52, 0.5)])
    assert views[0] is None
    sides = [max(view.width, view.height) for view in views[1:] if view is not None]
    assert len(sides) == len(views) - 1 == 3
    assert sides == sorted(sides, reverse=True)
    assert all(a > 1.3 * b for a, b in pairwise(sides))
    for length, best in ((220, None), (110, sides[0]), (55, sides[1]), (20, sides[2])):
        mouse = box_at(320, 240, length)
        nearest = min(views, key=lambda view: follower.misfit(mouse, view))
        assert (nearest and nearest.width) == best


def test_an_animal_that_curls_up_is_seen_at_the_same_scale() -> None:
    follower = ViewFollower("animal", PICTURE, 96)
    stretched = box_at(300, 200, 90)
    view = follower.begin(stretched)
    follower.seen(Extent(box_at(300, 200, 55).box, 0.85 * stretched.area))
    assert follower.view == view
