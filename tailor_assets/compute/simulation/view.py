"""Where the camera stands: floor coordinates to pixels and back, oblique and through a bent lens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class View:
    """A pinhole camera over a flat floor, with a lens of the division model (Fitzgibbon, 2001).

    ``matrix`` float64 ``[3, 3]`` is the homography from the floor to the undistorted picture.
    ``bend`` is the lens's distortion at the corner of the picture, negative for a barrel; 0 for a
    perfect lens. The scale in the middle of the picture is about 1 pixel per unit of the floor.
    """

    matrix: np.ndarray
    inverse: np.ndarray
    center_x: float
    center_y: float
    corner: float  # from the picture's middle, px
    bend: float

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Floor points float64 ``[N, 2]`` as pixels ``[N, 2]``."""
        mapped = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        x = mapped[:, 0] / mapped[:, 2] - self.center_x
        y = mapped[:, 1] / mapped[:, 2] - self.center_y
        if self.bend:
            # The root of k*r*q^2 - q + r = 0 that is q = r where k is 0.
            radius = np.hypot(x, y) / self.corner
            root = np.sqrt(np.maximum(1 - 4 * self.bend * radius**2, 1e-3))
            stretch = 2 / (1 + root)
            x, y = x * stretch, y * stretch
        return np.stack([x + self.center_x, y + self.center_y], axis=1)

    def to_floor(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of any shape as floor coordinates of that shape, float32."""
        x, y = x.astype(np.float32), y.astype(np.float32)
        if self.bend:
            away_x, away_y = x - self.center_x, y - self.center_y
            squeeze = 1 / (1 + self.bend / self.corner**2 * (away_x * away_x + away_y * away_y))
            x, y = away_x * squeeze + self.center_x, away_y * squeeze + self.center_y
        m = self.inverse.astype(np.float32)
        depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
        return (
            (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth,
            (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth,
        )

    def local(self, x: float, y: float, angle: float) -> tuple[float, float, float, float]:
        """Pixel x, y of a floor point, a direction there as seen, and pixels per unit of floor."""
        at_x, at_y = self._one(x, y)
        to_x, to_y = self._one(x + math.cos(angle), y + math.sin(angle))
        return (
            at_x,
            at_y,
            math.atan2(to_y - at_y, to_x - at_x),
            math.hypot(to_x - at_x, to_y - at_y),
        )

    def _one(self, x: float, y: float) -> tuple[float, float]:
        """``to_picture`` of one point, without arrays."""
        a, b, c, d, e, f, g, h, i = self._elements
        depth = g * x + h * y + i
        away_x = (a * x + b * y + c) / depth - self.center_x
        away_y = (d * x + e * y + f) / depth - self.center_y
        if self.bend:
            squared = (away_x * away_x + away_y * away_y) / self.corner**2
            stretch = 2 / (1 + math.sqrt(max(1 - 4 * self.bend * squared, 1e-3)))
            away_x, away_y = away_x * stretch, away_y * stretch
        return away_x + self.center_x, away_y + self.center_y

    @cached_property
    def _elements(self) -> list[float]:
        return [float(v) for v in self.matrix.ravel()]


def choose_view(
    rng: np.random.Generator, width: int, height: int, floor_size: tuple[float, float]
) -> View:
    """A camera over a floor of ``floor_size`` (width, height) around its origin.

    Half of the cameras look straight down, as the better ones are mounted; the others lean by up
    to some 35 degrees. The floor lies turned and off centre in the picture now and then.
    """
    lean = 0.0 if rng.random() < 0.45 else math.radians(abs(rng.normal(0, 16)))
    lean = min(lean, math.radians(38))
    toward = rng.choice([math.pi / 2, -math.pi / 2, 0.0, math.pi]) + rng.normal(0, 0.25)
    turn = rng.normal(0, 0.03) if rng.random() < 0.75 else rng.uniform(-math.pi, math.pi)
    if rng.random() < 0.25:
        turn += math.pi / 2
    # A floor that fills the picture is moved less than one that is larger than it.
    loose_x = 0.06 * width + 0.30 * abs(width - floor_size[0])
    loose_y = 0.06 * height + 0.30 * abs(height - floor_size[1])
    shift_x, shift_y = rng.uniform(-1, 1) * loose_x, rng.uniform(-1, 1) * loose_y
    bend = 0.0 if rng.random() < 0.45 else float(rng.uniform(-0.22, 0.04))

    c, s = math.cos(turn), math.sin(turn)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    if rng.random() < 0.3:  # mirrored, as some grabbers deliver it
        turned = turned @ np.diag([-1.0, 1.0, 1.0])
    ct, st = math.cos(toward), math.sin(toward)
    axis = np.array([[ct, st, 0], [-st, ct, 0], [0, 0, 1.0]])
    distance = rng.uniform(1.6, 3.0) * max(width, height)
    tilted = np.array([[math.cos(lean), 0, 0], [0, 1, 0], [math.sin(lean) / distance, 0, 1.0]])
    placed = np.array([[1, 0, width / 2 + shift_x], [0, 1, height / 2 + shift_y], [0, 0, 1.0]])
    matrix = placed @ axis.T @ tilted @ axis @ turned
    return View(
        matrix, np.linalg.inv(matrix), width / 2, height / 2, math.hypot(width, height) / 2, bend
    )
