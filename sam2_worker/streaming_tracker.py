"""SAM2 tracking with frames in one at a time, masks out one at a time, in constant memory.

The official ``SAM2VideoPredictor.init_state`` holds the whole video as float32 and never drops a
memory (Ravi et al., SAM 2, arXiv:2408.00714, describe the memory bank; the code is facebookresearch/
sam2). This drives ``SAM2Base.track_step`` of the same model directly and keeps of the past only what
a later frame can still look at. The masks are those of the official ``propagate_in_video``
(tests/test_sam2_worker.py holds the two side by side).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

# Mean and standard deviation of ImageNet's RGB, on 0..1, with which SAM2 was trained.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

# track_step scales object pointers by min(num_frames, 16) - 1. The official predictor passes the
# length of the video; a running count would change the scale from frame to frame.
_MANY_FRAMES = 1 << 30


@dataclass(frozen=True)
class TrackedFrame:
    """What the model says of the objects that have been clicked so far.

    ``names`` [B]; ``logits`` float32 [B, S/4, S/4] on the model's device, an object where > 0;
    ``scores`` [B], the probability that the object is in the picture.
    """

    names: tuple[str, ...]
    logits: torch.Tensor
    scores: tuple[float, ...]


@dataclass
class _Batch:
    """Objects whose clicks are on the same frames: they share one forward pass."""

    names: tuple[str, ...]
    # step -> coordinates float32 [B, P, 2] in the model's input pixels; all clicks are positive
    clicks: dict[int, torch.Tensor]
    memory: dict[str, dict[int, dict[str, Any]]] = field(
        default_factory=lambda: {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    )
    position_encoding: list[torch.Tensor] | None = None

    @property
    def first_step(self) -> int:
        return min(self.clicks)


class StreamingTracker:
    """Tracks clicked objects forward through a video.

    ``model`` is a SAM2VideoPredictor on its device (model_loading.load_model). ``clicks`` maps each
    object to {step: [(x, y), ...]}, where a step counts the frames given to ``track`` from 0 and
    coordinates are fractions of the picture's width and height. An object is not reported before
    the step of its first click. Memory: the last 16 frames of an object at most, and its clicked
    frames.
    """

    def __init__(
        self,
        model: Any,
        clicks: Mapping[str, Mapping[int, Sequence[tuple[float, float]]]],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Group the objects. Raises ValueError for an object without clicks."""
        if any(not steps or not all(steps.values()) for steps in clicks.values()) or not clicks:
            raise ValueError("every object needs a click")
        self._model = model
        self._device = next(model.parameters()).device
        self._dtype = dtype
        # The official predictor stores memories as bf16 on every device; autocast to fp16 refuses
        # to concatenate those with its own.
        self._memory_dtype = torch.float16 if dtype is torch.float16 else torch.bfloat16
        # The official predictor runs objects one by one, where this setting has no effect; in a
        # batch it would let them push one another away.
        model.non_overlap_masks_for_mem_enc = False
        self._batches = list(self._group(clicks))
        self._step = 0
        stride = model.memory_temporal_stride_for_eval
        self._spatial_reach = model.num_maskmem * stride
        self._pointer_reach = max(self._spatial_reach, model.max_obj_ptrs_in_encoder)
        self._mean = torch.tensor(_MEAN, device=self._device)[:, None, None]
        self._std = torch.tensor(_STD, device=self._device)[:, None, None]

    @property
    def image_size(self) -> int:
        """Side of the square picture that ``track`` takes, in pixels."""
        return int(self._model.image_size)

    @property
    def memories_held(self) -> int:
        """Past frames held now, over all batches (it stays bounded; a test looks at it)."""
        return sum(len(kind) for batch in self._batches for kind in batch.memory.values())

    def _group(
        self, clicks: Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]
    ) -> Iterable[_Batch]:
        alike: dict[tuple[tuple[int, int], ...], list[str]] = {}
        for name, steps in clicks.items():
            schedule = tuple(sorted((step, len(points)) for step, points in steps.items()))
            alike.setdefault(schedule, []).append(name)
        for schedule, names in alike.items():
            yield _Batch(
                names=tuple(names),
                clicks={
                    step: torch.tensor(
                        [clicks[name][step] for name in names],
                        dtype=torch.float32,
                        device=self._device,
                    )
                    * self.image_size
                    for step, _ in schedule
                },
            )

    @torch.inference_mode()
    def track(self, image: np.ndarray) -> TrackedFrame:
        """Take the next frame, uint8 RGB [S, S, 3] with S = ``image_size``."""
        step = self._step
        self._step += 1
        active = [batch for batch in self._batches if step >= batch.first_step]
        if not active:
            side = self.image_size // 4
            return TrackedFrame((), torch.empty((0, side, side), device=self._device), ())
        with torch.autocast(
            self._device.type, self._dtype, enabled=self._dtype is not torch.float32
        ):
            features = self._model.forward_image(self._normalised(image))
            outputs = [self._track_batch(batch, step, features) for batch in active]
        logits = torch.cat([out["pred_masks"][:, 0].float() for out in outputs])
        scores = torch.cat([out["object_score_logits"][:, 0].float() for out in outputs])
        return TrackedFrame(
            names=tuple(name for batch in active for name in batch.names),
            logits=logits,
            scores=tuple(torch.sigmoid(scores).tolist()),
        )

    def _normalised(self, image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        return ((pixels.permute(2, 0, 1).float() / 255 - self._mean) / self._std)[None]

    def _track_batch(
        self, batch: _Batch, step: int, features: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        size = len(batch.names)
        expanded = {
            key: [level.expand(size, -1, -1, -1) for level in features[key]]
            for key in ("backbone_fpn", "vision_pos_enc")
        }
        _, vision, positions, feature_sizes = self._model._prepare_backbone_features(expanded)
        points = batch.clicks.get(step)
        inputs = None
        if points is not None:
            labels = torch.ones(points.shape[:2], dtype=torch.int32, device=self._device)
            inputs = {"point_coords": points, "point_labels": labels}
        out: dict[str, Any] = self._model.track_step(
            frame_idx=step,
            # As the official predictor does with clicks that are all given before it propagates:
            # each clicked frame is segmented from its clicks, not from memory.
            is_init_cond_frame=points is not None,
            current_vision_feats=vision,
            current_vision_pos_embeds=positions,
            feat_sizes=feature_sizes,
            point_inputs=inputs,
            mask_inputs=None,
            output_dict=batch.memory,
            num_frames=_MANY_FRAMES,
            run_mem_encoder=True,
        )
        self._remember(batch, step, out, clicked=points is not None)
        return out

    def _remember(self, batch: _Batch, step: int, out: dict[str, Any], *, clicked: bool) -> None:
        if batch.position_encoding is None:  # the same for every frame: one copy is enough
            batch.position_encoding = [level.clone() for level in out["maskmem_pos_enc"]]
        kept = {
            "maskmem_features": out["maskmem_features"].to(self._memory_dtype),
            "maskmem_pos_enc": batch.position_encoding,
            "obj_ptr": out["obj_ptr"],
        }
        if clicked:
            batch.memory["cond_frame_outputs"][step] = kept
            return
        recent = batch.memory["non_cond_frame_outputs"]
        recent[step] = kept
        for old in [t for t in recent if t <= step - self._pointer_reach]:
            del recent[old]
        for t, memory in recent.items():
            if t <= step - self._spatial_reach:
                memory["maskmem_features"] = None
