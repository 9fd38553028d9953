"""Masks enlarged, thresholded and bit-packed where the logits are: on the GPU.

What comes back per object and frame is a bit per pixel (259 KB of 1080p) and not four bytes.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import interpolate, max_pool2d, pad

from sam2_worker.mask_output import FILLED_LOGIT
from sam2_worker.view import View


def packed_masks(
    logits: torch.Tensor,
    views: Sequence[View | None],
    height: int,
    width: int,
    *,
    fill_hole_area: int,
) -> torch.Tensor:
    """float32 [B, h, w] of ``views`` -> uint8 [B, ceil(height * width / 8)].

    They are packed as ``numpy.packbits`` packs. A view of None is the whole picture.
    """
    if fill_hole_area > 0:
        logits = fill_small_holes(logits, fill_hole_area)
    bits = torch.zeros((len(logits), height, width), dtype=torch.uint8, device=logits.device)
    for view in set(views):
        rows = [row for row, other in enumerate(views) if other == view]
        part = view or View(0, 0, width, height)
        size = (part.height, part.width)
        large = interpolate(logits[rows][:, None], size=size, mode="bilinear", align_corners=False)
        bits[rows, *part.slices] = (large[:, 0] > 0).to(torch.uint8)
    bits = bits.flatten(1)
    bits = pad(bits, (0, -bits.shape[1] % 8)).unflatten(1, (-1, 8))
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=bits.device)
    return (bits * weights).sum(2, dtype=torch.uint8)


def fill_small_holes(logits: torch.Tensor, max_area: int) -> torch.Tensor:
    """As ``mask_output.fill_small_holes``, for float32 [B, h, w] on any device.

    A component of at most ``max_area`` pixels has one label after as many steps of passing the
    greatest label on to its neighbours. A larger one may not, but then some pixel of each of its
    labels has a neighbour of another.
    """
    count, height, width = logits.shape
    background = logits <= 0
    numbers = torch.arange(1, height * width + 1, device=logits.device, dtype=torch.float32)
    labels = numbers.view(1, height, width) * background
    for _ in range(max_area):
        labels = max_pool2d(labels[:, None], 3, stride=1, padding=1)[:, 0] * background
    most = max_pool2d(labels[:, None], 3, stride=1, padding=1)[:, 0]
    absent = float(height * width + 1)
    least = -max_pool2d(-torch.where(background, labels, absent)[:, None], 3, stride=1, padding=1)
    torn = background & ((most != labels) | (least[:, 0] != labels))
    index = labels.long().flatten(1)
    size = torch.zeros((count, height * width + 1), dtype=torch.int32, device=logits.device)
    size.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))
    size.scatter_add_(1, index, torn.flatten(1).int() * (max_area + 1))
    small = (size.gather(1, index) <= max_area).view_as(logits) & background
    return torch.where(small, FILLED_LOGIT, logits)
