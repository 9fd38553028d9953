"""How large the animals are in the picture, what they walk on, and how the camera sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.view import View, choose_view

SMALLEST_BODY, LARGEST_BODY = 0.04, 0.45  # nose to tail root, in widths of the picture


@dataclass(frozen=True)
class Ground:
    """The floor, the camera over it, and the animals' size.

    ``arena`` lies around the origin; where several equal arenas lie side by side, ``spots`` are
    their middles.

    ``body_length`` in floor units, which are about a pixel; ``species`` "mouse" or "rat".
    ``px_per_cm`` is the floor's true scale. The arena's own is that of a mouse's behaviour: a rat
    covers more centimetres in a second, but fewer of its own lengths.
    """

    arena: Arena
    view: View
    body_length: float
    species: str
    px_per_cm: float
    spots: tuple[tuple[float, float], ...] = ((0.0, 0.0),)

    def arena_of(self, animal: int) -> Arena:
        """The arena of an animal, where it lies."""
        x, y = self.spots[animal % len(self.spots)]
        return replace(self.arena, center_x=x, center_y=y)

    def arena_near(self, x: float, y: float) -> Arena:
        """The arena nearest to a point."""
        away = [math.hypot(x - spot_x, y - spot_y) for spot_x, spot_y in self.spots]
        return self.arena_of(away.index(min(away)))

    def random_point(self, rng: np.random.Generator, margin: float) -> tuple[float, float]:
        """A point of any of the arenas."""
        return self.arena_of(int(rng.integers(len(self.spots)))).random_point(rng, margin)

    def within_arena(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Floor coordinates against the middle of the nearest arena."""
        if len(self.spots) == 1:
            return x, y
        spots_x, spots_y = (np.unique([spot[i] for spot in self.spots]) for i in (0, 1))
        return _from_nearest(x, spots_x), _from_nearest(y, spots_y)


def _from_nearest(values: np.ndarray, spots: np.ndarray) -> np.ndarray:
    edges = (spots[1:] + spots[:-1]) / 2
    return (values - spots[np.searchsorted(edges, values)]).astype(np.float32)


def choose_ground(rng: np.random.Generator, width: int, height: int) -> Ground:
    """A floor of 2.4 to 14 body lengths across, from wholly in the picture to far beyond it."""
    # Most recordings show an animal of a tenth to a quarter of the picture's width.
    share = math.exp(rng.normal(math.log(0.15), 0.57))
    share = min(max(share, SMALLEST_BODY), LARGEST_BODY)
    body_length = share * width
    species = "rat" if rng.random() < 0.35 else "mouse"
    # The floor fills the picture, give or take; small animals may be kept in small cages.
    fills = rng.uniform(0.72, 1.0) if rng.random() < 0.6 else rng.uniform(0.4, 1.5)
    across = max(fills * width, 2.4 * body_length)
    across = min(across, 14 * body_length)
    kind = str(rng.choice(["rectangular", "circular", "plus"], p=[0.64, 0.27, 0.09]))
    if across < 5 * body_length and kind == "plus":
        kind = "rectangular"
    if kind == "rectangular":
        ratio = rng.uniform(0.62, 1.0)
        half_width, half_height = across / 2, max(across * ratio / 2, 0.75 * body_length)
    else:
        if kind == "circular":
            across = min(across, max(1.15 * height, 2.6 * body_length))
        half_width = half_height = across / 2
    cm_of_body = rng.uniform(7.5, 9.5) if species == "mouse" else rng.uniform(15.0, 20.0)
    arena_type = PlusArena if kind == "plus" else Arena
    pace = body_length / (cm_of_body if species == "mouse" else cm_of_body * 0.75)
    arena = arena_type(kind, 0.0, 0.0, half_width, half_height, pace)
    spots: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    if kind != "plus" and across > 5 * body_length and rng.random() < 0.22:
        arena, spots = _side_by_side(rng, arena, body_length)
    reach_x, reach_y = (2 * max(abs(spot[i]) for spot in spots) for i in (0, 1))
    size = (reach_x + 2 * arena.half_width, reach_y + 2 * arena.half_height)
    view = choose_view(rng, width, height, size)
    return Ground(arena, view, body_length, species, body_length / cm_of_body, spots)


def _side_by_side(
    rng: np.random.Generator, arena: Arena, body_length: float
) -> tuple[Arena, tuple[tuple[float, float], ...]]:
    """Two or four small arenas in the place of a large one, as recorded to save cameras."""
    columns, rows = [(2, 1), (1, 2), (2, 2)][int(rng.integers(3))]
    gap = rng.uniform(0.08, 0.5) * body_length
    half_width = max(arena.half_width / columns - gap / 2, 1.15 * body_length)
    half_height = max(arena.half_height / rows - gap / 2, 1.15 * body_length)
    if arena.kind == "circular":
        half_width = half_height = min(half_width, half_height)
    spots = tuple(
        (
            (column - (columns - 1) / 2) * (2 * half_width + gap),
            (row - (rows - 1) / 2) * (2 * half_height + gap),
        )
        for row in range(rows)
        for column in range(columns)
    )
    return replace(arena, half_width=half_width, half_height=half_height), spots


class PlusArena(Arena):
    """Four arms that meet in the middle: a plus maze seen from above."""

    @property
    def arm(self) -> float:
        """Half the width of an arm."""
        return max(0.13 * self.half_width, 0.55 * 8.5 * self.px_per_cm)

    def _lies_across(self, x: float, y: float) -> bool:
        """Whether a point belongs to the arms that run left and right."""
        return abs(x - self.center_x) > abs(y - self.center_y)

    def wall_distance(self, x: float, y: float) -> float:
        """Distance to the nearest wall; negative outside the floor."""
        dx, dy = abs(x - self.center_x), abs(y - self.center_y)
        across = min(self.half_width - dx, self.arm - dy)
        along = min(self.arm - dx, self.half_height - dy)
        return max(across, along)

    def inward(self, x: float, y: float) -> tuple[float, float]:
        """Unit vector away from the nearest wall."""
        dx, dy = x - self.center_x, y - self.center_y
        if self._lies_across(x, y):
            if self.half_width - abs(dx) < self.arm - abs(dy):
                return (-1.0 if dx > 0 else 1.0), 0.0
            return 0.0, (-1.0 if dy > 0 else 1.0)
        if self.half_height - abs(dy) < self.arm - abs(dx):
            return 0.0, (-1.0 if dy > 0 else 1.0)
        return (-1.0 if dx > 0 else 1.0), 0.0

    def clamp(self, x: float, y: float, margin: float) -> tuple[float, float]:
        """The nearest point of the same arm that keeps ``margin`` from every wall."""
        dx, dy = x - self.center_x, y - self.center_y
        narrow = max(self.arm - margin, 0.05 * self.arm)
        if self._lies_across(x, y):
            limit_x, limit_y = self.half_width - margin, narrow
        else:
            limit_x, limit_y = narrow, self.half_height - margin
        dx = min(max(dx, -limit_x), limit_x)
        dy = min(max(dy, -limit_y), limit_y)
        return self.center_x + dx, self.center_y + dy

    def random_point(self, rng: np.random.Generator, margin: float) -> tuple[float, float]:
        """A point of one of the arms, near its middle line."""
        reach = rng.uniform(-1, 1) * max(self.half_width - margin, 0.0)
        aside = rng.uniform(-1, 1) * max(self.arm - margin, 0.1 * self.arm)
        if rng.random() < 0.5:
            return self.center_x + reach, self.center_y + aside
        return self.center_x + aside, self.center_y + reach

    def along_wall(self, x: float, y: float, step: float, margin: float) -> tuple[float, float]:
        """The end of the arm or, from there, back to the middle."""
        dx, dy = x - self.center_x, y - self.center_y
        end = self.half_width - margin
        if max(abs(dx), abs(dy)) > 0.8 * end:
            return self.center_x, self.center_y
        if max(abs(dx), abs(dy)) < self.arm:
            sign = 1.0 if step > 0 else -1.0
            return self.clamp(self.center_x + sign * end, self.center_y, margin)
        if self._lies_across(x, y):
            return self.center_x + math.copysign(end, dx), self.center_y
        return self.center_x, self.center_y + math.copysign(end, dy)
