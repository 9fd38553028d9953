"""SAM2's Hiera trunk, for inference.

The weights and the arithmetic of Hiera (Ryali et al., arXiv:2306.00989), rearranged where that is
exact:

- windows are padded after the projection to queries, keys and values instead of before: the
  projection of a zero is the bias, and a 32 x 32 map in windows of 14 has 1.7 times its tokens;
- what depends on the picture's size only (position encodings) is computed once.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sam2_worker.packed_linear import PackedLinear


class HieraTrunk:
    """Runs the trunk of an official model on pictures of one size."""

    def __init__(self, trunk: Any, image_size: int, dtype: torch.dtype) -> None:
        """Lay out the weights on their device."""
        self._patches = trunk.patch_embed.proj
        side = image_size // 4
        with torch.inference_mode():
            self._positions = trunk._get_pos_embed((side, side)).contiguous()
            self._blocks = [_Block(block, dtype) for block in trunk.blocks]
            self._ends = frozenset(trunk.stage_ends)

    def __call__(self, pictures: torch.Tensor) -> list[torch.Tensor]:
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
