"""Paints the empty recording: room, walls, floor, light, and what lies about. Once per video."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.textures import (
    polyline_coverage,
    soft_blend,
    value_noise,
    ycc,
)
from tailor_assets.compute.simulation.wear_and_tear import (
    droppings,
    glints,
    lamp_reflections,
    water_bottle,
    wear,
)

# Floors by their colour and kind; which one is taken depends on the animal's coat.
FLOORS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "white acrylic": ("glossy", (216, 216, 214)),
    "white paint": ("painted", (206, 204, 198)),
    "light grey": ("painted", (176, 178, 180)),
    "beige": ("painted", (196, 180, 152)),
    "wood chips": ("chips", (190, 158, 116)),
    "corncob": ("granules", (204, 174, 128)),
    "blue grey": ("painted", (98, 112, 130)),
    "dark grey": ("painted", (74, 75, 78)),
    "black acrylic": ("glossy", (42, 42, 45)),
    "green mat": ("painted", (62, 96, 78)),
    "dark chips": ("chips", (112, 84, 60)),
}
# In luminance (0..255) between the coat and the floor in full light; more where the floor's own
# texture competes with the animal's outline.
_LEAST_CONTRAST = {"glossy": 68.0, "painted": 68.0, "chips": 85.0, "granules": 75.0}


@dataclass(frozen=True)
class Scenery:
    """The empty scene.

    ``lit`` is float32 ``[H, W, 3]`` Y, Cb, Cr as the camera sees it; ``light`` float32 ``[H, W]``
    multiplies whatever is put into the scene; ``front`` is float32 ``[H, W]`` coverage of things
    that hang over the floor (a bottle's spout) and hide the animal, or None.
    """

    lit: np.ndarray
    light: np.ndarray
    front: np.ndarray | None
    floor: str
    wall_reflection: float  # 0..1, of straight walls


def floor_luma(floor: str) -> float:
    """Mean luminance (0..255) of a floor in full light."""
    kind, rgb = FLOORS[floor]
    # Between the flakes of a bedding it is dark.
    return float(ycc(rgb)[0]) * (0.82 if kind == "chips" else 1.0)


def choose_floor(rng: np.random.Generator, coat_luma: float) -> str:
    """A floor on which a coat of this luminance can be seen by a person."""
    visible = [
        name
        for name, (kind, _) in FLOORS.items()
        if abs(floor_luma(name) - coat_luma) >= _LEAST_CONTRAST[kind]
    ]
    return str(rng.choice(visible))


def paint_scenery(
    rng: np.random.Generator,
    arena: Arena,
    height: int,
    width: int,
    floor: str,
    lighting: str,
    monochrome: bool,
) -> Scenery:
    """Paint everything that does not move. ``lighting`` is ``"visible"`` or ``"infrared"``."""
    kind, rgb = FLOORS[floor]
    color = ycc(rgb)
    canvas: np.ndarray = np.empty((height, width, 3), np.float32)
    _paint_room(rng, canvas)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = _depth_inside(arena, columns, rows, height, width)
    light = _light_map(rng, arena, columns, rows, lighting)
    wall = _wall_color(rng, color)
    _paint_walls(rng, canvas, arena, wall, columns, rows, depth)
    coverage = np.clip(depth + 0.5, 0, 1)
    soft_blend(canvas, _floor_texture(rng, kind, color, height, width, arena), coverage)
    if kind in ("painted", "glossy"):
        wear(rng, canvas, arena, coverage, glossy=kind == "glossy")
    droppings(rng, canvas, arena, dark=float(color[0]) > 90)
    # Corners get less light, and a line of dirt runs along the foot of the walls.
    foot = np.exp(-np.maximum(depth, 0) / (1.6 * arena.px_per_cm)) * coverage
    line = np.exp(-((depth / max(1.2, 0.10 * arena.px_per_cm)) ** 2))
    canvas *= (1 - 0.30 * foot)[..., None] * (1 - 0.45 * line)[..., None]
    if kind == "glossy":
        lamp_reflections(rng, canvas, arena, coverage)
    front = None
    if arena.kind == "rectangular" and rng.random() < 0.35:
        front = water_bottle(rng, canvas, arena)
    # Automatic exposure opens up, but not all the way, over a dark floor.
    level = float((canvas[..., 0] * light).mean())
    light *= min(max((100.0 / max(level, 1.0)) ** 0.4, 0.92), 1.4)
    canvas *= light[..., None]
    glints(rng, canvas, arena)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.0009, 0.0016) * width)
    if monochrome:
        canvas[..., 1:] = 0
    return Scenery(
        np.ascontiguousarray(canvas),
        light,
        front,
        floor,
        float(rng.uniform(0.25, 0.6)) if rng.random() < 0.6 else 0.0,
    )


def _depth_inside(
    arena: Arena, columns: np.ndarray, rows: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Signed distance to the wall's foot, px; straight walls bulge a little, as lenses make them."""
    dx, dy = columns - arena.center_x, rows - arena.center_y
    if arena.kind == "circular":
        return arena.half_width - np.hypot(dx, dy)
    bulge_x = 0.012 * width * (1 - (dy / arena.half_height) ** 2)
    bulge_y = 0.014 * height * (1 - (dx / arena.half_width) ** 2)
    return np.minimum(
        arena.half_width + bulge_x - np.abs(dx), arena.half_height + bulge_y - np.abs(dy)
    )


def _light_map(
    rng: np.random.Generator,
    arena: Arena,
    columns: np.ndarray,
    rows: np.ndarray,
    lighting: str,
) -> np.ndarray:
    """Lamps, their hot spots and the lens's vignette as one factor per pixel, about 1 on the floor.

    Infrared rings around the lens light the middle far more than the corners.
    """
    height, width = rows.shape
    x, y = (columns - width / 2) / width, (rows - height / 2) / width
    infrared = lighting == "infrared"
    field = np.full_like(x, 0.80)
    field += rng.uniform(-0.22, 0.22) * x + rng.uniform(-0.22, 0.22) * y
    if infrared:
        center = rng.uniform(-0.08, 0.08, 2)
        reach = rng.uniform(0.28, 0.42)
        field += 0.42 * np.exp(-(((x - center[0]) ** 2 + (y - center[1]) ** 2) / reach**2)) - 0.12
    else:
        for _ in range(int(rng.integers(1, 4))):
            spot = rng.uniform(-0.45, 0.45, 2) * np.array([1.0, height / width])
            reach_x, reach_y = rng.uniform(0.16, 0.5, 2)
            field += rng.uniform(0.10, 0.32) * np.exp(
                -(((x - spot[0]) / reach_x) ** 2 + ((y - spot[1]) / reach_y) ** 2)
            )
    vignette = 1 - rng.uniform(*((0.5, 0.8) if infrared else (0.25, 0.6))) * (x * x + y * y)
    field *= vignette
    # Cloudy unevenness of diffusers.
    field *= 1 + 0.012 * value_noise(rng, height, width, 0.2 * width, 2)
    inside = field[
        int(max(arena.center_y - arena.half_height, 0)) : int(arena.center_y + arena.half_height),
        int(max(arena.center_x - arena.half_width, 0)) : int(arena.center_x + arena.half_width),
    ]
    target = rng.uniform(0.86, 1.0) if infrared else rng.uniform(0.98, 1.12)
    return np.asarray(field * (target / float(inside.mean())), dtype=np.float32)


def _paint_room(rng: np.random.Generator, canvas: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    bench = [(58, 58, 60), (96, 92, 86), (30, 30, 32), (120, 118, 112)]
    canvas[:] = ycc(bench[int(rng.integers(len(bench)))])
    canvas[..., 0] *= 1 + 0.10 * value_noise(rng, height, width, 0.25 * width, 3)
    # The edges of whatever the arena stands on.
    for _ in range(int(rng.integers(1, 4))):
        at = rng.uniform(0, 1, 2) * np.array([width, height])
        angle = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.04)
        reach = np.array([math.cos(angle), math.sin(angle)]) * width * 2
        line = polyline_coverage(height, width, np.stack([at - reach, at + reach]), 2)
        canvas[..., 0] *= 1 - rng.uniform(-0.3, 0.5) * line


def _wall_color(rng: np.random.Generator, floor: np.ndarray) -> np.ndarray:
    greys = [(150, 150, 150), (188, 188, 184), (96, 98, 102), (60, 60, 63)]
    if rng.random() < 0.45:
        return floor * rng.uniform(0.55, 0.85)
    return ycc(greys[int(rng.integers(len(greys)))])


def _paint_walls(
    rng: np.random.Generator,
    canvas: np.ndarray,
    arena: Arena,
    color: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Inner faces of the walls as a camera above the middle sees them, each lit differently."""
    height, width = rows.shape
    dx, dy = columns - arena.center_x, rows - arena.center_y
    reach = rng.uniform(0.10, 0.20) * width
    up = np.clip(-depth / reach, 0, 1)  # 0 at the wall's foot, 1 at its rim
    direction = np.arctan2(dy, dx)
    toward = rng.uniform(0, 2 * math.pi)
    if arena.kind == "circular":
        face = 1 + 0.28 * np.cos(direction - toward)
        rings = 1 + 0.02 * value_noise(rng, height, width, 0.05 * width, 2)
    else:
        # Four flat faces that meet along the diagonals.
        side_x = np.abs(dx) - arena.half_width > np.abs(dy) - arena.half_height
        normal = np.where(side_x, np.where(dx > 0, 0.0, math.pi), np.sign(dy) * math.pi / 2)
        face = 1 + 0.30 * np.cos(normal - toward)
        corner = np.abs(
            (np.abs(dx) - arena.half_width) - (np.abs(dy) - arena.half_height)
        ) / math.sqrt(2)
        rings = 1 - 0.35 * np.exp(-((corner / (0.004 * width)) ** 2))
    shade = (0.62 + rng.uniform(0.1, 0.5) * up) * face * rings
    shade *= 1 + 0.03 * value_noise(rng, height, width, 0.12 * width, 3)
    # The floor's light is thrown back on the foot of the walls.
    shade *= 1 + 0.16 * np.exp(-up / 0.12)
    wall = color * shade[..., None]
    rim = np.exp(-(((-depth - reach) / (0.006 * width)) ** 2)) * rng.uniform(0.1, 0.6)
    coverage = np.clip(reach + depth + 0.5, 0, 1)
    soft_blend(canvas, wall, coverage)
    canvas[..., 0] += rim * 90
    outside = np.clip((-depth - reach) / (0.05 * width), 0, 1)
    canvas *= (1 - 0.35 * np.exp(-outside * 4) * (1 - coverage))[..., None]


def _floor_texture(
    rng: np.random.Generator, kind: str, color: np.ndarray, height: int, width: int, arena: Arena
) -> np.ndarray:
    surface = np.empty((height, width, 3), np.float32)
    surface[:] = color
    cm = arena.px_per_cm
    if kind == "chips":
        _chips(rng, surface, color, cm)
        return surface
    if kind == "granules":
        # Round granules: a thresholded blob field lit from one side.
        grain = value_noise(rng, height, width, 0.34 * cm, 1)
        grain += 0.7 * value_noise(rng, height, width, 0.2 * cm, 1)
        relief = cv2.GaussianBlur(grain, (0, 0), 0.5)
        slope = np.roll(relief, 1, axis=1) - relief + 0.6 * (np.roll(relief, 1, axis=0) - relief)
        tone = value_noise(rng, height, width, 0.5 * cm, 2)
        surface *= (1 + 0.20 * np.tanh(slope * 1.2) + 0.10 * np.tanh(grain) + 0.05 * tone)[
            ..., None
        ]
        surface[..., 1:] *= (1 + 0.15 * tone)[..., None]
        return surface
    cloud = value_noise(rng, height, width, 0.3 * width, 4)
    brush = value_noise(rng, height, width, (1.5, 0.15 * width), 2)
    fine = value_noise(rng, height, width, max(1.2, 0.10 * cm), 2)
    gain = (0.012, 0.004, 0.005) if kind == "glossy" else (0.026, 0.009, 0.012)
    surface *= (1 + gain[0] * cloud + gain[1] * brush + gain[2] * fine)[..., None]
    return surface


def _chips(rng: np.random.Generator, surface: np.ndarray, color: np.ndarray, cm: float) -> None:
    """Wood shavings: thousands of small flakes, each with its own tone and a dark lower edge."""
    height, width = surface.shape[:2]
    surface *= (0.72 + 0.06 * value_noise(rng, height, width, 0.8 * cm, 3))[..., None]
    length = np.clip(0.75 * cm, 2.5, None)
    count = int(min(9000, 2.6 * height * width / (length * length * 0.42)))
    centers = rng.uniform(0, 1, (count, 2)) * np.array([width, height])
    angles = rng.uniform(0, math.pi, count)
    sizes = rng.uniform(0.35, 1.0, count) * length / 2
    ratios = rng.uniform(0.25, 0.6, count)
    tones = rng.normal(1.0, 0.13, count)
    hue = rng.normal(1.0, 0.12, count)
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1) * sizes[:, None]
    across = np.stack([-np.sin(angles), np.cos(angles)], axis=1) * (sizes * ratios)[:, None]
    bend = rng.uniform(-0.3, 0.3, count)[:, None] * across
    corners = np.stack(
        [centers + along + bend, centers + across, centers - along + bend, centers - across], axis=1
    )
    fixed = np.round(corners * 16).astype(np.int32)
    for i in range(count):
        tone = float(tones[i])
        flake = (
            float(color[0]) * tone,
            float(color[1]) * tone * float(hue[i]),
            float(color[2]) * tone * float(hue[i]),
        )
        dark = (flake[0] * 0.55, flake[1] * 0.55, flake[2] * 0.55)
        cv2.fillConvexPoly(surface, fixed[i] + 12, dark, cv2.LINE_8, 4)
        cv2.fillConvexPoly(surface, fixed[i], flake, cv2.LINE_8, 4)
    surface[:] = cv2.GaussianBlur(surface, (0, 0), 0.6)
