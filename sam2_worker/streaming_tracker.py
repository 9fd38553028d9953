"""SAM2 tracking with frames in one at a time, masks out one at a time, in constant memory.

The official ``SAM2VideoPredictor.init_state`` holds the whole video as float32 and never drops a
memory (Ravi et al., SAM 2, arXiv:2408.00714, describe the memory bank). This keeps of the past only
what a later frame can still look at (object_memory.py). Without a guard and with every object
looked at in every frame, the masks are those of the official ``propagate_in_video``; backwards they
are those of its ``reverse=True``, by giving the frames in reverse order
(tests/test_sam2_engine.py holds the two side by side).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch

from sam2_worker.drift_guard import DriftGuard, Measured, Verdict
from sam2_worker.first_look import (
    PERSONS_EVIDENCE,
    FirstLook,
    Look,
    Place,
    Prompted,
    as_prompts,
)
from sam2_worker.mask_heads import Prediction
from sam2_worker.mask_measurement import (
    NO_LOGIT,
    FrameMasks,
    extent_in_view,
    looks_of,
    measure,
    on_picture,
)
from sam2_worker.nest_schedule import NestSchedule
from sam2_worker.object_memory import ObjectMemory, TrackingHead
from sam2_worker.parting import Bodies, bodies_apart, whose
from sam2_worker.view import View
from sam2_worker.view_follower import Extent, ViewFollower
from tailor_assets.compute.mask_state import MaskState

# Object -> step -> clicks (x, y), fractions of the picture's width and height, all on the object.
Clicks = Mapping[str, Mapping[float, Sequence[Place]]]
# Asked for an animal that may be lost: the masks of the others that are not, and the one that is
# believed to be its own (None where it is lost), each bool [h, w], a grid of the whole picture.
# Returns (x, y) of a point inside it, in fractions of the picture's width and height, or None: no
# animal is seen, or one is seen where it is believed.
Finder = Callable[[Mapping[str, np.ndarray], np.ndarray | None], Place | None]

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


# Share of a mask from which on it is of the animal that it lies on.
_TAKEN = 0.5


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
        self._image_size = image_size
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
        self._measured: dict[str, Measured] = {}
        self._logits: dict[str, torch.Tensor] = {}
        self._extents: dict[str, Extent | None] = {}
        self._seen: dict[str, _Seen] = {}
        self._looks: dict[str, np.ndarray] = {}

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
        looked: list[_Look] = []
        held: list[str] = []
        started: dict[View | None, torch.Tensor] = {}
        for memory in self._memories:
            clicks = (self._prompted(name, step) for name in memory.names)
            prompted = [one for one in clicks if one is not None]
            if not prompted:
                begun = memory.started and step >= self._starts.get(memory.names[0], step)
                if memory.names[0] in self._refused and not clicked_only:
                    looked.append(_Look(memory, self._nothing(memory), None, clicked=False))
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
                looked.append(_Look(memory, prediction, view, clicked=False))
            else:
                memory.forget_found()
                clicked = self._look_at_clicks(memory, step, look, prompted)
                self._note_looks(clicked, look)
                looked.append(clicked)
        masks = self._together(looked)
        verdicts = self._judge(step, looked, masks)
        masks = self._remember(step, looked, masks, verdicts, look, find)
        self._hold(step, masks)
        self._follow(verdicts)
        states = {name: verdict.state for name, verdict in verdicts.items()}
        states |= dict.fromkeys(held, MaskState.HELD)
        return TrackedFrame(masks, tuple(held), states)

    def _view(self, memory: ObjectMemory) -> View | None:
        follower = self._followers.get(memory.names[0])
        return None if follower is None else follower.view

    def _look_at_clicks(
        self, memory: ObjectMemory, step: float, look: Look, prompted: Sequence[Prompted]
    ) -> "_Look":
        """See what the clicks are on; where it is followed, in a view of the object's own size.

        So the view, like the memory, follows from the click and from nothing before it.
        """
        follower = self._followers.get(memory.names[0])
        if follower is None:
            prompts = as_prompts(
                [one.points for one in prompted],
                None,
                self._picture,
                self._image_size,
                device=self._head.no_memory.device,
            )
            return _Look(memory, memory.predict(step, look(None), None, prompts), None, True)
        first = FirstLook(
            memory,
            follower,
            look,
            prompted[0],
            step=step,
            image_size=self._image_size,
            picture=self._picture,
        )
        view, prediction = first.see()
        return _Look(memory, prediction, view, clicked=True)

    def _note_looks(self, clicked: "_Look", look: Look) -> None:
        """Remember how an object that is followed looks where it was clicked."""
        name = clicked.memory.names[0]
        if name in self._followers:
            looks = looks_of(look(clicked.view), clicked.prediction.logits[0])
            if looks is not None:
                self._looks[name] = looks

    def _prompted(self, name: str, step: float) -> Prompted | None:
        """The clicks on an object in a frame."""
        points = self._clicks[name].get(step)
        if points is None:
            return None
        evidence = 0.0 if name in self._guessed else PERSONS_EVIDENCE
        return Prompted(points, self._beside(name, step), evidence)

    def _beside(self, name: str, step: float) -> Sequence[Place]:
        return self._clicks_beside.get(name, {}).get(step, ())

    def _nothing(self, memory: ObjectMemory) -> Prediction:
        """What is seen of an object of which nothing is known."""
        count, side = len(memory.names), self._image_size // 4
        known = self._head.no_memory
        return Prediction(
            known.new_full((count, side, side), NO_LOGIT),
            known.new_full((count, 1), NO_LOGIT),
            known.new_zeros((count, known.shape[-1])),
            known.new_zeros(count),
        )

    def _follow(self, verdicts: Mapping[str, Verdict]) -> None:
        """Move the views for the next frame."""
        for name, follower in self._followers.items():
            if name in verdicts:
                kept = verdicts[name].keep_mask
                follower.seen(self._extents.get(name) if kept else None)

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

    def _judge(
        self, step: float, looked: Sequence["_Look"], masks: FrameMasks
    ) -> dict[str, Verdict]:
        if self._guard is not None or self._schedules or self._followers:
            self._measured = measure(masks)
            self._logits = dict(zip(masks.names, masks.logits, strict=True))
            self._extents = {
                name: extent_in_view(logits, view, self._picture)
                for name, logits, view in zip(masks.names, masks.in_views, masks.views, strict=True)
                if name in self._followers
            }
            for name, measured in self._measured.items():
                before = self._seen.pop(name, None)
                if measured.box is not None:
                    self._seen[name] = _Seen.after(before, measured, masks.logits.shape[-1])
        if self._guard is None or not masks.names:
            return {name: Verdict(MaskState.TRACKED, True, True) for name in masks.names}
        clicked = {name for look in looked if look.clicked for name in look.memory.names}
        return self._guard.judge(step, self._measured, clicked=clicked)

    def _remember(
        self,
        step: float,
        looked: Sequence["_Look"],
        masks: FrameMasks,
        verdicts: dict[str, Verdict],
        look: Look,
        find: Finder | None,
    ) -> FrameMasks:
        """Let the memories learn from this frame what the verdicts allow; return its masks.

        They are ``masks``, those of ``looked``, unless an object goes its own way or is found.
        """
        if find is not None:
            self._check(looked, verdicts, find)
        parts = [part for look in looked for part in self._apart(look, verdicts)]
        as_looked = len(parts) == len(looked)
        apart = self._come_apart(step, parts, look, verdicts)
        for number, part in enumerate(parts):
            memory, name = part.memory, part.memory.names[0]
            found = apart.get(name)
            if found is None and verdicts[name].wants_refind and find is not None:
                found = self._find_again(step, parts, number, look, find, verdicts)
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
        return masks if as_looked else self._together(parts)

    def _check(self, looked: Sequence["_Look"], verdicts: dict[str, Verdict], find: Finder) -> None:
        """Where an animal is seen elsewhere and none where the mask is, have it looked for there."""
        for look in looked:
            for name in look.memory.names:
                verdict = verdicts[name]
                if look.clicked or not verdict.wants_check:
                    continue
                if find(self._others(name, verdicts), self._own(name, verdicts)) is not None:
                    verdicts[name] = replace(verdict, wants_refind=True)

    def _others(self, name: str, verdicts: Mapping[str, Verdict]) -> dict[str, np.ndarray]:
        """Where the other objects are."""
        masks = {other: self._own(other, verdicts) for other in self._measured if other != name}
        return {other: mask for other, mask in masks.items() if mask is not None}

    def _own(self, name: str, verdicts: Mapping[str, Verdict]) -> np.ndarray | None:
        """Where an object is; None where it is lost."""
        if not verdicts[name].keep_mask or self._measured[name].centroid is None:
            return None
        return (self._logits[name] > 0).cpu().numpy()

    def _apart(self, look: "_Look", verdicts: Mapping[str, Verdict]) -> list["_Look"]:
        """Objects that go on together, and those that from this frame on have a past of their own."""
        parts = []
        memory, prediction = look.memory, look.prediction
        for name in memory.names:
            verdict = verdicts[name]
            if len(memory.names) == 1 or not (verdict.wants_refind or not verdict.keep_memory):
                continue
            row = memory.names.index(name)
            rest = [i for i in range(len(memory.names)) if i != row]
            alone = memory.split(name)
            self._memories.append(alone)
            parts.append(_Look(alone, _rows(prediction, [row]), look.view, look.clicked))
            prediction = _rows(prediction, rest)
        return [*parts, _Look(memory, prediction, look.view, look.clicked)]

    def _find_again(
        self,
        step: float,
        parts: Sequence["_Look"],
        number: int,
        look: Look,
        find: Finder,
        verdicts: Mapping[str, Verdict],
    ) -> tuple["_Look", Verdict] | None:
        assert self._guard is not None
        memory = parts[number].memory
        name = memory.names[0]
        point = find(self._others(name, verdicts), self._own(name, verdicts))
        if point is None:
            return None
        follower = self._followers.get(name)
        before = {} if follower is None else follower.state()
        prompted = Prompted([point], self._beside(name, step))
        again = self._look_at_clicks(memory, step, look, [prompted])
        others = [part for i, part in enumerate(parts) if i != number]
        masks = self._together([again, *others])
        measured = measure(masks)
        # What is found on an animal that is tracked is that animal, of which it must not be taken.
        taken = any(
            verdicts[other].keep_mask
            and self._guard.is_animal(other)
            and measured[name].overlaps.get(other, 0.0) >= _TAKEN * measured[name].area
            for other in measured
            if other != name
        )
        if not taken:
            judged = self._guard.state_dict()
            verdict = self._guard.judge(step, {name: measured[name]}, refound={name})[name]
            if verdict.keep_memory:
                self._take({name: again}, masks, measured)
                return again, verdict
            # What was looked at and refused has taught nobody anything.
            self._guard.load_state_dict(judged)
        if follower is not None:
            follower.restore(before)
        return None

    def _come_apart(
        self,
        step: float,
        parts: Sequence["_Look"],
        look: Look,
        verdicts: Mapping[str, Verdict],
    ) -> dict[str, tuple["_Look", Verdict]]:
        """Animals that have merged and lie apart by now, each as it is seen there; or none of them."""
        names = [name for name, verdict in verdicts.items() if verdict.wants_parting]
        if len(names) < 2 or self._guard is None or not set(names) <= set(self._looks):
            return {}
        full = {name: size for name in names if (size := self._guard.full_size(name)) is not None}
        if len(full) < len(names):
            return {}
        bodies = bodies_apart({n: self._logits[n].float().cpu().numpy() for n in names}, full)
        if bodies is None:
            return {}
        views = {name: self._followers[name].state() for name in names}
        judged = self._guard.state_dict()
        again = self._seen_apart(step, names, bodies, parts, look)
        if again:
            rest = [part for part in parts if part.memory.names[0] not in again]
            masks = self._together([*again.values(), *rest])
            measured = measure(masks)
            seen = {name: measured[name] for name in names}
            found = self._guard.judge(step, seen, refound=names)
            if all(verdict.keep_memory for verdict in found.values()):
                self._take(again, masks, measured)
                return {name: (again[name], found[name]) for name in names}
        self._guard.load_state_dict(judged)
        for name, state in views.items():
            self._followers[name].restore(state)
        return {}

    def _seen_apart(
        self,
        step: float,
        names: Sequence[str],
        bodies: Bodies,
        parts: Sequence["_Look"],
        look: Look,
    ) -> dict[str, "_Look"]:
        """Look at each body by itself, and say whose it is; nothing where one is not seen."""
        memories = {part.memory.names[0]: part.memory for part in parts}
        seen = []
        for name, point in zip(names, bodies.points, strict=True):
            beside = [other for other in bodies.points if other != point]
            prompted = Prompted([point], beside)
            seen.append(self._look_at_clicks(memories[name], step, look, [prompted]))
        looks = [looks_of(look(one.view), one.prediction.logits[0]) for one in seen]
        known = [own for own in looks if own is not None]
        if len(known) < len(seen):
            return {}
        order = whose(bodies, [self._looks[name] for name in names], known)
        again = {
            name: replace(seen[body], memory=memories[name])
            for name, body in zip(names, order, strict=True)
        }
        for name, one in again.items():
            self._followers[name].begin_with(one.view)
        return again

    def _take(
        self,
        again: Mapping[str, "_Look"],
        masks: FrameMasks,
        measured: Mapping[str, Measured],
    ) -> None:
        """Objects of which something else counts in this frame than what was seen at first."""
        for name, one in again.items():
            self._measured[name] = measured[name]
            self._logits[name] = masks.logits[masks.names.index(name)]
            if name in self._followers:
                seen = one.prediction.logits[0]
                self._extents[name] = extent_in_view(seen, one.view, self._picture)

    def _together(self, looks: Sequence["_Look"]) -> FrameMasks:
        if not looks:
            return FrameMasks((), torch.empty((0, 0, 0)), torch.empty((0, 0, 0)), (), ())
        scores = torch.cat([look.prediction.score_logits[:, 0] for look in looks])
        in_views = torch.cat([look.prediction.logits for look in looks])
        logits = in_views
        if self._followers:
            # Finer than a view's own grid, or a small animal would be judged by a few cells.
            side = 2 * in_views.shape[-1]
            logits = torch.cat(
                [on_picture(x.prediction.logits, x.view, self._picture, side) for x in looks]
            )
        return FrameMasks(
            names=tuple(name for look in looks for name in look.memory.names),
            logits=logits,
            in_views=in_views,
            views=tuple(look.view for look in looks for _ in look.memory.names),
            scores=tuple(torch.sigmoid(scores).tolist()),
        )

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
            "looks": {name: looks.tolist() for name, looks in self._looks.items()},
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
        self._looks = {n: np.array(looks, np.float32) for n, looks in state["looks"].items()}
        self._refused = set(state["refused"])
        for name, follower in self._followers.items():
            follower.restore(state["followers"][name])


@dataclass(frozen=True)
class _Look:
    """What the model sees of the objects of one memory in one frame."""

    memory: ObjectMemory
    prediction: Prediction
    view: View | None
    clicked: bool


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


def _rows(prediction: Prediction, rows: list[int]) -> Prediction:
    return Prediction(
        prediction.logits[rows],
        prediction.score_logits[rows],
        prediction.pointer[rows],
        prediction.quality[rows],
    )
