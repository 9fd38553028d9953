"""What the SAM2 engine looks at, holds, forgets and finds again: the nest, and the guard."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import official_sam2_reference as official
import torch
from official_sam2_reference import FRAMES, HEIGHT, SIDE, WIDTH
from sam2_engine_lab import (
    ALL_AT_ONCE,
    ALL_AT_ONCE_CLICKS,
    KINDS,
    MOUSE,
    NEST,
    RAT,
    Clicks,
    Lab,
    in_fractions,
    replaced,
    sha256,
    whole,
)

from sam2_worker import video_passes
from sam2_worker.drift_guard import DriftGuard, Verdict
from sam2_worker.first_look import Place
from sam2_worker.nest_schedule import NestSchedule
from sam2_worker.request import EngineSettings
from sam2_worker.streaming_tracker import StreamingTracker, TrackedFrame
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState


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


def found_on_another(lab: Lab) -> dict[str, Any]:
    """The mouse is lost, and looked for at 12 where the rat is: what becomes of it, and what the
    guard has learnt from the look."""
    clicks = {"mouse": {0: [MOUSE]}, "rat": {0: [RAT]}}
    script = {(step, "mouse"): LOST for step in range(5, 20)} | {(12, "mouse"): WANTED}
    guard = ScriptedGuard(script)
    learnt: list[bool] = []
    judge = guard.judge

    def judging(*arguments: Any, **how: Any) -> Any:
        learnt.append("mouse" in how.get("refound", ()))
        return judge(*arguments, **how)

    guard.judge = judging  # type: ignore[method-assign]
    tracker = StreamingTracker(
        lab.model("lively").head, in_fractions(clicks), image_size=SIDE, guard=guard
    )
    # Where the tracker's eyes are turned to, they see the rat again.
    seen = tracker._looker.together
    tracked = []
    for step, features in enumerate(lab.features("lively", 40)[:16]):

        def together(looks: Any, step: int = step) -> Any:
            masks = seen(looks)
            if step != 12 or len(masks.names) < 2 or masks.names[0] != "mouse":
                return masks
            rat = masks.names.index("rat")
            logits = masks.logits.clone()
            logits[0] = logits[rat]
            return replace(masks, logits=logits)

        tracker._looker.together = together  # type: ignore[method-assign]
        tracked.append(tracker.track(step, whole(features), lambda *_: (0.6, 0.5)))
    memories = {m["names"]: m for m in tracker.state()["memories"]}
    return {
        "states": [frame.states["mouse"].name for frame in tracked],
        "rat": sorted({frame.states["rat"].name for frame in tracked}),
        "clicked": sorted(memories[("mouse",)]["clicked"]),
        "judged_as_found": any(learnt),
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
