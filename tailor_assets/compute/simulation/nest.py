"""The nest: a heap of shredded paper or cotton with a hollow in it, and strips over its rim.

It is drawn once as two layers. The animal lies between them, so that it is partly covered when it
is inside, and what it pushes aside stays pushed: the nest changes its shape from visit to visit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.textures import value_noise, ycc

# Y, Cb, Cr (unlit) times coverage, float32 ``[size, size, 3]``, and coverage ``[size, size]``.
Layer = tuple[np.ndarray, np.ndarray]

MATERIALS = ("shredded paper", "cotton", "brown crinkle")


@dataclass(frozen=True)
class NestSite:
    """Where the nest lies: an ellipse. Lengths in pixels, ``angle`` in radians."""

    x: float
    y: float
    radius: float  # geometric mean of the two half axes
    half_long: float
    half_short: float
    angle: float

    def _reduced_radius(self, x: float, y: float) -> float:
        dx, dy = x - self.x, y - self.y
        along = dx * math.cos(self.angle) + dy * math.sin(self.angle)
        across = -dx * math.sin(self.angle) + dy * math.cos(self.angle)
        return math.hypot(along / self.half_long, across / self.half_short)

    def contains(self, x: float, y: float) -> bool:
        """Whether a point is inside the nest's outline."""
        return self._reduced_radius(x, y) <= 1.0

    def distance_from_edge(self, x: float, y: float) -> float:
        """Distance outside the outline, negative inside (exact for a circle)."""
        return (self._reduced_radius(x, y) - 1.0) * self.radius


def choose_nest_site(rng: np.random.Generator, arena: Arena, body_length: float) -> NestSite:
    """A nest beside a wall, large enough to hold the curled animal."""
    radius = rng.uniform(0.66, 0.80) * body_length
    # In small cages the nest must leave room to walk past.
    radius = min(radius, 0.42 * min(arena.half_width, arena.half_height))
    ratio = rng.uniform(1.0, 1.16)
    x, y = arena.random_point(rng, 1.05 * radius * ratio)
    inset = 1.04 * radius * ratio
    for _ in range(40):
        if arena.wall_distance(x, y) < 1.5 * radius:
            break
        inward_x, inward_y = arena.inward(x, y)
        x, y = arena.clamp(x - inward_x * 6, y - inward_y * 6, inset)
    x, y = arena.clamp(x, y, inset)
    return NestSite(
        x, y, radius, radius * math.sqrt(ratio), radius / math.sqrt(ratio), rng.uniform(0, math.pi)
    )


class Nest:
    """The nest's picture. ``left``, ``top``, ``size`` place its square layers in the scene.

    ``under`` and ``over`` are each a pair of float32 arrays: Y, Cb, Cr (unlit) times coverage
    ``[size, size, 3]``, and coverage ``[size, size]``. ``outline`` is bool ``[size, size]``: all
    material, whatever lies on it. ``material`` is one of ``MATERIALS``; ``strips`` scales their
    number, which is what painting takes its time for.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        site: NestSite,
        material: str,
        monochrome: bool,
        strips: float = 1.0,
    ) -> None:
        self.site = site
        self.size = 2 * (math.ceil(site.half_long * 1.5 / 2) * 2)
        self.left = int(site.x - self.size / 2) // 2 * 2
        self.top = int(site.y - self.size / 2) // 2 * 2
        under, over = _draw_layers(rng, site, self.size, material, strips)
        if monochrome:
            under[..., 1:3] = over[..., 1:3] = 0
        self._under, self._over = under, over
        self._push_x = np.zeros((self.size, self.size), np.float32)
        self._push_y = np.zeros_like(self._push_x)
        rows, columns = np.mgrid[0 : self.size, 0 : self.size].astype(np.float32)
        self._rows, self._columns = rows, columns
        self._show(under, over)

    def push(self, x: float, y: float, move_x: float, move_y: float) -> None:
        """Let the animal at (x, y) drag the material along by a part of its own movement."""
        if math.hypot(move_x, move_y) < 0.02:
            return
        reach = 0.5 * self.site.radius
        bump = np.exp(
            -((self._columns - (x - self.left)) ** 2 + (self._rows - (y - self.top)) ** 2)
            / (2 * reach * reach)
        )
        limit = 0.16 * self.site.radius
        for field, move in ((self._push_x, move_x), (self._push_y, move_y)):
            field += bump * (0.16 * move)
            # Material that has been pushed far enough piles up instead of sliding on.
            np.clip(field, -limit, limit, out=field)
        map_x, map_y = self._columns - self._push_x, self._rows - self._push_y
        # What lies underneath is pressed down by the animal and follows less.
        over = cv2.remap(self._over, map_x, map_y, cv2.INTER_LINEAR)
        under = cv2.remap(
            self._under,
            self._columns - 0.5 * self._push_x,
            self._rows - 0.5 * self._push_y,
            cv2.INTER_LINEAR,
        )
        self._show(under, over)

    def _show(self, under: np.ndarray, over: np.ndarray) -> None:
        def split(layer: np.ndarray) -> Layer:
            return np.ascontiguousarray(layer[..., :3]), np.ascontiguousarray(layer[..., 3])

        self.under, self.over = split(under), split(over)
        self.outline = 1 - (1 - self.under[1]) * (1 - self.over[1]) > 0.5


def _draw_layers(
    rng: np.random.Generator, site: NestSite, size: int, material: str, strips: float
) -> tuple[np.ndarray, np.ndarray]:
    color, spread = {
        "shredded paper": (ycc((226, 224, 218)), 18.0),
        "cotton": (ycc((232, 230, 226)), 9.0),
        "brown crinkle": (ycc((176, 142, 104)), 22.0),
    }[material]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    along_x, along_y = columns - size / 2, rows - size / 2
    cos, sin = math.cos(site.angle), math.sin(site.angle)
    reduced = np.hypot(
        (along_x * cos + along_y * sin) / site.half_long,
        (-along_x * sin + along_y * cos) / site.half_short,
    )
    ragged = reduced + 0.07 * value_noise(rng, size, size, site.radius * 0.5, 3)
    heap = np.clip((1.0 - ragged) * site.radius * 0.5, 0, 1)
    # A crater: high on the rim, hollow in the middle, and lit from one side.
    height = np.exp(-(((ragged - 0.68) / 0.27) ** 2)).astype(np.float32)
    light = rng.uniform(0, 2 * math.pi)
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(height, (0, 0), site.radius * 0.08))
    relief = (math.cos(light) * slope_x + math.sin(light) * slope_y) * site.radius
    shade = np.clip(0.70 + 0.26 * height - 0.16 * relief, 0.35, 1.12)

    under = np.zeros((size, size, 4), np.float32)
    fluff = value_noise(rng, size, size, site.radius * 0.10, 3)
    luma = (color[0] * 0.86 + spread * 0.5 * fluff) * shade
    under[..., 0] = luma
    under[..., 1:3] = color[1:]
    under[..., :3] *= heap[..., None]
    under[..., 3] = heap
    over = np.zeros_like(under)
    is_cotton = material == "cotton"
    count = round((170 if is_cotton else 420) * strips)
    for index in range(count):
        on_top = index >= count * 0.80
        # Strips over the animal lie mostly on the rim; the hollow stays half open.
        low = 0.52 if on_top else 0.0
        distance = math.sqrt(rng.uniform(low**2, 0.88**2))
        angle = rng.uniform(0, 2 * math.pi)
        strip = _strip(rng, site, size, distance, angle, is_cotton)
        where_y = min(max(int(strip[:, 1].mean()), 0), size - 1)
        where_x = min(max(int(strip[:, 0].mean()), 0), size - 1)
        tone = color.copy()
        tone[0] = (tone[0] + rng.normal(0, spread)) * shade[where_y, where_x]
        layer = over if on_top else under
        if is_cotton:
            _lay_thread(layer, strip, tone, rng.uniform(0.03, 0.05) * site.radius)
        else:
            _lay_strip(rng, layer, strip, tone, rng.uniform(0.018, 0.050) * site.radius)
    soft = 0.9 if is_cotton else 0.65
    return cv2.GaussianBlur(under, (0, 0), soft), cv2.GaussianBlur(over, (0, 0), soft)


def _strip(
    rng: np.random.Generator,
    site: NestSite,
    size: int,
    distance: float,
    angle: float,
    is_cotton: bool,
) -> np.ndarray:
    """One crinkled strip as ``[N, 2]`` points; strips lie round the hollow more than across it."""
    cos, sin = math.cos(site.angle), math.sin(site.angle)
    along = distance * math.cos(angle) * site.half_long
    across = distance * math.sin(angle) * site.half_short
    x = size / 2 + along * cos - across * sin
    y = size / 2 + along * sin + across * cos
    direction = angle + site.angle + math.pi / 2 + rng.normal(0, 0.8)
    length = site.radius * (rng.uniform(0.3, 0.7) if is_cotton else rng.uniform(0.3, 0.85))
    pieces = 9 if is_cotton else 6
    bends = rng.normal(0, 0.25 if is_cotton else 0.38, pieces)
    # Along the rim strips follow its curve.
    bends += length / pieces / max(distance, 0.4) / site.radius
    angles = direction + np.cumsum(bends) - bends.sum() / 2
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / pieces)
    points = np.vstack([[0.0, 0.0], np.cumsum(steps, axis=0)])
    return points - points[pieces // 2] + np.array([x, y])


def _around(
    layer: np.ndarray, points: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of ``layer`` around ``points``, and the points in its coordinates."""
    size = layer.shape[0]
    left, top = np.maximum(np.floor(points.min(axis=0) - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(points.max(axis=0) + reach), size).astype(int)
    if right - left < 2 or bottom - top < 2:
        return None
    return layer[top:bottom, left:right], points - np.array([left, top])


def _drop_shadow(area: np.ndarray, points: np.ndarray, width: float, strength: float) -> None:
    """Darken what lies under a strip, to one side of it."""
    fixed = np.round((points + 0.5 + 0.45 * width) * 16).astype(np.int32).reshape(-1, 1, 2)
    image = np.zeros(area.shape[:2], np.uint8)
    cv2.polylines(image, [fixed], False, 255, max(1, round(width)) + 1, cv2.LINE_AA, 4)
    shadow = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), 0.5 + width * 0.35)
    area[..., :3] *= (1 - strength * shadow)[..., None]


def _lay_thread(layer: np.ndarray, points: np.ndarray, tone: np.ndarray, width: float) -> None:
    """A soft, half transparent thread."""
    around = _around(layer, points, width * 2.5 + 3)
    if around is None:
        return
    area, points = around
    _drop_shadow(area, points, width, 0.19)
    image = np.zeros(area.shape[:2], np.uint8)
    fixed = np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(image, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    # A line thinner than a pixel covers only part of it.
    cover = image.astype(np.float32) * (0.45 * min(1.0, width) / 255)
    area += (np.append(tone, 1.0).astype(np.float32) - area) * cover[..., None]


def _lay_strip(
    rng: np.random.Generator,
    layer: np.ndarray,
    points: np.ndarray,
    tone: np.ndarray,
    width: float,
) -> None:
    """A flat, folded strip: every facet between two folds has its own brightness."""
    width = max(width, 0.8)
    around = _around(layer, points, width * 2.5 + 3)
    if around is None:
        return
    area, points = around
    _drop_shadow(area, points, width, 0.5)
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    half = np.stack([-along[:, 1], along[:, 0]], axis=1) * (width / 2)
    left, right = points + half, points - half
    facets = tone[0] * (1 + 0.13 * rng.standard_normal(len(points) - 1))
    for i, luma in enumerate(facets):
        quad = np.stack([left[i], left[i + 1], right[i + 1], right[i]])
        color = (float(luma), float(tone[1]), float(tone[2]), 1.0)
        fixed = np.round(quad * 16).astype(np.int32)
        # OpenCV draws into float pictures only without antialiasing; the final blur smooths it.
        canvas = np.ascontiguousarray(area)
        cv2.fillConvexPoly(canvas, fixed, color, cv2.LINE_8, 4)
        area[:] = canvas
