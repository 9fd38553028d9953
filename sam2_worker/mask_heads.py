"""From fused features to masks, scores and object pointers; and from masks to memories.

The official decoder and memory encoder with two changes that are exact: the mask that will be used
is chosen before it is enlarged to the picture's size (the official code enlarges all three), and
what every frame without clicks passes to the decoder is computed once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE
from torch.nn.functional import interpolate

from sam2_worker.image_encoder import ImageFeatures


@dataclass(frozen=True)
class PointPrompts:
    """Clicks on one frame: ``points`` float32 [B, P, 2] in pixels of the model's input (x, y).

    ``labels`` int32 [B, P]: 1 on the object, 0 beside it.
    """

    points: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Prediction:
    """What the model says of B objects in one frame.

    ``logits`` float32 [B, S/4, S/4], the object where > 0; ``score_logits`` float32 [B, 1], the
    object is in the picture where > 0; ``pointer`` [B, C].
    """

    logits: torch.Tensor
    score_logits: torch.Tensor
    pointer: torch.Tensor


class MaskHeads:
    """SAM2's prompt encoder and mask decoder."""

    def __init__(self, model: Any) -> None:
        """Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan."""
        if not (model.pred_obj_scores and model.multimask_output_in_sam):
            raise ValueError("the mask decoder is not of SAM 2's plan")
        self._model = model
        with torch.inference_mode():
            prompts = model.sam_prompt_encoder
            self._image_positions = prompts.get_dense_pe()
            device = self._image_positions.device
            nothing = PointPrompts(
                torch.zeros(1, 1, 2, device=device),
                -torch.ones(1, 1, dtype=torch.int32, device=device),
            )
            self._no_clicks, self._no_mask = self._embed(nothing)

    def _embed(self, prompts: PointPrompts) -> tuple[torch.Tensor, torch.Tensor]:
        sparse, dense = self._model.sam_prompt_encoder(
            points=(prompts.points, prompts.labels), boxes=None, masks=None
        )
        return sparse, dense

    def __call__(
        self, fused: torch.Tensor, features: ImageFeatures, prompts: PointPrompts | None
    ) -> Prediction:
        """``fused`` float [B, HW, C]; ``features`` of the same picture."""
        model = self._model
        batch, tokens, channels = fused.shape
        side = int(tokens**0.5)
        if prompts is None:
            sparse, dense = self._no_clicks.expand(batch, -1, -1), self._no_mask
        else:
            sparse, dense = self._embed(prompts)
        multimask = model._use_multimask(
            prompts is not None,
            None if prompts is None else {"point_labels": prompts.labels},
        )
        masks, ious, output_tokens, score_logits = model.sam_mask_decoder(
            image_embeddings=fused.transpose(1, 2).view(batch, channels, side, side),
            image_pe=self._image_positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense.expand(batch, -1, -1, -1),
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=[features.quarter, features.eighth],
        )
        best = torch.argmax(ious, dim=-1) if multimask else torch.zeros_like(ious[:, 0]).long()
        rows = torch.arange(batch, device=fused.device)
        token = output_tokens[rows, best] if output_tokens.shape[1] > 1 else output_tokens[:, 0]
        seen = score_logits > 0
        logits = torch.where(seen[:, :, None], masks[rows, best].float(), NO_OBJ_SCORE)
        return Prediction(logits, score_logits.float(), self._pointer(token, score_logits, seen))

    def _pointer(
        self, token: torch.Tensor, score_logits: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        model = self._model
        pointer = model.obj_ptr_proj(token)
        presence = score_logits.sigmoid() if model.soft_no_obj_ptr else seen.float()
        if model.fixed_no_obj_ptr:
            pointer = presence * pointer
        return pointer + (1 - presence) * model.no_obj_ptr


class MemoryEncoder:
    """SAM2's memory encoder: what is kept of one frame."""

    def __init__(self, model: Any) -> None:
        """Take the weights of a SAM2VideoPredictor."""
        self._model = model
        self._encoder = model.memory_encoder
        self._side = model.image_size

    def __call__(
        self, features: ImageFeatures, prediction: Prediction, *, clicked: bool
    ) -> torch.Tensor:
        """Memory [B, HW, M] of a frame; ``clicked``: its masks come from clicks."""
        model = self._model
        masks = interpolate(
            prediction.logits[:, None],
            size=(self._side, self._side),
            mode="bilinear",
            align_corners=False,
        )
        if clicked and model.binarize_mask_from_pts_for_mem_enc:
            masks = (masks > 0).float()
        else:
            masks = masks.sigmoid_()
        masks = masks.mul_(model.sigmoid_scale_for_mem_enc).add_(model.sigmoid_bias_for_mem_enc)
        tokens, channels = features.top.shape[1:]
        side = int(tokens**0.5)
        picture = features.top.transpose(1, 2).reshape(1, channels, side, side)
        x = self._encoder.pix_feat_proj(picture) + self._encoder.mask_downsampler(masks)
        x = self._encoder.out_proj(self._encoder.fuser(x))
        if model.no_obj_embed_spatial is not None:
            absent = (prediction.score_logits <= 0).to(x.dtype)
            x = x + absent[:, :, None, None] * model.no_obj_embed_spatial[..., None, None]
        return x.flatten(2).transpose(1, 2)
