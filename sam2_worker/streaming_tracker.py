"""SAM2 tracking with frames in one at a time, masks out one at a time, in constant memory.

The official ``SAM2VideoPredictor.init_state`` holds the whole video as float32 and never drops a
memory (Ravi et al., SAM 2, arXiv:2408.00714, describe the memory bank). This keeps of the past only
what a later frame can still look at (object_memory.py). Without a guard and with every object
looked at in every frame, the masks are those of the official ``propagate_in_video``; backwards they
are those of its ``reverse=True``, by giving the frames in reverse order
(tests/test_sam2_engine.py holds the two side by side).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch

from sam2_worker.drift_guard import DriftGuard, Measured, Verdict
from sam2_worker.first_look import PERSONS_EVIDENCE, Look, Place, Prompted
from sam2_worker.looker import Looker, ObjectLook
from sam2_worker.mask_measurement import FrameMasks
from sam2_worker.nest_schedule import NestSchedule
from sam2_worker.object_memory import ObjectMemory, TrackingHead
from sam2_worker.second_look import Finder, SecondLook
from sam2_worker.seen_frame import SeenFrame
from sam2_worker.view import View
from sam2_worker.view_follower import ViewFollower
from tailor_assets.compute.mask_state import MaskState

# Object -> step -> clicks (x, y), fractions of the picture's width and height, all on the object.
Clicks = Mapping[str, Mapping[float, Sequence[Place]]]
# x0, y0, x1, y1 in fractions of the picture.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrackedFrame:
    """One frame's masks.

    ``masks`` are those of the objects looked at; ``held`` names objects whose last mask stands for
    this one; ``states`` has every object that has started. A mask whose state is EXPLODED or LOST
    is not to be used.
    """

    masks: FrameMasks
    held: tuple[str, ...]
    states: Mapping[str, MaskState]


class StreamingTracker:
    """Tracks objects from their clicks through the frames it is given."""

    def __init__(
        self,
        head: TrackingHead,
        clicks: Clicks,
        *,
        image_size: int,
        guard: DriftGuard | None = None,
        schedules: Mapping[str, NestSchedule] | None = None,
        followers: Mapping[str, ViewFollower] | None = None,
        picture: tuple[int, int] = (1, 1),
        guessed: Collection[str] = (),
        starts: Mapping[str, float] | None = None,
        beside: Clicks | None = None,
    ) -> None:
        """Group the objects whose clicks are on the same frames.

        ``schedules``: objects that need not be looked at in every frame. ``followers``: objects
        that are looked at in views of their own, of a ``picture`` of (width, height) pixels.
        ``guessed``: objects whose clicks count only where the guard believes what the model sees
        there; else they are lost from that frame on, and looked for. ``starts``: steps before
        which an object is looked at where it is clicked only, because its masks are known; each
        must be a step with a click on it. ``beside``: of an object that is followed, clicks that are
        on others in a frame in which it is clicked itself; where its mask takes them in, they say
        that it should not. Raises ValueError for an object without clicks.
        """
        if not clicks or any(not steps or not all(steps.values()) for steps in clicks.values()):
            raise ValueError("every object needs a click")
        self._head = head
        self._clicks = clicks
        self._guard = guard
        self._schedules = dict(schedules or {})
        self._followers = dict(followers or {})
        self._picture = picture
        self._guessed = frozenset(guessed)
        self._refused: set[str] = set()
        self._starts = dict(starts or {})
        self._clicks_beside = beside or {}
        self._memories = [ObjectMemory(names, head) for names in self._groups()]
        self._held: dict[str, torch.Tensor] = {}
        self._seen: dict[str, _Seen] = {}
        self._looker = Looker(head, self._followers, image_size=image_size, picture=picture)
        self._again = SecondLook(self._looker, guard, self._followers, self._beside)

    def _groups(self) -> Iterator[tuple[str, ...]]:
        alike: dict[Any, list[str]] = {}
        for name, steps in self._clicks.items():
            key = (
                tuple(sorted((step, len(points)) for step, points in steps.items())),
                # What is looked at now and then has a time of its own, and what is followed a view.
                name if name in self._schedules or name in self._followers else None,
                self._starts.get(name),
            )
            alike.setdefault(key, []).append(name)
        yield from (tuple(names) for names in alike.values())

    @property
    def frames_held(self) -> int:
        """Past frames held now, over all objects (it stays bounded; a test looks at it)."""
        return sum(memory.frames_held for memory in self._memories)

    @torch.inference_mode()
    def track(
        self,
        step: float,
        look: Look,
        find: Finder | None = None,
        *,
        clicked_only: bool = False,
    ) -> TrackedFrame:
        """Take the next frame; ``step`` is its number, and greater than that of the one before.

        ``clicked_only``: look at the objects that are clicked in this frame, and at no other.
        """
        looked: list[ObjectLook] = []
        held: list[str] = []
        started: dict[View | None, torch.Tensor] = {}
        for memory in self._memories:
            clicks = (self._prompted(name, step) for name in memory.names)
            prompted = [one for one in clicks if one is not None]
            if not prompted:
                begun = memory.started and step >= self._starts.get(memory.names[0], step)
                if memory.names[0] in self._refused and not clicked_only:
                    looked.append(self._looker.at_nothing(memory))
                    continue
                if clicked_only or not begun:
                    continue
                if not self._wanted(memory.names[0], step):
                    held.extend(memory.names)
                    continue
                view = self._view(memory)
                features = look(view)
                if view not in started:
                    started[view] = self._head.attention.start(features.top)
                prediction = memory.predict(step, features, started[view], None)
                looked.append(ObjectLook(memory, prediction, view, clicked=False))
            else:
                memory.forget_found()
                clicked = self._looker.at_clicks(memory, step, look, prompted)
                self._again.note_looks(clicked, look)
                looked.append(clicked)
        masks = self._looker.together(looked)
        frame = SeenFrame(masks, self._followers, self._picture)
        if self._schedules:
            self._note_stirring(frame)
        verdicts = self._judge(step, looked, frame)
        masks = self._remember(step, looked, masks, frame, verdicts, look, find)
        self._hold(step, masks)
        self._follow(verdicts, frame)
        states = {name: verdict.state for name, verdict in verdicts.items()}
        states |= dict.fromkeys(held, MaskState.HELD)
        return TrackedFrame(masks, tuple(held), states)

    def _view(self, memory: ObjectMemory) -> View | None:
        follower = self._followers.get(memory.names[0])
        return None if follower is None else follower.view

    def _prompted(self, name: str, step: float) -> Prompted | None:
        """The clicks on an object in a frame."""
        points = self._clicks[name].get(step)
        if points is None:
            return None
        evidence = 0.0 if name in self._guessed else PERSONS_EVIDENCE
        return Prompted(points, self._beside(name, step), evidence, thorough=True)

    def _beside(self, name: str, step: float) -> Sequence[Place]:
        return self._clicks_beside.get(name, {}).get(step, ())

    def _follow(self, verdicts: Mapping[str, Verdict], frame: SeenFrame) -> None:
        """Move the views for the next frame."""
        for name, follower in self._followers.items():
            if name in verdicts:
                kept = verdicts[name].keep_mask
                follower.seen(frame.extents.get(name) if kept else None)

    def _wanted(self, name: str, step: float) -> bool:
        schedule = self._schedules.get(name)
        return schedule is None or schedule.wants(step, disturbed=self._is_touched(name))

    def _is_touched(self, name: str) -> bool:
        """Whether something was at this object in its last frame and moved: it may change then."""
        own = self._seen.get(name)
        return own is not None and any(
            other.stirred and _meet(own.box, other.box)
            for other_name, other in self._seen.items()
            if other_name not in self._schedules
        )

    def _note_stirring(self, frame: SeenFrame) -> None:
        for name, measured in frame.measured.items():
            before = self._seen.pop(name, None)
            if measured.box is not None:
                self._seen[name] = _Seen.after(before, measured, frame.side)

    def _judge(
        self, step: float, looked: Sequence[ObjectLook], frame: SeenFrame
    ) -> dict[str, Verdict]:
        names = [name for look in looked for name in look.memory.names]
        if self._guard is None or not names:
            return {name: Verdict(MaskState.TRACKED, True, True) for name in names}
        clicked = {name for look in looked if look.clicked for name in look.memory.names}
        return self._guard.judge(step, frame.measured, clicked=clicked)

    def _remember(
        self,
        step: float,
        looked: Sequence[ObjectLook],
        masks: FrameMasks,
        frame: SeenFrame,
        verdicts: dict[str, Verdict],
        look: Look,
        find: Finder | None,
    ) -> FrameMasks:
        """Let the memories learn from this frame what the verdicts allow; return its masks.

        They are ``masks``, those of ``looked``, unless an object goes its own way or is found.
        """
        if find is not None:
            self._again.check(looked, verdicts, frame, find)
        parts = [part for one in looked for part in self._apart(one, verdicts)]
        as_looked = len(parts) == len(looked)
        apart = self._again.at_merged(step, parts, look, verdicts, frame)
        for number, part in enumerate(parts):
            memory, name = part.memory, part.memory.names[0]
            found = apart.get(name)
            if found is None and verdicts[name].wants_refind and find is not None:
                found = self._again.at_lost(step, parts, number, look, find, verdicts, frame)
            if found is not None:
                parts[number], verdicts[name] = found
                as_looked = False
                again = found[0]
                features = look(again.view)
                memory.remember(step, features, again.prediction, clicked=True, found=True)
                self._refused.discard(name)
            elif verdicts[name].keep_memory or (part.clicked and name not in self._guessed):
                features = look(part.view)
                memory.remember(step, features, part.prediction, clicked=part.clicked)
            elif part.clicked:
                self._refused.add(name)
            memory.tick()
        # Joining them once more would wait for the GPU once more.
        return masks if as_looked else self._looker.together(parts)

    def _apart(self, look: ObjectLook, verdicts: Mapping[str, Verdict]) -> list[ObjectLook]:
        """Objects that go on together, and those that from this frame on have a past of their own."""
        parts = []
        for name in look.memory.names:
            verdict = verdicts[name]
            goes_on = verdict.keep_memory and not verdict.wants_refind
            if goes_on or len(look.memory.names) == 1:
                continue
            alone, look = look.split(name)
            self._memories.append(alone.memory)
            parts.append(alone)
        return [*parts, look]

    def _hold(self, step: float, masks: FrameMasks) -> None:
        for i, name in enumerate(masks.names):
            schedule = self._schedules.get(name)
            if schedule is None:
                continue
            mask, last = masks.logits[i] > 0, self._held.get(name)
            likeness = None
            if last is not None:
                both, either = (mask & last).sum(), (mask | last).sum()
                likeness = float(both / either) if either else 1.0
            if schedule.refreshed(step, likeness):
                self._held[name] = mask

    def state(self) -> dict[str, Any]:
        """All that the next frame's masks depend on, as CPU tensors and plain values."""
        return {
            "memories": [memory.state() for memory in self._memories],
            "held": {name: mask.cpu() for name, mask in self._held.items()},
            "seen": {name: astuple(seen) for name, seen in self._seen.items()},
            "guard": None if self._guard is None else self._guard.state_dict(),
            "schedules": {name: s.state_dict() for name, s in self._schedules.items()},
            "looks": self._again.state(),
            "refused": sorted(self._refused),
            "followers": {name: f.state() for name, f in self._followers.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken, with the same clicks, guard and schedules."""
        device = self._head.no_memory.device
        self._memories = [ObjectMemory.from_state(s, self._head) for s in state["memories"]]
        self._held = {name: mask.to(device) for name, mask in state["held"].items()}
        self._seen = {name: _Seen(*values) for name, values in state["seen"].items()}
        if self._guard is not None:
            self._guard.load_state_dict(state["guard"])
        for name, schedule in self._schedules.items():
            schedule.load_state_dict(state["schedules"][name])
        self._again.restore(state["looks"])
        self._refused = set(state["refused"])
        for name, follower in self._followers.items():
            follower.restore(state["followers"][name])


@dataclass(frozen=True)
class _Seen:
    """An object's mask in its last frame: box and area (shares of the frame), and whether it had
    changed since the frame before."""

    box: Box
    area: float
    stirred: bool

    @classmethod
    def after(cls, before: "_Seen | None", now: Measured, side: int) -> "_Seen":
        """``side`` cells of the mask's grid: an outline at rest wavers by one of them."""
        assert now.box is not None
        if before is None:
            return cls(now.box, now.area, True)
        moved = max(abs(a - b) for a, b in zip(now.box, before.box, strict=True))
        grown = max(now.area, before.area) / min(now.area, before.area)
        return cls(now.box, now.area, moved * side > 1.5 or grown > 1.1)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
