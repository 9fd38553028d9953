"""A second task for the image encoder, which is left out of the published weights.

A clicked object is a few pixels of one picture; every pixel says whether it is an animal. Told both,
the encoder of a network that begins with random weights learns what an animal is many times sooner.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_WIDTH = 32


class SceneHead(nn.Module):
    """Logits of "any animal" and "nest" for every mask pixel, from the encoder's features."""

    def __init__(self, channels: Sequence[int]) -> None:
        """``channels`` of the feature maps, finest first."""
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(count, _WIDTH, 1) for count in channels)
        self.out = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.GELU(), nn.Conv2d(_WIDTH, 2, 1)
        )

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps ``[N, C, h, w]``, finest first, to logits ``[N, 2, h, w]`` of the finest."""
        size = features[0].shape[-2:]
        total = sum(
            functional.interpolate(mix(level), size=size, mode="bilinear", align_corners=False)
            for mix, level in zip(self.mix, features, strict=True)
        )
        return self.out(total)


def scene_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy and dice of ``[N, 2, h, w]``; dice where there is something to find."""
    logits = logits.float()
    bce = functional.binary_cross_entropy_with_logits(logits, truth)
    likely = logits.sigmoid()
    covered = truth.sum((-1, -2))
    dice = 1 - (2 * (likely * truth).sum((-1, -2)) + 1) / (likely.sum((-1, -2)) + covered + 1)
    there = (covered > 1).float()
    return 5 * bce + (dice * there).sum() / there.sum().clamp(min=1)
