"""What comes over the scene and moves: a cable on the animal's head, and a hand that reaches in.

Both are drawn over the finished picture. They hide animals and belong to no mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_GLOVES = [(70, 110, 190), (225, 222, 214), (96, 70, 150), (30, 30, 34), (60, 150, 140)]
_SKINS = [(222, 178, 152), (188, 136, 106), (128, 84, 62), (84, 56, 44)]
_SLEEVES = [(232, 232, 230), (40, 44, 60), (110, 110, 112), (60, 110, 90), (150, 60, 60)]


class Cable:
    """A tether or fibre from above to a head; it swings and lags behind."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, length: float) -> None:
        self._rng = rng
        self._anchor = rng.uniform(-0.1, 1.1, 2) * np.array([width, height])
        if rng.random() < 0.5:
            self._anchor = np.array([width, height]) * (0.5 + rng.uniform(-0.12, 0.12, 2))
        self._thickness = max(1, round(rng.uniform(0.02, 0.07) * length))
        grey = float(rng.choice([15, 25, 60, 200, 235]))
        self._color = (grey, grey, grey)
        if rng.random() < 0.25:
            red, green, blue = (float(v) for v in rng.uniform(20, 230, 3))
            self._color = (red, green, blue)
        self._sag = rng.normal(0, 0.25, 2) * length
        self._blurred = rng.random() < 0.5

    def draw(self, picture: np.ndarray, labels: np.ndarray, head: np.ndarray) -> None:
        """Hang it on ``head`` (x, y in pixels); ``picture`` and ``labels`` are changed."""
        self._sag = 0.8 * self._sag + self._rng.normal(0, 0.12, 2) * np.hypot(*self._sag)
        middle = (self._anchor + head) / 2 + self._sag
        part = np.linspace(0, 1, 24)[:, None]
        curve = (1 - part) ** 2 * self._anchor + 2 * part * (1 - part) * middle + part**2 * head
        fixed = np.round(np.clip(curve, -2000, 4000) * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(picture, [fixed], False, self._color, self._thickness, cv2.LINE_AA, 4)
        shine = tuple(min(v + 45, 255.0) for v in self._color)
        if self._thickness > 2:
            cv2.polylines(picture, [fixed - 8], False, shine, 1, cv2.LINE_AA, 4)
        cv2.polylines(labels, [fixed], False, 0, self._thickness, cv2.LINE_8, 4)


@dataclass(frozen=True)
class Visit:
    """A hand that comes in before ``middle_s``, rests, and goes.

    ``target`` is where its fingers go, floor units. ``carries`` is the animal that it takes away
    (``takes``) or brings, or None.
    """

    middle_s: float
    coming_s: float
    resting_s: float
    target: tuple[float, float]
    carries: int | None = None
    takes: bool = True

    def away(self, time_s: float) -> float | None:
        """How far the hand is from its target, 0 there .. 1 out of the picture; None if gone."""
        from_middle = abs(time_s - self.middle_s) - self.resting_s / 2
        if from_middle >= self.coming_s:
            return None
        part = max(from_middle, 0.0) / self.coming_s
        return part * part * (3 - 2 * part)

    def holds(self, time_s: float) -> bool:
        """Whether the animal is in the hand."""
        if self.carries is None or self.away(time_s) is None:
            return False
        return time_s > self.middle_s if self.takes else time_s < self.middle_s


class Hand:
    """A hand with its arm, gloved or bare, painted once and moved about."""

    def __init__(
        self, rng: np.random.Generator, height: int, width: int, hand_px: float, infrared: bool
    ) -> None:
        self._height, self._width = height, width
        self._angle = rng.uniform(0, 2 * math.pi)
        self._tremble = rng
        palm = min(max(hand_px, 0.12 * width), 0.5 * width)
        self._reach = math.hypot(width, height) * 0.75 + palm
        sprite = _paint_hand(rng, palm, self._reach * 1.6, infrared)
        self._tip, self._sprite = sprite

    def entry(self) -> np.ndarray:
        """From the target to where the hand comes from, px."""
        return self._reach * np.array([math.cos(self._angle), math.sin(self._angle)])

    def draw(
        self, picture: np.ndarray, labels: np.ndarray, target: np.ndarray, away: float
    ) -> None:
        """Draw it with its fingers near ``target`` (px), pulled back by ``away`` of its reach."""
        at = target + away * self.entry() + self._tremble.normal(0, 0.004, 2) * self._width
        angle = self._angle + self._tremble.normal(0, 0.02)
        c, s = math.cos(angle), math.sin(angle)
        turn = np.array([[c, -s], [s, c]])
        matrix = np.hstack([turn, (at - turn @ self._tip)[:, None]])
        size = (self._width, self._height)
        hand = cv2.warpAffine(self._sprite, matrix, size, flags=cv2.INTER_LINEAR)
        cover = hand[..., 3]
        if not cover.any():
            return
        matrix[:, 2] += 0.03 * self._width
        shadow = cv2.warpAffine(self._sprite[..., 3], matrix, size, flags=cv2.INTER_NEAREST)
        shadow = cv2.blur(shadow, (15, 15))
        dim = 255 - (shadow * np.float32(0.35)).astype(np.uint8)
        dimmed = cv2.multiply(picture, cv2.merge([dim, dim, dim]), scale=1 / 255)
        part = cover.astype(np.float32)[..., None] * np.float32(1 / 255)
        picture[:] = dimmed + (hand[..., :3] - dimmed.astype(np.float32)) * part
        labels[cover > 127] = 0


def _paint_hand(
    rng: np.random.Generator, palm: float, length: float, infrared: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Where the fingertips are in the sprite, and uint8 ``[h, w, 4]`` RGB with coverage.

    The fingers point to the left; the arm leaves to the right. ``palm`` is the hand's breadth.
    """
    high, wide = int(2.4 * palm), int(length)
    middle = high / 2
    parts = np.zeros((high, wide), np.uint8)
    wrist = 2.0 * palm
    spread, curl = rng.uniform(0.05, 0.3), rng.uniform(0.5, 1.0)
    for finger in range(4):
        angle = (finger - 1.5) * spread
        root = np.array([1.05 * palm, middle + (finger - 1.5) * 0.23 * palm])
        reach = palm * curl * (0.98, 1.08, 1.0, 0.8)[finger] * rng.uniform(0.85, 1.05)
        end = root - reach * np.array([math.cos(angle), -math.sin(angle)])
        _thick_line(parts, root, end, 0.23 * palm)
    side = rng.choice([-1.0, 1.0])
    thumb = np.array([1.55 * palm, middle + side * 0.42 * palm])
    _thick_line(
        parts, thumb, thumb + palm * np.array([-0.62, side * rng.uniform(0.0, 0.4)]), 0.26 * palm
    )
    center = (round(1.45 * palm), round(middle))
    cv2.ellipse(parts, center, (round(0.62 * palm), round(0.5 * palm)), 0, 0, 360, 255, -1)
    forearm = np.array(
        [
            [1.5 * palm, middle - 0.32 * palm],
            [wide, middle - 0.5 * palm],
            [wide, middle + 0.5 * palm],
            [1.5 * palm, middle + 0.32 * palm],
        ]
    )
    cv2.fillPoly(parts, [np.round(forearm).astype(np.int32)], 255)
    gloved = rng.random() < 0.7
    tones = _GLOVES if gloved else _SKINS
    color = np.array(tones[int(rng.integers(len(tones)))], np.float32)
    sleeve = np.array(_SLEEVES[int(rng.integers(len(_SLEEVES)))], np.float32)
    if infrared:
        color[:], sleeve[:] = rng.uniform(90, 220), rng.uniform(20, 220)
    depth = cv2.distanceTransform(parts, cv2.DIST_L2, 3)
    shade = 0.5 + 0.5 * np.sqrt(np.clip(depth / (0.22 * palm), 0, 1))
    folds = (max(round(8 * high / palm), 2), max(round(4 * wide / palm), 2))
    wrinkles = rng.standard_normal(folds).astype(np.float32)
    shade += 0.02 * cv2.resize(wrinkles, (wide, high), interpolation=cv2.INTER_CUBIC)
    cuff = wrist + rng.uniform(0.1, 2.5) * palm
    is_sleeve = np.arange(wide) > cuff
    color_map = np.where(is_sleeve[None, :, None], sleeve, color)
    sprite = np.dstack([np.clip(color_map * shade[..., None], 0, 255), parts])
    sprite = cv2.GaussianBlur(sprite.astype(np.float32), (0, 0), 0.9)
    tip = np.array([0.35 * palm, middle])
    return tip, sprite.astype(np.uint8)


def _thick_line(image: np.ndarray, start: np.ndarray, end: np.ndarray, width: float) -> None:
    ends = [tuple(int(v) for v in np.round(point)) for point in (start, end)]
    cv2.line(image, ends[0], ends[1], 255, max(1, round(width)))
    for point in ends:
        cv2.circle(image, point, max(1, round(width / 2)), 255, -1)
