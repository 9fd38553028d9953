"""What the drift guard needs to know of a frame's masks, measured where the logits are."""

from dataclasses import dataclass

import torch

from sam2_worker.drift_guard import Measured


@dataclass(frozen=True)
class FrameMasks:
    """Low-resolution masks of the objects looked at in one frame.

    ``names`` [B]; ``logits`` float32 [B, h, w] on the model's device; ``scores`` [B], the
    probability that the object is in the picture.
    """

    names: tuple[str, ...]
    logits: torch.Tensor
    scores: tuple[float, ...]


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
