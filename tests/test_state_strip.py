"""The strip that shows how masks came about over a video."""

import cv2
import numpy as np
import pytest

from tailor_assets.compute.features.state_strip import draw_states, state_shares
from tailor_assets.compute.mask_state import MaskState

SWAPPED = (213, 94, 0)


def decoded(png: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture[..., ::-1]


def bars(png: bytes) -> np.ndarray:
    """The first row's bar, one pixel high: uint8 RGB [width, 3]."""
    return decoded(png)[4, 64:]


def test_one_swapped_frame_of_an_hour_is_seen() -> None:
    codes = np.zeros(108_000, np.uint8)
    codes[77_777] = MaskState.SWAPPED
    columns = np.flatnonzero((bars(draw_states({"mouse": codes})) == SWAPPED).all(axis=1))
    assert columns.tolist() == [77_777 * (720 - 64) // 108_000]


@pytest.mark.parametrize("frames", [1, 3, 655, 656, 657, 5000])
def test_any_number_of_frames_fills_the_bar(frames: int) -> None:
    codes = np.full(frames, MaskState.SWAPPED, np.uint8)
    assert (bars(draw_states({"mouse": codes})) == SWAPPED).all()


def test_every_object_has_a_bar_and_no_frames_make_an_empty_one() -> None:
    one = decoded(draw_states({"mouse": np.zeros(9, np.uint8)}))
    two = decoded(draw_states({"mouse": np.zeros(9, np.uint8), "nest": np.ones(9, np.uint8)}))
    assert two.shape[0] == one.shape[0] + 22
    assert (bars(draw_states({"mouse": np.zeros(0, np.uint8)})) == 255).all()


def test_the_legend_names_what_is_there_in_a_narrow_picture_too() -> None:
    codes = np.arange(9, dtype=np.uint8)
    assert decoded(draw_states({"mouse": codes}, width=300)).shape[1] == 300
    shares = state_shares({"mouse": codes[:4], "nest": codes[:0]})
    assert shares.splitlines() == [
        "- **mouse**: tracked 25.00% (1), held 25.00% (1), refound 25.00% (1), uncertain 25.00% (1)",
        "- **nest**: no frame",
    ]
