"""Small masks that tests of the masks NPZ write and read."""

from pathlib import Path

import numpy as np

from tailor_assets.compute.mask_writer import MaskWriter

HEIGHT, WIDTH = 37, 53  # neither a multiple of 8, so that rows of bits cross bytes


def some_masks(
    count: int, seed: int = 1, height: int = HEIGHT, width: int = WIDTH
) -> list[np.ndarray]:
    """Blobs that move, every fifth one empty: bool [height, width] each."""
    chance = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    masks = []
    for number in range(count):
        row, col, radius = chance.uniform(0, height), chance.uniform(0, width), chance.uniform(2, 9)
        blob = (rows - row) ** 2 + (cols - col) ** 2 < radius**2
        masks.append(blob & (number % 5 != 3))
    return masks


def write_masks(path: Path, masks: list[np.ndarray], **options: int) -> Path:
    """A masks NPZ of these masks as ``mouse``, and of a ``nest`` that nobody looked for."""
    with MaskWriter(
        path, objects=["mouse", "nest"], height=HEIGHT, width=WIDTH, segmenter="hand", **options
    ) as writer:
        for number, mask in enumerate(masks):
            writer.append(
                source_frame=3 * number,
                timestamp_s=number / 10,
                masks={"mouse": mask},
                scores={"mouse": 0.75},
            )
    return path
