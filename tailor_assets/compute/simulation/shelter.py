"""Shelters that hide an animal wholly: domes of plastic, huts of cardboard, boxes of wood, tunnels."""

from __future__ import annotations

import math

import cv2
import numpy as np

from tailor_assets.compute.simulation.nest import Layer, NestSite
from tailor_assets.compute.simulation.textures import value_noise, ycc

SHELTERS = ("dome", "hut", "box")


class Shelter:
    """A closed nest, to the renderer what a ``Nest`` is: see there for its attributes.

    What an animal does inside cannot be seen; a light one shifts a little when it is bumped into.
    """

    def __init__(
        self, rng: np.random.Generator, site: NestSite, kind: str, monochrome: bool
    ) -> None:
        self.site = site
        self.size = 2 * (math.ceil(site.half_long * 1.5 / 2) * 2)
        self.left = int(site.x - self.size / 2) // 2 * 2
        self.top = int(site.y - self.size / 2) // 2 * 2
        size = self.size
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
        dx, dy = columns - size / 2, rows - size / 2
        cos, sin = math.cos(site.angle), math.sin(site.angle)
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        door = rng.uniform(0, 2 * math.pi)
        toward = along * math.cos(door) + across * math.sin(door)
        beside = across * math.cos(door) - along * math.sin(door)
        if kind == "dome":
            reach = np.hypot(along / site.half_long, across / site.half_short)
        else:
            square = 6.0 if kind == "box" else 3.5
            reach = (
                np.abs(along / site.half_long) ** square
                + np.abs(across / site.half_short) ** square
            ) ** (1 / square)
        cover = np.clip((1 - reach) * site.radius + 0.5, 0, 1)
        notch = rng.uniform(0.16, 0.3) * site.radius
        opening = (np.abs(beside) < notch) & (toward > (1 - rng.uniform(0.08, 0.25)) * site.radius)
        cover = cover * (1 - opening)
        over = np.zeros((size, size, 4), np.float32)
        over[..., :3] = _material(rng, kind, size, site.radius, reach, dx, dy)
        if rng.random() < 0.25 and kind == "dome":  # a chimney hole or a knob on top
            spot = np.hypot(dx, dy) < rng.uniform(0.08, 0.2) * site.radius
            over[..., :3] *= np.where(spot, np.float32(rng.uniform(0.3, 1.2)), 1.0)[..., None]
        # Tinted plastic lets something through; most shelters let nothing.
        solid = rng.uniform(0.85, 0.95) if kind == "dome" and rng.random() < 0.25 else 1.0
        over[..., 3] = cover * solid
        over[..., :3] *= over[..., 3:]
        if monochrome:
            over[..., 1:3] = 0
        under = np.zeros_like(over)
        under[..., 3] = 0.55 * np.clip((1.02 - reach) * site.radius + 0.5, 0, 1)
        self._layers = (
            cv2.GaussianBlur(under, (0, 0), 0.8),
            cv2.GaussianBlur(over, (0, 0), 0.7),
        )
        self._loose = rng.random() < 0.4
        self._shift = np.zeros(2)
        self._show()

    def push(self, x: float, y: float, move_x: float, move_y: float) -> None:
        """An animal inside moves by (move_x, move_y): a light shelter moves along a little."""
        if not self._loose or math.hypot(move_x, move_y) < 0.02:
            return
        limit = 0.12 * self.site.radius
        self._shift = np.clip(self._shift + 0.08 * np.array([move_x, move_y]), -limit, limit)
        self._show()

    def _show(self) -> None:
        matrix = np.array([[1, 0, self._shift[0]], [0, 1, self._shift[1]]])

        def placed(layer: np.ndarray) -> Layer:
            moved = cv2.warpAffine(layer, matrix, (self.size, self.size))
            return np.ascontiguousarray(moved[..., :3]), np.ascontiguousarray(moved[..., 3])

        self.under, self.over = placed(self._layers[0]), placed(self._layers[1])
        self.outline = self.over[1] > 0.5


def _material(
    rng: np.random.Generator,
    kind: str,
    size: int,
    radius: float,
    reach: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
) -> np.ndarray:
    """Y, Cb, Cr of the shelter's outside, ``[size, size, 3]``."""
    plastics = [(150, 30, 32), (200, 120, 40), (60, 90, 150), (220, 220, 216), (40, 40, 44)]
    toward = rng.uniform(0, 2 * math.pi)
    lit = (dx * math.cos(toward) + dy * math.sin(toward)) / radius
    if kind == "dome":
        color = ycc(plastics[int(rng.integers(len(plastics)))])
        round_shade = np.sqrt(np.clip(1.05 - reach**2, 0.05, 1))
        shade = 0.45 + 0.55 * round_shade + 0.22 * lit
        shine = np.exp(-((dx - 0.35 * radius) ** 2 + (dy + 0.3 * radius) ** 2) / (0.02 * radius**2))
        paint = color * np.clip(shade, 0.2, 1.3)[..., None]
        paint[..., 0] += rng.uniform(0, 110) * shine
        return paint.astype(np.float32)
    color = ycc((176, 138, 96)) if kind == "hut" else ycc((150, 116, 78))
    if rng.random() < 0.3:
        color = ycc((1, 1, 1)) * np.float32(rng.uniform(30, 215))
    grain = value_noise(rng, size, size, (2.0, 0.5 * radius), 2)
    shade = 0.85 + 0.12 * lit + 0.06 * grain
    if kind == "hut":  # a ridge between two slopes
        shade = shade + 0.18 * np.sign(lit) * (np.abs(lit) > 0.02)
    rim = np.clip((reach - 0.9) / 0.1, 0, 1)
    return (color * (shade * (1 - 0.3 * rim))[..., None]).astype(np.float32)
