"""The SAM2 engine in lower precision, in less memory, compiled, and with models that do not fit."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import official_sam2_reference as official
import torch
from official_sam2_reference import SIDE
from sam2_engine_lab import EXACT, MOUSE, NEST, RAT, Lab, in_fractions, nothing, replaced, whole

from sam2_worker import device_masks, mask_output, precision, worker
from sam2_worker.model_keeper import ModelKeeper
from sam2_worker.model_loading import load_model
from sam2_worker.streaming_tracker import StreamingTracker
from sam2_worker.video_model import VideoModel
from sam2_worker.view import View
from sam2_worker.worker import segment_video
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader


def agreement(lab: Lab, dtype: str, autocast: bool, frames: int) -> float:
    """Mean IoU of a lower precision's masks with those of float32, over three objects."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    model = lab.model("lively", kind)
    clicks = in_fractions({"mouse": {0: [MOUSE]}, "nest": {0: [NEST]}, "rat": {0: [RAT]}})
    reference = StreamingTracker(lab.model("lively").head, clicks, image_size=SIDE)
    lower = StreamingTracker(model.head, clicks, image_size=SIDE)
    ious = []
    for step in range(frames):
        best = reference.track(step, whole(lab.features("lively", 40)[step])).masks.logits > 0
        with torch.autocast("cpu", kind, enabled=autocast):
            features = model.encode([lab.squares[step]])[0]
            logits = lower.track(step, whole(features)).masks.logits
        assert logits.dtype is torch.float32
        for a, b in zip(best, logits > 0, strict=True):
            if a.any():
                ious.append(float((a & b).sum() / (a | b).sum()))
    return float(np.mean(ious))


def precisions(lab: Lab) -> dict[str, Any]:
    """What is chosen, and refused."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda")

    def chosen(wanted: str, device: torch.device) -> str:
        try:
            return precision.precision_name(precision.choose_dtype(wanted, device))
        except PermanentProblem as problem:
            return str(problem)

    return {
        "cpu": {wanted: chosen(wanted, cpu) for wanted in ("auto", "fp32", "bf16", "fp16", "half")},
        "cuda": {wanted: chosen(wanted, gpu) for wanted in ("fp32", "bf16", "fp16", "half")},
        "t4": precision.precision_name(precision.cuda_dtype((7, 5))),
        "a100": precision.precision_name(precision.cuda_dtype((8, 0))),
        "below_fp32": precision.precision_name(
            precision.lower_precision(torch.float32, cpu) or torch.float32
        ),
        "below_bf16": precision.lower_precision(torch.bfloat16, cpu),
    }


def masks_on_the_device(lab: Lab, rounds: int) -> dict[str, Any]:
    """Random and structured logits through both ways of filling, enlarging and packing."""
    rng = np.random.default_rng(5)
    filled, packed, holes = 0, 0, 0
    for number in range(rounds):
        side = int(rng.choice([16, 33, 64]))
        logits = _some_logits(rng, number, side)
        area = int(rng.integers(1, 12))
        theirs = np.stack([mask_output.fill_small_holes(one, area) for one in logits])
        ours = device_masks.fill_small_holes(torch.from_numpy(logits), area).numpy()
        filled += not np.array_equal(theirs, ours)
        holes += int((theirs != logits).sum())
        height, width = (int(n) for n in rng.integers(9, 200, 2))
        for fill_hole_area in (0, area):
            enlarger = mask_output.MaskEnlarger(side, height, width, fill_hole_area=fill_hole_area)
            part = View(width // 5, height // 3, width // 2, height // 2)
            views = (None, part, None)
            on_device = device_masks.packed_masks(
                torch.from_numpy(logits), views, height, width, fill_hole_area=fill_hole_area
            )
            by_numpy = np.stack([enlarger.packed(*one) for one in zip(logits, views, strict=True)])
            packed += not np.array_equal(on_device.numpy(), by_numpy)
    return {"filled_differently": filled, "packed_differently": packed, "pixels_filled": holes}


def _some_logits(rng: np.random.Generator, number: int, side: int) -> np.ndarray:
    """float32 [3, side, side]: noise, smooth blobs, rings with holes, long snakes, nothing, all."""
    kind = number % 6
    noise = rng.normal(0, 1, (3, side, side)).astype(np.float32)
    if kind == 0:
        return noise + np.float32(rng.uniform(-1.5, 1.5))
    if kind == 1:
        import cv2

        return np.stack([cv2.GaussianBlur(one, (0, 0), 2.5) for one in noise])
    y, x = np.mgrid[:side, :side]
    away = np.hypot(y - side / 2, x - side / 2)
    if kind == 2:
        ring = (away < side / 3) & (away > rng.uniform(1, 4))
        return np.where(ring, np.float32(2), np.float32(-2)) + noise / 4
    if kind == 3:
        snake = ((y % 4 == 0) & (x < side - 2)) | ((y % 8 == 2) & (x > 2)) | (x % 7 == 0)
        return np.where(snake, np.float32(-1), np.float32(1)) * np.abs(noise)
    return np.abs(noise) * np.float32(1 if kind == 4 else -1)


def out_of_memory(lab: Lab, failures: list[int] | None) -> dict[str, Any]:
    """Encoding fails in these calls (None: always), as it does where a GPU is too small."""
    encode, calls, batches = VideoModel.encode, 0, []

    def small(model: VideoModel, pictures: Any) -> Any:
        nonlocal calls
        calls += 1
        batches.append((len(pictures), model.precision))
        if failures is None or calls in failures:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        return encode(model, pictures)

    said: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        replaced(worker, "_BATCH", {"cpu": 4}),
        replaced(VideoModel, "encode", small),
    ):
        path = Path(folder) / "masks.npz"
        settings = dataclasses.replace(EXACT, checkpoint_frames=20)
        clicks = {"mouse": {0: [MOUSE]}}
        request = lab.request(path, clicks, frames=range(40), settings=settings)
        try:
            report = segment_video(request, say=said.append, progress=nothing, keeper=ModelKeeper())
        except PermanentProblem as problem:
            return {"problem": str(problem), "batches": batches, "file": path.exists()}
        with MaskReader(path) as reader:
            frames = len(reader)
    return {
        "batches": batches,
        "frames": frames,
        "frames_tracked": report["frames_tracked"],
        "memory_reductions": report["memory_reductions"],
        "precision": report["precision"],
        "said": said,
    }


def models_that_do_not_fit(lab: Lab) -> dict[str, Any]:
    """What is said of weights that are cut, of another model, changed or absent."""
    said = {}
    for case, differing in {
        "of another model": {"config": "configs/sam2.1/sam2.1_hiera_t.yaml"},
        "changed": {"sha256": "0" * 64},
        "absent": {"checkpoint": str(lab.home / "models" / "absent.pt")},
        "no configuration": {"config": str(lab.home / "absent.yaml")},
        "cut": {"checkpoint": str(lab.home / "models" / "cut.pt")},
    }.items():
        spec = dataclasses.replace(official.model_spec(lab.home), **differing)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "masks.npz"
            request = lab.request(path, {"mouse": {0: [MOUSE]}})
            try:
                lab.segment(dataclasses.replace(request, model=spec))
            except PermanentProblem as problem:
                said[case] = str(problem)
    return said


def compiled(lab: Lab, frames: int) -> float:
    """Largest difference of the logits that torch.compile makes."""
    device = torch.device("cpu")
    predictor = load_model(official.model_spec(lab.home), device)
    model = VideoModel(predictor, device, torch.float32, compiled=True)
    clicks = in_fractions({"mouse": {0: [MOUSE]}, "rat": {0: [RAT]}})
    eager = StreamingTracker(lab.model().head, clicks, image_size=SIDE)
    fast = StreamingTracker(model.head, clicks, image_size=SIDE)
    worst = 0.0
    for step in range(frames):
        a = eager.track(step, whole(lab.features()[step])).masks.logits
        b = fast.track(step, whole(model.encode([lab.squares[step]])[0])).masks.logits
        worst = max(worst, float((a - b).abs().max()))
    return worst


ALONE = """
import json, sys, torch
from sam2_worker.request import WorkerRequest
from sam2_worker.worker import segment_video
torch.set_num_threads(1)
request = WorkerRequest.from_extras(json.load(sys.stdin))
segment_video(request, say=lambda _: None, progress=lambda *_: None)
"""


def resident_memory(lab: Lab, frames: int) -> dict[str, Any]:
    """Peak resident memory in MB of a process of its own that segments so many frames."""
    video = lab.home / f"{frames}.mp4"
    official.write_video(video, official.pictures(frames))
    with tempfile.TemporaryDirectory() as folder:
        clicks = {"mouse": {0: [MOUSE], frames // 2: [MOUSE]}, "nest": {0: [NEST]}}
        request = lab.request(
            Path(folder) / "masks.npz", clicks, frames=range(frames), video=video.name
        )
        child = subprocess.Popen([sys.executable, "-c", ALONE], stdin=subprocess.PIPE, text=True)
        assert child.stdin is not None
        json.dump(request.to_extras(), child.stdin)
        child.stdin.close()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = status
    return {"status": status, "peak_mb": used.ru_maxrss / 1024}
