"""Masks in other programs' forms: dense boolean arrays and COCO run-length encoding."""

from collections.abc import Iterator

import numpy as np

from tailor_assets.compute.mask_file import MaskReader


def to_dense(reader: MaskReader, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Masks of one object as bool [frames, H, W]; the caller chooses how many fit in memory."""
    stop = len(reader) if stop is None else min(stop, len(reader))
    dense = np.zeros((max(stop - start, 0), reader.height, reader.width), bool)
    for row, mask in reader.iter_masks(name, start, stop):
        dense[row - start] = mask
    return dense


def iter_coco_rle(reader: MaskReader, name: str) -> Iterator[dict[str, object]]:
    """Yield {"size": [H, W], "counts": str} per frame, as pycocotools' ``mask`` module reads it."""
    for _, mask in reader.iter_masks(name):
        yield encode_coco_rle(mask)


def encode_coco_rle(mask: np.ndarray) -> dict[str, object]:
    """Compressed COCO RLE of a bool [H, W] mask.

    Runs go down the columns and begin with zeros. Each count, from the third on the difference to
    the count two before, is written in groups of five bits, least significant first, bit 6 saying
    that more follow, offset by 48 into printable characters (COCO API, maskApi.c, rleToString).
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges)
    if flat.size and flat[0]:
        counts = np.concatenate([[0], counts])
    text = bytearray()
    for number, count in enumerate(counts.tolist()):
        value = count - counts[number - 2].item() if number > 2 else count
        while True:
            group = value & 0x1F
            value >>= 5
            more = value != -1 if group & 0x10 else value != 0
            text.append((group | (0x20 if more else 0)) + 48)
            if not more:
                break
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": text.decode("ascii")}
