"""Where the animal can be: the outline of the floor and its scale, and nothing of its looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arena:
    """A rectangular or circular floor seen from above. Lengths in pixels, x right and y down."""

    kind: str  # "rectangular" or "circular"
    center_x: float
    center_y: float
    half_width: float  # the radius, where circular
    half_height: float
    px_per_cm: float

    def wall_distance(self, x: float, y: float) -> float:
        """Distance to the nearest wall; negative outside the floor."""
        dx, dy = abs(x - self.center_x), abs(y - self.center_y)
        if self.kind == "circular":
            return self.half_width - math.hypot(dx, dy)
        return min(self.half_width - dx, self.half_height - dy)

    def inward(self, x: float, y: float) -> tuple[float, float]:
        """Unit vector away from the nearest wall."""
        dx, dy = x - self.center_x, y - self.center_y
        if self.kind == "circular":
            radius = math.hypot(dx, dy) or 1.0
            return -dx / radius, -dy / radius
        if self.half_width - abs(dx) < self.half_height - abs(dy):
            return (-1.0 if dx > 0 else 1.0), 0.0
        return 0.0, (-1.0 if dy > 0 else 1.0)

    def clamp(self, x: float, y: float, margin: float) -> tuple[float, float]:
        """The nearest point that keeps ``margin`` from every wall."""
        dx, dy = x - self.center_x, y - self.center_y
        if self.kind == "circular":
            radius, limit = math.hypot(dx, dy), self.half_width - margin
            if radius > limit:
                dx, dy = dx * limit / radius, dy * limit / radius
        else:
            dx = min(max(dx, margin - self.half_width), self.half_width - margin)
            dy = min(max(dy, margin - self.half_height), self.half_height - margin)
        return self.center_x + dx, self.center_y + dy

    def random_point(self, rng: np.random.Generator, margin: float) -> tuple[float, float]:
        """A point of the floor at least ``margin`` from the walls."""
        if self.kind == "circular":
            radius = (self.half_width - margin) * math.sqrt(rng.random())
            angle = rng.uniform(0, 2 * math.pi)
            return (
                self.center_x + radius * math.cos(angle),
                self.center_y + radius * math.sin(angle),
            )
        return (
            self.center_x + rng.uniform(-1, 1) * (self.half_width - margin),
            self.center_y + rng.uniform(-1, 1) * (self.half_height - margin),
        )

    def along_wall(self, x: float, y: float, step: float, margin: float) -> tuple[float, float]:
        """The point ``step`` further along the wall (clockwise where positive) at ``margin``."""
        if self.kind == "circular":
            radius = max(self.half_width - margin, 1.0)
            angle = math.atan2(y - self.center_y, x - self.center_x) + step / radius
            return (
                self.center_x + radius * math.cos(angle),
                self.center_y + radius * math.sin(angle),
            )
        width, height = 2 * (self.half_width - margin), 2 * (self.half_height - margin)
        left, top = self.center_x - width / 2, self.center_y - height / 2
        # Position on the perimeter, clockwise on the screen from the upper left corner.
        to_top, to_bottom = y - top, top + height - y
        to_left, to_right = x - left, left + width - x
        nearest = min(to_top, to_bottom, to_left, to_right)
        along_x, along_y = min(max(x - left, 0), width), min(max(y - top, 0), height)
        if nearest == to_top:
            position = along_x
        elif nearest == to_right:
            position = width + along_y
        elif nearest == to_bottom:
            position = width + height + (width - along_x)
        else:
            position = 2 * width + height + (height - along_y)
        position = (position + step) % (2 * (width + height))
        if position < width:
            return left + position, top
        position -= width
        if position < height:
            return left + width, top + position
        position -= height
        if position < width:
            return left + width - position, top + height
        return left, top + height - (position - width)


def choose_arena(rng: np.random.Generator, kind: str, width: int, height: int) -> Arena:
    """An arena that fills a ``width`` x ``height`` picture the way a mounted camera would frame it.

    ``kind`` is ``"rectangular"``, ``"circular"`` or ``"random"``. Open fields are 38-50 cm across,
    home cages (one in four of the rectangular ones) 32-37 cm, as those sold are.
    """
    if kind == "random":
        kind = "circular" if rng.random() < 0.35 else "rectangular"
    center_x = width * (0.5 + rng.uniform(-0.02, 0.02))
    center_y = height * (0.5 + rng.uniform(-0.02, 0.03))
    if kind == "circular":
        radius = min(width, height) * rng.uniform(0.42, 0.47)
        return Arena(kind, center_x, center_y, radius, radius, 2 * radius / rng.uniform(38.0, 48.0))
    half_width = width * rng.uniform(0.40, 0.465)
    half_height = min(height * rng.uniform(0.385, 0.445), half_width)
    across_cm = rng.uniform(32.0, 37.0) if rng.random() < 0.25 else rng.uniform(40.0, 50.0)
    return Arena(kind, center_x, center_y, half_width, half_height, 2 * half_width / across_cm)
