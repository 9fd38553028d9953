"""Masks and logits of the SAM2 engine beside those of the official predictor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import official_sam2_reference as official
import torch
from official_sam2_reference import FRAMES, HEIGHT, SIDE, WIDTH
from sam2_engine_lab import MOUSE, NEST, RAT, Clicks, Lab, in_fractions, whole

from sam2_worker import mask_output
from sam2_worker.streaming_tracker import StreamingTracker


def official_and_ours(lab: Lab, objects: Sequence[str], backward: bool = False) -> dict[str, Any]:
    """All objects clicked in the first frame, or in the last."""
    at = FRAMES - 1 if backward else 0
    theirs = {k: v for k, v in lab.official_from(at, backward).items() if k[0] in objects}
    point = {"mouse": MOUSE, "nest": NEST, "rat": RAT}
    return _compared(lab, theirs, {name: {at: [point[name]]} for name in objects}, backward)


def clicks_on_different_frames(lab: Lab) -> dict[str, Any]:
    """Two objects, each by itself in the official predictor: it tracks from the first click on."""
    theirs = {k: v for k, v in lab.official_from(0, False).items() if k[0] == "mouse"}
    theirs |= lab.predictor.propagated({"rat": {40: [RAT]}})
    return _compared(lab, theirs, {"mouse": {0: [MOUSE]}, "rat": {40: [RAT]}})


def several_clicks_on_one_frame(lab: Lab) -> dict[str, Any]:
    """Two objects with two and three clicks."""
    clicks = {
        "mouse": {0: [MOUSE, (90.0, 85.0)]},
        "rat": {0: [RAT, (150.0, 150.0), (170.0, 148.0)]},
    }
    return _compared(lab, lab.predictor.propagated(clicks), clicks)


def corrected_object(lab: Lab) -> dict[str, Any]:
    """One object that is clicked in three frames."""
    frames = {0: [MOUSE], 50: [(150.0, 60.0)], 90: [(230.0, 100.0), (220.0, 98.0)]}
    return _compared(lab, lab.predictor.corrected("mouse", frames), {"mouse": frames})


def _compared(
    lab: Lab, theirs: official.Logits, clicks: Clicks, backward: bool = False
) -> dict[str, Any]:
    model, features = lab.model(), lab.features()
    order = range(FRAMES - 1, -1, -1) if backward else range(FRAMES)
    steps = {frame: step for step, frame in enumerate(order)}
    by_step = {
        name: {steps[frame]: points for frame, points in by_frame.items()}
        for name, by_frame in in_fractions(clicks).items()
    }
    tracker = StreamingTracker(model.head, by_step, image_size=SIDE)
    enlarger = mask_output.MaskEnlarger(SIDE // 4, HEIGHT, WIDTH, fill_hole_area=0)
    ours, held = {}, []
    for frame in order:
        tracked = tracker.track(steps[frame], whole(features[frame]))
        held.append(tracker.frames_held)
        ours |= {(n, frame): tracked.masks.logits[i] for i, n in enumerate(tracked.masks.names)}
    differing, farthest = 0, 0.0
    for key, logits in ours.items():
        large = official.video_logits(theirs[key])
        other = enlarger.mask(logits.numpy()) != (large > 0)
        differing += int(other.sum())
        farthest = max(farthest, float(np.abs(large[other]).max(initial=0)))
    first = {name: min(by_frame) for name, by_frame in clicks.items()}
    there = [key for key, logits in ours.items() if logits.max() > 0]
    after = [ours[name, frame] for name, frame in there if frame != first[name]]
    pairs = [
        float((ours[key] - ours[other, key[1]]).abs().max())
        for key in there
        for other in clicks
        if other != key[0] and (other, key[1]) in there
    ]
    return {
        "same_frames": sorted(ours) == sorted(theirs),
        "frames": len(ours),
        "largest_difference": max(float((ours[k] - theirs[k]).abs().max()) for k in ours),
        "pixels": len(ours) * HEIGHT * WIDTH,
        "pixels_that_differ": differing,
        "their_farthest_logit": farthest,
        "seen": len(there) / len(ours),
        # Were all alike, a tracker that mixes up frames or objects would pass.
        "spread": float(torch.stack(after).std(dim=0).max()),
        "apart": float(np.median(pairs)) if pairs else None,
        "most_held": max(held),
        "held_at_the_end": held[-1],
    }
