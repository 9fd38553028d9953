"""Attention from the current picture to what is remembered of an object, with little repeated.

The weights and the arithmetic of SAM2's ``MemoryAttention`` (Ravi et al., SAM 2, arXiv:2408.00714,
section 4), rearranged where that is exact but for the order of sums:

- A remembered frame's keys are projected and rotated once, when it is remembered, not in each of
  the frames that look at it. What depends on its age is a constant table per age that is added
  later: projection and rotation are linear.
- The weighted mean of values is taken before the values' projection, on 64 channels and not on
  256: the weights of a softmax add up to 1, so projection and mean may change places.
- The first layer attends from the picture to itself before it sees any memory: once per picture,
  not once per object.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sam2_worker.packed_linear import PackedLinear

# Queries whose scores are held at once. Measured with 1,800 and 7,200 keys: fewer make narrow
# matrices, more fall out of the cache.
_CPU_QUERY_ROWS = 256


@dataclass(frozen=True)
class RememberedFrame:
    """One frame's memory of B objects: ``values`` [B, HW, M] and, per layer, ``keys`` [B, C, HW]."""

    values: torch.Tensor
    keys: tuple[torch.Tensor, ...]


class MemoryAttention:
    """Fuses a picture's features with the memories of B objects.

    Shapes: HW = (S/16)^2 tokens of a picture, C channels of the model, M of a memory.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Lay out the weights of a SAM2VideoPredictor on its device.

        Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan.
        """
        official = model.memory_attention
        if any(
            layer.pos_enc_at_attn
            or layer.pos_enc_at_cross_attn_queries
            or not layer.pos_enc_at_cross_attn_keys
            or layer.self_attn.num_heads != 1
            or layer.cross_attn_image.num_heads != 1
            or layer.activation_str != "relu"
            for layer in official.layers
        ):
            raise ValueError("the memory attention is not of SAM 2's plan")
        side = model.image_size // 16
        self._dtype = dtype
        self._norm = official.norm
        self._position: torch.Tensor | None = None
        if official.pos_enc_at_input:
            with torch.inference_mode():
                neck = model.image_encoder.neck
                like = torch.empty((1, 1, side, side), device=self._norm.weight.device)
                encoding = neck.position_encoding(like)
                self._position = 0.1 * encoding.float().flatten(2).transpose(1, 2).contiguous()
        with torch.inference_mode():
            rotation = _Rotation(official.layers[0].self_attn, side, self._norm.weight.device)
            self._layers = [_Layer(layer, rotation, dtype) for layer in official.layers]
            spatial = model.memory_encoder.position_encoding(
                torch.empty((1, 1, side, side), device=self._norm.weight.device)
            )
            self._memory_position = spatial.float().flatten(2).transpose(1, 2).contiguous()
            # Index 0: conditioning frames; index t: the frame t steps ago.
            ages = model.maskmem_tpos_enc.detach().float()[:, 0]
            by_age = torch.cat([ages[-1:], ages[:-1]])
            self._age_keys = [layer.keys_of_age(by_age) for layer in self._layers]
        self._workspace = Workspace()

    def compile(self) -> None:
        """Have torch compile the layers, for the shapes that come once the memory is full."""
        for layer in self._layers:
            layer.attend_to_itself = torch.compile(layer.attend_to_itself)  # type: ignore[method-assign]
            layer.attend_to_memory = torch.compile(layer.attend_to_memory)  # type: ignore[method-assign]

    def remember(self, values: torch.Tensor) -> RememberedFrame:
        """Prepare a frame's memory ``values`` [B, HW, M] (any float dtype) for later attention."""
        values = values.to(self._dtype).contiguous()
        placed = values.float() + self._memory_position
        return RememberedFrame(values, tuple(layer.keys(placed) for layer in self._layers))

    def start(self, top: torch.Tensor) -> torch.Tensor:
        """What does not depend on memory: ``top`` [1, HW, C] -> [1, HW, C] float32."""
        x = top.float()
        if self._position is not None:
            x = x + self._position
        return self._layers[0].attend_to_itself(x, self._workspace)

    def __call__(
        self,
        started: torch.Tensor,
        frames: Sequence[tuple[int, RememberedFrame]],
        pointers: torch.Tensor,
        pointer_positions: torch.Tensor,
    ) -> torch.Tensor:
        """Attend from one picture to the memories of B objects.

        ``started`` is ``start``'s result; ``frames`` are (age, memory) with age 0 for conditioning
        frames and t for the frame t steps ago; ``pointers`` and ``pointer_positions`` float
        [B, P, M] are object pointers, cut into tokens, and when they were. Returns float32
        [B, HW, C].
        """
        batch = frames[0][1].values.shape[0]
        tokens = pointers.to(self._dtype)
        values = torch.cat([frame.values for _, frame in frames] + [tokens], dim=1)
        x = started
        for number, layer in enumerate(self._layers):
            if number:
                x = layer.attend_to_itself(x, self._workspace)
            keys = self._keys(number, frames, pointers.float() + pointer_positions, batch)
            x = layer.attend_to_memory(x, keys, values, self._workspace)
        return self._norm(x)

    def _keys(
        self,
        number: int,
        frames: Sequence[tuple[int, RememberedFrame]],
        pointers: torch.Tensor,
        batch: int,
    ) -> torch.Tensor:
        first = frames[0][1].keys[number]
        channels, tokens = first.shape[1:]
        count = tokens * len(frames) + pointers.shape[1]
        keys = self._workspace.take("keys", (batch, channels, count), first)
        for place, (age, frame) in enumerate(frames):
            torch.add(
                frame.keys[number],
                self._age_keys[number][age],
                out=keys[:, :, place * tokens : (place + 1) * tokens],
            )
        keys[:, :, len(frames) * tokens :] = (
            self._layers[number].unrotated_keys(pointers).transpose(1, 2)
        )
        return keys


class Workspace:
    """Large tensors that are needed again in every frame, allocated once.

    Fresh memory costs the CPU more than the arithmetic on it: the kernel clears every page.
    """

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """An uninitialised tensor of ``shape``, of the dtype and on the device of ``like``.

        It is overwritten by the next call with the same name.
        """
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size or held.dtype is not like.dtype:
            held = self._held[name] = like.new_empty(size)
        return held[:size].view(shape)


class _Rotation:
    """Rotary position encoding (Su et al., RoFormer; 2-D axial as in SAM 2), on split halves.

    The model rotates neighbouring channels as pairs. With the channels of queries and keys in
    another order (all first ones, then all second ones) the products are the same, and the halves
    are contiguous.
    """

    def __init__(self, attention: Any, side: int, device: torch.device) -> None:
        turns = attention.compute_cis(end_x=side, end_y=side).to(device)
        self.cos, self.sin = turns.real.contiguous(), turns.imag.contiguous()
        channels = 2 * self.cos.shape[1]
        self.order = torch.cat([torch.arange(0, channels, 2), torch.arange(1, channels, 2)]).to(
            device
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, HW, C] in this class's channel order."""
        half = x.shape[-1] // 2
        first, second = x[..., :half].float(), x[..., half:].float()
        if torch.compiler.is_compiling():  # it puts this into one kernel, and knows no out=
            turned = (first * self.cos - second * self.sin, first * self.sin + second * self.cos)
            return torch.cat(turned, dim=-1).to(x.dtype)
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        torch.mul(first, self.cos, out=out[..., :half]).addcmul_(second, self.sin, value=-1)
        torch.mul(first, self.sin, out=out[..., half:]).addcmul_(second, self.cos)
        return out.to(x.dtype)


class _Layer:
    def __init__(self, layer: Any, rotation: _Rotation, dtype: torch.dtype) -> None:
        self._rotation = rotation
        self._dtype = dtype
        self._norm1, self._norm2, self._norm3 = layer.norm1, layer.norm2, layer.norm3
        order = rotation.order
        own, across = layer.self_attn, layer.cross_attn_image
        scale = 1 / math.sqrt(own.internal_dim)
        self._qkv = PackedLinear(
            torch.cat(
                [own.q_proj.weight[order] * scale, own.k_proj.weight[order], own.v_proj.weight]
            ),
            torch.cat([own.q_proj.bias[order] * scale, own.k_proj.bias[order], own.v_proj.bias]),
            dtype,
        )
        self._own_out = PackedLinear.of(own.out_proj, dtype)
        self._query = PackedLinear(
            across.q_proj.weight[order] * scale, across.q_proj.bias[order] * scale, dtype
        )
        self._key = PackedLinear(across.k_proj.weight[order], across.k_proj.bias[order], dtype)
        self._key_weight = across.k_proj.weight[order].detach().float()
        # Values' projection and the output's, one after the other, are one.
        outer = across.out_proj.weight.double()
        self._value_out = PackedLinear(
            (outer @ across.v_proj.weight.double()).float(),
            (outer @ across.v_proj.bias.double() + across.out_proj.bias.double()).float(),
            dtype,
        )
        self._mlp1 = PackedLinear.of(layer.linear1, dtype, "relu")
        self._mlp2 = PackedLinear.of(layer.linear2, dtype)

    def keys_of_age(self, ages: torch.Tensor) -> list[torch.Tensor]:
        """What the temporal encodings [A, M] add to a frame's keys: A times [C, HW]."""
        tokens = self._rotation.cos.shape[0]
        turned = [self._rotation((a @ self._key_weight.T).expand(1, tokens, -1))[0] for a in ages]
        return [t.to(self._dtype).T.contiguous() for t in turned]

    def keys(self, placed: torch.Tensor) -> torch.Tensor:
        return self._rotation(self._key(placed)).transpose(1, 2).contiguous()

    def unrotated_keys(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._key(tokens)

    def attend_to_itself(self, x: torch.Tensor, workspace: Workspace) -> torch.Tensor:
        q, k, v = self._qkv(self._norm1(x)).chunk(3, dim=-1)
        q, k = self._rotation(q), self._rotation(k).transpose(1, 2).contiguous()
        return x + self._own_out(attend(q, k, v.contiguous(), workspace))

    def attend_to_memory(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, workspace: Workspace
    ) -> torch.Tensor:
        q = self._rotation(self._query(self._norm2(x)))
        q = q.expand(len(keys), -1, -1)
        x = x + self._value_out(attend(q, keys, values, workspace))
        return x + self._mlp2(self._mlp1(self._norm3(x)))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, workspace: Workspace) -> torch.Tensor:
    """Softmax attention with one head: scaled queries [B, Q, C], keys [B, C, K], values [B, K, D].

    On the CPU, torch's own kernel wants values as wide as keys and multiplies bf16 as slowly as
    float32. Two products of matrices, with the scores of a block of queries in between, take 0.7 of
    its time in float32 and 0.35 in bf16.
    """
    with torch.autocast(q.device.type, enabled=False):
        if q.device.type != "cpu" or torch.compiler.is_compiling():
            keys = k.transpose(1, 2)[:, None]
            return scaled_dot_product_attention(q[:, None], keys, v[:, None], scale=1.0)[:, 0]
        out = q.new_empty((*q.shape[:2], v.shape[2]))
        for start in range(0, q.shape[1], _CPU_QUERY_ROWS):
            block = q[:, start : start + _CPU_QUERY_ROWS]
            scores = workspace.take("scores", (*block.shape[:2], k.shape[2]), q)
            torch.bmm(block, k, out=scores)
            torch.softmax(scores, dim=-1, out=scores)
            out[:, start : start + _CPU_QUERY_ROWS] = torch.bmm(scores, v)
    return out
