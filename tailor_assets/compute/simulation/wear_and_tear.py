"""What is on an arena after a few years of use: scratches, stains, droppings, a bottle, glints."""

from __future__ import annotations

import math

import cv2
import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.textures import (
    polygon_coverage,
    polyline_coverage,
    soft_blend,
    ycc,
)


def wear(
    rng: np.random.Generator,
    canvas: np.ndarray,
    arena: Arena,
    floor: np.ndarray,
    glossy: bool,
) -> None:
    """Scratches, wiped streaks, stains and a seam: floors are used for years."""
    height, width = floor.shape
    bright = float(canvas[..., 0][floor > 0.9].mean()) if (floor > 0.9).any() else 128.0
    for _ in range(int(rng.integers(6, 30))):
        x, y = arena.random_point(rng, 0.0)
        count = 6
        angles = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.18, count))
        step = rng.uniform(0.3, 3.0) * arena.px_per_cm
        walk = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * step, axis=0)
        line = polyline_coverage(height, width, walk + np.array([x, y]), 1)
        gain = rng.uniform(0.03, 0.14) * (1 if bright < 100 or rng.random() < 0.25 else -1)
        canvas *= (1 + gain * line * floor)[..., None]
    for _ in range(int(rng.integers(1, 6))):
        # Dried puddles: a faint patch with a darker border.
        x, y = arena.random_point(rng, 0.0)
        size = rng.uniform(0.6, 3.0) * arena.px_per_cm
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        radii = size * (1 + 0.18 * rng.standard_normal(24))
        radii = (radii + np.roll(radii, 1) + np.roll(radii, -1)) / 3
        ring = np.stack([x + radii * np.cos(angles), y + 0.8 * radii * np.sin(angles)], axis=1)
        patch = cv2.GaussianBlur(polygon_coverage(height, width, ring), (0, 0), 0.8)
        border = patch - cv2.GaussianBlur(patch, (0, 0), 0.12 * size + 0.5)
        stain = (0.05 * patch + 0.10 * np.maximum(border, 0)) * (0.5 if glossy else 1.0)
        canvas *= (1 - stain * floor)[..., None]
    if rng.random() < 0.4:
        x, y = arena.random_point(rng, 0.0)
        angle = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.01)
        reach = np.array([math.cos(angle), math.sin(angle)]) * 2 * width
        seam = polyline_coverage(height, width, np.array([[x, y]]) + np.stack([-reach, reach]), 1)
        canvas *= (1 - rng.uniform(0.06, 0.2) * seam * floor)[..., None]
    if rng.random() < 0.5:
        # A cloth leaves broad arcs.
        x, y = arena.random_point(rng, 0.0)
        for ring_index in range(3):
            radius = rng.uniform(0.25, 0.6) * width + 9 * ring_index
            angles = rng.uniform(0, 2 * math.pi) + np.linspace(0, 1.2, 30)
            arc = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
            line = polyline_coverage(height, width, arc, int(rng.integers(5, 14)))
            line = cv2.GaussianBlur(line, (0, 0), 3.0)
            canvas *= (1 + rng.uniform(-0.03, 0.03) * line * floor)[..., None]


def droppings(rng: np.random.Generator, canvas: np.ndarray, arena: Arena, dark: bool) -> None:
    """Droppings, most of them along the walls; ``dark`` where the floor is bright."""
    for _ in range(int(rng.integers(0, 14))):
        x, y = arena.random_point(rng, 0.3 * arena.px_per_cm)
        if rng.random() < 0.6:
            step_x, step_y = arena.inward(x, y)
            pull = max(0.0, arena.wall_distance(x, y) - rng.uniform(0.5, 3) * arena.px_per_cm)
            x, y = x - step_x * pull, y - step_y * pull
        axes = (
            max(10, round(0.27 * arena.px_per_cm * 16)),
            max(7, round(0.11 * arena.px_per_cm * 16)),
        )
        tone = (38.0, -3.0, 4.0) if dark else (22.0, -1.0, 2.0)
        image = np.zeros(canvas.shape[:2], np.uint8)
        center = (round(x * 16), round(y * 16))
        cv2.ellipse(image, center, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA, 4)
        soft_blend(canvas, np.array(tone, np.float32), image.astype(np.float32) * (0.85 / 255))


def lamp_reflections(
    rng: np.random.Generator, canvas: np.ndarray, arena: Arena, floor: np.ndarray
) -> None:
    """Soft mirror images of ceiling lamps in a polished floor."""
    height, width = floor.shape
    for _ in range(int(rng.integers(1, 3))):
        x, y = arena.random_point(rng, 0.0)
        half = rng.uniform(0.02, 0.14, 2) * width
        box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + np.array([x, y])
        glow = cv2.GaussianBlur(polygon_coverage(height, width, box), (0, 0), 0.02 * width)
        canvas[..., 0] += rng.uniform(10, 34) * glow * floor


def water_bottle(rng: np.random.Generator, canvas: np.ndarray, arena: Arena) -> np.ndarray:
    """A steel spout reaching in over the wall; returns its coverage, for it hides the animal."""
    height, width = canvas.shape[:2]
    side = int(rng.integers(4))
    along = rng.uniform(-0.6, 0.6)
    horizontal = side < 2
    sign = 1.0 if side % 2 else -1.0
    foot = np.array(
        [
            arena.center_x + (along * arena.half_width if horizontal else sign * arena.half_width),
            arena.center_y
            + (sign * arena.half_height if horizontal else along * arena.half_height),
        ]
    )
    inward = np.array([0.0, -sign]) if horizontal else np.array([-sign, 0.0])
    inward = inward + rng.normal(0, 0.12, 2)
    aside = np.array([-inward[1], inward[0]])
    cm = arena.px_per_cm
    tip, back = foot + inward * 1.9 * cm, foot - inward * 3.2 * cm
    half = 0.42 * cm
    tube = np.stack(
        [back + aside * half, tip + aside * half, tip - aside * half, back - aside * half]
    )
    shadow = polygon_coverage(height, width, tube + np.array([0.5, 0.7]) * cm)
    canvas *= (1 - 0.35 * cv2.GaussianBlur(shadow, (0, 0), 0.35 * cm))[..., None]
    coverage = polygon_coverage(height, width, tube)
    bottle = foot - inward * 5.2 * cm
    flask = np.zeros((height, width), np.uint8)
    cv2.circle(
        flask,
        (round(bottle[0] * 16), round(bottle[1] * 16)),
        round(2.3 * cm * 16),
        255,
        -1,
        cv2.LINE_AA,
        4,
    )
    soft_blend(canvas, ycc((168, 174, 178)), flask.astype(np.float32) * (0.6 / 255))
    soft_blend(canvas, ycc((118, 120, 124)), coverage)
    shine = polyline_coverage(
        height,
        width,
        np.stack([back + aside * half * 0.3, tip + aside * half * 0.3]),
        max(1, round(0.16 * cm)),
    )
    canvas[..., 0] += 95 * shine
    return coverage


def glints(rng: np.random.Generator, canvas: np.ndarray, arena: Arena) -> None:
    """Lamps mirrored in the rim of clear walls: small saturated strips."""
    if arena.kind == "circular" or rng.random() < 0.45:
        return
    height, width = canvas.shape[:2]
    y = arena.center_y + rng.choice([-1, 1]) * (arena.half_height + 0.022 * height)
    for _ in range(int(rng.integers(2, 6))):
        x = arena.center_x + rng.uniform(-0.9, 0.9) * arena.half_width
        half = rng.uniform(0.004, 0.03) * width
        box = np.array([[x - half, y], [x + half, y], [x + half, y + 5], [x - half, y + 5]])
        glow = cv2.GaussianBlur(polygon_coverage(height, width, box), (0, 0), 0.9)
        canvas[..., 0] += rng.uniform(60, 190) * glow
