"""The rodent's body as geometry: a bending spine, and a tail that trails behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

SPINE_POINTS = 33
CENTER = 0.42  # where on the spine the body turns, 0 at the tail's root and 1 at the nose
_S = np.linspace(0.0, 1.0, SPINE_POINTS)
_TAIL_NODES = 16


@dataclass
class Pose:
    """Where the body is at one moment. Lengths in pixels, angles in radians (x right, y down)."""

    x: float
    y: float
    heading: float
    bend_front: float = 0.0  # chest against the middle of the body
    bend_rear: float = 0.0  # middle of the body against the hips
    neck: float = 0.0  # head against the chest
    stretch: float = 1.0  # length, 1 = walking
    girth: float = 1.0  # width, 1 = walking
    gait_phase: float = 0.0
    gait_strength: float = 0.0  # 0 standing .. 1 running
    velocity_x: float = 0.0  # pixels per second
    velocity_y: float = 0.0
    tail: np.ndarray = field(default_factory=lambda: np.zeros((_TAIL_NODES, 2)))


@dataclass(frozen=True)
class Spine:
    """``points`` float64 ``[33, 2]`` from tail root to nose, ``angles`` ``[33]``, ``length`` px."""

    points: np.ndarray
    angles: np.ndarray
    length: float

    def place(self, s: float, sideways: float) -> tuple[float, float, float]:
        """x, y and direction of a point at ``s`` (0..1), ``sideways`` in body lengths."""
        index = s * (SPINE_POINTS - 1)
        low = min(max(int(index), 0), SPINE_POINTS - 2)
        part = index - low
        point = self.points[low] * (1 - part) + self.points[low + 1] * part
        angle = float(self.angles[low])
        offset = sideways * self.length
        return (
            float(point[0]) - math.sin(angle) * offset,
            float(point[1]) + math.cos(angle) * offset,
            angle,
        )


def spine_of(pose: Pose, body_length: float) -> Spine:
    """The five-jointed spine of ``pose`` (hips, loin, chest, neck, head), smooth between joints."""
    chest = pose.bend_front
    head = chest + pose.neck
    turn = np.interp(
        _S,
        [0.0, 0.2, CENTER, 0.62, 0.78, 1.0],
        [-pose.bend_rear, -0.6 * pose.bend_rear, 0.0, 0.7 * chest, chest + 0.75 * pose.neck, head],
    )
    # The body sways from side to side with each stride.
    sway = 0.10 * pose.gait_strength * np.sin(pose.gait_phase - 5.0 * _S)
    angles = pose.heading + turn + sway
    length = body_length * pose.stretch
    step = length / (SPINE_POINTS - 1)
    middle = (angles[1:] + angles[:-1]) / 2
    points = np.zeros((SPINE_POINTS, 2))
    points[1:, 0] = np.cumsum(np.cos(middle)) * step
    points[1:, 1] = np.cumsum(np.sin(middle)) * step
    anchor = round(CENTER * (SPINE_POINTS - 1))
    points += np.array([pose.x, pose.y]) - points[anchor]
    return Spine(points, angles, length)


def straight_tail(spine: Spine, tail_length: float, curl: float) -> np.ndarray:
    """A tail, float64 ``[16, 2]``, lying behind the body in an arc of ``curl`` radians in all."""
    step = tail_length / (_TAIL_NODES - 1)
    angles = spine.angles[0] + math.pi + np.linspace(0, curl, _TAIL_NODES - 1)
    root = _tail_root(spine)
    offsets = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * step, axis=0)
    return np.vstack([root, root + offsets])


def drag_tail(tail: np.ndarray, spine: Spine, tail_length: float) -> np.ndarray:
    """The tail after its root has moved on: every piece is pulled by the one before it.

    The pieces keep their length and lie where they were as far as they can (a rope drawn over the
    floor), and the first few are stiff. With the root at rest nothing moves at all.
    """
    step = tail_length / (_TAIL_NODES - 1)
    root = _tail_root(spine)
    if math.hypot(*(root - tail[0])) < 1e-9:
        return tail
    # Plain floats: sixteen nodes are too few for arrays to be quick.
    lies = tail.tolist()
    x, y = root.tolist()
    nodes = [(x, y)]
    direction = float(spine.angles[0]) + math.pi
    for i in range(1, _TAIL_NODES):
        lying = math.atan2(lies[i][1] - y, lies[i][0] - x)
        stiffness = 0.5 * math.exp(-i / 2.5) + 0.03
        difference = math.remainder(lying - direction, 2 * math.pi)
        # No joint of a tail folds by more than about 35 degrees.
        direction += min(max(difference * (1 - stiffness), -0.6), 0.6)
        x, y = x + step * math.cos(direction), y + step * math.sin(direction)
        nodes.append((x, y))
    return np.array(nodes)


def _tail_root(spine: Spine) -> np.ndarray:
    # A little inside the rump, so that the two never come apart.
    return spine.points[1].copy()
