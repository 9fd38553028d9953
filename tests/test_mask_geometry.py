"""Area, box and centroid: what scikit-image says, and the same from packed bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making_masks import some_masks
from skimage.measure import regionprops

from tailor_assets.compute.mask_geometry import mask_geometry, packed_crop, packed_geometry


def test_geometry_is_what_scikit_image_says() -> None:
    for mask in some_masks(40, seed=2):
        if mask.any():
            (region,) = regionprops(mask.astype(np.uint8))
            area, bbox, centroid = mask_geometry(mask)
            assert (area, bbox) == (region.area, region.bbox)
            assert centroid == pytest.approx(region.centroid, rel=1e-12)


@given(
    height=st.integers(1, 40),
    width=st.one_of(st.integers(1, 40), st.sampled_from([8, 16, 64])),
    chance=st.sampled_from([0.0, 0.002, 0.05, 0.9, 1.0]),
    seed=st.integers(0, 1000),
)
def test_packed_masks_have_the_geometry_of_their_pixels_to_the_last_bit(
    height: int, width: int, chance: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < chance
    packed = np.packbits(mask)
    expected = mask_geometry(mask)
    # As text, because NaN is not equal to NaN; repr gives every digit of a float.
    assert repr(packed_geometry(packed, height, width)) == repr(expected)
    top, left, bottom, right = expected[1]
    if top >= 0:
        crop = packed_crop(packed, width, expected[1])
        assert np.array_equal(crop, mask[top:bottom, left:right])


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (480, 641)])
def test_single_pixels_in_the_corners_are_found(height: int, width: int) -> None:
    for row, col in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)):
        mask = np.zeros((height, width), bool)
        mask[row, col] = True
        geometry = packed_geometry(np.packbits(mask), height, width)
        assert geometry == (1, (row, col, row + 1, col + 1), (row, col))
