"""SAM2's mask decoder in a frame without clicks, which nearly all frames are.

The weights and the arithmetic of the official decoder (Ravi et al., SAM 2, arXiv:2408.00714;
Kirillov et al., Segment Anything, arXiv:2304.02643), rearranged where that is exact but for the
order of sums:

- What the prompts are is known beforehand, and with it all that the decoder makes of them before it
  first looks at the picture.
- Three projections of the picture's tokens in each layer are one, and what their places add is a
  constant.
- The best mask is chosen before it is made, and the others are not made.
- A transposed convolution whose steps are as long as its kernel is a linear layer.
"""

import math
from typing import Any

import torch
from torch.nn.functional import gelu, layer_norm, relu, softmax

from sam2_worker.packed_linear import PackedLinear


class TrackingDecoder:
    """Decodes B objects of one picture; HW = (S/16)^2 tokens, C channels."""

    def __init__(
        self, decoder: Any, prompt: torch.Tensor, places: torch.Tensor, dtype: torch.dtype
    ) -> None:
        """``prompt`` [1, P, C]: embedding of "no clicks"; ``places`` [HW, C]: of the tokens' places.

        Raises ValueError for a decoder that is not of SAM 2's plan.
        """
        transformer = decoder.transformer
        if not decoder.use_high_res_features or len(transformer.layers) < 1:
            raise ValueError("the mask decoder is not of SAM 2's plan")
        fixed = [decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens]
        tokens = torch.cat([token.weight for token in fixed])[None]
        self._tokens = torch.cat([tokens, prompt], dim=1)
        self._layers = [
            _Layer(layer, self._tokens, places, dtype, first=not number)
            for number, layer in enumerate(transformer.layers)
        ]
        self._final = _FromPicture(transformer.final_attn_token_to_image, None, places, dtype)
        self._final_norm = transformer.norm_final_attn
        first, norm, _, second, _ = decoder.output_upscaling
        self._first, self._norm, self._second = (
            _Enlarge(first, dtype),
            norm,
            _Enlarge(second, dtype),
        )
        self._masks = decoder.num_mask_tokens
        self._hyper = _Choice(decoder.output_hypernetworks_mlps)
        self._iou, self._score = decoder.iou_prediction_head, decoder.pred_obj_score_head

    def __call__(
        self, picture: torch.Tensor, eighth: torch.Tensor, quarter: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best mask's logits [B, S/4, S/4], its token [B, C], the object's score [B, 1], and
        the IoU that the mask is believed to have [B].

        ``picture`` float [B, HW, C], the tokens with "no mask" added; ``eighth`` [1, C/4, S/8, S/8]
        and ``quarter`` [1, C/8, S/4, S/4].
        """
        tokens = self._tokens.expand(len(picture), -1, -1)
        for layer in self._layers:
            tokens, picture = layer(tokens, picture)
        keys, values, _ = self._final.read(picture)
        tokens = self._final_norm(
            tokens + self._final.out(self._final.query(tokens + self._tokens), keys, values)
        )
        quality, best = self._iou(tokens[:, 1])[:, 1:].max(dim=1)
        best = best + 1
        rows = torch.arange(len(picture), device=picture.device)
        token = tokens[:, 2 : 2 + self._masks][rows, best]
        side = math.isqrt(picture.shape[1])
        x = self._first(picture.unflatten(1, (side, side))) + eighth.permute(0, 2, 3, 1)
        x = gelu(layer_norm(x, x.shape[-1:], self._norm.weight, self._norm.bias, self._norm.eps))
        x = gelu(self._second(x) + quarter.permute(0, 2, 3, 1))
        masks = x.flatten(1, 2) @ self._hyper(token, best)[:, :, None].to(x.dtype)
        masks = masks.view(len(x), 4 * side, 4 * side)
        return masks, token, self._score(tokens[:, 0]), quality


class _Layer:
    def __init__(
        self,
        layer: Any,
        tokens: torch.Tensor,
        places: torch.Tensor,
        dtype: torch.dtype,
        first: bool,
    ) -> None:
        self._places = tokens
        self._known: torch.Tensor | None = None
        own = layer.self_attn
        self._heads = own.num_heads
        if first:  # it attends from the prompts to themselves: what comes out is always the same
            assert layer.skip_first_layer_pe
            self._known = layer.norm1(own(tokens, tokens, tokens))
        self._own_places = _joined([own.q_proj, own.k_proj], dtype)
        self._own_values = PackedLinear.of(own.v_proj, dtype)
        self._own_out = PackedLinear.of(own.out_proj, dtype)
        self._to_picture = _FromPicture(
            layer.cross_attn_token_to_image, layer.cross_attn_image_to_token, places, dtype
        )
        back = layer.cross_attn_image_to_token
        self._back_keys = PackedLinear.of(back.k_proj, dtype)
        self._back_values = PackedLinear.of(back.v_proj, dtype)
        self._back_out = PackedLinear.of(back.out_proj, dtype)
        inner, outer = layer.mlp.layers
        self._mlp = PackedLinear.of(inner, dtype, "relu"), PackedLinear.of(outer, dtype)
        self._norms = layer.norm1, layer.norm2, layer.norm3, layer.norm4

    def __call__(
        self, tokens: torch.Tensor, picture: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        norm1, norm2, norm3, norm4 = self._norms
        if self._known is not None:
            tokens = self._known.expand(len(picture), -1, -1)
        else:
            queries, keys = self._own_places(tokens + self._places).chunk(2, dim=-1)
            seen = _attend(queries, keys, self._own_values(tokens), self._heads)
            tokens = norm1(tokens + self._own_out(seen))
        look = self._to_picture
        keys, values, queries = look.read(picture)
        tokens = norm2(tokens + look.out(look.query(tokens + self._places), keys, values))
        tokens = norm3(tokens + self._mlp[1](self._mlp[0](tokens)))
        seen = _attend(
            queries, self._back_keys(tokens + self._places), self._back_values(tokens), self._heads
        )
        return tokens, norm4(picture + self._back_out(seen))


class _FromPicture:
    """Keys and values of an attention to the picture, and the picture's queries of one back."""

    def __init__(self, to: Any, back: Any | None, places: torch.Tensor, dtype: torch.dtype) -> None:
        of_places = [to.k_proj, *([] if back is None else [back.q_proj])]
        self._heads = to.num_heads
        self._all = _joined([to.v_proj, *of_places], dtype)
        self._cuts = [layer.out_features for layer in (to.v_proj, *of_places)]
        zero = places.new_zeros(len(places), self._cuts[0])
        added = torch.cat([zero, *(places @ p.weight.T for p in of_places)], dim=1)
        self._of_places = added.to(dtype)
        self.query = PackedLinear.of(to.q_proj, dtype)
        self._out = PackedLinear.of(to.out_proj, dtype)

    def read(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys, values and queries (none where there is no way back)."""
        values, keys, *queries = (self._all(picture) + self._of_places).split(self._cuts, dim=-1)
        return keys, values, queries[0] if queries else keys[:, :0]

    def out(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return self._out(_attend(query, keys, values, self._heads))


class _Enlarge:
    """A transposed convolution of 2 x 2 in steps of 2, on channels that come last."""

    def __init__(self, conv: Any, dtype: torch.dtype) -> None:
        if conv.kernel_size != (2, 2) or conv.stride != (2, 2):
            raise ValueError("the mask decoder is not of SAM 2's plan")
        weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)
        self._linear = PackedLinear(weight, conv.bias.repeat(4), dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[B, h, w, C] -> [B, 2h, 2w, C']."""
        count, height, width, _ = x.shape
        y = self._linear(x).view(count, height, width, 2, 2, -1).transpose(2, 3)
        return y.reshape(count, 2 * height, 2 * width, -1)


class _Choice:
    """One of several networks of linear layers alike, another for each row."""

    def __init__(self, networks: Any) -> None:
        layers = list(zip(*(network.layers for network in networks), strict=True))
        self._weights = [torch.stack([x.weight.T for x in alike]) for alike in layers]
        self._biases = [torch.stack([x.bias for x in alike]) for alike in layers]

    def __call__(self, x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """float [B, C] -> [B, C']."""
        y = x[:, None]
        for number, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            y = torch.baddbmm(bias[which][:, None], y if not number else relu(y), weight[which])
        return y[:, 0]


def _joined(layers: list[Any], dtype: torch.dtype) -> PackedLinear:
    return PackedLinear(
        torch.cat([layer.weight for layer in layers]),
        torch.cat([layer.bias for layer in layers]),
        dtype,
    )


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int
) -> torch.Tensor:
    """Softmax attention: [B, Q, D], [B, K, D], [B, K, D] -> [B, Q, D]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    weights = softmax((q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2), dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)
