"""The network run over a clip with gradients: the streaming tracker's steps, as SAM 2 is trained.

A click counts from its frame on and drops what was remembered since the one before, as it does in
`streaming_tracker.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch

from sam2_worker.fitting.losses import Prediction
from sam2_worker.fitting.views import MASK_STRIDE
from sam2_worker.video_model import pixels_of

# As in inference: how far back a pointer lies is scaled by this constant, not by the clip's length.
_MANY_FRAMES = 1 << 30


@dataclass(frozen=True)
class TrackedClip:
    """``predictions`` of each frame, the last one its mask; ``masks`` float ``[T, B, h, w]``;
    ``features`` of all pictures, finest first, each ``[T * V, C, h, w]``."""

    predictions: list[list[Prediction]]
    masks: torch.Tensor
    features: list[torch.Tensor]


class UnrolledTracker:
    """Runs a SAM2Base model in training mode."""

    def __init__(self, model: Any) -> None:
        self._model = model
        # The mask heads blank the logits of objects they take for absent, and with them the
        # gradient that would teach them better; so they are taken where they leave the decoder.
        self._raw: Any = None
        model.sam_mask_decoder.register_forward_hook(self._keep_raw)

    def _keep_raw(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._raw = output

    def run(
        self,
        pictures: torch.Tensor,
        clicks: torch.Tensor,
        view_of: torch.Tensor,
        truth: torch.Tensor,
        *,
        correct: bool,
        click_again: int | None,
    ) -> TrackedClip:
        """Shapes as of ``Batch``, on the model's device.

        ``correct``: a second click on frame 0, where the first answer is most wrong;
        ``click_again``: a later frame with a click for every object, which is used.
        """
        frames, views = pictures.shape[:2]
        features, positions, sizes = self._encode(pictures)
        out: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        predictions, masks = [], []
        for t in range(frames):
            here = t * views + view_of
            now = [level[:, here] for level in features]
            where = [None, None, positions[:, here]]
            clicked = t in (0, click_again)
            points = _points(clicks[t]) if clicked else None
            current, heads = self._step(t, clicked, now, where, sizes, points, out, None)
            answers = [self._prediction()]
            if t == 0 and correct:
                points = _with_correction(points, heads[3], truth[0])
                current, heads = self._step(t, clicked, now, where, sizes, points, out, heads[3])
                answers.append(self._prediction())
            low, high, pointer, score = heads[3], heads[4], heads[5], heads[6]
            predictions.append(answers)
            masks.append(low[:, 0].detach())
            if t == frames - 1:
                break  # nobody looks back at it
            current["obj_ptr"] = pointer
            self._model._encode_memory_in_output(now, sizes, points, True, high, score, current)
            if clicked:
                out["non_cond_frame_outputs"].clear()
                out["cond_frame_outputs"][t] = current
            else:
                out["non_cond_frame_outputs"][t] = current
        maps = [
            level.permute(1, 2, 0).unflatten(2, size)
            for level, size in zip(features, sizes, strict=True)
        ]
        return TrackedClip(predictions, torch.stack(masks), maps)

    def _encode(
        self, pictures: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor, list[tuple[int, int]]]:
        """Features of all pictures: per level ``[h * w, T * V, C]``, finest first."""
        encoded = self._model.forward_image(pixels_of(pictures.flatten(0, 1)))
        levels = encoded["backbone_fpn"][-self._model.num_feature_levels :]
        features = [level.flatten(2).permute(2, 0, 1) for level in levels]
        # Only the coarsest level's place codes are ever read.
        positions = encoded["vision_pos_enc"][-1].flatten(2).permute(2, 0, 1)
        return features, positions, [(level.shape[-2], level.shape[-1]) for level in levels]

    def _step(
        self,
        t: int,
        clicked: bool,
        features: list[torch.Tensor],
        positions: list[torch.Tensor | None],
        sizes: list[tuple[int, int]],
        points: dict[str, torch.Tensor] | None,
        out: dict[str, dict[int, Any]],
        earlier_logits: torch.Tensor | None,
    ) -> tuple[dict[str, Any], Any]:
        current, heads, _, _ = self._model._track_step(
            t, clicked, features, positions, sizes, points, None, out, _MANY_FRAMES, False,
            earlier_logits,
        )  # fmt: skip
        return current, heads

    def _prediction(self) -> Prediction:
        logits, ious, _, scores = self._raw
        return Prediction(logits, ious, scores[:, 0])


def _points(clicks: torch.Tensor) -> dict[str, torch.Tensor]:
    labels = torch.ones(len(clicks), 1, dtype=torch.int32, device=clicks.device)
    return {"point_coords": clicks[:, None], "point_labels": labels}


def _with_correction(
    points: dict[str, torch.Tensor] | None, logits: torch.Tensor, truth: torch.Tensor
) -> dict[str, torch.Tensor]:
    """One more click per object, on a pixel of ``truth`` ``[B, h, w]`` that ``logits`` has wrong.

    Where nothing is wrong the first click is repeated.
    """
    assert points is not None
    first, labels = points["point_coords"], points["point_labels"]
    there = truth > 0.5
    wrong = (logits[:, 0] > 0) != there
    width = truth.shape[-1]
    chance = torch.rand_like(truth) * wrong
    place = chance.flatten(1).argmax(dim=1)
    cell = torch.stack([place % width, place // width], dim=1).to(first)
    again = (cell + 0.5) * MASK_STRIDE
    any_wrong = wrong.flatten(1).any(dim=1)
    again = torch.where(any_wrong[:, None], again, first[:, 0])
    sign = there.flatten(1).gather(1, place[:, None])[:, 0]
    label = torch.where(any_wrong, sign, True).to(labels)
    return {
        "point_coords": torch.cat([first, again[:, None]], dim=1),
        "point_labels": torch.cat([labels, label[:, None]], dim=1),
    }
