"""`python -m sam2_worker.contender JOB.json`: one way to segment a clip, timed from file to NPZ.

For `tailor bench segment` and benchmarks/segmentation.py, which run the contenders one after the
other, each in a process of its own, on the same clip with the same weights and clicks:

- ``official``: SAM2VideoPredictor as its authors ship it, ``propagate_in_video``, and
  ``numpy.savez_compressed`` of the masks. It is given the pictures as they are decoded and resized
  for tailor, so that it sees the same pixels and writes no JPEGs first.
- ``official-compiled``: the same authors' ``vos_optimized`` predictor (torch.compile).
- ``exact``: tailor's engine, every object looked at in every frame, nothing judged.
- ``tailor``: the engine as it is used.

Prints one line of JSON as the last line of its output.
"""

import json
import resource
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2_worker.devices import candidate_gpus, describe_device
from sam2_worker.model_keeper import ModelKeeper
from sam2_worker.model_loading import load_model
from sam2_worker.precision import choose_dtype, precision_name
from sam2_worker.request import EngineSettings, ModelSpec, WorkerRequest, read_frame_table
from sam2_worker.video_model import pixels_of, resize_to_square
from sam2_worker.worker import segment_video
from tailor_assets.compute.recording.frame_source import read_frames

EXACT = EngineSettings(drift_guard=False, refind=False, nest_every=1)


def main(path: str) -> None:
    """Run the contender that the job names."""
    job = json.loads(Path(path).read_text())
    request = WorkerRequest.from_extras(job["request"])
    contender = job["contender"]
    started, processor = time.perf_counter(), time.process_time()
    if contender.startswith("official"):
        details = _official(request, compiled=contender == "official-compiled")
    else:
        if contender == "exact":
            request = replace(request, settings=EXACT, model=_as_official(request))
        details = _tailor(request)
    frames = details["frames"]
    seconds = time.perf_counter() - started - details.pop("load_seconds")
    print()
    print(
        json.dumps(
            {
                "contender": contender,
                "seconds": seconds,
                "frames_per_second": frames / seconds,
                "processor_seconds": time.process_time() - processor,
                "peak_memory_mb": _peak_memory_mb(),
                "gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20
                if torch.cuda.is_available()
                else None,
                "file_mb": Path(request.masks_path).stat().st_size / 1e6,
                **details,
            }
        )
    )


def _as_official(request: WorkerRequest) -> ModelSpec:
    """The model as the official predictor runs it on this device."""
    on_cpu = not candidate_gpus(request.device)
    precision = "fp32" if on_cpu and request.model.precision == "auto" else request.model.precision
    return replace(request.model, precision=precision, follow=False, refine=False)


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _tailor(request: WorkerRequest) -> dict[str, Any]:
    report = segment_video(
        request, say=_say, progress=lambda done, *_: _say(f"written {done}"), keeper=ModelKeeper()
    )
    return {
        "frames": report["frames"],
        "precision": report["precision"],
        "device": report["device"],
        "stages_busy": report["stages_busy"],
        "load_seconds": report["model_load_seconds"],
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _official(request: WorkerRequest, *, compiled: bool) -> dict[str, Any]:
    gpus = candidate_gpus(request.device)
    device = describe_device(gpus[0] if gpus else None)
    dtype = choose_dtype(_as_official(request).precision, device.torch_device)
    started = time.perf_counter()
    model = load_model(request.model, device.torch_device, vos_optimized=compiled)
    load_s = time.perf_counter() - started
    frames, _, every = read_frame_table(request.frame_table)
    half = torch.autocast(device.torch_device.type, dtype, enabled=dtype is not torch.float32)
    with torch.inference_mode(), half:
        pictures = torch.empty((len(frames), 3, model.image_size, model.image_size))
        with read_frames(request.video_path, frames, timestamps_s=every) as reader:
            for number, (_, picture) in enumerate(reader):
                square = resize_to_square(picture, model.image_size)
                pictures[number] = pixels_of(torch.from_numpy(square)[None])[0]
        state = _state(pictures, request, device.torch_device)
        names = [name for name, _ in request.objects]
        for click in request.clicks:
            model.add_new_points_or_box(
                state,
                int(np.searchsorted(frames, click.source_frame)),
                names.index(click.name),
                points=[[click.x, click.y]],
                labels=[1],
            )
        masks = np.zeros((len(names), len(frames), request.height, request.width), bool)
        for frame, numbers, logits in model.propagate_in_video(state):
            masks[numbers, frame] = (logits[:, 0] > 0).cpu().numpy()
        np.savez_compressed(request.masks_path, **{name: masks[i] for i, name in enumerate(names)})
    return {
        "frames": len(frames),
        "precision": precision_name(dtype),
        "device": device.name,
        "load_seconds": load_s,
    }


def _state(pictures: torch.Tensor, request: WorkerRequest, device: torch.device) -> dict[str, Any]:
    """What the official ``init_state`` makes of a folder of JPEGs."""
    return {
        "images": pictures.to(device),
        "num_frames": len(pictures),
        "offload_video_to_cpu": False,
        "offload_state_to_cpu": False,
        "video_height": request.height,
        "video_width": request.width,
        "device": device,
        "storage_device": device,
        "point_inputs_per_obj": {},
        "mask_inputs_per_obj": {},
        "cached_features": {},
        "constants": {},
        "obj_id_to_idx": OrderedDict(),
        "obj_idx_to_id": OrderedDict(),
        "obj_ids": [],
        "output_dict_per_obj": {},
        "temp_output_dict_per_obj": {},
        "frames_tracked_per_obj": {},
    }


if __name__ == "__main__":
    main(sys.argv[1])
