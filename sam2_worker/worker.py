"""Segments one video: frames from the file, through the tracker, into the masks NPZ."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from sam2_worker.gpu_lock import hold_a_gpu
from sam2_worker.mask_output import masks_at_video_size
from sam2_worker.model_loading import (
    Device,
    candidate_gpus,
    check_checkpoint,
    describe_device,
    load_model,
    visible_gpus,
)
from sam2_worker.request import WorkerRequest, read_frame_table
from sam2_worker.streaming_tracker import StreamingTracker
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskWriter
from tailor_assets.compute.recording.frame_source import read_frames


@dataclass
class Progress:
    """Called after each written frame with (frames done, frames in all, frames/s since the start)."""

    report: Callable[[int, int, float], None]
    every_s: float = 1.0
    _last: float = 0.0

    def tick(self, done: int, total: int, rate: float) -> None:
        """Pass it on once a second, and at the end."""
        now = time.monotonic()
        if done == total or now - self._last >= self.every_s:
            self._last = now
            self.report(done, total, rate)


def segment_video(
    request: WorkerRequest,
    *,
    say: Callable[[str], None],
    progress: Callable[[int, int, float], None],
) -> dict[str, Any]:
    """Do what ``request`` asks; return metadata in plain values.

    Objects are tracked forward from their clicks. A frame before an object's first click has an
    empty mask and score 0 for it: no data, not a guess. Raises PermanentProblem for bad weights, a
    bad configuration, a video that cannot be read; ValueError where there is no click.
    """
    frames, times = read_frame_table(request.frame_table)
    digest = check_checkpoint(request.model)
    with _device(request, say) as device:
        started = time.monotonic()
        model = load_model(request.model, device.torch_device)
        load_s = time.monotonic() - started
        say(
            f"{request.model.name} on {device.name} ({device.precision}), "
            f"loaded in {load_s:.1f} s; {len(frames)} frames to segment"
        )
        started = time.monotonic()
        decoded = _track(request, frames, times, model, device, Progress(progress))
        seconds = time.monotonic() - started
    metadata: dict[str, Any] = {
        "segmenter": request.model.name,
        "device": device.name,
        "precision": device.precision,
        "image_size": int(model.image_size),
        "checkpoint_sha256": digest,
        "frames": len(frames),
        "frames_decoded": decoded,
        "seconds": round(seconds, 3),
        "frames_per_second": round(len(frames) / max(seconds, 1e-9), 2),
        "model_load_seconds": round(load_s, 3),
    }
    if device.torch_device.type == "cuda":
        metadata["gpu_memory_peak_mb"] = round(
            torch.cuda.max_memory_allocated(device.torch_device) / 2**20
        )
    return metadata


@contextlib.contextmanager
def _device(request: WorkerRequest, say: Callable[[str], None]) -> Iterator[Device]:
    allowed = candidate_gpus(request.device)
    if not allowed:
        # The CPU is not locked: two videos share its cores, where two on a GPU run out of memory.
        yield describe_device(None)
        return
    identities = visible_gpus()
    with hold_a_gpu(request.locks_folder, [identities[i] for i in allowed], say) as place:
        yield describe_device(allowed[place])


def resize_to_square(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 [H, W, 3] to [side, side, 3] as SAM2 expects it: the aspect ratio is not kept."""
    shrinking = picture.shape[0] > side or picture.shape[1] > side
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(picture, (side, side), interpolation=interpolation)


def _clicks_by_step(
    request: WorkerRequest, steps: np.ndarray
) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Clicks per object and step, in fractions of the picture; steps index ``steps``."""
    clicks: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for click in request.clicks:
        step = int(np.searchsorted(steps, click.source_frame))
        place = (click.x / request.width, click.y / request.height)
        clicks.setdefault(click.name, {}).setdefault(step, []).append(place)
    return clicks


def _track(
    request: WorkerRequest,
    frames: np.ndarray,
    times: np.ndarray,
    model: Any,
    device: Device,
    progress: Progress,
) -> int:
    # A clicked frame that the sampling leaves out is decoded and tracked from all the same: at the
    # nearest sampled frame the animal is somewhere else. Only sampled frames are written.
    clicked = np.array([click.source_frame for click in request.clicks], np.int64)
    steps = np.union1d(frames, clicked)
    tracker = StreamingTracker(model, _clicks_by_step(request, steps), dtype=device.dtype)
    side = tracker.image_size
    started = time.monotonic()
    with MaskWriter(
        request.masks_path,
        objects=request.objects,
        height=request.height,
        width=request.width,
        segmenter=request.model.name,
    ) as writer:
        with read_frames(request.video_path, steps, pixels="rgb") as pictures:
            for source_frame, picture in pictures:
                tracked = tracker.track(resize_to_square(picture, side))
                row = len(writer)
                if row == len(frames) or frames[row] != source_frame:
                    continue
                masks = masks_at_video_size(tracked.logits, request.height, request.width)
                writer.append(
                    source_frame=source_frame,
                    timestamp_s=times[row],
                    masks=dict(zip(tracked.names, masks, strict=True)),
                    scores=dict(zip(tracked.names, tracked.scores, strict=True)),
                )
                rate = len(writer) / (time.monotonic() - started)
                progress.tick(len(writer), len(frames), rate)
        if len(writer) != len(frames):
            raise PermanentProblem(
                f"The video ended after {len(writer)} of the {len(frames)} frames to segment: it "
                "is not the video whose frames were listed; fetch and probe it again."
            )
    return len(steps)
