"""Things that stand in or over an arena: blocks, cylinders, bowls, bottles, bars, cards on walls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tailor_assets.compute.simulation.textures import soft_blend, ycc
from tailor_assets.compute.simulation.wide_ground import Ground

# A disc on the floor that animals walk round: x, y and radius in floor units.
Obstacle = tuple[float, float, float]


@dataclass(frozen=True)
class Clutter:
    """``color`` float32 ``[H, W, 3]`` (Y, Cb, Cr, unlit, times coverage) and ``cover`` ``[H, W]``.

    What hides an animal, over the floor; ``obstacles`` is where animals do not walk.
    """

    color: np.ndarray
    cover: np.ndarray
    obstacles: list[Obstacle]

    @property
    def hides(self) -> bool:
        """Whether there is anything at all."""
        return bool(self.cover.max(initial=0.0) > 0)


def furnish(
    rng: np.random.Generator, canvas: np.ndarray, ground: Ground, infrared: bool
) -> Clutter:
    """Put things into ``canvas`` (their shadows, and what is flat) and into the layer over it."""
    height, width = canvas.shape[:2]
    clutter = Clutter(np.zeros_like(canvas), np.zeros((height, width), np.float32), [])
    if rng.random() < 0.12:
        _cards(rng, canvas, ground, infrared)
    if ground.arena.kind != "plus" and rng.random() < 0.24:
        for _ in range(int(rng.integers(1, 5))):
            _stand(rng, canvas, clutter, ground, infrared)
    if rng.random() < 0.10:
        _bottle(rng, canvas, clutter, ground)
    if rng.random() < 0.08:
        _bars(rng, clutter, ground)
    return clutter


def _tone(rng: np.random.Generator, infrared: bool) -> np.ndarray:
    """Any material's colour: plastic, wood, metal, glass."""
    if infrared or rng.random() < 0.65:
        return ycc((1, 1, 1)) * np.float32(rng.uniform(15, 225))
    return ycc(tuple(rng.uniform(20, 225, 3)))


def _fill(shape: tuple[int, int], points: np.ndarray) -> np.ndarray:
    image = np.zeros(shape, np.uint8)
    fixed = np.round(np.clip(points, -2000, 4000) * 16).astype(np.int32).reshape(-1, 1, 2)
    cv2.fillPoly(image, [fixed], 255, cv2.LINE_AA, 4)
    return image.astype(np.float32) * np.float32(1 / 255)


def _lay(clutter: Clutter, color: np.ndarray, cover: np.ndarray) -> None:
    soft_blend(clutter.color, color, cover)
    clutter.cover[:] += (1 - clutter.cover) * cover


def _stand(
    rng: np.random.Generator,
    canvas: np.ndarray,
    clutter: Clutter,
    ground: Ground,
    infrared: bool,
) -> None:
    """One object on the floor, its upper face nearer to the lens and so farther out."""
    arena, view = ground.arena, ground.view
    shape = canvas.shape[:2]
    size = rng.uniform(0.18, 0.62) * ground.body_length
    size = min(size, 0.3 * arena.half_height)
    x, y = ground.random_point(rng, 1.2 * size)
    if rng.random() < 0.5:
        angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        foot = np.stack([np.cos(angles), np.sin(angles)], axis=1) * size
    else:
        turn = rng.uniform(0, math.pi)
        box = cv2.boxPoints(
            ((0.0, 0.0), (2 * size, rng.uniform(0.8, 2) * size), math.degrees(turn))
        )
        foot = box.astype(float)
    base = view.to_picture(foot + np.array([x, y]))
    # Seen from above the middle, what is high leans outward; a mild tilt adds to that.
    rise = rng.uniform(0.03, 0.35)
    middle = np.array([view.center_x, view.center_y])
    lean = view.matrix[2, :2] * view.corner * 0.8 * rise * size
    shrink = rng.uniform(0.6, 1.0) if rng.random() < 0.25 else 1.0
    center = base.mean(axis=0)
    top = center + (base - center) * shrink
    top = middle + (top - middle) * (1 + rise) + lean
    hull = cv2.convexHull(np.vstack([base, top]).astype(np.float32))[:, 0]
    side, upper = _tone(rng, infrared), _tone(rng, infrared)
    if rng.random() < 0.6:
        upper = side * np.float32(rng.uniform(0.9, 1.5))
    whole, face = _fill(shape, hull), _fill(shape, top)
    shadow = _fill(shape, base + rng.normal(0, 0.2, 2) * size)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.12 * size + 1)
    canvas *= (1 - rng.uniform(0.2, 0.5) * shadow)[..., None]
    slope = rng.uniform(-0.25, 0.25, 2)
    columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    shade = 0.75 + ((columns - center[0]) * slope[0] + (rows - center[1]) * slope[1]) / size
    shade = np.clip(shade, 0.35, 1.1).astype(np.float32)
    painted = side * shade[..., None]
    soft_blend(painted, upper, face)
    if rng.random() < 0.35:  # a pattern, a hole, a label
        inner = top.mean(axis=0) + (top - top.mean(axis=0)) * rng.uniform(0.3, 0.75)
        soft_blend(painted, _tone(rng, infrared), _fill(shape, inner))
    if rng.random() < 0.2 and rise < 0.2:
        soft_blend(canvas, painted, whole)  # flat enough to walk on
        return
    _lay(clutter, painted, whole)
    clutter.obstacles.append((x, y, size))


def _bottle(rng: np.random.Generator, canvas: np.ndarray, clutter: Clutter, ground: Ground) -> None:
    """A steel spout over the wall, or a whole bottle that lies on the lid."""
    arena, cm = ground.arena, ground.arena.px_per_cm
    angle = rng.uniform(0, 2 * math.pi)
    foot = np.array([math.cos(angle) * arena.half_width, math.sin(angle) * arena.half_height])
    inward = np.array(arena.inward(*(0.95 * foot))) + rng.normal(0, 0.15, 2)
    aside = np.array([-inward[1], inward[0]])
    whole = rng.random() < 0.4
    half, reach = (rng.uniform(1.6, 3.0), rng.uniform(3, 9)) if whole else (0.42, 1.9)
    tip, back = foot + inward * reach * cm, foot - inward * 4 * cm
    tube = np.stack(
        [
            back + aside * half * cm,
            tip + aside * half * cm,
            tip - aside * half * cm,
            back - aside * half * cm,
        ]
    )
    spot = ground.spots[int(rng.integers(len(ground.spots)))]
    seen = ground.view.to_picture(tube + np.array(spot))
    shape = canvas.shape[:2]
    shadow = cv2.GaussianBlur(_fill(shape, seen + 0.5 * cm), (0, 0), 0.35 * cm + 0.5)
    canvas *= (1 - 0.35 * shadow)[..., None]
    cover = _fill(shape, seen) * np.float32(rng.uniform(0.5, 0.95) if whole else 1.0)
    _lay(clutter, ycc((1, 1, 1)) * np.float32(rng.uniform(90, 190)), cover)
    ridge = (seen[:2] * 0.7 + seen[2:][::-1] * 0.3).astype(np.float32)
    shine = np.zeros(shape, np.uint8)
    ends = [tuple(int(v) for v in np.round(p)) for p in ridge]
    cv2.line(shine, ends[0], ends[1], 255, max(1, round(0.16 * cm)), cv2.LINE_AA)
    clutter.color[..., 0] += shine.astype(np.float32) * np.float32(90 / 255) * cover


def _bars(rng: np.random.Generator, clutter: Clutter, ground: Ground) -> None:
    """The wires of a lid or of a food hopper over a part of the picture, food behind some."""
    height, width = clutter.cover.shape
    pitch = max(rng.uniform(0.7, 1.4) * ground.arena.px_per_cm, 6.0)
    turn = rng.normal(0, 0.06) + (math.pi / 2 if rng.random() < 0.5 else 0.0)
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    across = columns * math.cos(turn) + rows * math.sin(turn)
    along = rows * math.cos(turn) - columns * math.sin(turn)
    thick = max(rng.uniform(0.1, 0.2) * pitch, 1.2)
    wires = np.clip(thick / 2 + 0.5 - np.abs((across + pitch / 2) % pitch - pitch / 2), 0, 1)
    if rng.random() < 0.3:
        wide = 4 * pitch
        rails = np.clip(thick / 2 + 0.5 - np.abs(along % wide - wide / 2), 0, 1)
        wires = np.maximum(wires, rails)
    # A part of the picture only, more often than not.
    part = 1.0
    if rng.random() < 0.75:
        edge = rng.uniform(0.2, 0.5) * width
        angle = rng.choice([0.0, math.pi / 2, math.pi, -math.pi / 2])
        inside = (columns - width / 2) * math.cos(angle) + (rows - height / 2) * math.sin(angle)
        part = np.clip(inside - edge * 0.6, 0, 1)
    tone = ycc((1, 1, 1)) * np.float32(rng.uniform(50, 215))
    cover = np.asarray(wires * part * rng.uniform(0.75, 1.0), np.float32)
    _lay(clutter, tone, cover)


def _cards(rng: np.random.Generator, canvas: np.ndarray, ground: Ground, infrared: bool) -> None:
    """Cue cards on the walls: plain, striped, with a disc."""
    arena, view = ground.arena, ground.view
    shape = canvas.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        half = rng.uniform(0.1, 0.35)
        low, high = 1.01, rng.uniform(1.06, 1.4)
        at = rng.uniform(-0.6, 0.6)
        if arena.kind == "circular":
            arc = rng.uniform(0, 2 * math.pi) + np.linspace(-half, half, 9)
            ring = np.stack([np.cos(arc), np.sin(arc)], axis=1) * arena.half_width
            points = np.vstack([ring * low, (ring * high)[::-1]])
        else:
            sign = rng.choice([-1.0, 1.0])
            box = np.array(
                [[at - half, low], [at + half, low], [at + half, high], [at - half, high]]
            )
            box[:, 1] *= sign
            if rng.random() < 0.5:
                box = box[:, ::-1]
            points = box * np.array([arena.half_width, arena.half_height])
        spot = ground.spots[int(rng.integers(len(ground.spots)))]
        card = _fill(shape, view.to_picture(points + np.array(spot)))
        tone = _tone(rng, infrared)
        soft_blend(canvas, tone, card)
        if rng.random() < 0.5:
            columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
            turn, pitch = rng.uniform(0, math.pi), rng.uniform(0.01, 0.05) * shape[1]
            wave = np.sin((columns * math.cos(turn) + rows * math.sin(turn)) * math.pi / pitch)
            stripes = np.clip(wave * pitch * 0.5 + 0.5, 0, 1).astype(np.float32)
            soft_blend(canvas, _tone(rng, infrared), card * stripes)
