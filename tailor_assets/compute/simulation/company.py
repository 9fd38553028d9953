"""Animals that begin anywhere in what they do, and that have company: meet, follow, climb, huddle."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.behavior import RodentBehavior
from tailor_assets.compute.simulation.clutter import Obstacle
from tailor_assets.compute.simulation.nest import NestSite
from tailor_assets.compute.simulation.skeleton import Pose, spine_of, straight_tail

_OPENINGS = ("walking", "at the wall", "turning", "still", "grooming", "rearing", "freezing")
_OPENING_SHARES = (0.38, 0.14, 0.12, 0.10, 0.08, 0.10, 0.08)
_STEP_S = 1 / 20
_LEANS_BY = 0.22  # towards a wall, in body lengths
_DARTS, _DART_PACE = 0.08, 2.2  # how many of the walks are a dash, and how much faster
_REARING_PER_S = 0.10  # how often an animal that stands rises on its hind legs


class CompanionBehavior(RodentBehavior):
    """A rodent among others, met at a random moment of its day.

    ``company`` (the other animals) and ``obstacles`` are filled by the caller. ``closeness`` 0..1
    says how far bodies may overlap: 0 keeps them side by side, 1 lets them lie on each other.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        arena: Arena,
        body_length: float,
        nest: NestSite | None,
        closeness: float,
    ) -> None:
        self.company: list[CompanionBehavior] = []
        self.obstacles: list[Obstacle] = []
        self._closeness = closeness
        self._partner: CompanionBehavior | None = None
        self._upright = 0.0
        self._rears_until = -1.0
        super().__init__(rng, arena, body_length, nest)
        self._plan.clear()
        self._begin_anywhere()

    @property
    def body_length(self) -> float:
        """Nose to tail root in floor units."""
        return self._length

    @property
    def margin(self) -> float:
        """How near the body's centre comes to a wall."""
        return self._margin

    @property
    def seen_pose(self) -> Pose:
        """The body as the camera sees it: an animal that rears is short and broad from above.

        Near a wall it leans against it, and its head is over the wall.
        """
        if self._upright < 0.01:
            return self.pose
        pose, short = self.pose, 1 - 0.42 * self._upright
        risen = replace(
            pose,
            stretch=pose.stretch * short,
            girth=pose.girth * (1 + 0.10 * self._upright) / short,
        )
        if self._arena.wall_distance(pose.x, pose.y) < 0.75 * self._length:
            inward_x, inward_y = self._arena.inward(pose.x, pose.y)
            lean = _LEANS_BY * self._length * self._upright
            risen.x, risen.y = pose.x - inward_x * lean, pose.y - inward_y * lean
        before = spine_of(pose, self._length).points[1]
        after = spine_of(risen, self._length).points[1]
        risen.tail = pose.tail + (after - before)
        return risen

    def advance(self, seconds: float) -> None:
        """Move time forward, in steps of at most 1/20 s: training has no use for finer ones."""
        steps = max(1, math.ceil(seconds / _STEP_S - 1e-9))
        for _ in range(steps):
            self._step(seconds / steps)

    def leave_for(self, x: float, y: float) -> None:
        """Put the animal down elsewhere, as a hand does, without a way between."""
        shift = np.array([x - self.pose.x, y - self.pose.y])
        self.pose = replace(
            self.pose, x=x, y=y, velocity_x=0.0, velocity_y=0.0, tail=self.pose.tail + shift
        )
        self._speed = 0.0

    def _begin_anywhere(self) -> None:
        rng, length = self._rng, self._length
        opening = str(rng.choice(_OPENINGS, p=_OPENING_SHARES))
        if self._nest is not None and rng.random() < 0.22:
            opening = "nesting"
        x, y = self._arena.random_point(rng, 0.45 * length)
        heading = rng.uniform(-math.pi, math.pi)
        if opening == "nesting" and self._nest is not None:
            x, y = self._nest.x, self._nest.y
        elif opening == "at the wall":
            for _ in range(60):
                if self._arena.wall_distance(x, y) < 0.5 * length:
                    break
                inward_x, inward_y = self._arena.inward(x, y)
                x, y = x - inward_x * 0.1 * length, y - inward_y * 0.1 * length
            inward_x, inward_y = self._arena.inward(x, y)
            side = rng.choice([-1, 1]) * math.pi / 2
            heading = math.atan2(inward_y, inward_x) + side + rng.normal(0, 0.3)
        self.pose = Pose(x, y, heading)
        self.pose.tail = straight_tail(
            spine_of(self.pose, length), self._tail_length, rng.uniform(-1.4, 1.4)
        )
        state = {"at the wall": "walking", "turning": "walking", "grooming": "still"}
        self._state = state.get(opening, "still" if opening == "rearing" else opening)
        self._left = rng.uniform(0.5, 4.0)
        self._begin_state()
        if self._state == "walking":
            self._speed = rng.uniform(0.2, 1.0) * self._pace
        if opening == "turning":
            self._turning = rng.choice([-1, 1]) * rng.uniform(3.0, 6.0)
            away = heading + math.pi + rng.normal(0, 0.5)
            reach = 2.0 * length
            self._waypoint = self._arena.clamp(
                x + reach * math.cos(away), y + reach * math.sin(away), 0.4 * length
            )
        self._grooming = opening == "grooming"
        if opening == "rearing":
            self._rears_until = rng.uniform(0.8, 3.0)
            self._upright = rng.uniform(0.5, 1.0)
        self.advance(rng.uniform(0.25, 0.6))

    def _begin_state(self) -> None:
        super()._begin_state()
        if self._state == "walking" and self._rng.random() < _DARTS:
            self._pace *= _DART_PACE

    def _choose_waypoint(self) -> None:
        self._partner = None
        if self.company and self._rng.random() < 0.45:
            self._partner = self.company[int(self._rng.integers(len(self.company)))]
            self._meets_tail = self._rng.random() < 0.5
            self._waypoint = self._partner_point()
            return
        super()._choose_waypoint()
        # A straight way that leaves the floor leads round a corner: through the middle first.
        middle = [
            (a + b) / 2 for a, b in zip(self._waypoint, (self.pose.x, self.pose.y), strict=True)
        ]
        if self._arena.kind == "plus" and self._arena.wall_distance(*middle) < 0:
            self._waypoint = (self._arena.center_x, self._arena.center_y)

    def _partner_point(self) -> tuple[float, float]:
        assert self._partner is not None
        pose = self._partner.pose
        reach = (-0.75 if self._meets_tail else 0.45) * self._length
        return self._arena.clamp(
            pose.x + reach * math.cos(pose.heading),
            pose.y + reach * math.sin(pose.heading),
            self._margin,
        )

    def _steer(self, dt: float) -> None:
        if self._partner is not None and self._state == "walking":
            self._waypoint = self._partner_point()
        super()._steer(dt)

    def _carry_body(self, dt: float, walking: bool) -> None:
        super()._carry_body(dt, walking)
        self._make_room(dt)
        stands = not walking and self._state == "still" and self._time > self._rears_until
        if stands and self._rng.random() < _REARING_PER_S * dt:
            self._rears_until = self._time + self._rng.uniform(0.8, 3.0)
        rising = 1.0 if self._time < self._rears_until and not walking else 0.0
        self._upright += (rising - self._upright) * min(1.0, dt / 0.22)

    def _make_room(self, dt: float) -> None:
        """Two bodies that meet slide past each other rather than through each other."""
        room = 0.62 * (1 - self._closeness) * self._length
        for other in self.company:
            dx, dy = self.pose.x - other.pose.x, self.pose.y - other.pose.y
            distance = math.hypot(dx, dy)
            if 1e-6 < distance < room:
                push = (room - distance) / distance * min(1.0, dt / 0.15)
                x, y = self._arena.clamp(
                    self.pose.x + dx * push, self.pose.y + dy * push, self._margin
                )
                self.pose = replace(self.pose, x=x, y=y)
        for at_x, at_y, radius in self.obstacles:
            dx, dy = self.pose.x - at_x, self.pose.y - at_y
            distance, room = math.hypot(dx, dy), radius + 0.22 * self._length
            if 1e-6 < distance < room:
                push = (room - distance) / distance * min(1.0, dt / 0.1)
                x, y = self._arena.clamp(
                    self.pose.x + dx * push, self.pose.y + dy * push, self._margin
                )
                self.pose = replace(self.pose, x=x, y=y)
