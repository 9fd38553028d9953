"""Paints the empty scene of a recording from any laboratory: floors, walls, light, as seen obliquely.

Everything is painted straight into the picture: each pixel asks the view which place of the floor
it shows, so that perspective and lens cost nothing per frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.clutter import Obstacle, furnish
from tailor_assets.compute.simulation.textures import (
    polyline_coverage,
    soft_blend,
    value_noise,
    ycc,
)
from tailor_assets.compute.simulation.wide_ground import Ground, PlusArena

SURFACES = ("painted", "glossy", "bedding", "granules", "wood", "cloth", "mesh")
_SURFACE_SHARES = (0.36, 0.20, 0.16, 0.08, 0.06, 0.07, 0.07)


@dataclass(frozen=True)
class WideScenery:
    """The empty scene in picture coordinates.

    ``lit`` float32 ``[H, W, 3]`` Y, Cb, Cr as seen; ``light`` float32 ``[H, W]`` multiplies what is
    put into it; ``wall`` float32 ``[H, W]`` coverage of walls; reflections 0..1. ``front`` hides
    animals: colour as seen times coverage, ``[H, W, 3]``, and coverage, or None.
    """

    lit: np.ndarray
    light: np.ndarray
    wall: np.ndarray
    wall_reflection: float
    floor_reflection: float
    surface: str
    front: tuple[np.ndarray, np.ndarray] | None
    obstacles: list[Obstacle]


def choose_floor_color(
    rng: np.random.Generator, coat_luma: float, infrared: bool
) -> tuple[np.ndarray, float]:
    """Y, Cb, Cr of a floor and how far (in Y) it is from the coat: a quarter only just shows it."""
    contrast = rng.uniform(14, 36) if rng.random() < 0.26 else rng.uniform(42, 170)
    signs = [s for s in (-1, 1) if 12 <= coat_luma + s * contrast <= 240]
    if not signs:
        sign = 1 if coat_luma < 125 else -1
        luma = min(max(coat_luma + sign * contrast, 12.0), 240.0)
    else:
        luma = coat_luma + float(rng.choice(signs)) * contrast
    hue = rng.uniform(0, 2 * math.pi)
    strength = 0.0 if infrared else abs(rng.normal(0, 5)) * (4.0 if rng.random() < 0.15 else 1)
    strength = min(strength, 0.25 * luma)
    color = np.array([luma, strength * math.cos(hue), strength * math.sin(hue)], np.float32)
    return color, abs(luma - coat_luma)


def paint_wide_scenery(
    rng: np.random.Generator,
    ground: Ground,
    width: int,
    height: int,
    color: np.ndarray,
    contrast: float,
    infrared: bool,
) -> WideScenery:
    """Room, walls, floor with all that is on it, and light. ``color`` and ``contrast`` of the floor."""
    arena, view = ground.arena, ground.view
    canvas: np.ndarray = np.empty((height, width, 3), np.float32)
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    floor_x, floor_y = ground.within_arena(*view.to_floor(columns, rows))
    depth = _depth_inside(arena, floor_x, floor_y)
    light = _light_map(rng, columns, rows, infrared)
    _paint_room(rng, canvas, color)
    wall = _paint_walls(rng, canvas, ground, color, floor_x, floor_y, depth)
    on_floor = np.clip(depth + 0.5, 0, 1)
    surface = str(rng.choice(SURFACES, p=_SURFACE_SHARES))
    # A floor's own pattern must not be louder than the animal.
    loud = min(1.0, contrast / 70)
    texture = _surface(rng, surface, color, height, width, arena.px_per_cm, loud)
    _tone_by_place(rng, texture, ground, floor_x, floor_y, contrast)
    soft_blend(canvas, texture, on_floor)
    _draw_lines(rng, canvas, ground, on_floor, contrast)
    _soil(rng, canvas, ground, on_floor, float(color[0]), loud)
    foot = np.exp(-np.maximum(depth, 0) * (1 / (1.6 * arena.px_per_cm))) * on_floor
    line = np.exp(-((depth * (1 / max(1.2, 0.10 * arena.px_per_cm))) ** 2))
    dirt = rng.uniform(0.0, 0.5)
    canvas *= ((1 - rng.uniform(0.05, 0.45) * foot) * (1 - dirt * line))[..., None]
    glossy = surface == "glossy"
    if glossy or rng.random() < 0.1:
        _lamps_in_floor(rng, canvas, ground, on_floor)
    clutter = furnish(rng, canvas, ground, infrared)
    front = None
    if clutter.hides:
        front = (clutter.color * light[..., None], clutter.cover)
        front = (cv2.GaussianBlur(front[0], (0, 0), 0.7), cv2.GaussianBlur(front[1], (0, 0), 0.7))
    canvas *= light[..., None]
    if rng.random() < 0.25:
        _glints(rng, canvas, ground)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.0008, 0.002) * width)
    np.clip(canvas[..., 0], 0, 262, out=canvas[..., 0])
    return WideScenery(
        lit=np.ascontiguousarray(canvas),
        light=light,
        wall=wall,
        wall_reflection=float(rng.uniform(0.15, 0.6)) if rng.random() < 0.5 else 0.0,
        floor_reflection=float(rng.uniform(0.12, 0.45)) if glossy and rng.random() < 0.8 else 0.0,
        surface=surface,
        front=front,
        obstacles=clutter.obstacles,
    )


def _depth_inside(arena: Arena, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the foot of the walls in floor units, positive on the floor."""
    dx, dy = np.abs(x - arena.center_x), np.abs(y - arena.center_y)
    if isinstance(arena, PlusArena):
        across = np.minimum(arena.half_width - dx, arena.arm - dy)
        return np.maximum(across, np.minimum(arena.arm - dx, arena.half_height - dy))
    if arena.kind == "circular":
        return arena.half_width - np.hypot(dx, dy)
    return np.minimum(arena.half_width - dx, arena.half_height - dy)


def _light_map(
    rng: np.random.Generator, columns: np.ndarray, rows: np.ndarray, infrared: bool
) -> np.ndarray:
    height, width = rows.shape
    x, y = (columns - width / 2) / width, (rows - height / 2) / width
    field = np.full_like(x, 0.8)
    slope = 0.5 if rng.random() < 0.2 else 0.22
    field += rng.uniform(-slope, slope) * x + rng.uniform(-slope, slope) * y
    for _ in range(1 if infrared else int(rng.integers(1, 4))):
        spot = rng.uniform(-0.1, 0.1, 2) if infrared else rng.uniform(-0.45, 0.45, 2)
        reach = rng.uniform(0.2, 0.5)
        strength = rng.uniform(0.2, 0.55) if infrared else rng.uniform(0.05, 0.32)
        field += strength * np.exp(
            ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) * np.float32(-1 / reach**2)
        )
    falloff = rng.uniform(0.3, 1.0) if infrared or rng.random() < 0.3 else rng.uniform(0, 0.5)
    field *= 1 - falloff * (x * x + y * y)
    if rng.random() < 0.12:  # the shadow of a wall, a shelf or a person lies over a part
        angle = rng.uniform(0, 2 * math.pi)
        edge = (x * math.cos(angle) + y * math.sin(angle) - rng.uniform(-0.25, 0.3)) * width
        field *= 1 - rng.uniform(0.15, 0.5) * np.clip(edge / rng.uniform(3, 30), 0, 1)
    field *= 1 + 0.012 * value_noise(rng, height, width, 0.2 * width, 2)
    target = rng.uniform(0.75, 1.05)
    return np.asarray(np.maximum(field, 0.08) * (target / float(field.mean())), np.float32)


def _paint_room(rng: np.random.Generator, canvas: np.ndarray, floor: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    bench = [(58, 58, 60), (96, 92, 86), (24, 24, 26), (150, 148, 142), (200, 200, 196), (8, 8, 9)]
    canvas[:] = ycc(bench[int(rng.integers(len(bench)))])
    if rng.random() < 0.15:
        canvas[:] = floor * rng.uniform(0.8, 1.1)  # no edge to see: an animal on a table
    canvas[..., 0] *= 1 + 0.10 * value_noise(rng, height, width, 0.25 * width, 3)
    for _ in range(int(rng.integers(0, 7))):
        # What stands about: boxes, racks, papers, cables.
        at = rng.uniform(0, 1, 2) * np.array([width, height])
        half = rng.uniform(0.02, 0.25, 2) * width
        tone = ycc(tuple(rng.uniform(10, 220, 3) * 0.4 + rng.uniform(0, 130)))
        box = cv2.boxPoints(
            ((float(at[0]), float(at[1])), (float(half[0]), float(half[1])), rng.uniform(-20, 20))
        )
        image = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(image, np.round(box * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        soft_blend(canvas, tone, image.astype(np.float32) / 255)
    for _ in range(int(rng.integers(1, 5))):
        at = rng.uniform(0, 1, 2) * np.array([width, height])
        angle = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.1)
        reach = np.array([math.cos(angle), math.sin(angle)]) * width * 2
        thick = int(rng.integers(1, 6))
        line = polyline_coverage(height, width, np.stack([at - reach, at + reach]), thick)
        canvas[..., 0] *= 1 - rng.uniform(-0.5, 0.6) * line


def _paint_walls(
    rng: np.random.Generator,
    canvas: np.ndarray,
    ground: Ground,
    floor: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    """Inner faces of the walls, higher on the side the camera looks at; returns their coverage."""
    arena = ground.arena
    height, width = depth.shape
    roll = rng.random()
    if roll < 0.30:
        color = floor * rng.uniform(0.5, 1.05)
    elif roll < 0.52:
        color = ycc((1, 1, 1)) * rng.uniform(8, 50)  # dark, as dark as a dark animal
    elif roll < 0.85:
        color = ycc((1, 1, 1)) * rng.uniform(90, 225)
    else:
        color = ycc(tuple(rng.uniform(30, 220, 3)))
    see_through = roll >= 0.30 and rng.random() < 0.25
    reach = width * (rng.uniform(0.2, 0.5) if rng.random() < 0.3 else rng.uniform(0.02, 0.18))
    if isinstance(arena, PlusArena):
        reach = rng.uniform(0.0, 0.03) * width + 1  # mazes stand high, with low walls or none
    # Through a camera that leans, the far wall shows more of itself.
    m = ground.view.matrix
    lean_x, lean_y = float(m[2, 0]) * width * 2.2, float(m[2, 1]) * width * 2.2
    dx, dy = x - arena.center_x, y - arena.center_y
    away = np.hypot(dx, dy) + 1e-3
    reach_map = reach * np.clip(1 + (lean_x * dx + lean_y * dy) / away, 0.12, 2.0)
    up = np.clip(-depth / reach_map, 0, 1).astype(np.float32)
    toward = rng.uniform(0, 2 * math.pi)
    facing = rng.uniform(0.05, 0.35)
    cos, sin = dx / away, dy / away
    if arena.kind != "rectangular":
        face = 1 + facing * (cos * math.cos(toward) + sin * math.sin(toward))
    else:
        side_x = np.abs(dx) - arena.half_width > np.abs(dy) - arena.half_height
        normal_x = np.where(side_x, np.sign(dx), 0)
        normal_y = np.where(side_x, 0, np.sign(dy))
        face = 1 + facing * (normal_x * math.cos(toward) + normal_y * math.sin(toward))
        corner = (np.abs(dx) - arena.half_width) - (np.abs(dy) - arena.half_height)
        face = face * (1 - 0.3 * np.exp(-((corner * (1 / (0.006 * width))) ** 2)))
    shade = (rng.uniform(0.5, 0.9) + rng.uniform(-0.2, 0.5) * up) * face
    shade *= 1 + 0.03 * value_noise(rng, height, width, 0.12 * width, 3)
    shade *= 1 + rng.uniform(0, 0.2) * np.exp(up * -8.0)
    coverage = np.clip(reach_map + depth + 0.5, 0, 1).astype(np.float32)
    paint = coverage * rng.uniform(0.25, 0.7) if see_through else coverage
    soft_blend(canvas, color * shade[..., None].astype(np.float32), paint)
    rim = np.exp(-(((-depth - reach_map) * (1 / max(0.006 * width, 1.2))) ** 2))
    canvas[..., 0] += rim * rng.uniform(-40, 70)
    return coverage * (depth < 0)


def _surface(
    rng: np.random.Generator,
    surface: str,
    color: np.ndarray,
    height: int,
    width: int,
    cm: float,
    loud: float,
) -> np.ndarray:
    texture: np.ndarray = np.empty((height, width, 3), np.float32)
    texture[:] = color
    cloud = value_noise(rng, height, width, 0.3 * width, 4)
    fine = value_noise(rng, height, width, max(1.2, 0.10 * cm), 2)
    if surface in ("painted", "glossy"):
        brush = value_noise(rng, height, width, (1.5, 0.15 * width), 2)
        wild = rng.uniform(0.4, 2.5) * loud
        texture *= (1 + wild * (0.03 * cloud + 0.007 * brush + 0.011 * fine))[..., None]
        return texture
    if surface == "bedding":
        return _bedding(rng, color, height, width, cm, loud)
    if surface == "granules":
        grain = value_noise(rng, height, width, max(1.5, 0.34 * cm), 1) + 0.6 * fine
        slope = np.roll(grain, 1, axis=1) - grain + 0.6 * (np.roll(grain, 1, axis=0) - grain)
        tone = value_noise(rng, height, width, 0.5 * cm + 2, 2)
        relief = 0.22 * np.tanh(slope * 1.2) + 0.10 * np.tanh(grain) + 0.05 * tone
        return texture * (1 + loud * relief)[..., None]
    if surface == "wood":
        grain = value_noise(rng, height, width, (max(1.5, 0.25 * cm), 6 * cm + 4), 3)
        if rng.random() < 0.5:
            grain = np.ascontiguousarray(cv2.resize(np.ascontiguousarray(grain.T), (width, height)))
        return texture * (1 + loud * (0.09 * grain + 0.03 * cloud))[..., None]
    if surface == "cloth":
        weave = value_noise(rng, height, width, (1.0, 3.0), 1)
        weave += value_noise(rng, height, width, (3.0, 1.0), 1)
        folds = value_noise(rng, height, width, (0.25 * width, 0.08 * width), 2)
        return texture * (1 + loud * (0.03 * weave + 0.07 * folds + 0.02 * cloud))[..., None]
    # Wire mesh or bars over a tray of another brightness.
    pitch = max(rng.uniform(0.6, 1.3) * cm, 3.0)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    turn = rng.normal(0, 0.05)
    along = columns * math.cos(turn) + rows * math.sin(turn)
    across = rows * math.cos(turn) - columns * math.sin(turn)
    bars = np.abs((along / pitch) % 1 - 0.5) * 2
    if rng.random() < 0.4:
        bars = np.maximum(bars, np.abs((across / pitch) % 1 - 0.5) * 2)
    wire = np.clip((bars - rng.uniform(0.55, 0.8)) * pitch / 2, 0, 1).astype(np.float32)
    change = rng.choice([-1.0, 1.0]) * rng.uniform(0.15, 0.5) * loud
    return texture * (1 + change * wire + 0.03 * cloud)[..., None]


def _bedding(
    rng: np.random.Generator, color: np.ndarray, height: int, width: int, cm: float, loud: float
) -> np.ndarray:
    """Shavings: flakes of many tones. One square of them, turned, bent and repeated."""
    side = 160
    length = max(rng.uniform(0.5, 1.1) * cm, 2.2)
    tile: np.ndarray = np.empty((side, side, 3), np.float32)
    tile[:] = color * (1 - 0.22 * loud)
    tile *= (1 + 0.07 * value_noise(rng, side, side, max(1.5, 0.5 * length), 2))[..., None]
    count = int(min(900, 1.5 * side * side / (0.42 * length * length)))
    centers = rng.uniform(0, side, (count, 2))
    angles = rng.uniform(0, math.pi, count)
    half = (rng.uniform(0.35, 1.0, count) * length / 2)[:, None]
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1) * half
    across = np.stack([-np.sin(angles), np.cos(angles)], axis=1) * half
    across *= rng.uniform(0.2, 0.6, count)[:, None]
    corners = np.stack([centers + along, centers + across, centers - along, centers - across], 1)
    fixed = np.round(corners * 16).astype(np.int32)
    tones = 1 + 0.16 * loud * rng.standard_normal(count)
    dark = 1 - 0.4 * loud
    span = 16 * side
    for flake, tone in zip(fixed, tones, strict=True):
        y, blue, red = (float(v) * float(tone) for v in color)
        # A flake over the edge goes on at the other side.
        low, high = flake.min(axis=0), flake.max(axis=0) + 10
        for aside in {0, span if low[0] < 0 else 0, -span if high[0] >= span else 0}:
            for down in {0, span if low[1] < 0 else 0, -span if high[1] >= span else 0}:
                put = flake + np.array([aside, down], np.int32)
                shade = (y * dark, blue * dark, red * dark)
                cv2.fillConvexPoly(tile, put + 10, shade, cv2.LINE_8, 4)
                cv2.fillConvexPoly(tile, put, (y, blue, red), cv2.LINE_8, 4)
    tile = cv2.GaussianBlur(tile, (0, 0), 0.6, borderType=cv2.BORDER_REFLECT)
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    turn = rng.uniform(0, 2 * math.pi)
    bend = 0.05 * side
    map_x = columns * math.cos(turn) - rows * math.sin(turn)
    map_y = columns * math.sin(turn) + rows * math.cos(turn)
    map_x += bend * value_noise(rng, height, width, float(side), 1)
    map_y += bend * value_noise(rng, height, width, float(side), 1)
    map_x, map_y = (np.asarray(np.mod(part, side), np.float32) for part in (map_x, map_y))
    closed = cv2.copyMakeBorder(tile, 0, 2, 0, 2, cv2.BORDER_WRAP)
    texture = cv2.remap(closed, map_x, map_y, cv2.INTER_LINEAR)
    heaps = value_noise(rng, height, width, 3 * cm + 4, 2)
    return texture * (1 + 0.06 * loud * heaps)[..., None]


def _tone_by_place(
    rng: np.random.Generator,
    texture: np.ndarray,
    ground: Ground,
    x: np.ndarray,
    y: np.ndarray,
    contrast: float,
) -> None:
    """Zones, tiles and checkers: parts of the floor that are a little lighter or darker."""
    roll, half = rng.random(), ground.arena.half_width
    step = min(0.25, contrast / 300) * rng.choice([-1.0, 1.0])
    if roll < 0.06:
        texture *= (1 + step * (x > rng.uniform(-0.4, 0.4) * half))[..., None]
    elif roll < 0.12:
        zone = rng.uniform(0.3, 0.6) * half
        inside = (np.abs(x) < zone) & (np.abs(y) < zone)
        texture *= (1 + step * inside)[..., None]
    elif roll < 0.17:
        pitch = half * rng.uniform(0.2, 0.5)
        checker = (np.floor(x / pitch) + np.floor(y / pitch)) % 2
        texture *= (1 + 0.6 * step * checker)[..., None]


def _draw_lines(
    rng: np.random.Generator,
    canvas: np.ndarray,
    ground: Ground,
    on_floor: np.ndarray,
    contrast: float,
) -> None:
    """Painted grids, strips of tape, rings: what marks out zones on floors."""
    arena, view = ground.arena, ground.view
    height, width = on_floor.shape
    roll = rng.random()
    strength = min(0.7, rng.uniform(0.1, 0.7) * min(1.0, contrast / 60 + 0.2))
    tone = ycc((1, 1, 1)) * (rng.uniform(10, 70) if rng.random() < 0.6 else rng.uniform(170, 235))
    thick = max(1, round(rng.uniform(0.002, 0.012) * width))
    drawn: list[tuple[np.ndarray, int]] = []
    half_x, half_y = arena.half_width, arena.half_height
    if roll < 0.14:
        count = int(rng.integers(2, 7))
        for part in np.linspace(-1, 1, count + 1)[1:-1]:
            for ends in (
                [[part * half_x, -half_y], [part * half_x, half_y]],
                [[-half_x, part * half_y], [half_x, part * half_y]],
            ):
                drawn.append((_between(np.array(ends)), thick))
    elif roll < 0.22:
        for radius in rng.uniform(0.2, 0.9, int(rng.integers(1, 4))):
            angle = np.linspace(0, 2 * math.pi, 60)
            ring = np.stack([half_x * np.cos(angle), half_y * np.sin(angle)], axis=1) * radius
            drawn.append((ring, thick))
    elif roll < 0.38:
        for _ in range(int(rng.integers(1, 5))):
            at = rng.uniform(-1, 1, 2) * np.array([half_x, half_y])
            reach = rng.normal(0, 0.3, 2) * half_x
            tape = max(1, round(rng.uniform(0.3, 1.8) * arena.px_per_cm))
            drawn.append((_between(np.stack([at, at + reach])), min(tape, 30)))
    cover = np.zeros((height, width), np.float32)
    for points, breadth in drawn:
        for spot in ground.spots:
            line = view.to_picture(points + np.array(spot))
            cover = np.maximum(cover, polyline_coverage(height, width, line, breadth))
    if drawn:
        soft_blend(canvas, tone, cover * on_floor * strength)


def _between(ends: np.ndarray) -> np.ndarray:
    """Points along a line, for a lens that bends it."""
    part = np.linspace(0, 1, 12)[:, None]
    return ends[:1] * (1 - part) + ends[1:] * part


def _soil(
    rng: np.random.Generator,
    canvas: np.ndarray,
    ground: Ground,
    on_floor: np.ndarray,
    luma: float,
    loud: float,
) -> None:
    """Scratches, puddles, droppings, pellets of food: in the places where animals have been."""
    arena, view = ground.arena, ground.view
    height, width = on_floor.shape
    cm = arena.px_per_cm
    scratches = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(0, 22))):
        angles = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.25, 6))
        step = rng.uniform(0.3, 4.0) * cm
        walk = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * step, axis=0)
        points = view.to_picture(walk + np.array(ground.random_point(rng, 0.0)))
        fixed = np.round(np.clip(points, -900, 1900) * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(scratches, [fixed], False, int(rng.integers(60, 255)), 1, cv2.LINE_AA, 4)
    gain = rng.uniform(0.03, 0.25) * loud * (1 if luma < 100 or rng.random() < 0.25 else -1)
    canvas *= (1 + (gain / 255) * scratches * on_floor)[..., None].astype(np.float32)
    puddles = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(0, 6))):
        radii = rng.uniform(0.5, 3.5) * cm * (1 + 0.2 * rng.standard_normal(24))
        radii = (radii + np.roll(radii, 1) + np.roll(radii, -1)) / 3
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        ring = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        points = view.to_picture(ring + np.array(ground.random_point(rng, 0.0)))
        fixed = np.round(np.clip(points, -900, 1900) * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.fillPoly(puddles, [fixed], 255, cv2.LINE_AA, 4)
    wet = cv2.GaussianBlur(puddles, (0, 0), 0.9).astype(np.float32) * np.float32(1 / 255)
    border = np.maximum(wet - cv2.blur(wet, (7, 7)), 0)
    stain = rng.uniform(-0.1, 0.22) * wet + 0.12 * border
    canvas *= (1 - loud * stain * on_floor)[..., None]
    crumbs = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(0, 18))):
        x, y = ground.random_point(rng, 0.3 * cm)
        at_x, at_y, _, scale = view.local(x, y, 0.0)
        if not (0 <= at_x < width and 0 <= at_y < height):
            continue
        large = 0.7 if rng.random() < 0.12 else 0.27
        axes = (max(10, round(large * cm * scale * 16)), max(7, round(0.45 * large * cm * 16)))
        cv2.ellipse(
            crumbs,
            (round(at_x * 16), round(at_y * 16)),
            axes,
            rng.uniform(0, 180),
            0,
            360,
            255,
            -1,
            cv2.LINE_AA,
            4,
        )
    tone = ycc((40, 34, 28)) if luma > 80 else ycc((150, 130, 100)) * rng.uniform(0.3, 1)
    soft_blend(canvas, tone, crumbs.astype(np.float32) * on_floor * (0.85 / 255))


def _lamps_in_floor(
    rng: np.random.Generator, canvas: np.ndarray, ground: Ground, on_floor: np.ndarray
) -> None:
    """Mirror images of ceiling lamps, soft or sharp, in a polished floor."""
    height, width = on_floor.shape
    for _ in range(int(rng.integers(1, 4))):
        at = rng.uniform(0.1, 0.9, 2) * np.array([width, height])
        half = rng.uniform(0.01, 0.12, 2) * width
        box = cv2.boxPoints(
            ((float(at[0]), float(at[1])), (float(half[0]), float(half[1])), rng.uniform(0, 180))
        )
        image = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(image, np.round(box * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        glow: np.ndarray = image.astype(np.float32) / 255
        glow = cv2.GaussianBlur(glow, (0, 0), rng.uniform(0.002, 0.03) * width)
        canvas[..., 0] += rng.uniform(8, 70) * glow * on_floor


def _any_spot(rng: np.random.Generator, ground: Ground) -> tuple[float, float]:
    return ground.spots[int(rng.integers(len(ground.spots)))]


def _glints(rng: np.random.Generator, canvas: np.ndarray, ground: Ground) -> None:
    """Lamps mirrored in the rims of walls: small saturated strips."""
    arena = ground.arena
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(1, 7))):
        angle = rng.uniform(0, 2 * math.pi)
        if arena.kind == "circular":
            arc = angle + np.linspace(-0.06, 0.06, 5) * rng.uniform(0.3, 2)
            points = 1.04 * arena.half_width * np.stack([np.cos(arc), np.sin(arc)], axis=1)
        else:
            along = rng.uniform(-0.95, 0.95) + np.linspace(-0.04, 0.04, 3) * rng.uniform(0.2, 1.5)
            side = np.full(3, rng.choice([-1.04, 1.04]))
            points = np.stack([along, side] if rng.random() < 0.5 else [side, along], axis=1)
            points = points * np.array([arena.half_width, arena.half_height])
        seen = ground.view.to_picture(points + np.array(_any_spot(rng, ground)))
        line = polyline_coverage(height, width, seen, int(rng.integers(1, 4)))
        canvas[..., 0] += rng.uniform(50, 190) * line
