"""What the drift guard needs to know of a frame's masks, measured where the logits are."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from sam2_worker.drift_guard import Measured
from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.view import View
from sam2_worker.view_follower import Extent

# Logit where nobody has looked, as outside of a view: nothing is claimed.
NO_LOGIT = -32.0


@dataclass(frozen=True)
class FrameMasks:
    """Low-resolution masks of the objects looked at in one frame.

    ``names`` [B]; ``logits`` float32 [B, h, w], on a grid of the whole picture, to be judged;
    ``in_views`` float32 [B, S/4, S/4], the model's own, each of the part of the picture in
    ``views`` [B] (None: the whole), to be written; both on the model's device. ``scores`` [B]: the
    probability that the object is in the picture.
    """

    names: tuple[str, ...]
    logits: torch.Tensor
    in_views: torch.Tensor
    views: tuple[View | None, ...]
    scores: tuple[float, ...]


def on_picture(
    logits: torch.Tensor, view: View | None, picture: tuple[int, int], side: int
) -> torch.Tensor:
    """Logits float32 [B, h, w] of a view (None: the whole) on a [B, side, side] grid of the picture.

    ``picture`` is (width, height) in pixels. Bilinear; outside of the view nothing is found.
    """
    if view is None and logits.shape[-1] == side:
        return logits
    return resampled(logits, view, None, picture, side)


def resampled(
    logits: torch.Tensor,
    view: View | None,
    onto: View | None,
    picture: tuple[int, int],
    side: int,
) -> torch.Tensor:
    """Logits of one view on a grid of another, [B, side, side]. ``on_picture`` is onto the whole."""
    whole = View(0, 0, *picture)
    view, onto = view or whole, onto or whole
    cells = (torch.arange(side, device=logits.device, dtype=torch.float32) + 0.5) / side
    x = (onto.left + cells * onto.width - view.left) / view.width * 2 - 1
    y = (onto.top + cells * onto.height - view.top) / view.height * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).expand(len(logits), -1, -1, -1)
    found = torch.nn.functional.grid_sample(
        logits[:, None], grid, padding_mode="border", align_corners=False
    )[:, 0]
    inside = (grid.abs() <= 1).all(dim=-1)
    return torch.where(inside, found, NO_LOGIT)


def extent_in_view(
    logits: torch.Tensor, view: View | None, picture: tuple[int, int]
) -> Extent | None:
    """Where the largest connected part of a mask is: logits float32 [h, w] of ``view`` (None: the
    whole) of a ``picture`` of (width, height) pixels. None for an empty mask.

    A speck at the other end of the view is no reason to look elsewhere.
    """
    seen = (logits > 0).cpu().numpy().astype(np.uint8)
    count, _, parts, _ = cv2.connectedComponentsWithStats(seen, connectivity=8)
    if count < 2:
        return None
    left, top, width, height, area = parts[1:][parts[1:, cv2.CC_STAT_AREA].argmax()].tolist()
    view = view or View(0, 0, *picture)
    across, down = view.width / seen.shape[1], view.height / seen.shape[0]
    x0, y0 = (view.left + left * across) / picture[0], (view.top + top * down) / picture[1]
    x1, y1 = x0 + width * across / picture[0], y0 + height * down / picture[1]
    return Extent((x0, y0, x1, y1), area * across * down / (picture[0] * picture[1]))


def looks_of(features: ImageFeatures, logits: torch.Tensor) -> np.ndarray | None:
    """How what a mask covers looks to the network: means of its two finer feature maps on the mask.

    ``logits`` [S/4, S/4] of the mask in the view that ``features`` are of. Returns float32 [C/8 + C/4];
    None for an empty mask.
    """
    mask = logits > 0
    if not bool(mask.any()):
        return None
    eighth = interpolate(features.eighth.float(), size=mask.shape, mode="nearest")
    means = [level[0].float()[:, mask].mean(1) for level in (features.quarter, eighth)]
    return np.asarray(torch.cat(means).cpu().numpy(), dtype=np.float32)


def measure(masks: FrameMasks) -> dict[str, Measured]:
    """Measure every mask. One small tensor comes back from the device, for all objects."""
    if not masks.names:
        return {}
    seen = masks.logits > 0
    _, height, width = seen.shape
    flat = seen.flatten(1).float()
    shared = flat @ flat.T
    rows, columns = seen.sum(2).float(), seen.sum(1).float()
    y = torch.arange(height, device=seen.device, dtype=torch.float32)
    x = torch.arange(width, device=seen.device, dtype=torch.float32)
    in_rows, in_columns = rows > 0, columns > 0
    far = float(max(height, width))
    numbers = torch.stack(
        [
            rows.sum(1),
            columns @ x,
            rows @ y,
            torch.where(in_columns, x, far).amin(1),
            torch.where(in_rows, y, far).amin(1),
            torch.where(in_columns, x, -1.0).amax(1),
            torch.where(in_rows, y, -1.0).amax(1),
        ],
        dim=1,
    )
    table = torch.cat([numbers, shared], dim=1).tolist()
    pixels = height * width
    found = {}
    for i, (name, score) in enumerate(zip(masks.names, masks.scores, strict=True)):
        area, sum_x, sum_y, x0, y0, x1, y1, *overlaps = table[i]
        found[name] = Measured(
            score=score,
            area=area / pixels,
            centroid=((sum_x / area + 0.5) / width, (sum_y / area + 0.5) / height)
            if area
            else None,
            box=(x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height) if area else None,
            overlaps={
                other: shared / pixels
                for other, shared in zip(masks.names, overlaps, strict=True)
                if other != name
            },
        )
    return found
