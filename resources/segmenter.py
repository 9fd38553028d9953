"""The segmenter resource: one call makes the masks NPZ, whichever segmenter is named.

`background` runs in this process; SAM2 models run in their own environment (sam2_client.py). What
belongs here: choosing between them by name. What does not: how either segments.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from resources.model_registry import ModelEntry, ModelRegistry
from resources.sam2_client import Context, OnProgress, segment_with_sam2
from resources.settings import load_settings
from sam2_worker.request import Click
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.prompts import ObjectKind, ObjectPrompt


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


class Segmenter(dg.ConfigurableResource):
    """Makes masks with the segmenter that is named, of those in models.toml.

    Empty fields mean the environment's answer, asked when a video is segmented: TAILOR_HOME (own
    models, weights, GPU locks) and TAILOR_SAM2_PYTHON (`make sam2`).
    """

    home: str = ""
    sam2_python: str = ""
    device: str = "auto"
    """``auto`` (a free GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``."""
    max_restarts: int = 2
    """How often a SAM2 worker that died is started again within the step."""

    def _home(self) -> Path:
        return Path(self.home) if self.home else load_settings().home

    def registry(self) -> ModelRegistry:
        """The models known now. Raises PermanentProblem where the user's file has a mistake."""
        return ModelRegistry(self._home())

    def segment(
        self,
        context: Context,
        name: str,
        request: SegmentationRequest,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Write ``request.masks_path`` with segmenter ``name``; return metadata in plain values.

        ``on_progress(done, total)`` counts frames. Metadata: segmenter, device, frames, seconds,
        frames_per_second, and for SAM2 precision, image_size, checkpoint_sha256,
        model_load_seconds, worker_restarts. Raises PermanentProblem: unknown segmenter, weights or
        environment missing, no point or one for an unknown object, bad weights, a video that
        cannot be read, out of memory; WorkerDied where the worker died again and again.
        """
        registry = self.registry()
        entry = registry.get(name)
        if entry.kind == "background":
            return _segment_with_background(name, request, on_progress)
        return self._segment_with_sam2(context, registry, entry, request, on_progress)

    def _segment_with_sam2(
        self,
        context: Context,
        registry: ModelRegistry,
        entry: ModelEntry,
        request: SegmentationRequest,
        on_progress: OnProgress | None,
    ) -> dict[str, Any]:
        fields = {
            "video_path": str(request.video_path),
            "height": request.height,
            "width": request.width,
            "objects": tuple(object_name for object_name, _ in request.objects),
            "clicks": _clicks(entry.name, request),
            "model": registry.spec(entry),
            "device": self.device,
            "locks_folder": str(self._home() / "locks"),
        }
        python = Path(self.sam2_python) if self.sam2_python else load_settings().sam2_python
        return segment_with_sam2(
            context,
            python,
            fields,
            source_frames=request.source_frames,
            timestamps_s=request.timestamps_s,
            masks_path=Path(request.masks_path),
            max_restarts=self.max_restarts,
            on_progress=on_progress,
        )


def _clicks(segmenter: str, request: SegmentationRequest) -> tuple[Click, ...]:
    if not request.prompts:
        raise PermanentProblem(
            f"{segmenter} needs a point on each object and none was given: "
            "give one with --point NAME=x,y, or in tailor.json."
        )
    known = [name for name, _ in request.objects]
    for prompt in request.prompts:
        if prompt.name not in known:
            raise PermanentProblem(
                f"There is a point for {prompt.name!r}, which the template does not have: "
                f"name one of {', '.join(known)}."
            )
    return tuple(
        Click(prompt.name, float(prompt.x), float(prompt.y), int(prompt.source_frame))
        for prompt in request.prompts
    )


def _segment_with_background(
    name: str, request: SegmentationRequest, on_progress: OnProgress | None
) -> dict[str, Any]:
    from tailor_assets.compute.background.background_segmenter import segment_with_background
    from tailor_assets.compute.mask_file import MaskWriter

    started = time.monotonic()
    with MaskWriter(
        request.masks_path,
        objects=[object_name for object_name, _ in request.objects],
        height=request.height,
        width=request.width,
        segmenter=name,
    ) as writer:
        segment_with_background(
            request.video_path,
            source_frames=request.source_frames,
            timestamps_s=request.timestamps_s,
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
