"""What the animal does: a semi-Markov machine that walks, rests, freezes and goes to its nest.

Durations and speeds are those of mice in open fields: bouts of locomotion of 2-4 s at 8-25 cm/s
along the walls, rests of 1-4 s with the head moving, freezing of at least 2 s without any movement.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.nest import NestSite
from tailor_assets.compute.simulation.skeleton import (
    Pose,
    drag_tail,
    spine_of,
    straight_tail,
)

BEHAVIORS = ("moving", "still", "freezing", "in nest")
MOVING_CM_S = 2.0  # the body's centre at this speed or above is "moving"
MINIMUM_FREEZING_S = 2.0
_STEP_S = 1 / 30  # the machine never takes longer steps than this, whatever the frame rate
_BRAKING_CM_S2 = 110.0
_ACCELERATION_CM_S2 = 60.0
_LONGEST_WAY_S = 8.0  # to the nest, before the animal gives up and wanders on


class RodentBehavior:
    """The animal's decisions and movement through time; one object per video, stepped forward.

    ``pose`` is the body now and ``behavior`` one of ``BEHAVIORS``: "in nest" while the body's
    centre is inside the nest's outline; otherwise "freezing" from the first to the last motionless
    moment of a freezing bout; otherwise "moving" from the first step (turning to walk included)
    until the speed falls below ``MOVING_CM_S``; otherwise "still".
    """

    def __init__(
        self, rng: np.random.Generator, arena: Arena, body_length: float, nest: NestSite | None
    ) -> None:
        self._rng = rng
        self._arena = arena
        self._nest = nest
        self._length = body_length
        self._tail_length = body_length * rng.uniform(0.8, 0.98)
        self._margin = 0.31 * body_length
        self._cm = arena.px_per_cm
        self._time = 0.0
        self._speed = 0.0  # px/s
        self._turning = 0.0  # rad/s
        self._wander = 0.0
        self._neck_target = 0.0
        self._next_glance = 0.0
        self._next_shift = 0.0
        self._shift_until = 0.0
        self._curl = 1.0
        self._pace = 0.0
        self._on_the_way_s = 0.0
        self._clockwise = 1.0 if rng.random() < 0.5 else -1.0
        self._grooming = False
        self._leaving_nest = False
        self._frozen = False
        self._before_freezing = "still"
        self.pose = self._first_pose()
        self._waypoint = (self.pose.x, self.pose.y)
        # Every video opens with one of each, so that a clip of ten seconds has changes to find.
        opening = [("still", rng.uniform(0.7, 1.1)), ("freezing", rng.uniform(2.1, 2.5))]
        if rng.random() < 0.5:
            opening.reverse()
        self._plan = deque([("walking", rng.uniform(1.4, 2.0)), opening[0]])
        if opening[0][0] == "still":
            self._plan.append(("walking", rng.uniform(0.6, 0.9)))
        self._plan.append(opening[1])
        self._plan.append(
            ("nesting", rng.uniform(3.0, 5.0)) if nest else ("walking", rng.uniform(2, 3))
        )
        self._state, self._left = self._plan.popleft()
        self._begin_state()

    @property
    def behavior(self) -> str:
        """The label of this moment."""
        if self._nest is not None and self._nest.contains(self.pose.x, self.pose.y):
            return "in nest"
        if self._frozen:
            return "freezing"
        if self._state in ("walking", "nesting"):
            return "moving"
        if self._state == "freezing":
            return self._before_freezing
        return "moving" if self._speed >= MOVING_CM_S * self._cm else "still"

    def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds`` (any length; taken in steps of at most 1/30 s)."""
        steps = max(1, math.ceil(seconds / _STEP_S - 1e-9))
        for _ in range(steps):
            self._step(seconds / steps)

    # --- deciding ---------------------------------------------------------------------------

    def _first_pose(self) -> Pose:
        rng, best = self._rng, -math.inf
        x = y = 0.0
        for _ in range(60):
            at_x, at_y = self._arena.random_point(rng, 0.8 * self._length)
            # Clear of the nest, but near enough for a short clip to see the animal go there.
            away = 0.0 if self._nest is None else self._nest.distance_from_edge(at_x, at_y)
            fit = min(away - 1.1 * self._length, 0.0) - max(away - 24 * self._cm, 0.0)
            if fit > best:
                x, y, best = at_x, at_y, fit
        pose = Pose(x, y, rng.uniform(-math.pi, math.pi))
        pose.tail = straight_tail(
            spine_of(pose, self._length), self._tail_length, rng.uniform(-0.9, 0.9)
        )
        return pose

    def _next_state(self) -> None:
        rng, nest_share = self._rng, 0.22 if self._nest else 0.0
        if self._plan:
            self._state, self._left = self._plan.popleft()
        else:
            roll = rng.random()
            if self._state == "nesting":
                state = "walking"
            elif self._state == "walking":
                state = (
                    "nesting"
                    if roll < nest_share
                    else "freezing"
                    if roll < 0.42
                    else "walking"
                    if roll < 0.52
                    else "still"
                )
            else:
                state = (
                    "walking"
                    if roll < 0.8
                    else "still"
                    if self._state == "freezing"
                    else "freezing"
                )
            self._state = state
            self._left = {
                "walking": rng.uniform(2.0, 4.0) if rng.random() < 0.8 else rng.uniform(4.0, 7.0),
                "still": rng.uniform(1.0, 4.0),
                "freezing": rng.uniform(2.1, 5.5),
                "nesting": rng.uniform(5.0, 25.0),
            }[state]
        self._begin_state()

    def _begin_state(self) -> None:
        rng = self._rng
        self._frozen = False
        self._before_freezing = "moving" if self._speed >= MOVING_CM_S * self._cm else "still"
        if self._nest is not None and self._nest.contains(self.pose.x, self.pose.y):
            self._leaving_nest = self._state != "nesting"
        self._grooming = self._state == "still" and rng.random() < 0.35
        if self._state == "walking":
            self._pace = rng.uniform(8.0, 25.0) * self._cm
            if rng.random() < 0.25:
                self._clockwise = -self._clockwise
            self._choose_waypoint()
        elif self._state == "nesting" and self._nest is not None:
            # Towards the nest an animal runs rather than strolls.
            self._pace = rng.uniform(16.0, 24.0) * self._cm
            spot = rng.uniform(-0.15, 0.15, 2) * self._nest.radius
            self._waypoint = (self._nest.x + spot[0], self._nest.y + spot[1])
            self._curl = 1.0 if rng.random() < 0.5 else -1.0

    def _choose_waypoint(self) -> None:
        rng, pose = self._rng, self.pose
        for _ in range(12):
            if rng.random() < 0.65:
                step = self._clockwise * rng.uniform(8, 24) * self._cm
                target = self._arena.along_wall(pose.x, pose.y, step, 0.36 * self._length)
            else:
                target = self._arena.random_point(rng, 0.5 * self._length)
            self._waypoint = target
            ahead = math.atan2(target[1] - pose.y, target[0] - pose.x)
            sharp = abs(math.remainder(ahead - pose.heading, 2 * math.pi)) > 2.2
            if not sharp and not self._crosses_nest(target):
                return

    def _crosses_nest(self, target: tuple[float, float]) -> bool:
        if self._nest is None or self._leaving_nest:
            return False
        parts = np.linspace(0.0, 1.0, 9)
        return any(
            self._nest.distance_from_edge(
                self.pose.x + part * (target[0] - self.pose.x),
                self.pose.y + part * (target[1] - self.pose.y),
            )
            < 0.5 * self._length
            for part in parts
        )

    # --- moving -----------------------------------------------------------------------------

    def _step(self, dt: float) -> None:
        self._time += dt
        settled = self._nest is not None and self._at_waypoint(0.22 * self._nest.radius)
        on_the_way = self._state == "nesting" and not settled
        self._left -= 0.0 if on_the_way else dt
        self._on_the_way_s = self._on_the_way_s + dt if on_the_way else 0.0
        if self._on_the_way_s > _LONGEST_WAY_S:
            # Something else caught its attention.
            self._on_the_way_s, self._state, self._left = 0.0, "walking", 3.0
            self._begin_state()
            on_the_way = False
        if self._state == "freezing":
            if self._frozen:
                # Nothing of the pose changes: a freezing animal is a photograph.
                self.pose = replace(self.pose, velocity_x=0.0, velocity_y=0.0)
                if self._left <= 0:
                    self._next_state()
                return
            self._left += dt  # the bout is counted from the moment all movement has stopped
        walking = self._state == "walking" or on_the_way
        if walking:
            self._steer(dt)
        else:
            self._brake(dt)
        self._carry_body(dt, walking)
        if self._state == "freezing" and self._speed == 0.0:
            self._frozen = True
            self._turning = 0.0
        if self._left <= 0:
            self._next_state()

    def _at_waypoint(self, reach: float) -> bool:
        return math.hypot(self._waypoint[0] - self.pose.x, self._waypoint[1] - self.pose.y) < reach

    def _steer(self, dt: float) -> None:
        pose, rng, length = self.pose, self._rng, self._length
        if self._state == "walking" and self._at_waypoint(0.4 * length):
            self._choose_waypoint()
        goal = math.atan2(self._waypoint[1] - pose.y, self._waypoint[0] - pose.x)
        error = math.remainder(goal - pose.heading, 2 * math.pi)
        self._wander += -self._wander * dt / 0.5 + rng.standard_normal() * math.sqrt(dt) * 1.6
        wish = min(max(4.0 * error, -5.0), 5.0) + self._wander
        pace = self._pace * max(0.3, math.cos(min(abs(error), 1.4)))
        nose_x = pose.x + 0.72 * length * math.cos(pose.heading)
        nose_y = pose.y + 0.72 * length * math.sin(pose.heading)
        distance = math.hypot(self._waypoint[0] - pose.x, self._waypoint[1] - pose.y)
        if abs(error) > 2.2 and abs(self._turning) > 0.5:
            # Almost behind: either side will do, but not both in turn.
            wish = math.copysign(5.0, self._turning)
        if self._arena.wall_distance(nose_x, nose_y) < 0.08 * length:
            # The floor is convex, so the way to the goal is always the way off the wall.
            pace *= 0.5
            if 0.3 < abs(error) <= 2.2:
                wish = math.copysign(5.5, error)
        if self._nest is not None and self._state == "walking":
            gap = self._nest.distance_from_edge(pose.x, pose.y)
            if self._leaving_nest:
                self._leaving_nest = gap < 0.6 * length
            elif gap < 0.6 * length:
                away = math.atan2(pose.y - self._nest.y, pose.x - self._nest.x)
                side = math.remainder(away - pose.heading, 2 * math.pi)
                if abs(side) > 1.2:
                    wish = 5.0 if side > 0 else -5.0
                    pace *= 0.7
        if self._state == "nesting":
            pace = min(pace, 4.0 * self._cm + 3.0 * distance)
            # Near the goal a tight turn is walked slowly, or the animal would circle its nest.
            if abs(error) > 0.7 and distance < 1.5 * length:
                pace = min(pace, 4.0 * self._cm)
        change = pace - self._speed
        limit = (_ACCELERATION_CM_S2 if change > 0 else _BRAKING_CM_S2) * self._cm * dt
        self._speed += min(max(change, -limit), limit)
        self._turning += (wish - self._turning) * min(1.0, dt / 0.11)

    def _brake(self, dt: float) -> None:
        self._speed = max(0.0, self._speed - _BRAKING_CM_S2 * self._cm * dt)
        wish = 0.0
        if self._state == "nesting":
            if self._time >= self._next_shift:
                self._next_shift = self._time + self._rng.uniform(1.5, 5.0)
                self._shift_until = self._time + self._rng.uniform(0.4, 1.1)
                self._wander = self._rng.uniform(-0.9, 0.9)
            if self._time < self._shift_until:
                wish = self._wander
        self._turning += (wish - self._turning) * min(1.0, dt / 0.15)

    def _carry_body(self, dt: float, walking: bool) -> None:
        pose, rng = self.pose, self._rng
        heading = pose.heading + self._turning * dt
        step_x = self._speed * dt * math.cos(heading)
        step_y = self._speed * dt * math.sin(heading)
        x, y = self._arena.clamp(pose.x + step_x, pose.y + step_y, self._margin)

        if self._time >= self._next_glance:
            self._next_glance = self._time + rng.uniform(0.35, 1.2)
            reach = 0.2 if walking else 0.65
            self._neck_target = rng.uniform(-reach, reach)
        curled = self._state == "nesting" and not walking
        neck, front = self._neck_target + 0.08 * self._turning, 0.10 * self._turning
        rear, stretch, girth = 0.15 * self._turning, 1.0, 1.0
        if curled:
            neck, front, rear = 0.45 * self._curl, 0.65 * self._curl, 0.7 * self._curl
            stretch, girth = 0.86, 1.06
        elif not walking:
            stretch, girth = (0.86, 1.09) if self._grooming else (0.93, 1.04)
            if self._grooming:
                neck += 0.14 * math.sin(2 * math.pi * 5.5 * self._time)
        breath = 0.008 * math.sin(2 * math.pi * 2.7 * self._time)
        fast, slow = min(1.0, dt / 0.10), min(1.0, dt / 0.28)
        stride = 6.0 * self._cm
        speed_cm = self._speed / self._cm
        moved = Pose(
            x=x,
            y=y,
            heading=heading,
            bend_front=pose.bend_front + (_limit(front, 0.7) - pose.bend_front) * fast,
            bend_rear=pose.bend_rear + (_limit(rear, 0.8) - pose.bend_rear) * slow,
            neck=pose.neck + (_limit(neck, 0.75) - pose.neck) * fast,
            stretch=pose.stretch + (stretch - pose.stretch) * slow,
            girth=pose.girth + (girth + breath - pose.girth) * fast,
            gait_phase=pose.gait_phase + 2 * math.pi * self._speed / stride * dt,
            gait_strength=pose.gait_strength
            + (min(1.0, speed_cm / 12.0) - pose.gait_strength) * fast,
            velocity_x=(x - pose.x) / dt,
            velocity_y=(y - pose.y) / dt,
        )
        spine = spine_of(moved, self._length)
        slide_x, slide_y = self._slide_off_wall(spine.points[-1])
        if slide_x or slide_y:
            moved.x, moved.y = moved.x + slide_x, moved.y + slide_y
            moved.velocity_x, moved.velocity_y = (moved.x - pose.x) / dt, (moved.y - pose.y) / dt
            spine = spine_of(moved, self._length)
        self._speed = min(self._speed, math.hypot(moved.velocity_x, moved.velocity_y) + 1e-9)
        if self._speed < 1e-6:
            self._speed = 0.0
        moved.tail = drag_tail(pose.tail, spine, self._tail_length)
        self.pose = moved

    def _slide_off_wall(self, nose: np.ndarray) -> tuple[float, float]:
        """How far to move the body so that its nose stops at the wall instead of inside it."""
        x, y = float(nose[0]), float(nose[1])
        for _ in range(2):  # a corner has two walls
            inside = self._arena.wall_distance(x, y)
            if inside >= 0:
                break
            inward_x, inward_y = self._arena.inward(x, y)
            x, y = x - inward_x * inside, y - inward_y * inside
        return x - float(nose[0]), y - float(nose[1])


def _limit(value: float, bound: float) -> float:
    return min(max(value, -bound), bound)
