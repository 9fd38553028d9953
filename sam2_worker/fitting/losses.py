"""What the network is told about its masks.

The official SAM 2 loss (focal 20, dice 1) stalls at an IoU of 0.1 when training begins with random
weights; binary cross-entropy and dice on the low-resolution logits against the covered share of
each mask pixel do not.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

_BCE, _DICE = 5.0, 3.0
# Mask pixels covered: an object of fewer is neither called present nor absent.
_PRESENT, _ABSENT = 0.75, 0.05


@dataclass(frozen=True)
class Prediction:
    """One answer of the mask heads for B objects.

    ``logits`` float ``[B, M, h, w]``, M candidate masks; ``ious`` ``[B, M]``, their own opinion of
    themselves; ``scores`` ``[B]``, logit that the object is there.
    """

    logits: torch.Tensor
    ious: torch.Tensor
    scores: torch.Tensor


@dataclass(frozen=True)
class Loss:
    """``total`` to minimise, and its parts for the record; ``scene`` is scene_head.py's."""

    total: torch.Tensor
    mask: torch.Tensor
    iou: torch.Tensor
    score: torch.Tensor
    scene: torch.Tensor | None = None


def prediction_loss(prediction: Prediction, truth: torch.Tensor, others: float = 0.0) -> Loss:
    """``truth`` float ``[B, h, w]``, covered share. Of the candidates the best one is taught, and
    all of them alike by the share ``others``: a click on a body leaves little to choose between."""
    logits = prediction.logits.float()
    truth = truth[:, None].expand_as(logits)
    covered = truth[:, 0].sum((-1, -2))
    present = (covered >= _PRESENT).float()
    known = ((covered >= _PRESENT) | (covered <= _ABSENT)).float()
    bce = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(
        (-1, -2)
    )
    likely = logits.sigmoid()
    overlap = (likely * truth).sum((-1, -2))
    dice = 1 - (2 * overlap + 1) / (likely.sum((-1, -2)) + truth.sum((-1, -2)) + 1)
    each = _BCE * bce + _DICE * dice
    best = each.argmin(dim=1, keepdim=True)
    share = present.sum().clamp(min=1)
    taught = (1 - others) * each.gather(1, best)[:, 0] + others * each.mean(1)
    mask = (taught * present).sum() / share
    reached = mask_iou(logits.detach(), truth)
    iou = ((prediction.ious.float() - reached).abs().mean(1) * present).sum() / share
    score = functional.binary_cross_entropy_with_logits(
        prediction.scores.float(), present, reduction="none"
    )
    score = (score * known).sum() / known.sum().clamp(min=1)
    return Loss(mask + iou + score, mask.detach(), iou.detach(), score.detach())


def mask_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """IoU over the last two dimensions of ``logits > 0`` and ``truth > 0.5``; 1 if both are empty."""
    found, there = logits > 0, truth > 0.5
    union = (found | there).sum((-1, -2))
    return torch.where(union > 0, (found & there).sum((-1, -2)) / union.clamp(min=1), 1.0)
