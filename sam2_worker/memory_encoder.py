"""From masks to memories: what is kept of one frame.

The weights and the arithmetic of SAM2's ``MemoryEncoder`` (Ravi et al., SAM 2, arXiv:2408.00714),
with channels last throughout: its ``LayerNorm2d`` is six passes over memory, and one there.
"""

from typing import Any

import torch
from torch.nn.functional import interpolate, layer_norm

from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.mask_heads import Prediction
from sam2_worker.packed_conv import PackedConv
from sam2_worker.packed_linear import PackedLinear


class MemoryEncoder:
    """SAM2's memory encoder."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Lay out the weights of a SAM2VideoPredictor on its device.

        Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan.
        """
        encoder = model.memory_encoder
        *steps, last = encoder.mask_downsampler.encoder
        if len(steps) % 3 or any(layer.dwconv.groups == 1 for layer in encoder.fuser.layers):
            raise ValueError("the memory encoder is not of SAM 2's plan")
        self._model, self._side = model, model.image_size
        with torch.inference_mode():
            self._shrink = [
                (PackedConv.of(conv, dtype), _Norm(norm))
                for conv, norm in zip(steps[::3], steps[1::3], strict=True)
            ]
            self._mask = PackedConv.of(last, dtype)
            self._picture = _as_linear(encoder.pix_feat_proj, dtype)
            self._fuse = [_FuserLayer(layer, dtype) for layer in encoder.fuser.layers]
            self._out = None
            if not isinstance(encoder.out_proj, torch.nn.Identity):
                self._out = _as_linear(encoder.out_proj, dtype)

    def __call__(
        self, features: ImageFeatures, prediction: Prediction, *, clicked: bool
    ) -> torch.Tensor:
        """Memory [B, HW, M] of a frame; ``clicked``: its masks come from clicks."""
        x = self._shrunk(self._masks(prediction.logits, clicked=clicked)).float()
        tokens, channels = features.top.shape[1:]
        side = int(tokens**0.5)
        x = x + self._picture(features.top).view(1, side, side, channels)
        for layer in self._fuse:
            x = layer(x)
        if self._out is not None:
            x = self._out(x)
        x = x.flatten(1, 2)
        if self._model.no_obj_embed_spatial is not None:
            absent = (prediction.score_logits <= 0).to(x.dtype)
            x = x + absent[:, :, None] * self._model.no_obj_embed_spatial
        return x

    def _masks(self, logits: torch.Tensor, *, clicked: bool) -> torch.Tensor:
        """As the weights know them: float32 [B, 1, S, S]."""
        model = self._model
        masks = interpolate(
            logits[:, None], size=(self._side, self._side), mode="bilinear", align_corners=False
        )
        if clicked and model.binarize_mask_from_pts_for_mem_enc:
            masks = (masks > 0).float()
        else:
            masks = masks.sigmoid_()
        return masks.mul_(model.sigmoid_scale_for_mem_enc).add_(model.sigmoid_bias_for_mem_enc)

    def _shrunk(self, masks: torch.Tensor) -> torch.Tensor:
        """[B, 1, S, S] -> [B, S/16, S/16, C]."""
        x = masks.contiguous(memory_format=torch.channels_last)
        for conv, norm in self._shrink:
            # (Activations are the exact gelu; on channels last it is one pass.)
            x = torch.nn.functional.gelu(norm(conv(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self._mask(x).permute(0, 2, 3, 1)


class _Norm:
    """``LayerNorm2d`` over channels that come last."""

    def __init__(self, norm: Any) -> None:
        self._weight, self._bias, self._eps = norm.weight.detach(), norm.bias.detach(), norm.eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], self._weight, self._bias, self._eps)


class _FuserLayer:
    """A ConvNeXt block (Liu et al., arXiv:2201.03545)."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self._spread = PackedConv.of(layer.dwconv, dtype)
        self._norm = _Norm(layer.norm)
        self._first = PackedLinear.of(layer.pwconv1, dtype, "gelu")
        # The layer's scale is part of the weights.
        scale = layer.gamma.double()
        self._second = PackedLinear(
            (scale[:, None] * layer.pwconv2.weight.double()).float(),
            (scale * layer.pwconv2.bias.double()).float(),
            dtype,
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [B, h, w, C] -> the same."""
        y = self._spread(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self._second(self._first(self._norm(y)))


def _as_linear(conv: Any, dtype: torch.dtype) -> PackedLinear:
    return PackedLinear(conv.weight[:, :, 0, 0], conv.bias, dtype)
