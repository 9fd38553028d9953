"""The body as its roles: positions of tracked and derived points, and how they move.

Everything that changes from row to row belongs to the step that ends at the row, as in the features
of masks. A mean of several parts jumps where one of them is lost, so means are taken of steps, of
parts that are known at both ends, and never of positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.motion_features import shorter_way, time_steps
from tailor_assets.compute.keypoints.part_roles import ROLE_NAMES, column_name
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints

_EARS = ("left_ear", "right_ear")
_HIPS = ("left_hip", "right_hip")
# What other columns begin with: a part without a role that is called so gets another name.
_TAKEN = {*ROLE_NAMES, "rear_back", "body", "part", "mask", "shape"}
# Places that a derived point is the mean of, best first, written over roles and other derived points.
# The first of each but mid_back's are BehaviorDEPOT's (calculateMetrics: Head, RearBack, MidBack).
DERIVED: dict[str, tuple[tuple[str, ...], ...]] = {
    "head": (("nose", *_EARS), _EARS),
    "rear_back": ((*_HIPS, "tail_base"), ("tail_base",)),
    "mid_back": ((*_EARS, *_HIPS), (*_EARS, "tail_base", "tail_base"), ("neck", "tail_base"),
                 ("head", "tail_base"), ("nose", "tail_base")),
}  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Named points float64 [rows, 2] in pixels, NaN where not known, and the time between rows.

    named: role, or else the part's own name as a column, -> position. likelihood: the same names ->
    float64 [rows]. step_s: float64 [rows], seconds since the row before; neighbours: bool [rows],
    whether that row is near enough in time for a step.
    """

    named: dict[str, np.ndarray]
    likelihood: dict[str, np.ndarray]
    step_s: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def of(cls, points: TrackedPoints, roles: Mapping[str, str]) -> Body:
        role_of = {part: role for role, part in roles.items()}
        named: dict[str, np.ndarray] = {}
        likelihood: dict[str, np.ndarray] = {}
        order = [*roles.values(), *(part for part in points.parts if part not in role_of)]
        for part in order:
            name = role_of.get(part)
            if name is None:
                name = column_name(part)
                while name in named or name in _TAKEN:
                    name += "_part"
            named[name] = points.position(part)
            likelihood[name] = points.likelihood[:, points.parts.index(part)]
        return cls(named, likelihood, *time_steps(points.timestamp_s))

    def places(self, name: str) -> list[np.ndarray]:
        """Every way to know where a point is, best first: float64 [rows, 2] each."""
        found = [self.named[name]] if name in self.named else []
        for members in DERIVED.get(name, ()):
            if all(member in self.named for member in members):
                found.append(np.mean([self.named[member] for member in members], axis=0))
        return found

    def where(self, name: str) -> np.ndarray | None:
        """Where a point is, by the first way that there is for it; None where there is none."""
        places = self.places(name)
        return places[0] if places else None

    def step(self, position: np.ndarray) -> np.ndarray:
        """Difference from the row before: as ``position``, NaN where there is no step."""
        step = np.full(position.shape, np.nan)
        step[1:] = position[1:] - position[:-1]
        return np.where(self.neighbours.reshape(-1, *[1] * (position.ndim - 1)), step, np.nan)

    def speed(self, name: str) -> np.ndarray | None:
        """Length of the step over its time, pixels per second: float64 [rows].

        Row by row by the best way of knowing the point at both ends of the step.
        """
        speeds = [np.hypot(*self.step(place).T) / self.step_s for place in self.places(name)]
        return first_known(speeds)

    def joint_speed(self, names: Sequence[str]) -> np.ndarray:
        """Speed of the mean step of those of ``names`` that have one: float64 [rows]."""
        steps = np.stack([self.step(self.named[name]) for name in names])
        return np.hypot(*mean_of_known(steps).T) / self.step_s


def first_known(ways: Sequence[np.ndarray]) -> np.ndarray | None:
    """Row by row the first that is no NaN; None where there are no ways."""
    result: np.ndarray | None = None
    for way in ways:
        result = way if result is None else np.where(np.isnan(result), way, result)
    return result


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is no NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def heading(tail: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """Direction from ``tail`` to ``tip``, radians, clockwise on the screen from +x: float64 [rows]."""
    across, down = (tip - tail).T
    return np.where((across == 0) & (down == 0), np.nan, np.arctan2(down, across))


def head_headings(body: Body) -> list[np.ndarray]:
    """Every way to know where the head points to, best first: float64 [rows], radians.

    From between the ears to the nose (BehaviorDEPOT's head angle); from the head or the neck to the
    nose; at right angles to the line between the ears; from the neck, or else the middle of the
    back, to the head.
    """
    has = body.named
    nose, ears = has.get("nose"), None
    ways = []
    if all(ear in has for ear in _EARS):
        ears = (has["left_ear"] + has["right_ear"]) / 2
    if nose is not None:
        ways += [heading(base, nose) for base in (ears, has.get("head"), has.get("neck"))
                 if base is not None]  # fmt: skip
    if ears is not None:
        # From the left to the right ear the animal looks to the left of it, which on a screen
        # whose y points down is a quarter turn against the clock.
        ways.append(heading(has["left_ear"], has["right_ear"]) - np.pi / 2)
    if "head" in has:
        ways += [heading(has[base], has["head"]) for base in ("neck", "mid_back") if base in has]
    return ways


def turned(body: Body, heading_rad: np.ndarray) -> np.ndarray:
    """Turn since the row before, the shorter way round, degrees per second: float64 [rows]."""
    return np.degrees(shorter_way(body.step(heading_rad))) / body.step_s


def joint_angle(a: np.ndarray, joint: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle at ``joint`` between ``a`` and ``b``, degrees 0..180: float64 [rows]."""
    ax, ay = (a - joint).T
    bx, by = (b - joint).T
    flat = (np.hypot(ax, ay) == 0) | (np.hypot(bx, by) == 0)
    angle = np.abs(np.degrees(np.arctan2(ax * by - ay * bx, ax * bx + ay * by)))
    return np.where(flat, np.nan, angle)
