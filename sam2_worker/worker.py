"""Segments one video: from a request to the masks NPZ, going on where an earlier try was ended."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from sam2_worker.checkpoint import CheckpointFolder
from sam2_worker.devices import Device, is_out_of_memory
from sam2_worker.model_keeper import ModelKeeper
from sam2_worker.precision import choose_dtype, lower_precision, precision_name
from sam2_worker.request import DeviceInUse, WorkerRequest
from sam2_worker.stop_request import StopRequest
from sam2_worker.video_passes import VideoPasses
from tailor_assets.compute.errors import PermanentProblem

# Pictures encoded together; on a CPU a batch gains nothing.
_BATCH = {"cuda": 8}


@dataclass(frozen=True)
class Compute:
    """What is given up, in this order, where memory runs out: pictures at a time, then precision."""

    batch: int
    dtype: torch.dtype

    def smaller(self, device: torch.device) -> "Compute | None":
        """The next to try."""
        if self.batch > 1:
            return Compute(self.batch // 2, self.dtype)
        lower = lower_precision(self.dtype, device)
        return None if lower is None else Compute(1, lower)

    def describe(self) -> str:
        """For a person."""
        return f"{precision_name(self.dtype)}, {self.batch} picture(s) at a time"


class OutOfMemory(PermanentProblem):
    """Memory does not suffice at any setting."""


def segment_video(
    request: WorkerRequest,
    *,
    say: Callable[[str], None],
    progress: Callable[[int, int, float], None],
    on_device: Callable[[DeviceInUse], None] = lambda device: None,
    stop: StopRequest | None = None,
    keeper: ModelKeeper | None = None,
) -> dict[str, Any]:
    """Do what ``request`` asks; return metadata in plain values.

    What an earlier try of the same request had committed is not done again. Raises Stopped after
    ``stop`` is set (what was done is committed); PermanentProblem for bad weights, a bad
    configuration or a video that cannot be read; OutOfMemory, which is one too; ValueError where
    there is no click. ``on_device`` hears what it runs on, once that is free. A ``keeper`` that is
    given keeps model and GPU for the next video.
    """
    if keeper is None:
        with closing(ModelKeeper()) as own:
            return segment_video(
                request, say=say, progress=progress, on_device=on_device, stop=stop, keeper=own
            )
    digest = keeper.digest(request.model)
    asked = time.monotonic()
    device = keeper.device(request.device, request.locks_folder, say)
    in_use = DeviceInUse(
        device.uuid,
        "cpu" if device.torch_device.type == "cpu" else device.name,
        round(time.monotonic() - asked, 3),
    )
    on_device(in_use)
    folder = CheckpointFolder(request.checkpoint_folder, request.fingerprint(digest))
    with folder.held(say):
        metadata = _with_enough_memory(
            request, device, folder, keeper, digest, say, progress, stop or StopRequest()
        )
    return {
        **metadata,
        "gpu_uuid": in_use.gpu_uuid,
        "gpu_name": in_use.gpu_name,
        "gpu_wait_seconds": in_use.waited_s,
    }


def _with_enough_memory(
    request: WorkerRequest,
    device: Device,
    folder: CheckpointFolder,
    keeper: ModelKeeper,
    digest: str,
    say: Callable[[str], None],
    progress: Callable[[int, int, float], None],
    stop: StopRequest,
) -> dict[str, Any]:
    dtype = choose_dtype(request.model.precision, device.torch_device)
    compute = Compute(_BATCH.get(device.torch_device.type, 1), dtype)
    reduced: list[str] = []

    def attempt(compute: Compute, saved: dict[str, Any] | None) -> dict[str, Any]:
        # On a card that others have filled this is the first that finds no memory.
        if device.torch_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device.torch_device)
        # What refers to the model ends with this function: the next may not fit beside it.
        started = time.monotonic()
        model = keeper.get(request.model, device.torch_device, compute.dtype)
        load_s = time.monotonic() - started
        passes = VideoPasses(request, model, folder, compute.batch, say, progress, stop)
        return {
            **passes.segment(saved),
            "memory_reductions": reduced,
            "segmenter": request.model.name,
            "device": device.name,
            "precision": model.precision,
            "image_size": model.image_size,
            "checkpoint_sha256": digest,
            "model_load_seconds": round(load_s, 3),
        }

    while True:
        saved = folder.load()
        if saved is not None:
            # Half of a video in one precision and half in another only where it must be so.
            compute = min(
                compute, Compute(saved["batch"], getattr(torch, saved["dtype"])), key=_demand
            )
        try:
            metadata = attempt(compute, saved)
            break
        except BaseException as error:
            if not is_out_of_memory(error):
                raise
            detail = " ".join(str(error).split())[:300]
        keeper.drop()
        smaller = compute.smaller(device.torch_device)
        if smaller is None:
            raise OutOfMemory(
                f"{request.model.name} ran out of memory at {request.width}x{request.height} with "
                f"{len(request.objects)} object(s), even with {compute.describe()}: choose a "
                "smaller model or a smaller image_size in models.toml, or end what else uses the "
                f"device ({detail})."
            )
        reduced.append(f"{compute.describe()} -> {smaller.describe()}")
        say(f"out of memory with {compute.describe()}; going on with {smaller.describe()}")
        compute = smaller
    if device.torch_device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device.torch_device)
        metadata["gpu_memory_peak_mb"] = round(peak / 2**20)
    return metadata


def _demand(compute: Compute) -> tuple[int, int]:
    return compute.dtype.itemsize, compute.batch
