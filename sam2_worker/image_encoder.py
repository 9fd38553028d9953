"""The image side of SAM2 (Hiera trunk and FPN neck) as it is needed for video, and no more of it.

The same weights and the same arithmetic as ``SAM2Base.forward_image`` (Ravi et al., SAM 2,
arXiv:2408.00714; Ryali et al., Hiera, arXiv:2306.00989), rearranged where that is exact:

- windows are padded after the projection to queries, keys and values instead of before: the
  projection of a zero is the bias, and a 32 x 32 map in windows of 14 has 1.7 times its tokens;
- the two 1 x 1 convolutions that follow one another at the high resolutions are one;
- what depends on the picture's size only (position encodings) is computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import interpolate, scaled_dot_product_attention

from sam2_worker.packed_linear import PackedLinear


@dataclass(frozen=True)
class ImageFeatures:
    """What the tracker needs of one picture of S x S pixels.

    ``top`` [1, (S/16)^2, C] are the tokens that memory is attended from; ``quarter``
    [1, C/8, S/4, S/4] and ``eighth`` [1, C/4, S/8, S/8] refine the masks' outlines.
    """

    top: torch.Tensor
    eighth: torch.Tensor
    quarter: torch.Tensor


class ImageEncoder:
    """Encodes pictures, one or several at a time. Weights are taken from ``model`` when built."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Lay out the weights of a SAM2VideoPredictor on its device.

        Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan.
        """
        trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
        if (
            not model.use_high_res_features_in_sam
            or model.image_encoder.scalp != 1
            or len(neck.convs) != 4
            or set(neck.fpn_top_down_levels) != {2, 3}
            or neck.fpn_interp_model != "nearest"
            or neck.fuse_type != "sum"
        ):
            raise ValueError("the image encoder is not of SAM 2's plan")
        # Where there is no autocast, the mask decoder computes in float32.
        self._decoded_dtype = torch.float32 if model.device.type == "cpu" else dtype
        self._patches = trunk.patch_embed.proj
        side = model.image_size // 4
        with torch.inference_mode():
            self._positions = trunk._get_pos_embed((side, side)).contiguous()
            self._blocks = [_Block(block, dtype) for block in trunk.blocks]
            self._ends = frozenset(trunk.stage_ends)
            decoder = model.sam_mask_decoder
            # The neck lists its convolutions from the coarsest level to the finest.
            self._coarsest = _as_linear(neck.convs[0].conv, None, dtype)
            self._top = _as_linear(neck.convs[1].conv, None, dtype)
            self._eighth = _as_linear(neck.convs[2].conv, decoder.conv_s1, dtype)
            self._quarter = _as_linear(neck.convs[3].conv, decoder.conv_s0, dtype)
        self.trunk: Callable[[torch.Tensor], list[torch.Tensor]] = self._trunk

    def __call__(self, pictures: torch.Tensor) -> list[ImageFeatures]:
        """``pictures``: normalised float32 [N, 3, S, S] on the model's device."""
        quarter, eighth, sixteenth, coarsest = self.trunk(pictures)
        upper = self._coarsest(coarsest).float().permute(0, 3, 1, 2)
        upper = interpolate(upper, scale_factor=2.0, mode="nearest").permute(0, 2, 3, 1)
        top = self._top(sixteenth) + upper
        fine = self._eighth(eighth).to(self._decoded_dtype)
        finest = self._quarter(quarter).to(self._decoded_dtype)
        return [
            ImageFeatures(
                top=top[i : i + 1].flatten(1, 2),
                eighth=fine[i : i + 1].permute(0, 3, 1, 2),
                quarter=finest[i : i + 1].permute(0, 3, 1, 2),
            )
            for i in range(len(pictures))
        ]

    def _trunk(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps float32 [N, H, W, C] at strides 4, 8, 16 and 32."""
        # Four of a thousand multiplications: not worth the rounding of half precision.
        with torch.autocast(pictures.device.type, enabled=False):
            x = self._patches(pictures).permute(0, 2, 3, 1) + self._positions
        maps = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self._ends:
                maps.append(x)
        return maps


def _as_linear(conv: Any, then: Any | None, dtype: torch.dtype) -> PackedLinear:
    """A 1 x 1 convolution, or two in a row, as one linear layer over channels that come last."""
    weight, bias = conv.weight[:, :, 0, 0].double(), conv.bias.double()
    if then is not None:
        outer = then.weight[:, :, 0, 0].double()
        weight, bias = outer @ weight, outer @ bias + then.bias.double()
    return PackedLinear(weight.float(), bias.float(), dtype)


class _Block:
    """One Hiera block: attention in windows (or everywhere), then an MLP."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._norm1, self._norm2 = block.norm1, block.norm2
        self._window: int = block.window_size
        self._pool = block.pool
        attention = block.attn
        self._heads: int = attention.num_heads
        self._qkv = PackedLinear.of(attention.qkv, dtype)
        # What a token of the padding would be projected to.
        self._padding = attention.qkv.bias.detach().to(dtype)
        self._out = PackedLinear.of(attention.proj, dtype)
        self._shortcut = PackedLinear.of(block.proj, dtype) if block.dim != block.dim_out else None
        first, second = block.mlp.layers
        self._mlp1 = PackedLinear.of(first, dtype, "gelu")
        self._mlp2 = PackedLinear.of(second, dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, H, W, C] -> float32 [N, H / stride, W / stride, C']."""
        normed = self._norm1(x)
        if self._shortcut is not None:
            x = self._pooled(self._shortcut(normed)).float()
        attended = self._attend(self._qkv(normed), x.shape[1], x.shape[2])
        x = x + self._out(attended)
        return x + self._mlp2(self._mlp1(self._norm2(x)))

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        if self._pool is None:
            return x
        return self._pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _attend(self, qkv: torch.Tensor, out_height: int, out_width: int) -> torch.Tensor:
        n, height, width, channels = qkv.shape
        window = self._window or height
        rows, columns = -(-height // window), -(-width // window)
        if rows * window != height or columns * window != width:
            padded = self._padding.expand(n, rows * window, columns * window, channels).clone()
            padded[:, :height, :width] = qkv
            qkv = padded
        # [n * rows * columns, window, window, channels]
        qkv = qkv.view(n, rows, window, columns, window, channels).transpose(2, 3)
        qkv = qkv.reshape(-1, window, window, channels)
        q, k, v = qkv.chunk(3, dim=-1)
        if self._pool is not None:
            q = self._pooled(q)
        small = q.shape[1]
        q, k, v = (
            t.reshape(len(t), -1, self._heads, t.shape[-1] // self._heads).transpose(1, 2)
            for t in (q, k, v)
        )
        with torch.autocast(q.device.type, enabled=False):
            out = scaled_dot_product_attention(q, k, v)
        out = out.transpose(1, 2).reshape(n, rows, columns, small, small, -1).transpose(2, 3)
        out = out.reshape(n, rows * small, columns * small, -1)
        return out[:, :out_height, :out_width]
