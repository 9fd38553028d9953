"""Runs in the SAM2 environment, which has no pytest: what test_sam2_engine.py asks of the engine.

`python sam2_engine_checks.py FOLDER` reads lines ``{"check": NAME, "with": {...}}`` and answers each
with a line ``{"answer": ...}`` or ``{"error": traceback}``. One process for all questions, because
importing torch and asking the official predictor take longer than most of them. What is found is
judged in test_sam2_engine.py.
"""

import dataclasses
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import official_sam2_reference as official
import torch
from official_sam2_reference import FRAMES, HEIGHT, SIDE, WIDTH

from sam2_worker import device_masks, mask_output, precision, tracking_pass, video_passes, worker
from sam2_worker.drift_guard import DriftGuard, Verdict
from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.model_keeper import ModelKeeper
from sam2_worker.model_loading import load_model
from sam2_worker.nest_schedule import NestSchedule
from sam2_worker.request import Click, EngineSettings, WorkerRequest, write_frame_table
from sam2_worker.stop_request import StopRequest
from sam2_worker.streaming_tracker import Look, Place, StreamingTracker, TrackedFrame
from sam2_worker.tracking_pass import Stopped
from sam2_worker.video_model import VideoModel, resize_to_square
from sam2_worker.view import View
from sam2_worker.view_follower import ViewFollower
from sam2_worker.worker import segment_video
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState

KINDS = {"mouse": "animal", "nest": "nest", "rat": "animal"}
MOUSE, NEST, RAT = (80.0, 90.0), (250.0, 60.0), (160.0, 150.0)
EXACT = EngineSettings(drift_guard=False, refind=False, nest_every=1)
# What follows depends on every earlier frame, and every object has another way to be looked at.
ALL_AT_ONCE = EngineSettings(nest_every=5, checkpoint_frames=20)
ALL_AT_ONCE_CLICKS = {
    "mouse": {32: [MOUSE], 61: [MOUSE, RAT]},  # 61 is not written
    "rat": {0: [RAT]},
    "nest": {32: [NEST]},
}
ALL_AT_ONCE_FRAMES = range(0, 96, 2)

Clicks = Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]


def whole(features: ImageFeatures) -> Look:
    """A frame of which only the whole picture is looked at."""
    return lambda _: features


class StopAfter(StopRequest):
    """Asks to stop after so many batches."""

    def __init__(self, batches: int) -> None:
        """Count from here."""
        super().__init__()
        self._left = batches

    def is_set(self) -> bool:
        """Asked once per batch."""
        self._left -= 1
        return self._left < 0


class Lab:
    """A home with models and a video, and what several questions need."""

    def __init__(self, folder: Path) -> None:
        """Make the home in ``folder``."""
        self.home = folder
        official.make_home(folder)
        self.keeper = ModelKeeper()
        self._kept: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @functools.cached_property
    def squares(self) -> list[np.ndarray]:
        """The video's pictures as the model sees them."""
        return [resize_to_square(picture, SIDE) for picture in official.pictures()]

    @functools.cached_property
    def predictor(self) -> official.Official:
        """The official predictor."""
        return official.Official(
            official.model_spec(self.home), self.squares, self.home / "squares"
        )

    def official_from(self, at: int, reverse: bool) -> official.Logits:
        """Its logits of three objects clicked in frame ``at``."""
        clicks = {"mouse": {at: [MOUSE]}, "nest": {at: [NEST]}, "rat": {at: [RAT]}}
        return self._once((at, reverse), lambda: self.predictor.propagated(clicks, reverse=reverse))

    def model(self, name: str = "calm", dtype: torch.dtype = torch.float32) -> VideoModel:
        """Ours."""
        cpu = torch.device("cpu")
        spec = official.model_spec(self.home, name)
        return self._once((name, dtype), lambda: VideoModel(load_model(spec, cpu), cpu, dtype))

    def features(self, name: str = "calm", frames: int = FRAMES) -> list[ImageFeatures]:
        """Of the video's first pictures, in float32."""
        model = self.model(name)
        return self._once(
            (name, frames), lambda: [model.encode([one])[0] for one in self.squares[:frames]]
        )

    def request(
        self,
        masks_path: Path,
        clicks: Clicks,
        *,
        frames: Sequence[int] = ALL_AT_ONCE_FRAMES,
        video: str = "video.mp4",
        **fields: Any,
    ) -> WorkerRequest:
        """A request for the objects that are clicked, and one that is not."""
        table = masks_path.with_suffix(".frames.npz")
        write_frame_table(table, list(frames), [frame / 30 for frame in frames])
        values: dict[str, Any] = {
            "video_path": str(self.home / video),
            "identity": "video",
            "masks_path": str(masks_path),
            "frame_table": str(table),
            "height": HEIGHT,
            "width": WIDTH,
            "objects": (*((name, KINDS[name]) for name in clicks), ("stranger", "animal")),
            "clicks": tuple(
                Click(name, x, y, frame)
                for name, by_frame in clicks.items()
                for frame, points in by_frame.items()
                for x, y in points
            ),
            "model": official.model_spec(self.home, "lively"),
            "device": "cpu",
            "locks_folder": str(self.home / "locks"),
            "checkpoint_folder": str(masks_path.with_suffix(".checkpoints")),
            **fields,
        }
        return WorkerRequest(**values)

    def segment(self, request: WorkerRequest, stop: StopRequest | None = None) -> dict[str, Any]:
        """In this process, with a model that is loaded once."""
        return segment_video(request, say=print, progress=_nothing, stop=stop, keeper=self.keeper)

    def segment_with_stops(
        self, request: WorkerRequest, every: int | None, say: Callable[[str], None] = print
    ) -> tuple[dict[str, Any], int]:
        """The report, and how often it was stopped: after ``every`` frames, until it is done."""
        for stops in range(200):
            stop = StopRequest() if every is None else StopAfter(every)
            try:
                report = segment_video(
                    request, say=say, progress=_nothing, stop=stop, keeper=self.keeper
                )
                return report, stops
            except Stopped:
                assert not Path(request.masks_path).exists()
        raise AssertionError("it does not come to an end")

    @functools.cached_property
    def uninterrupted(self) -> tuple[str, int]:
        """sha256 of the NPZ with everything at once, and how many frames were looked at."""
        path = self.home / "uninterrupted.npz"
        report = self.segment(self.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE))
        return sha256(path), report["frames_tracked"]


def _nothing(*_: object) -> None:
    return None


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_fractions(clicks: Clicks) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Pixels of the video -> fractions."""
    return {
        name: {t: [(x / WIDTH, y / HEIGHT) for x, y in points] for t, points in by_frame.items()}
        for name, by_frame in clicks.items()
    }


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` in this block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# Equality with the official predictor


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


# Interrupted and continued


def stopped_again_and_again(lab: Lab, every: int, follow: bool) -> dict[str, Any]:
    """Stopped after every so many frames, until the video is done."""
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "masks.npz", Path(folder) / "at_once.npz"
        model = dataclasses.replace(
            official.model_spec(lab.home, "lively"), follow=follow, refine=follow
        )
        fields = {"settings": ALL_AT_ONCE, "model": model}
        expected, _ = lab.uninterrupted
        if follow:
            lab.segment(lab.request(other, ALL_AT_ONCE_CLICKS, **fields))
            assert sha256(other) != expected  # these are other masks
            expected = sha256(other)
        report, stops = lab.segment_with_stops(
            lab.request(path, ALL_AT_ONCE_CLICKS, **fields), every
        )
        return {"stops": stops, "same": sha256(path) == expected, "resumed": report["resumed"]}


def looked_ahead(lab: Lab) -> dict[str, Any]:
    """The same masks with the next picture encoded ahead and without; how many were, and where."""
    model = dataclasses.replace(official.model_spec(lab.home, "lively"), follow=True)
    encode, by = VideoModel.encode, Counter[str]()

    def counted(self: VideoModel, pictures: Any) -> Any:
        by[threading.current_thread().name.split("_")[0]] += 1
        return encode(self, pictures)

    digests = []
    with tempfile.TemporaryDirectory() as folder, replaced(VideoModel, "encode", counted):
        for ahead in (False, True):
            by.clear()
            path = Path(folder) / f"{ahead}.npz"
            with replaced(tracking_pass, "another_core", lambda ahead=ahead: ahead):
                lab.segment(
                    lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE, model=model)
                )
            digests.append(sha256(path))
    return {"same": digests[0] == digests[1], "ahead": by["encode"], "all": by.total()}


class _Staring(ViewFollower):
    """Looks at one view whatever happens."""

    def __init__(self, view: View) -> None:
        super().__init__("animal", (WIDTH, HEIGHT), 1)
        self._view = view

    def begin(self, extent: Any) -> View | None:
        return self._view

    def seen(self, extent: Any) -> None:
        pass


def in_a_view(lab: Lab) -> dict[str, Any]:
    """Tracked in a view of a video, and in a video that is that view."""
    model, view = lab.model("lively"), View(40, 20, 120, 100)
    pictures = np.random.default_rng(3).integers(0, 256, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y = 0.3, 0.6
    inside = ((view.left + x * view.width) / WIDTH, (view.top + y * view.height) / HEIGHT)
    follower = _Staring(view)
    ours = StreamingTracker(
        model.head, {"mouse": {0: [inside]}}, image_size=SIDE,
        followers={"mouse": follower}, picture=(WIDTH, HEIGHT),
    )  # fmt: skip
    alone = StreamingTracker(model.head, {"mouse": {0: [(x, y)]}}, image_size=SIDE)
    differences, judged, scale = [], [], 0.0
    for step, picture in enumerate(pictures):

        def look(part: View | None, picture: np.ndarray = picture) -> ImageFeatures:
            shown = picture if part is None else part.cut(picture)
            return model.encode([resize_to_square(shown, SIDE)])[0]

        masks = ours.track(step, look).masks
        expected = alone.track(step, whole(look(view))).masks
        differences.append(float((masks.in_views - expected.in_views).abs().max()))
        scale = max(scale, float(expected.logits.std()))
        enlarger = mask_output.MaskEnlarger(SIDE // 4, HEIGHT, WIDTH, fill_hole_area=0)
        large = enlarger.mask(masks.in_views[0].numpy(), masks.views[0])
        share = float((masks.logits > 0).float().mean())
        judged.append(abs(share - large.mean()))
    return {"differences": differences, "scale": scale, "judged": judged}


def damaged(lab: Lab, file: str, by: str) -> dict[str, Any]:
    """Stopped in the forward pass; then a file of the checkpoint is cut or removed."""
    expected, looks = lab.uninterrupted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        request = lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE)
        with suppress(Stopped):
            lab.segment(request, StopAfter(40))
        victim = Path(request.checkpoint_folder) / file
        size = victim.stat().st_size
        if by == "removing":
            victim.unlink()
        else:
            os.truncate(victim, size // 2)
        report = lab.segment(request)
        return {
            "size": size,
            "same": sha256(path) == expected,
            "done_again": report["frames_tracked"] - (looks - 41),
        }


def ended(lab: Lab, at: int, by: str) -> dict[str, Any]:
    """Another process does the video and gets a signal before its ``at``-th look at a frame.

    Then this one goes on.
    """
    expected, looks = lab.uninterrupted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        request = lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE)
        child = os.fork()
        if not child:
            _die_at(lab, request, at, signal.Signals[by])
        _, status = os.waitpid(child, 0)
        report = lab.segment(request)
        return {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "exit_status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "looks": looks,
            "done_again": report["frames_tracked"] - (looks - at),
            "resumed": report["resumed"],
            "same": sha256(path) == expected,
        }


def _die_at(lab: Lab, request: WorkerRequest, at: int, signal_number: int) -> None:
    status = 1
    try:
        looks = 0
        encode = VideoModel.encode

        def counting(model: VideoModel, pictures: Any) -> Any:
            nonlocal looks
            if looks == at:
                os.kill(os.getpid(), signal_number)
            looks += 1
            return encode(model, pictures)

        stop = StopRequest()
        stop.obey_sigterm()
        with replaced(VideoModel, "encode", counting):
            lab.segment(request, stop)
        status = 0
    except Stopped:
        status = 143
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


# Corrections


def correction(
    lab: Lab,
    old: dict[str, dict[str, Any]],
    new: dict[str, dict[str, Any]],
    changed_from: dict[str, int | None],
    frames: Sequence[int],
    guarded: bool,
) -> dict[str, Any]:
    """Masks from ``old`` clicks corrected to ``new`` ones, beside those from scratch."""
    settings = EngineSettings(drift_guard=guarded, refind=False, nest_every=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known, again = folder / "known.npz", folder / "again.npz"
        lab.segment(lab.request(known, _read(old), frames=frames, settings=settings))
        scratch = folder / "scratch.npz"
        whole = lab.segment(lab.request(scratch, _read(new), frames=frames, settings=settings))
        report = lab.segment(
            lab.request(
                again,
                _read(new),
                frames=frames,
                settings=settings,
                known_masks=str(known),
                changed_from=changed_from,
            )
        )
        before, after, best = np.load(known), np.load(again), np.load(scratch)
        tables = sorted(set(best.files) | set(after.files))
        return {
            "differing": [t for t in tables if t not in after or not _same(after[t], best[t])],
            "same_file": sha256(again) == sha256(scratch),
            "largest_score_difference": max(
                float(np.abs(after[t] - best[t]).max()) for t in tables if t.endswith("_score")
            ),
            "changed": [t for t in tables if t not in before or not _same(after[t], before[t])],
            "frames_tracked": report["frames_tracked"],
            "frames_from_scratch": whole["frames_tracked"],
        }


def _read(clicks: dict[str, dict[str, Any]]) -> Clicks:
    return {
        name: {int(frame): [tuple(p) for p in points] for frame, points in by_frame.items()}
        for name, by_frame in clicks.items()
    }


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# The nest, and the guard


def still_nest_that_moves_once(
    lab: Lab, every: int, moves_at: int, frames: int, animal: Sequence[int]
) -> dict[str, Any]:
    """States of a nest in a picture that stands still, but for one frame in which it shifts.

    ``animal``: steps of clicks on one whose mask overlaps the nest's, each on another place.
    """
    model = lab.model("lively")
    still = lab.squares[0]
    moved = np.roll(still, 90, axis=1)
    pictures = {False: model.encode([still])[0], True: model.encode([moved])[0]}
    places = {step: [point] for step, point in zip(animal, (MOUSE, RAT), strict=False)}
    clicks = in_fractions({"nest": {0: [NEST]}} | ({"mouse": places} if places else {}))
    schedule = NestSchedule(every, seconds_per_step=0.1, clicked=[0])
    tracker = StreamingTracker(model.head, clicks, image_size=SIDE, schedules={"nest": schedule})
    states, looked = [], []
    for step in range(frames):
        tracked = tracker.track(step, whole(pictures[step >= moves_at]))
        states.append(tracked.states["nest"].name)
        looked.append("nest" in tracked.masks.names)
        assert tracked.held == (() if looked[-1] else ("nest",))
    return {"states": states, "looked": [step for step, seen in enumerate(looked) if seen]}


def held_masks(lab: Lab, every: int, stop_every: int | None = None) -> dict[str, Any]:
    """The file of a nest in a still video: states, and rows whose mask is not that before it.

    ``stop_every``: stopped after so many frames, until it is done.
    """
    video = lab.home / "still.mp4"
    if not video.exists():
        official.write_video(video, [next(official.pictures())] * 210)
    settings = EngineSettings(drift_guard=False, refind=False, nest_every=every)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        clicks = {"nest": {0: [(40.0, 40.0)]}}
        request = lab.request(
            path, clicks, frames=range(0, 210, 3), settings=settings, video="still.mp4"
        )
        lab.segment_with_stops(request, stop_every)
        with MaskReader(path) as reader:
            masks = [reader.packed("nest", row).tobytes() for row in range(len(reader))]
            return {
                "sha256": sha256(path),
                "states": [MaskState(s).name for s in reader.state("nest")],
                "changes": [r for r in range(1, len(masks)) if masks[r] != masks[r - 1]],
                "scores": reader.score("nest").tolist(),
                "area": int(reader.area("nest").min()),
            }


class ScriptedGuard(DriftGuard):
    """Verdicts by step and object; TRACKED where nothing is said."""

    def __init__(self, script: Mapping[tuple[int, str], Verdict]) -> None:
        """``script`` counts for what is neither clicked nor found again in that frame."""
        super().__init__(list(KINDS.items()), seconds_per_step=0.1, aspect=WIDTH / HEIGHT)
        self._script = script
        self.asked: list[tuple[float, tuple[str, ...]]] = []

    def judge(self, step: float, seen: Any, *, clicked: Any = (), refound: Any = ()) -> Any:
        """See the class."""
        out = {}
        for name in seen:
            tracked = Verdict(MaskState.TRACKED, keep_mask=True, keep_memory=True)
            out[name] = self._script.get((int(step), name), tracked)
            if name in refound:
                out[name] = Verdict(MaskState.REFOUND, keep_mask=True, keep_memory=True)
        return out


LOST = Verdict(MaskState.LOST, keep_mask=False, keep_memory=False)
WANTED = Verdict(MaskState.LOST, keep_mask=False, keep_memory=False, wants_refind=True)
EXPLODED = Verdict(MaskState.EXPLODED, keep_mask=False, keep_memory=False)


def _run(
    lab: Lab,
    clicks: Clicks,
    frames: int,
    guard: DriftGuard | None,
    find: Any = None,
) -> tuple[StreamingTracker, list[TrackedFrame], list[dict[str, Any]]]:
    tracker = StreamingTracker(
        lab.model("lively").head, in_fractions(clicks), image_size=SIDE, guard=guard
    )
    tracked, memories = [], []
    for step, features in enumerate(lab.features("lively", 40)[:frames]):
        tracked.append(tracker.track(step, whole(features), find))
        memories.append({m["names"]: m for m in tracker.state()["memories"]})
    return tracker, tracked, memories


def exploded_masks_are_forgotten(lab: Lab) -> dict[str, Any]:
    """Two objects of one memory; the masks of one explode in three frames."""
    clicks = {"mouse": {0: [MOUSE]}, "rat": {0: [RAT]}}
    script = {(step, "mouse"): EXPLODED for step in (10, 11, 12)}
    _, tracked, memories = _run(lab, clicks, 30, ScriptedGuard(script))
    _, alone, _ = _run(lab, {"rat": {0: [RAT]}}, 30, None)
    _, unguarded, _ = _run(lab, clicks, 30, None)
    rat = [_logits(frame, "rat") for frame in tracked]
    return {
        "states": {name: Counter(frame.states[name].name for frame in tracked) for name in clicks},
        "groups": [sorted(map(list, memories[9])), sorted(map(list, memories[10]))],
        "remembered": {
            names[0]: sorted(t for t in memory["recent"] if t in (9, 10, 11, 12, 13))
            for names, memory in memories[14].items()
        },
        "the_other": max(
            float((mine - _logits(frame, "rat")).abs().max())
            for mine, frame in zip(rat, alone, strict=True)
        ),
        "changed_after": float(
            (_logits(tracked[13], "mouse") - _logits(unguarded[13], "mouse")).abs().max()
        ),
        "same_before": float(
            (_logits(tracked[9], "mouse") - _logits(unguarded[9], "mouse")).abs().max()
        ),
    }


def _logits(frame: TrackedFrame, name: str) -> torch.Tensor:
    return frame.masks.logits[frame.masks.names.index(name)]


def found_again(lab: Lab) -> dict[str, Any]:
    """Lost at 5, wanted at 8 (nothing is found), 12 and 20 (found); clicked by a person at 30."""
    clicks = {"mouse": {0: [MOUSE], 30: [MOUSE]}, "rat": {0: [RAT]}}
    script = {(step, "mouse"): LOST for step in range(5, 20)}
    script |= {(step, "mouse"): WANTED for step in (8, 12, 20)}
    calls = []

    def find(others: Mapping[str, np.ndarray], believed: np.ndarray | None) -> Place | None:
        calls.append((sorted(others), believed))
        return None if len(calls) == 1 else (0.6, 0.5)

    _, tracked, memories = _run(lab, clicks, 34, ScriptedGuard(script), find)
    prompted, _, _ = _run(lab, {"mouse": {12: [(0.6 * WIDTH, 0.5 * HEIGHT)]}}, 1, None)
    alone = prompted.track(12, whole(lab.features("lively", 40)[12]))
    mouse = [memory[("mouse",)] for memory in memories[6:]]
    return {
        "states": [frame.states["mouse"].name for frame in tracked],
        "calls": calls,
        "clicked_frames": {
            step: sorted(mouse[step - 6]["clicked"]) for step in (11, 12, 20, 29, 30)
        },
        "recent_after": sorted(mouse[12 - 6]["recent"]),
        "is_the_prompted_mask": bool(
            torch.equal(_logits(tracked[12], "mouse"), alone.masks.logits[0])
        ),
    }


def checked(lab: Lab) -> dict[str, Any]:
    """Checked at 6 (it is where it is believed) and at 12, when it is seen elsewhere."""
    clicks = {"mouse": {0: [MOUSE]}, "rat": {0: [RAT]}}
    wanted = Verdict(MaskState.TRACKED, keep_mask=True, keep_memory=True, wants_check=True)
    script = {(step, "mouse"): wanted for step in (6, 12)}
    calls = []

    def find(others: Mapping[str, np.ndarray], believed: np.ndarray | None) -> Place | None:
        calls.append((sorted(others), believed is not None))
        return None if len(calls) == 1 else (0.6, 0.5)

    _, tracked, memories = _run(lab, clicks, 16, ScriptedGuard(script), find)
    return {
        "states": [frame.states["mouse"].name for frame in tracked],
        "calls": calls,
        "groups": [sorted(map(list, memories[step])) for step in (6, 12)],
        "clicked": sorted(memories[12][("mouse",)]["clicked"]),
    }


def guessed_clicks(lab: Lab) -> dict[str, Any]:
    """Clicks of the background model in frame 0, of which the guard believes one and not the other;
    the other is looked for in frame 8."""
    clicks = {"mouse": {0: [MOUSE]}, "rat": {0: [RAT]}}
    script = {(step, "mouse"): LOST for step in range(8)} | {(8, "mouse"): WANTED}
    asked = []

    def find(others: Mapping[str, np.ndarray], believed: np.ndarray | None) -> Place:
        asked.append(sorted(others))
        return 0.3, 0.4

    found = {}
    for guessed in ((), ("mouse", "rat")):
        tracker = StreamingTracker(
            lab.model("lively").head, in_fractions(clicks), image_size=SIDE,
            guard=ScriptedGuard(script), guessed=guessed,
        )  # fmt: skip
        states, remembered = [], []
        for step, features in enumerate(lab.features("lively", 40)[:12]):
            tracked = tracker.track(step, whole(features), find)
            states.append({name: state.name for name, state in tracked.states.items()})
            if step == 5:  # in between it is stopped, and goes on
                state = tracker.state()
                tracker.restore(state)
            memories = {name: m for m in tracker.state()["memories"] for name in m["names"]}
            remembered.append({name: len(m["clicked"]) for name, m in memories.items()})
        found["guessed" if guessed else "given"] = {"states": states, "remembered": remembered}
    return found | {"asked": asked}


def found_in_the_video(lab: Lab, every: int | None) -> dict[str, Any]:
    """The worker with its own finder, and a guard that loses the mouse; stopped every so often."""
    clicks = {"mouse": {0: [MOUSE]}, "nest": {0: [NEST]}}
    script = {(step, "mouse"): WANTED for step in range(20, 40)}
    settings = EngineSettings(nest_every=5)
    said: list[str] = []
    video = lab.home / "textured.mp4"
    if not video.exists():
        official.write_video(video, official.pictures(textured=True))
    with (
        tempfile.TemporaryDirectory() as folder,
        replaced(video_passes, "DriftGuard", lambda *_, **__: ScriptedGuard(script)),
    ):
        path = Path(folder) / "masks.npz"
        request = lab.request(
            path, clicks, frames=range(0, FRAMES, 2), settings=settings, video=video.name
        )
        lab.segment_with_stops(request, every, said.append)
        with MaskReader(path) as reader:
            states = [MaskState(s).name for s in reader.state("mouse")]
        return {"sha256": sha256(path), "states": states, "said": said}


def judged_by_the_real_guard(lab: Lab) -> dict[str, Any]:
    """A still scene, a nest and two animals through the worker: states and what is written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        lab.segment(lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE))
        with MaskReader(path) as reader:
            found = {}
            for name in reader.objects:
                states, areas = reader.state(name), reader.area(name)
                found[name] = {
                    MaskState(s).name: [
                        int(areas[states == s].min()),
                        int(areas[states == s].max()),
                    ]
                    for s in np.unique(states)
                }
        return found


# Precision, memory, compilation


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
            report = segment_video(
                request, say=said.append, progress=_nothing, keeper=ModelKeeper()
            )
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


CHECKS: dict[str, Callable[..., Any]] = {
    check.__name__: check
    for check in (
        official_and_ours,
        clicks_on_different_frames,
        several_clicks_on_one_frame,
        corrected_object,
        in_a_view,
        looked_ahead,
        stopped_again_and_again,
        ended,
        damaged,
        correction,
        still_nest_that_moves_once,
        held_masks,
        exploded_masks_are_forgotten,
        found_again,
        checked,
        guessed_clicks,
        found_in_the_video,
        judged_by_the_real_guard,
        agreement,
        precisions,
        masks_on_the_device,
        out_of_memory,
        models_that_do_not_fit,
        compiled,
        resident_memory,
    )
}


def main(folder: Path) -> None:
    """Answer until the questions end."""
    # One thread is what busy cores slow down least, and what a forked child can go on with.
    torch.set_num_threads(1)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print is not an answer
        lab = Lab(folder)
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = {"answer": CHECKS[asked["check"]](lab, **asked["with"])}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
