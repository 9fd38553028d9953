"""From fused features to masks, scores and object pointers.

The official prompt encoder and decoder; in frames without clicks, which cost the most because there
are the most of them, tracking_decoder.py's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE

from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.tracking_decoder import TrackingDecoder


@dataclass(frozen=True)
class PointPrompts:
    """Clicks on one frame: ``points`` float32 [B, P, 2] in pixels of the model's input (x, y).

    ``labels`` int32 [B, P]: 1 on the object, 0 beside it. ``evidence`` is added to the logit that
    the object is there: what is known of that beside the picture. ``mask`` float32 [B, S/4, S/4]:
    logits of an earlier answer to them.
    """

    points: torch.Tensor
    labels: torch.Tensor
    evidence: float = 0.0
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """What the model says of B objects in one frame.

    ``logits`` float32 [B, S/4, S/4], the object where > 0; ``score_logits`` float32 [B, 1], the
    object is in the picture where > 0; ``pointer`` [B, C]; ``quality`` float32 [B], the IoU that
    the model believes its mask to have.
    """

    logits: torch.Tensor
    score_logits: torch.Tensor
    pointer: torch.Tensor
    quality: torch.Tensor


class MaskHeads:
    """SAM2's prompt encoder and mask decoder."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """``dtype``: what a GPU multiplies in; a processor decodes in float32, and no slower.

        Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan.
        """
        if not (model.pred_obj_scores and model.multimask_output_in_sam):
            raise ValueError("the mask decoder is not of SAM 2's plan")
        self._model = model
        with torch.inference_mode():
            prompts = model.sam_prompt_encoder
            self._image_positions = prompts.get_dense_pe()
            device = self._image_positions.device
            self._nothing = nothing = PointPrompts(
                torch.zeros(1, 1, 2, device=device),
                -torch.ones(1, 1, dtype=torch.int32, device=device),
            )
            sparse, no_mask = self._embed(nothing)
            self._no_mask = no_mask.flatten(2).transpose(1, 2)
            self._tracking: TrackingDecoder | None = None
            if model._use_multimask(False, None):
                places = self._image_positions[0].flatten(1).T
                decoded = torch.float32 if device.type == "cpu" else dtype
                self._tracking = TrackingDecoder(model.sam_mask_decoder, sparse, places, decoded)

    def _embed(self, prompts: PointPrompts) -> tuple[torch.Tensor, torch.Tensor]:
        sparse, dense = self._model.sam_prompt_encoder(
            points=(prompts.points, prompts.labels),
            boxes=None,
            masks=None if prompts.mask is None else prompts.mask[:, None],
        )
        return sparse, dense

    def __call__(
        self, fused: torch.Tensor, features: ImageFeatures, prompts: PointPrompts | None
    ) -> Prediction:
        """``fused`` float [B, HW, C]; ``features`` of the same picture."""
        model = self._model
        batch, tokens, channels = fused.shape
        side = int(tokens**0.5)
        if prompts is None and self._tracking is not None:
            decoded = self._tracking(fused + self._no_mask, features.eighth, features.quarter)
            return self._as_prediction(*decoded)
        if prompts is None:
            sparse, dense = self._embed(self._nothing)
            sparse = sparse.expand(batch, -1, -1)
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
        if prompts is not None:
            score_logits = score_logits + prompts.evidence
        best = torch.argmax(ious, dim=-1) if multimask else torch.zeros_like(ious[:, 0]).long()
        rows = torch.arange(batch, device=fused.device)
        token = output_tokens[rows, best] if output_tokens.shape[1] > 1 else output_tokens[:, 0]
        return self._as_prediction(masks[rows, best], token, score_logits, ious[rows, best])

    def _as_prediction(
        self,
        masks: torch.Tensor,
        token: torch.Tensor,
        score_logits: torch.Tensor,
        quality: torch.Tensor,
    ) -> Prediction:
        seen = score_logits > 0
        logits = torch.where(seen[:, :, None], masks.float(), NO_OBJ_SCORE)
        pointer = self._pointer(token, score_logits, seen)
        return Prediction(logits, score_logits.float(), pointer, quality.float())

    def _pointer(
        self, token: torch.Tensor, score_logits: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        model = self._model
        pointer = model.obj_ptr_proj(token)
        presence = score_logits.sigmoid() if model.soft_no_obj_ptr else seen.float()
        if model.fixed_no_obj_ptr:
            pointer = presence * pointer
        return pointer + (1 - presence) * model.no_obj_ptr
