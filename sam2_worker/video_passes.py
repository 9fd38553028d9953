"""The passes over one video: backwards where a first click is late, then the one that writes.

Each begins where the last checkpoint left it.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam2_worker.checkpoint import CheckpointFolder
from sam2_worker.drift_guard import DriftGuard
from sam2_worker.first_look import Place
from sam2_worker.nest_schedule import NestSchedule
from sam2_worker.pipeline import StageClock
from sam2_worker.request import WorkerRequest, read_frame_table
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
from sam2_worker.view_follower import ViewFollower
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.recording.frame_source import (
    FrameReader,
    read_frames,
    read_frames_backwards,
)

if TYPE_CHECKING:
    from tailor_assets.compute.background.refind import AnimalFinder

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


class VideoPasses:
    """One video with one model: the pass backwards where it is needed, then the one that writes."""

    def __init__(
        self,
        request: WorkerRequest,
        model: VideoModel,
        folder: CheckpointFolder,
        batch: int,
        say: Callable[[str], None],
        progress: Callable[[int, int, float], None],
        stop: StopRequest,
    ) -> None:
        """``batch``: pictures encoded together. ``say`` and ``progress``: to the run's log and bar.

        Raises ValueError where there is no click.
        """
        self._request = request
        self._model = model
        self._folder = folder
        self._batch = batch
        self._say = say
        self._progress = Progress(progress)
        self._stop = stop
        self._frames, self._times, self._video_times = read_frame_table(request.frame_table)
        self._clicks = clicks_by_frame(request.clicks, request.height, request.width)
        if not self._clicks:
            raise ValueError("there is no click to track from")
        self._kinds = dict(request.objects)
        self._clock = StageClock()

    def segment(self, saved: dict[str, Any] | None) -> dict[str, Any]:
        """Go on from ``saved`` (CheckpointFolder.load), or begin; return metadata in plain values.

        Raises Stopped where it was asked to stop, PermanentProblem for a video that cannot be read.
        """
        if not self._request.settings.refind:
            return self._segment(saved)
        with closing(self._finder) as finder:
            finder.begin()
            return self._segment(saved)

    def _segment(self, saved: dict[str, Any] | None) -> dict[str, Any]:
        request = self._request
        started = time.monotonic()
        if saved is not None:
            self._say(f"going on {saved['phase']} from step {saved['position']}")
        companions = self._companions()
        changed: Mapping[str, int | None] = {}
        if request.known_masks is not None:
            changed = changing_together(request.changed_from, self._clicks, companions)
        backward = backward_plan(self._frames, self._clicks, changed, companions)
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
                self._batch, checkpoint_frames=self._request.settings.checkpoint_frames
            ),
            in_views=self._request.model.follow,
            refine=self._request.model.refine,
            clock=self._clock,
            publish=partial(self._publish, phase),
            holds=holds,
            animals=self._companions(),
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
                "batch": self._batch,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                **state,
            }
        )

    def _read(self, wanted: np.ndarray) -> FrameReader:
        return read_frames(
            self._request.video_path, wanted, pixels="rgb", timestamps_s=self._video_times
        )

    def _read_backwards(self, wanted: np.ndarray) -> FrameReader:
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
            followers=self._followers(plan),
            picture=(request.width, request.height),
            # Points that were found are all that an object has: a person's take their place.
            guessed={click.name for click in request.clicks if click.guessed},
            starts=plan.starts,
            beside=plan.beside,
        )
        return tracker, tuple(schedules)

    def _followers(self, plan: TrackingPlan) -> dict[str, ViewFollower]:
        if not self._request.model.follow:
            return {}
        picture = (self._request.width, self._request.height)
        # A view of fewer pixels than half of the network's holds nothing that a larger one does not.
        least = min(self._model.image_size // 2, *picture)
        return {name: ViewFollower(self._kinds[name], picture, least) for name in plan.clicks}

    def _seconds_per_step(self) -> float:
        steps = np.diff(self._times)
        steps = steps[steps > 0]
        return float(np.median(steps)) if steps.size else 0.1

    def _find(self, picture: np.ndarray, source_frame: int) -> Finder:
        def find(others: Mapping[str, np.ndarray], believed: np.ndarray | None) -> Place | None:
            height, width = picture.shape[:2]
            found = self._finder.find(
                picture,
                source_frame,
                believed=believed,
                # A nest may be where the animal is.
                avoid=[mask for other, mask in others.items() if self._kinds[other] == "animal"],
            )
            return None if found is None else (found[0] / width, found[1] / height)

        return find

    @cached_property
    def _finder(self) -> "AnimalFinder":
        from tailor_assets.compute.background.refind import AnimalFinder

        finder = AnimalFinder(
            self._request.video_path,
            self._frames,
            timestamps_s=self._video_times,
            clicks=[
                (click.x, click.y, click.source_frame)
                for click in self._request.clicks
                if self._kinds[click.name] == "animal"
            ],
        )
        self._say("learning the scene, to see where the tracker is wrong")
        return finder


def _can_be_read(masks: Path) -> bool:
    try:
        MaskReader(masks).close()
    except PermanentProblem:
        return False
    return True
