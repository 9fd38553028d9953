"""An animal clicked late is not looked for in another's place (sam2_worker/late_animals.py)."""

from pathlib import Path

import numpy as np
import pytest

from sam2_worker.late_animals import LateAnimals
from sam2_worker.tracking_plan import KnownMasks, forward_plan
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.mask_writer import MaskWriter

ROWS, CLICK = 10, 8


def square(left: int) -> np.ndarray:
    mask = np.zeros((8, 16), bool)
    mask[2:6, left : left + 4] = True
    return np.packbits(mask)


@pytest.fixture(params=["tracked", "known"])
def late(tmp_path: Path, request: pytest.FixtureRequest) -> LateAnimals:
    """The rat is clicked in row 8 and was tracked backwards from there; the mouse in row 0, and its
    masks are tracked now or, up to row 5, from an earlier time."""
    path = tmp_path / "before.npz"
    with MaskWriter(path, objects=["rat", "mouse"], height=8, width=16, segmenter="x") as writer:
        for row in range(CLICK, -1, -1):
            writer.append_packed(
                source_frame=CLICK - row,
                timestamp_s=(CLICK - row) / 10,
                packed={"rat": square(2), "mouse": square(2)},
                scores={"rat": 1.0, "mouse": 1.0},
                states={"rat": MaskState.TRACKED, "mouse": MaskState.TRACKED},
            )
    known = KnownMasks()
    known.add("rat", MaskReader(path), CLICK, reverse=True)
    if request.param == "known":
        known.add("mouse", MaskReader(path), 5)
    clicks = {"mouse": {0: [(0.2, 0.5)]}, "rat": {CLICK: [(0.2, 0.5)]}}
    return LateAnimals(("mouse", "rat"), forward_plan(np.arange(ROWS), clicks, {}), known)


def test_of_two_masks_on_one_animal_the_one_with_the_nearer_click_is_right(
    late: LateAnimals,
) -> None:
    on_one = {"mouse": square(2), "rat": square(2)}
    assert late.strays(1, on_one) == ["rat"]
    assert late.strays(7, on_one) == [], "the rat was clicked a moment later, the mouse long before"
    assert late.strays(9, on_one) == [], "the rat has been clicked: the drift guard judges"


def test_animals_side_by_side_are_two(late: LateAnimals) -> None:
    assert late.strays(1, {"mouse": square(2), "rat": square(4)}) == []
    assert late.strays(1, {"rat": square(2)}) == []
