"""Looking once more at an animal in the same frame: one that is lost, and those that have merged.

A tracker's memory cannot lead it back to an animal that it has lost, nor part two masks that have
become one. A point can: the one where the background model sees an animal, or one on each of the
bodies that lie apart (parting.py). What is seen there counts as a click does, if the guard believes
it; else it leaves no trace.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from sam2_worker.drift_guard import DriftGuard, Verdict
from sam2_worker.first_look import Look, Place, Prompted
from sam2_worker.looker import Looker, ObjectLook
from sam2_worker.mask_measurement import looks_of, measure
from sam2_worker.parting import Bodies, bodies_apart, whose
from sam2_worker.seen_frame import SeenFrame
from sam2_worker.view_follower import ViewFollower

# Asked for an animal that may be lost: the masks of the others that are not, and the one that is
# believed to be its own (None where it is lost), each bool [h, w], a grid of the whole picture.
# Returns (x, y) of a point inside it, in fractions of the picture's width and height, or None: no
# animal is seen, or one is seen where it is believed.
Finder = Callable[[Mapping[str, np.ndarray], np.ndarray | None], Place | None]
# What is seen of an object at the second look, and what the guard says of it.
Found = tuple[ObjectLook, Verdict]

# Share of a mask from which on it is of the animal that it lies on.
_TAKEN = 0.5


class SecondLook:
    """Knows how the animals looked where they were clicked; all else is the frame's."""

    def __init__(
        self,
        looker: Looker,
        guard: DriftGuard | None,
        followers: Mapping[str, ViewFollower],
        beside: Callable[[str, float], Sequence[Place]],
    ) -> None:
        """``beside(name, step)``: clicks on other objects in a frame. Without a ``guard`` nothing is
        looked at twice."""
        self._looker = looker
        self._guard = guard
        self._followers = followers
        self._beside = beside
        self._looks: dict[str, np.ndarray] = {}

    def note_looks(self, clicked: ObjectLook, look: Look) -> None:
        """Remember how an object that is followed looks where it was clicked."""
        name = clicked.memory.names[0]
        if name in self._followers:
            looks = looks_of(look(clicked.view), clicked.prediction.logits[0])
            if looks is not None:
                self._looks[name] = looks

    def check(
        self,
        looked: Sequence[ObjectLook],
        verdicts: dict[str, Verdict],
        frame: SeenFrame,
        find: Finder,
    ) -> None:
        """Where an animal is seen elsewhere and none where the mask is, have it looked for there."""
        for one in looked:
            for name in one.memory.names:
                verdict = verdicts[name]
                if one.clicked or not verdict.wants_check:
                    continue
                if find(frame.others(name, verdicts), frame.own(name, verdicts)) is not None:
                    verdicts[name] = replace(verdict, wants_refind=True)

    def at_lost(
        self,
        step: float,
        parts: Sequence[ObjectLook],
        number: int,
        look: Look,
        find: Finder,
        verdicts: Mapping[str, Verdict],
        frame: SeenFrame,
    ) -> Found | None:
        """The object of ``parts[number]`` where the finder sees an animal, if it is one there."""
        assert self._guard is not None
        memory = parts[number].memory
        name = memory.names[0]
        point = find(frame.others(name, verdicts), frame.own(name, verdicts))
        if point is None:
            return None
        with self._trial([name]) as keep:
            prompted = Prompted([point], self._beside(name, step))
            again = self._looker.at_clicks(memory, step, look, [prompted])
            others = [part for i, part in enumerate(parts) if i != number]
            masks = self._looker.together([again, *others])
            measured = measure(masks)
            # What is found on an animal that is tracked is that animal, of which it must not be
            # taken.
            if any(
                verdicts[other].keep_mask
                and self._guard.is_animal(other)
                and measured[name].overlaps.get(other, 0.0) >= _TAKEN * measured[name].area
                for other in measured
                if other != name
            ):
                return None
            verdict = self._guard.judge(step, {name: measured[name]}, refound={name})[name]
            if not verdict.keep_memory:
                return None
            frame.take([name], masks, measured)
            keep()
        return again, verdict

    def at_merged(
        self,
        step: float,
        parts: Sequence[ObjectLook],
        look: Look,
        verdicts: Mapping[str, Verdict],
        frame: SeenFrame,
    ) -> dict[str, Found]:
        """Animals that have merged and lie apart by now, each as it is seen there; or none of them."""
        names = [name for name, verdict in verdicts.items() if verdict.wants_parting]
        if len(names) < 2 or self._guard is None or not set(names) <= set(self._looks):
            return {}
        full = {name: size for name in names if (size := self._guard.full_size(name)) is not None}
        if len(full) < len(names):
            return {}
        bodies = bodies_apart({n: frame.logits[n].float().cpu().numpy() for n in names}, full)
        if bodies is None:
            return {}
        with self._trial(names) as keep:
            again = self._seen_apart(step, names, bodies, parts, look)
            if not again:
                return {}
            rest = [part for part in parts if part.memory.names[0] not in again]
            masks = self._looker.together([*again.values(), *rest])
            measured = measure(masks)
            seen = {name: measured[name] for name in names}
            found = self._guard.judge(step, seen, refound=names)
            if not all(verdict.keep_memory for verdict in found.values()):
                return {}
            frame.take(names, masks, measured)
            keep()
        return {name: (again[name], found[name]) for name in names}

    def _seen_apart(
        self,
        step: float,
        names: Sequence[str],
        bodies: Bodies,
        parts: Sequence[ObjectLook],
        look: Look,
    ) -> dict[str, ObjectLook]:
        """Look at each body by itself, and say whose it is; nothing where one is not seen."""
        memories = {part.memory.names[0]: part.memory for part in parts}
        seen = []
        for name, point in zip(names, bodies.points, strict=True):
            beside = [other for other in bodies.points if other != point]
            prompted = Prompted([point], beside)
            seen.append(self._looker.at_clicks(memories[name], step, look, [prompted]))
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

    @contextmanager
    def _trial(self, names: Sequence[str]) -> Iterator[Callable[[], None]]:
        """What is looked at and refused teaches nobody anything: unless the callable that is given
        is called, guard and views are afterwards as they were."""
        assert self._guard is not None
        views = {name: f.state() for name, f in self._followers.items() if name in names}
        judged = self._guard.state_dict()
        kept = False

        def keep() -> None:
            nonlocal kept
            kept = True

        yield keep
        if not kept:
            self._guard.load_state_dict(judged)
            for name, state in views.items():
                self._followers[name].restore(state)

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {name: looks.tolist() for name, looks in self._looks.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``."""
        self._looks = {name: np.array(looks, np.float32) for name, looks in state.items()}
