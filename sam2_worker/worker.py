"""Segments one video: from a request to the masks NPZ, going on where an earlier try was ended."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam2_worker.checkpoint import CheckpointFolder
from sam2_worker.devices import Device, hold_device, is_out_of_memory
from sam2_worker.drift_guard import DriftGuard
from sam2_worker.gpu_lock import is_wanted
from sam2_worker.model_loading import check_checkpoint, load_model
from sam2_worker.nest_schedule import NestSchedule
from sam2_worker.pipeline import StageClock
from sam2_worker.precision import choose_dtype, lower_precision, precision_name
from sam2_worker.request import ModelSpec, WorkerRequest, read_frame_table
from sam2_worker.stop_request import StopRequest
from sam2_worker.streaming_tracker import Finder, StreamingTracker
from sam2_worker.tracking_pass import PassSettings, TrackingPass
from sam2_worker.tracking_plan import (
    KnownMasks,
    TrackingPlan,
    backward_plan,
    changing_together,
    clicks_by_frame,
    forward_plan,
)
from sam2_worker.video_model import VideoModel
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.recording.frame_source import read_frames, read_frames_backwards

# Pictures encoded together; on a CPU a batch gains nothing.
_BATCH = {"cuda": 8}
_BACKWARD, _FORWARD = "backward", "forward"


@dataclass
class Progress:
    """Passes (frames done, frames in all, frames/s of this start) on, once a second and at the end."""

    report: Callable[[int, int, float], None]
    every_s: float = 1.0
    _last: float = 0.0

    def tick(self, done: int, total: int, rate: float) -> None:
        """Count."""
        now = time.monotonic()
        if done == total or now - self._last >= self.every_s:
            self._last = now
            self.report(done, total, rate)


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


class ModelKeeper:
    """The model of the last video, for the next one: loading takes longer than many a video.

    And the GPU that it is on: its memory is taken, so nobody else may have it.
    """

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._key: tuple[Any, ...] | None = None
        self._model: VideoModel | None = None
        self._digests: dict[tuple[Any, ...], str] = {}
        self._holding = ExitStack()
        self._wish: tuple[str, str] | None = None
        self._device: Device | None = None

    @property
    def has_model(self) -> bool:
        """Whether there is one to keep."""
        return self._model is not None

    def device(self, wanted: str, locks_folder: str, say: Callable[[str], None]) -> Device:
        """The CPU, or a GPU that is held from now until ``close``.

        Raises PermanentProblem where there is no such device.
        """
        if self._device is None or self._wish != (wanted, locks_folder):
            self.close()
            self._device = self._holding.enter_context(hold_device(wanted, locks_folder, say))
            self._wish = (wanted, locks_folder)
        return self._device

    def device_is_wanted(self) -> bool:
        """Whether another worker waits for the GPU."""
        if self._device is None or self._device.lock is None or self._wish is None:
            return False
        return is_wanted(self._wish[1], self._device.lock)

    def close(self) -> None:
        """Free the memory and let go of the device."""
        self.drop()
        self._device = self._wish = None
        self._holding.close()

    def digest(self, spec: ModelSpec) -> str:
        """sha256 of the weights, computed again only where the file has changed.

        Raises PermanentProblem for weights that are missing or not the model's.
        """
        state = _state(spec.checkpoint)
        if state is None:
            return check_checkpoint(spec)
        key = (spec.checkpoint, spec.sha256, state)
        if key not in self._digests:
            self._digests[key] = check_checkpoint(spec)
        return self._digests[key]

    def get(self, spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> VideoModel:
        """The model, loaded now or before. Raises PermanentProblem for bad weights."""
        key = (spec, device, dtype, _state(spec.checkpoint), _state(spec.config))
        if self._key != key or self._model is None:
            self.drop()
            predictor = load_model(spec, device)
            self._model = VideoModel(predictor, device, dtype, compiled=spec.compile)
            self._key = key
        return self._model

    def drop(self) -> None:
        """Free the memory."""
        self._key = self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _state(path: str) -> tuple[int, int] | None:
    """What differs once a file has been replaced; None for one of a package, or none at all."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def segment_video(
    request: WorkerRequest,
    *,
    say: Callable[[str], None],
    progress: Callable[[int, int, float], None],
    stop: StopRequest | None = None,
    keeper: ModelKeeper | None = None,
) -> dict[str, Any]:
    """Do what ``request`` asks; return metadata in plain values.

    What an earlier try of the same request had committed is not done again. Raises Stopped after
    ``stop`` is set (what was done is committed); PermanentProblem for bad weights, a bad
    configuration or a video that cannot be read; OutOfMemory, which is one too; ValueError where
    there is no click. A ``keeper`` that is given keeps model and GPU for the next video.
    """
    if keeper is None:
        with closing(ModelKeeper()) as own:
            return segment_video(request, say=say, progress=progress, stop=stop, keeper=own)
    digest = keeper.digest(request.model)
    device = keeper.device(request.device, request.locks_folder, say)
    folder = CheckpointFolder(request.checkpoint_folder, request.fingerprint(digest))
    with folder.held(say):
        return _with_enough_memory(
            request, device, folder, keeper, digest, say, progress, stop or StopRequest()
        )


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
    compute: Compute | None = Compute(_BATCH.get(device.torch_device.type, 1), dtype)
    reduced: list[str] = []
    if device.torch_device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device.torch_device)

    def attempt(compute: Compute, saved: dict[str, Any] | None) -> dict[str, Any]:
        # What refers to the model ends with this function: the next may not fit beside it.
        started = time.monotonic()
        model = keeper.get(request.model, device.torch_device, compute.dtype)
        load_s = time.monotonic() - started
        video = _Video(request, model, folder, compute, say, progress, stop)
        return {
            **video.segment(saved, reduced),
            "segmenter": request.model.name,
            "device": device.name,
            "precision": model.precision,
            "image_size": model.image_size,
            "checkpoint_sha256": digest,
            "model_load_seconds": round(load_s, 3),
        }

    while True:
        assert compute is not None
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


def _can_be_read(masks: Path) -> bool:
    try:
        MaskReader(masks).close()
    except PermanentProblem:
        return False
    return True


def _demand(compute: Compute) -> tuple[int, int]:
    return compute.dtype.itemsize, compute.batch


class _Video:
    """One video with one model: the pass backwards where it is needed, then the one that writes."""

    def __init__(
        self,
        request: WorkerRequest,
        model: VideoModel,
        folder: CheckpointFolder,
        compute: Compute,
        say: Callable[[str], None],
        progress: Callable[[int, int, float], None],
        stop: StopRequest,
    ) -> None:
        self._request = request
        self._model = model
        self._folder = folder
        self._compute = compute
        self._say = say
        self._progress = Progress(progress)
        self._stop = stop
        self._frames, self._times, self._video_times = read_frame_table(request.frame_table)
        self._clicks = clicks_by_frame(request.clicks, request.height, request.width)
        if not self._clicks:
            raise ValueError("there is no click to track from")
        self._kinds = dict(request.objects)
        self._clock = StageClock()
        self._finders: dict[str, Any] = {}

    def segment(self, saved: dict[str, Any] | None, reduced: list[str]) -> dict[str, Any]:
        """Go on from ``saved``, or begin."""
        request = self._request
        started = time.monotonic()
        if saved is not None:
            self._say(f"going on {saved['phase']} from step {saved['position']}")
        companions = self._companions()
        changed: Mapping[str, int | None] = {}
        if request.known_masks is not None:
            changed = changing_together(request.changed_from, self._clicks, companions)
        backward = backward_plan(self._frames, self._clicks, changed)
        before = self._folder.folder / "before.npz"
        tracked = 0
        if backward is not None and (
            saved is None or saved["phase"] == _BACKWARD or not _can_be_read(before)
        ):
            tracked += self._run(_BACKWARD, backward, before, KnownMasks(), saved)
        with ExitStack() as files:
            known = self._known(files, changed, backward, before)
            plan = forward_plan(self._frames, self._clicks, changed, companions)
            tracked += self._run(_FORWARD, plan, Path(request.masks_path), known, saved)
        seconds = time.monotonic() - started
        return {
            "frames": len(self._frames),
            "frames_tracked": tracked,
            "seconds": round(seconds, 3),
            "frames_per_second": round(tracked / max(seconds, 1e-9), 2),
            "stages_busy": self._clock.shares(),
            "memory_reductions": reduced,
            "resumed": saved is not None,
        }

    def _companions(self) -> list[str]:
        """Objects that are judged by where the others are: animals, where they are judged at all."""
        if not self._request.settings.drift_guard:
            return []
        return [name for name, kind in self._request.objects if kind == "animal"]

    def _known(
        self,
        files: ExitStack,
        changed: Mapping[str, int | None],
        backward: TrackingPlan | None,
        before: Path,
    ) -> KnownMasks:
        """What the forward pass need not track."""
        known = KnownMasks()
        rows = len(self._frames)
        if changed:
            assert self._request.known_masks is not None
            reader = files.enter_context(MaskReader(self._request.known_masks))
            if len(reader) != rows or not np.array_equal(reader.source_frame, self._frames):
                raise ValueError("the known masks are of other frames")
            for name, frame in changed.items():
                until = rows if frame is None else int(np.searchsorted(self._frames, frame))
                if until and name in reader.objects:
                    known.add(name, reader, until)
        if backward is not None:
            reader = files.enter_context(MaskReader(before))
            for name in backward.clicks:
                first = int(np.searchsorted(self._frames, min(self._clicks[name])))
                known.add(name, reader, first, reverse=True)
        return known

    def _run(
        self,
        phase: str,
        plan: TrackingPlan,
        path: Path,
        known: KnownMasks,
        saved: dict[str, Any] | None,
    ) -> int:
        """Do one pass; return how many frames it looked at."""
        tracker, holds = self._tracker(plan)
        position, held, description = 0, {}, None
        if saved is not None and saved["phase"] == phase:
            position, description = saved["position"], saved["writer"]
            if tracker is not None:
                tracker.restore(saved["tracker"])
            held = {name: (p.numpy(), score) for name, (p, score) in saved["held"].items()}
        try:
            writer = self._writer(phase, path, description)
        except ValueError as error:
            if description is None:
                raise
            self._say(f"what was written before cannot be continued ({error}); beginning again")
            return self._run(phase, plan, path, known, None)
        began, start = time.monotonic(), len(writer)
        rows = int((plan.rows >= 0).sum())

        def count(done: int) -> None:
            rate = (done - start) / max(time.monotonic() - began, 1e-9)
            if phase == _FORWARD:
                self._progress.tick(done, rows, rate)

        work = TrackingPass(
            plan,
            self._model,
            tracker,
            writer,
            timestamps_s=self._times,
            known=known,
            settings=PassSettings(
                self._compute.batch, checkpoint_frames=self._request.settings.checkpoint_frames
            ),
            clock=self._clock,
            publish=partial(self._publish, phase),
            holds=holds,
            find=self._find if self._request.settings.refind else None,
            progress=count,
        )
        try:
            work.run(
                self._read_backwards if phase == _BACKWARD else self._read,
                position=position,
                held=held,
                stop=self._stop,
            )
            writer.commit()
        except BaseException:
            writer.suspend()
            raise
        return int(plan.look[position:].sum())

    def _writer(self, phase: str, path: Path, description: Mapping[str, Any] | None) -> MaskWriter:
        return MaskWriter(
            path,
            objects=[name for name, _ in self._request.objects],
            height=self._request.height,
            width=self._request.width,
            segmenter=self._request.model.name,
            work_folder=self._folder.folder / phase,
            resume_from=description,
        )

    def _publish(
        self, phase: str, position: int, state: dict[str, Any], written: dict[str, Any]
    ) -> None:
        self._folder.publish(
            {
                "phase": phase,
                "position": position,
                "writer": written,
                "batch": self._compute.batch,
                "dtype": str(self._compute.dtype).removeprefix("torch."),
                **state,
            }
        )

    def _read(self, wanted: np.ndarray) -> Any:
        return read_frames(
            self._request.video_path, wanted, pixels="rgb", timestamps_s=self._video_times
        )

    def _read_backwards(self, wanted: np.ndarray) -> Any:
        return read_frames_backwards(
            self._request.video_path, wanted[::-1], pixels="rgb", timestamps_s=self._video_times
        )

    def _tracker(self, plan: TrackingPlan) -> tuple[StreamingTracker | None, tuple[str, ...]]:
        """The tracker of a pass, and which objects it does not look at in every frame."""
        if not plan.clicks:
            return None, ()
        request, settings = self._request, self._request.settings
        step_s = self._seconds_per_step()
        guard = None
        if settings.drift_guard:
            guarded = [(name, kind) for name, kind in request.objects if name in plan.clicks]
            guard = DriftGuard(
                guarded, seconds_per_step=step_s, aspect=request.width / request.height
            )
        animals = [n for n, kind in request.objects if kind == "animal" and n in self._clicks]
        schedules = {
            name: NestSchedule(
                settings.nest_every, seconds_per_step=step_s, clicked=plan.clicks[name]
            )
            for name, kind in request.objects
            # An animal that is not tracked in this pass may be on the nest in any frame.
            if kind == "nest"
            and name in plan.clicks
            and settings.nest_every > 1
            and all(other in plan.clicks for other in animals)
        }
        tracker = StreamingTracker(
            self._model.head,
            plan.clicks,
            image_size=self._model.image_size,
            guard=guard,
            schedules=schedules,
            starts=plan.starts,
        )
        return tracker, tuple(schedules)

    def _seconds_per_step(self) -> float:
        steps = np.diff(self._times)
        steps = steps[steps > 0]
        return float(np.median(steps)) if steps.size else 0.1

    def _find(self, picture: np.ndarray, source_frame: int) -> Finder:
        def find(
            name: str, others: Mapping[str, tuple[float, float]]
        ) -> tuple[float, float] | None:
            height, width = picture.shape[:2]
            finder = self._finder()
            found = finder.find(
                picture,
                source_frame,
                near=None,
                # A nest may be where the animal is.
                avoid=[
                    (x * width, y * height)
                    for other, (x, y) in others.items()
                    if self._kinds[other] == "animal"
                ],
            )
            return None if found is None else (found[0] / width, found[1] / height)

        return find

    def _finder(self) -> Any:
        if "finder" not in self._finders:
            from tailor_assets.compute.background.refind import AnimalFinder

            self._finders["finder"] = AnimalFinder(
                self._request.video_path,
                self._frames,
                timestamps_s=self._video_times,
                clicks=[
                    (click.x, click.y, click.source_frame)
                    for click in self._request.clicks
                    if self._kinds[click.name] == "animal"
                ],
            )
            self._say("an animal was lost: learning the scene, to find it again")
        return self._finders["finder"]
