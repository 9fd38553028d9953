"""Masks in other programs' forms, against those programs."""

import numpy as np
import pytest
from pycocotools import mask as coco

from tailor_assets.compute.mask_convert import encode_coco_rle, iter_coco_rle, to_dense
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter


@pytest.mark.parametrize("density", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 48), (300, 400)])
def test_coco_rle_is_what_pycocotools_writes_and_reads(density, shape):
    mask = np.random.default_rng(3).random(shape) < density
    ours = encode_coco_rle(mask)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["counts"].encode() == theirs["counts"]
    assert (coco.decode(ours).astype(bool) == mask).all()


def test_a_masks_file_converts_to_dense_arrays_and_to_rle(tmp_path):
    masks = np.random.default_rng(5).random((5, 20, 30)) < 0.3
    with MaskWriter(
        tmp_path / "m.npz", objects=["mouse"], height=20, width=30, segmenter="test", chunk_frames=2
    ) as writer:
        for number, mask in enumerate(masks):
            writer.append(
                source_frame=number, timestamp_s=number / 10, masks={"mouse": mask}, scores={}
            )
    with MaskReader(tmp_path / "m.npz") as reader:
        assert (to_dense(reader, "mouse") == masks).all()
        assert (to_dense(reader, "mouse", 1, 4) == masks[1:4]).all()
        for mask, rle in zip(masks, iter_coco_rle(reader, "mouse"), strict=True):
            assert (coco.decode(rle).astype(bool) == mask).all()
