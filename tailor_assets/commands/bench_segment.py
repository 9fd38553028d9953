"""``tailor bench segment``: how fast a segmenter is here, beside the official SAM2 predictor."""

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tailor_assets.compute.errors import PermanentProblem

_WHAT = {
    "official": "official predictor",
    "official-compiled": "official predictor, compiled",
    "exact": "tailor, every object in every frame, nothing judged",
    "tailor": "tailor",
    "background": "tailor, background model",
}


@dataclass(frozen=True)
class Clip:
    """The part of a video that is segmented: its first ``frames`` frames, every one."""

    video: Path
    frames: int
    height: int
    width: int
    timestamps_s: np.ndarray
    """float64, of all frames of the video."""


def open_clip(video: Path, frames: int) -> Clip:
    """Probe the video. Raises PermanentProblem where it cannot be read."""
    from tailor_assets.compute.recording.video_probe import probe_video

    facts, timestamps_s = probe_video(video)
    return Clip(video, min(frames, facts.frame_count), facts.height, facts.width, timestamps_s)


def run_contender(
    contender: str,
    clip: Clip,
    request_fields: Mapping[str, Any],
    python: Path,
    masks_path: Path,
) -> dict[str, Any]:
    """Segment the clip in a process of its own; return what it measured (see sam2_worker.contender).

    ``request_fields``: those of WorkerRequest that name model, objects, clicks and device. Raises
    PermanentProblem with the last line of what it said where it fails.
    """
    from resources.worker_process import worker_environment
    from sam2_worker import request as wire

    with tempfile.TemporaryDirectory(prefix="tailor-bench-") as folder:
        table = Path(folder) / "frames.npz"
        wire.write_frame_table(
            table,
            np.arange(clip.frames),
            clip.timestamps_s[: clip.frames],
            clip.timestamps_s,
        )
        request = wire.WorkerRequest(
            video_path=str(clip.video.resolve()),
            identity=str(clip.video.resolve()),
            masks_path=str(masks_path),
            frame_table=str(table),
            height=clip.height,
            width=clip.width,
            locks_folder=str(Path(folder) / "locks"),
            checkpoint_folder=str(Path(folder) / "checkpoint"),
            **request_fields,
        )
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"contender": contender, "request": request.to_extras()}))
        ran = subprocess.run(
            [str(python), "-m", "sam2_worker.contender", str(job)],
            env=worker_environment(),
            capture_output=True,
            text=True,
        )
    lines = ran.stdout.strip().splitlines()
    if ran.returncode or not lines:
        said = [line for line in ran.stderr.strip().splitlines() if line.strip()]
        raise PermanentProblem(
            f"The {_WHAT[contender]} failed ({said[-1] if said else ran.returncode}): try fewer "
            "frames, another --device, or a smaller model."
        )
    measured: dict[str, Any] = json.loads(lines[-1])
    return measured


def mask_iou(path: Path, reference: Path) -> dict[str, float]:
    """Mean IoU per object of a masks NPZ with the boolean masks of ``reference``.

    Frames in which both are empty count 1.
    """
    from tailor_assets.compute.mask_file import MaskReader

    out = {}
    with MaskReader(path) as ours, np.load(reference) as theirs:
        for name in ours.objects:
            ious = []
            masks = theirs[name]
            for row, mask in ours.iter_masks(name):
                either = int((mask | masks[row]).sum())
                ious.append(int((mask & masks[row]).sum()) / either if either else 1.0)
            out[name] = float(np.mean(ious))
    return out


def bench_segment(
    video: Path,
    *,
    segmenter: str,
    points: Mapping[str, Sequence[float]],
    frames: int,
    device: str,
    precision: str | None,
    contenders: Sequence[str],
) -> list[dict[str, Any]]:
    """Run every contender on the beginning of ``video``; return what each measured, in order.

    ``points``: object name to (x, y); an object named ``nest`` is one, all others are animals.
    Raises PermanentProblem: a video that cannot be read, a missing point, an unknown segmenter.
    """
    from resources.segmenter import Segmenter
    from resources.settings import load_settings
    from sam2_worker.request import Click

    clip = open_clip(video, frames)
    registry = Segmenter().registry()
    entry = registry.get(segmenter)
    points = dict(points) or _detected(clip)
    objects = tuple((name, "nest" if name == "nest" else "animal") for name in points)
    if entry.kind == "background":
        return [_background(clip, objects, points)]
    spec = registry.spec(entry)
    fields = {
        "objects": objects,
        "clicks": tuple(Click(name, float(p[0]), float(p[1]), 0) for name, p in points.items()),
        "model": replace(spec, precision=precision or spec.precision),
        "device": device,
    }
    rows = []
    with tempfile.TemporaryDirectory(prefix="tailor-bench-") as folder:
        for contender in contenders:
            path = Path(folder) / f"{contender}.npz"
            row = run_contender(
                contender,
                clip,
                fields,
                load_settings().sam2_python,
                path,
            )
            reference = Path(folder) / "official.npz"
            if reference.exists() and not contender.startswith("official"):
                row["iou"] = mask_iou(path, reference)
            rows.append(row)
    return rows


def _detected(clip: Clip) -> dict[str, tuple[float, float]]:
    from tailor_assets.compute.background.animal_detection import detect_animals

    found = detect_animals(clip.video, source_frames=np.arange(len(clip.timestamps_s)), count=1)
    at_start = [(x, y) for x, y, frame, _ in found if frame == 0]
    if not at_start:
        raise PermanentProblem(
            f"No animal was found in the first frame of {clip.video.name}: point at it with "
            "--point mouse=X,Y."
        )
    return {"mouse": at_start[0]}


def _background(
    clip: Clip, objects: Sequence[tuple[str, Any]], points: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    import resource

    from resources.segmenter import SegmentationRequest, segment_with_background_model
    from tailor_assets.compute.prompts import ObjectPrompt

    with tempfile.TemporaryDirectory(prefix="tailor-bench-") as folder:
        path = Path(folder) / "masks.npz"
        processor = time.process_time()
        report = segment_with_background_model(
            "background",
            SegmentationRequest(
                video_path=clip.video,
                masks_path=path,
                source_frames=np.arange(clip.frames),
                timestamps_s=clip.timestamps_s[: clip.frames],
                height=clip.height,
                width=clip.width,
                objects=objects,
                prompts=[
                    ObjectPrompt(name, kind, float(points[name][0]), float(points[name][1]), 0, "")
                    for name, kind in objects
                ],
                video_timestamps_s=clip.timestamps_s,
            ),
            None,
        )
        return {
            "contender": "background",
            "precision": "-",
            "processor_seconds": time.process_time() - processor,
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "file_mb": path.stat().st_size / 1e6,
            **report,
        }


def show(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table in Markdown, with the first as the measure of the others."""
    lines = [
        "| | precision | frames/s | times as fast | processor s | memory MB | file MB | mean IoU |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        iou = ", ".join(f"{name} {value:.4f}" for name, value in row.get("iou", {}).items())
        memory = f"{row['peak_memory_mb']:,.0f}"
        if row.get("gpu_memory_mb"):
            memory += f" (GPU {row['gpu_memory_mb']:,.0f})"
        lines.append(
            f"| {_WHAT[row['contender']]} | {row['precision']} | {row['frames_per_second']:.2f} | "
            f"{rows[0]['seconds'] / row['seconds']:.2f} | {row['processor_seconds']:.1f} | "
            f"{memory} | {row['file_mb']:.1f} | {iou or '-'} |"
        )
    busy = rows[-1].get("stages_busy")
    if busy:
        stages = sorted(busy.items(), key=lambda item: -item[1])
        lines += [
            "",
            "Stages busy: " + ", ".join(f"{stage} {share:.0%}" for stage, share in stages),
        ]
    return "\n".join(lines)
