"""The segmenter resource: one call makes the masks NPZ, whichever segmenter is named.

`background` runs in this process; SAM2 models run in their own environment (sam2_client.py). What
belongs here: choosing between them by name. What does not: how either segments.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from resources.model_registry import ModelEntry, ModelRegistry, configured_models
from resources.sam2_client import Context, OnDevice, OnProgress, segment_with_sam2
from resources.settings import load_settings, worker_linger_s
from resources.weights_check import WeightsCheck
from sam2_worker.request import ENGINE_VERSION, Click, DeviceInUse, EngineSettings
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.prompts import ObjectKind, ObjectPrompt

if TYPE_CHECKING:
    from tailor_assets.compute.mask_writer import MaskWriter

__all__ = ["EngineSettings", "KnownMasks", "SegmentationRequest", "Segmenter"]


@dataclass(frozen=True)
class SegmentationRequest:
    """One video to segment.

    ``source_frames`` int64 [N], increasing, and ``timestamps_s`` float64 [N] are the frame table's
    columns; ``height`` and ``width`` are of the upright picture; ``objects`` are all objects of the
    template as (name, kind), in its order: each is in the file, also where no prompt names it.
    """

    video_path: Path
    masks_path: Path
    source_frames: np.ndarray
    timestamps_s: np.ndarray
    height: int
    width: int
    objects: Sequence[tuple[str, ObjectKind]]
    prompts: Sequence[ObjectPrompt]
    identity: str = ""
    """Names the video's content (its checksum): an interrupted segmentation of the same content is
    gone on with, wherever the file lies. The path where it is empty."""
    video_timestamps_s: np.ndarray | None = None
    """float64: times of *all* frames of the video, where known: fewer packets are then decoded."""
    known: "KnownMasks | None" = None
    engine: EngineSettings = field(default_factory=EngineSettings)


@dataclass(frozen=True)
class KnownMasks:
    """Masks of the same frames that still hold in part.

    ``path`` is a masks NPZ; ``changed_from`` has, per object, the source frame from which its masks
    change, or None where they do not (compute/corrections.py).
    """

    path: Path
    changed_from: Mapping[str, int | None]


class Segmenter(dg.ConfigurableResource):
    """Makes masks with the segmenter that is named, of those in models.toml.

    Empty fields mean the environment's answer, asked when a video is segmented: TAILOR_HOME (own
    models, GPU locks), TAILOR_MODELS (weights), TAILOR_SAM2_PYTHON (`make sam2`) and
    TAILOR_WORKER_LINGER_S.
    """

    home: str = ""
    sam2_python: str = ""
    device: str = "auto"
    """``auto`` (a free GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``."""
    max_restarts: int = 2
    """How often a SAM2 worker that died is started again within the step."""
    linger_s: float | None = None
    """How long a SAM2 worker waits for another video; None: TAILOR_WORKER_LINGER_S."""

    def _home(self) -> Path:
        return Path(self.home) if self.home else load_settings().home

    def registry(self) -> ModelRegistry:
        """The models known now. Raises PermanentProblem where the user's file has a mistake."""
        return ModelRegistry(Path(self.home)) if self.home else configured_models()

    def fingerprint(self, name: str, request: SegmentationRequest) -> str:
        """What decides the masks besides frames and points; empty where masks are never continued.

        Masks of equal fingerprints may be parts of one file.
        """
        registry = self.registry()
        entry = registry.get(name)
        if entry.kind == "background":
            return ""
        spec = registry.spec(entry)
        weights = WeightsCheck(self._home()).sha256(Path(spec.checkpoint))
        said = [
            ENGINE_VERSION, spec.config, spec.image_size, spec.precision, spec.follow, spec.refine,
            weights, asdict(request.engine), [list(item) for item in request.objects],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def segment(
        self,
        context: Context,
        name: str,
        request: SegmentationRequest,
        on_progress: OnProgress | None = None,
        on_device: OnDevice | None = None,
    ) -> dict[str, Any]:
        """Write ``request.masks_path`` with segmenter ``name``; return metadata in plain values.

        ``on_progress(done, total)`` counts frames; ``on_device`` hears what it runs on as soon as
        that is free, again where a worker is started again. Metadata: segmenter, device, frames,
        seconds, frames_per_second, and for SAM2 gpu_uuid, gpu_name, gpu_wait_seconds, precision,
        image_size, checkpoint_sha256, model_load_seconds, frames_tracked, stages_busy (share of the
        time per stage), memory_reductions, resumed, worker_restarts, worker_reused. Raises
        PermanentProblem: unknown segmenter, weights or environment missing, a point for an unknown
        object, bad weights, a video that cannot be read, out of memory; WorkerDied where the worker
        died again and again.
        """
        registry = self.registry()
        entry = registry.get(name)
        if entry.kind == "background" or not request.prompts:
            if on_device is not None:
                on_device(DeviceInUse())
            if entry.kind == "background":
                return segment_with_background_model(name, request, on_progress)
            return write_empty_masks(name, request)
        return self._segment_with_sam2(context, registry, entry, request, on_progress, on_device)

    def _segment_with_sam2(
        self,
        context: Context,
        registry: ModelRegistry,
        entry: ModelEntry,
        request: SegmentationRequest,
        on_progress: OnProgress | None,
        on_device: OnDevice | None,
    ) -> dict[str, Any]:
        fields = {
            "video_path": str(request.video_path),
            "height": request.height,
            "width": request.width,
            "identity": request.identity or str(request.video_path),
            "objects": tuple((object_name, kind) for object_name, kind in request.objects),
            "clicks": _clicks(request),
            "model": registry.spec(entry),
            "device": self.device,
            "locks_folder": str(self._home() / "locks"),
            "settings": request.engine,
        }
        if request.known is not None:
            fields["known_masks"] = str(request.known.path)
            fields["changed_from"] = dict(request.known.changed_from)
        python = Path(self.sam2_python) if self.sam2_python else load_settings().sam2_python
        return segment_with_sam2(
            context,
            python,
            fields,
            source_frames=request.source_frames,
            timestamps_s=request.timestamps_s,
            video_timestamps_s=request.video_timestamps_s,
            masks_path=Path(request.masks_path),
            checkpoints=self._home() / "checkpoints",
            max_restarts=self.max_restarts,
            linger_s=worker_linger_s() if self.linger_s is None else self.linger_s,
            on_progress=on_progress,
            on_device=on_device,
        )


def _clicks(request: SegmentationRequest) -> tuple[Click, ...]:
    known = [name for name, _ in request.objects]
    for prompt in request.prompts:
        if prompt.name not in known:
            raise PermanentProblem(
                f"There is a point for {prompt.name!r}, which the template does not have: "
                f"name one of {', '.join(known)}."
            )
    return tuple(
        Click(
            prompt.name,
            float(prompt.x),
            float(prompt.y),
            int(prompt.source_frame),
            guessed=prompt.origin == "automatic",
        )
        for prompt in request.prompts
    )


def _masks_writer(name: str, request: SegmentationRequest) -> "MaskWriter":
    from tailor_assets.compute.mask_writer import MaskWriter

    return MaskWriter(
        request.masks_path,
        objects=[object_name for object_name, _ in request.objects],
        height=request.height,
        width=request.width,
        segmenter=name,
    )


def write_empty_masks(name: str, request: SegmentationRequest) -> dict[str, Any]:
    """Write ``request.masks_path`` of a video in which there is nothing: that is an answer, too."""
    with _masks_writer(name, request) as writer:
        for frame, time_s in zip(request.source_frames, request.timestamps_s, strict=True):
            writer.append(source_frame=int(frame), timestamp_s=float(time_s), masks={}, scores={})
    return {
        "segmenter": name,
        "device": "none",
        "frames": len(request.source_frames),
        "frames_tracked": 0,
        "seconds": 0.0,
        "frames_per_second": 0.0,
    }


def segment_with_background_model(
    name: str, request: SegmentationRequest, on_progress: OnProgress | None
) -> dict[str, Any]:
    """Write ``request.masks_path`` with the background model, in this process; return metadata."""
    from tailor_assets.compute.background.background_segmenter import segment_with_background

    started = time.monotonic()
    with _masks_writer(name, request) as writer:
        segment_with_background(
            request.video_path,
            source_frames=request.source_frames,
            timestamps_s=request.timestamps_s,
            video_timestamps_s=request.video_timestamps_s,
            height=request.height,
            width=request.width,
            prompts=request.prompts,
            objects=request.objects,
            writer=writer,
            progress=on_progress,
        )
    seconds = time.monotonic() - started
    return {
        "segmenter": name,
        "device": "CPU",
        "frames": len(request.source_frames),
        "seconds": round(seconds, 3),
        "frames_per_second": round(len(request.source_frames) / max(seconds, 1e-9), 2),
    }
