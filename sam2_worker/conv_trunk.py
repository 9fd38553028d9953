"""A residual convolutional trunk for SAM2's image encoder, in the place of Hiera.

SAM2's encoder takes any trunk that gives four maps at strides 4, 8, 16 and 32 (EdgeTAM puts a
RepViT there, arXiv:2501.07256). Convolutions (He et al., Deep Residual Learning,
arXiv:1512.03385) know from the start what a transformer must first learn from many pictures, that
a mouse is a mouse wherever it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sam2_worker.packed_conv import Activation, PackedConv


class ConvTrunk(nn.Module):
    """Maps float ``[N, 3, S, S]`` to four maps float ``[N, C, S/s, S/s]``, s = 4, 8, 16, 32."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        """``widths``: channels C at each stride; ``depths``: residual blocks there, at least 1."""
        super().__init__()
        if len(widths) != 4 or len(depths) != 4 or min(depths) < 1:
            raise ValueError("a trunk has four stages of at least one block")
        half = widths[0] // 2
        self.stem = nn.Sequential(
            _normed(3, half, stride=2), nn.ReLU(inplace=True), _normed(half, widths[0], stride=2),
            nn.ReLU(inplace=True),
        )  # fmt: skip
        self.stages = nn.ModuleList()
        before = widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            first = ResidualBlock(before, width, stride=2 if number else 1)
            rest = [ResidualBlock(width, width) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            before = width
        # As SAM2's neck wants them: from the coarsest map to the finest.
        self.channel_list = list(reversed(widths))

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """The maps, finest first."""
        x = self.stem(pictures.contiguous(memory_format=torch.channels_last))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _normed(before, width, stride=stride)
        self.second = _normed(width, width)
        # Of a block that changes nothing to begin with, gradients reach all blocks from the start.
        nn.init.zeros_(self.second[1].weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            # Averaged, not skipped: three of four pixels would be lost.
            self.shortcut = nn.Sequential(nn.AvgPool2d(2), *_normed(before, width, side=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float ``[N, C, H, W]`` -> ``[N, C', H / stride, W / stride]``."""
        return relu(self.second(relu(self.first(x))) + self.shortcut(x))


class FoldedConvTrunk:
    """A trained ``ConvTrunk`` for inference: normalisation is part of the convolutions' weights."""

    def __init__(self, trunk: ConvTrunk, dtype: torch.dtype) -> None:
        """Take the weights of ``trunk`` as they are now, on its device, to compute in ``dtype``."""
        with torch.inference_mode():
            self._stem = (
                _folded(trunk.stem[0], dtype, "relu"),
                _folded(trunk.stem[2], dtype, "relu"),
            )
            self._stages = [[_FoldedBlock(block, dtype) for block in s] for s in trunk.stages]

    def __call__(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """float ``[N, 3, S, S]`` to maps ``[N, H, W, C]`` at strides 4, 8, 16 and 32."""
        x = pictures.contiguous(memory_format=torch.channels_last)
        for conv in self._stem:
            x = conv(x)
        maps = []
        for stage in self._stages:
            for block in stage:
                x = block(x)
            maps.append(x.permute(0, 2, 3, 1))
        return maps


class _FoldedBlock:
    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self._first = _folded(block.first, dtype, "relu")
        self._second = _folded(block.second, dtype)
        self._pool: Any = None
        if not isinstance(block.shortcut, nn.Identity):
            self._pool, self._across = block.shortcut[0], _folded(block.shortcut[1:], dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self._second(self._first(x))
        return y.add_(x if self._pool is None else self._across(self._pool(x))).relu_()


def _folded(
    normed: nn.Sequential, dtype: torch.dtype, activation: Activation = "none"
) -> PackedConv:
    """A convolution and the normalisation after it as one convolution."""
    conv: Any = normed[0]
    norm: Any = normed[1]
    weight, bias = fuse_conv_bn_weights(
        conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return PackedConv(
        weight, bias, dtype, stride=conv.stride[0], padding=conv.padding[0], activation=activation
    )


def _normed(before: int, width: int, *, stride: int = 1, side: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(before, width, side, stride=stride, padding=side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))
