"""What becomes of two animals that lie apart while their masks say that they have merged."""

from typing import Any

import numpy as np
import torch
from sam2_engine_first_look import HEIGHT, WIDTH, Frame, iou, model, place_of
from sam2_engine_lab import Lab

from sam2_worker.drift_guard import DriftGuard
from sam2_worker.mask_measurement import FrameMasks
from sam2_worker.mask_refinement import refined_mask
from sam2_worker.streaming_tracker import StreamingTracker, TrackedFrame
from sam2_worker.view_follower import ViewFollower

_NAMES = ("mouse", "mouse_2")
_STEPS, _MERGED_AT = 10, 6


def come_apart(_lab: Lab, crumbs_on: str) -> dict[str, Any]:
    """A still scene of two animals with different coats. In one frame the mask of the first covers
    both, and of the second's there is a piece on its own body or, as after an exchange, on the first
    one's. ``stopped``: the same with the tracker's state taken and given back before that."""
    frame = Frame(810_000_002, 2)
    through = _track(frame, crumbs_on, stop=False)
    stopped = _track(frame, crumbs_on, stop=True)
    last = through[-1]
    return {
        "states": {name: [f.states[name].name for f in through] for name in _NAMES},
        "iou": {
            name: [round(iou(_mask(frame, last, name), animal), 3) for animal in frame.animals]
            for name in _NAMES
        },
        "stopped": max(
            float((_logits(a, name) - _logits(b, name)).abs().max())
            for a, b in zip(through, stopped, strict=True)
            for name in _NAMES
        ),
    }


def _track(frame: Frame, crumbs_on: str, *, stop: bool) -> list[TrackedFrame]:
    tracker = _tracker(frame)
    look = frame.look()
    tracked = []
    for step in range(_STEPS):
        if stop and step == _MERGED_AT:
            state = tracker.state()
            tracker = _tracker(frame)
            tracker.restore(state)
        if step == _MERGED_AT:
            tracker._looker.together = _merged_once(tracker, crumbs_on)  # type: ignore[method-assign]
        tracked.append(tracker.track(float(step), look))
    return tracked


def _tracker(frame: Frame) -> StreamingTracker:
    size = model().image_size
    return StreamingTracker(
        model().head,
        {
            name: {0.0: [place_of(animal)]}
            for name, animal in zip(_NAMES, frame.animals, strict=True)
        },
        image_size=size,
        guard=DriftGuard(
            [(name, "animal") for name in _NAMES],
            seconds_per_step=1 / 15,
            aspect=WIDTH / HEIGHT,
        ),
        followers={name: ViewFollower("animal", (WIDTH, HEIGHT), size // 2) for name in _NAMES},
        picture=(WIDTH, HEIGHT),
    )


def _merged_once(tracker: StreamingTracker, crumbs_on: str) -> Any:
    """The tracker's eyes, of which the next look is as after a long contact."""
    seen, left = tracker._looker.together, [True]

    def together(looks: Any) -> FrameMasks:
        masks: FrameMasks = seen(looks)
        if not left:
            return masks
        left.clear()
        first, second = (masks.names.index(name) for name in _NAMES)
        logits = masks.logits.clone()
        body = (masks.logits[second if crumbs_on == "its own" else first] > 0).nonzero()
        row, column = (int(v) for v in body.float().mean(0))
        logits[first] = torch.maximum(logits[first], logits[second])
        logits[second] = -8.0
        logits[second, row - 1 : row + 2, column - 1 : column + 2] = 4.0
        return FrameMasks(masks.names, logits, masks.in_views, masks.views, masks.scores)

    return together


def _logits(tracked: TrackedFrame, name: str) -> torch.Tensor:
    return tracked.masks.in_views[tracked.masks.names.index(name)]


def _mask(frame: Frame, tracked: TrackedFrame, name: str) -> np.ndarray:
    at = tracked.masks.names.index(name)
    return refined_mask(frame.picture, tracked.masks.in_views[at].numpy(), tracked.masks.views[at])
