"""Animals that have come apart while their masks have not (sam2_worker/parting.py)."""

import numpy as np
import pytest

from sam2_worker.parting import bodies_apart, whose

SIDE = 60
# Twelve by twelve cells of the grid.
FULL = 144 / SIDE**2


def logits(*squares: tuple[int, int, int], level: float = 8.0) -> np.ndarray:
    """Squares (row, column, side) of a mask that is sure of them."""
    made = np.full((SIDE, SIDE), -8.0)
    for row, column, side in squares:
        made[row : row + side, column : column + side] = level
    return made


HERE, THERE = (5, 5, 12), (40, 40, 12)
CRUMB = (42, 42, 4)


def test_two_bodies_in_one_mask_are_two_animals() -> None:
    merged = {"mouse": logits(HERE, THERE), "rat": logits(CRUMB)}
    bodies = bodies_apart(merged, {"mouse": FULL, "rat": FULL})
    assert bodies is not None
    assert [tuple(int(SIDE * part) for part in point) for point in bodies.points] == [
        pytest.approx((10, 10), abs=2), pytest.approx((45, 45), abs=2),
    ]  # fmt: skip
    # The rat's crumb is on the second: there it is likelier than on the first.
    assert whose(bodies, [np.zeros(3), np.zeros(3)], [np.zeros(3), np.zeros(3)]) == [0, 1]


@pytest.mark.parametrize(
    "masks",
    [
        {"mouse": logits((5, 5, 12), (5, 17, 12)), "rat": logits(CRUMB)},
        {"mouse": logits(HERE), "rat": logits(HERE)},
        {"mouse": logits(HERE, THERE, (40, 5, 12)), "rat": logits(CRUMB)},
        {"mouse": logits(HERE, (30, 30, 28)), "rat": logits(CRUMB)},
        {"mouse": logits(HERE, CRUMB), "rat": logits(HERE)},
        {"mouse": logits(), "rat": logits()},
    ],
    ids=["they touch", "one body", "three bodies", "a wall", "a body and a crumb", "nothing"],
)
def test_anything_else_is_not(masks: dict[str, np.ndarray]) -> None:
    assert bodies_apart(masks, {"mouse": FULL, "rat": FULL}) is None


def test_whose_a_body_is_its_looks_say_where_they_differ() -> None:
    bodies = bodies_apart(
        {"mouse": logits(HERE, THERE), "rat": logits(CRUMB)}, {"mouse": FULL, "rat": FULL}
    )
    assert bodies is not None
    black, white = np.zeros(4), np.ones(4)
    assert whose(bodies, [black, white], [white, black]) == [1, 0]
    assert whose(bodies, [black, white], [black, white]) == [0, 1]
    # Two mice are alike, and in no two places does one look the same: the tracker's word counts.
    known = [np.full(4, 0.5), np.full(4, 0.51)]
    elsewhere = np.array([0.3, -0.2, 0.1, 0.2])
    assert whose(bodies, known, [known[1] + elsewhere, known[0] + elsewhere]) == [0, 1]


def test_three_animals_are_told_apart_too() -> None:
    third = (40, 5, 12)
    merged = {"a": logits(HERE, THERE, third), "b": logits(CRUMB), "c": logits((43, 8, 3))}
    bodies = bodies_apart(merged, dict.fromkeys(merged, FULL))
    assert bodies is not None
    alike = [np.zeros(2)] * 3
    places = [tuple(bodies.points[body]) for body in whose(bodies, alike, alike)]
    assert [(x > 0.5, y > 0.5) for x, y in places] == [
        (False, False), (True, True), (False, True),
    ]  # fmt: skip
