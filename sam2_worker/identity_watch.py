"""Notices when two animals' masks change places, as far as places alone can tell.

Two cases can be told honestly. From one frame to the next both masks leap, each to where the other
was, farther than an animal can run. Or the two cross, one mask over the other for a moment, and come
out against the way they went in. After a long contact animals go anywhere, and nothing is said.

Plain Python: imported by both environments. Lengths are in units of the square root of the frame's
area, in which an area is a share of the frame.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

Place = tuple[float, float]

# Nose to tail root of an ellipse twice as long as wide, from the square root of its area.
BODY_LENGTH = 1.6
# The direction an animal is going in, from this last stretch of its way.
_WAY_S = 0.2
_LONGEST_WAY = 16


@dataclass
class _Contact:
    """Where two animals were just before their masks met, and how they moved (per step)."""

    step: float
    places: tuple[Place, Place]
    speeds: tuple[Place, Place]


@dataclass
class IdentityWatch:
    """Fed once per frame, in order. ``fastest`` in body lengths per second; ``crossing_s``: a longer
    contact is not extrapolated; ``gain``: exchanged, the animals must have to explain less than this
    share of the way that they would have gone unexchanged."""

    seconds_per_step: float
    fastest: float
    crossing_s: float
    gain: float
    ways: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    contacts: dict[tuple[str, str], _Contact] = field(default_factory=dict)

    def leapt(self, step: float, name: str, place: Place, body: float) -> bool:
        """Whether a mask moved farther since it was last seen than its animal can."""
        way = self.ways.get(name)
        if not way:
            return False
        steps = abs(step - way[-1][0])
        return math.dist(place, way[-1][1:]) > self._reach(steps) * body

    def exchanged(
        self,
        step: float,
        places: Mapping[str, Place],
        bodies: Mapping[str, float],
        touching: Collection[tuple[str, str]],
        moved_by_hand: Collection[str] = (),
    ) -> set[str]:
        """Names of the animals that took each other's places in this frame.

        ``places`` and ``bodies`` (body lengths) of the animals seen in this frame; ``touching``:
        sorted pairs whose masks share most of their pixels; ``moved_by_hand``: animals prompted in
        this frame, which may be anywhere.
        """
        for name in moved_by_hand:
            self.ways.pop(name, None)
            for pair in [pair for pair in self.contacts if name in pair]:
                del self.contacts[pair]
        out: set[str] = set()
        for pair in combinations(sorted(places), 2):
            now = (places[pair[0]], places[pair[1]])
            body = 0.5 * (bodies[pair[0]] + bodies[pair[1]])
            if pair in touching:
                self._meet(pair)
            elif pair in self.contacts:
                if self._crossed_over(step, self.contacts.pop(pair), now, body):
                    out.update(pair)
            elif self._leapt_over(step, pair, now, body):
                out.update(pair)
        self._follow(step, places, out)
        return out

    def _meet(self, pair: tuple[str, str]) -> None:
        ways = [self.ways.get(name) for name in pair]
        if pair in self.contacts or not ways[0] or not ways[1]:
            return
        self.contacts[pair] = _Contact(
            step=ways[0][-1][0],
            places=(ways[0][-1][1:], ways[1][-1][1:]),
            speeds=(_speed(ways[0]), _speed(ways[1])),
        )

    def _crossed_over(
        self, step: float, contact: _Contact, now: tuple[Place, Place], body: float
    ) -> bool:
        steps = abs(step - contact.step)
        if steps * self.seconds_per_step > self.crossing_s:
            return False
        expected = tuple(
            (x + steps * vx, y + steps * vy)
            for (x, y), (vx, vy) in zip(contact.places, contact.speeds, strict=True)
        )
        # Side by side, either could be either.
        if math.dist(*expected) < body or math.dist(*now) < 0.5 * body:
            return False
        stayed, changed = _ways_to_explain(expected, now)
        return changed < self.gain * stayed

    def _leapt_over(
        self, step: float, pair: tuple[str, str], now: tuple[Place, Place], body: float
    ) -> bool:
        first, second = (self.ways.get(name) for name in pair)
        if not first or not second or first[-1][0] != second[-1][0]:
            return False
        steps = abs(step - first[-1][0])
        # Farther apart in time, nothing is known of what happened between.
        if steps > max(1, round(0.1 / self.seconds_per_step)):
            return False
        before = (first[-1][1:], second[-1][1:])
        reach = self._reach(steps) * body
        if any(math.dist(a, b) < reach for a, b in zip(before, now, strict=True)):
            return False
        stayed, changed = _ways_to_explain(before, now)
        return changed < self.gain * stayed

    def _reach(self, steps: float) -> float:
        """Body lengths that an animal may move. One is always possible: a curled animal stretches."""
        return max(1.0, self.fastest * steps * self.seconds_per_step)

    def _follow(self, step: float, places: Mapping[str, Place], exchanged: Collection[str]) -> None:
        reach = max(1, round(_WAY_S / self.seconds_per_step))
        for name, (x, y) in places.items():
            # After an exchange the way so far is the other animal's.
            way = [] if name in exchanged else self.ways.get(name, [])
            recent = [at for at in way if abs(step - at[0]) <= reach]
            self.ways[name] = [*recent[-(_LONGEST_WAY - 1) :], (step, x, y)]

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, as plain values; the settings are the caller's."""
        return {
            "ways": {name: list(way) for name, way in self.ways.items()},
            "contacts": [
                (pair, contact.step, contact.places, contact.speeds)
                for pair, contact in self.contacts.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.ways = {name: [tuple(at) for at in way] for name, way in state["ways"].items()}
        self.contacts = {
            tuple(pair): _Contact(step, places, speeds)
            for pair, step, places, speeds in state["contacts"]
        }


def in_frame_units(centroid: Place, aspect: float) -> Place:
    """A place in fractions of width and height, in units of the square root of the frame's area."""
    root = math.sqrt(aspect)
    return centroid[0] * root, centroid[1] / root


def _ways_to_explain(before: tuple[Place, ...], now: tuple[Place, Place]) -> tuple[float, float]:
    """Lengths of way in all if each stayed itself, and if they changed places."""
    stayed = math.dist(before[0], now[0]) + math.dist(before[1], now[1])
    changed = math.dist(before[0], now[1]) + math.dist(before[1], now[0])
    return stayed, changed


def _speed(way: list[tuple[float, float, float]]) -> Place:
    steps = abs(way[-1][0] - way[0][0])
    if not steps:
        return 0.0, 0.0
    return (way[-1][1] - way[0][1]) / steps, (way[-1][2] - way[0][2]) / steps
