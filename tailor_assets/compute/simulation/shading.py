"""Blur and shadow of one drawn animal, alike for every kind of scene."""

from __future__ import annotations

import math

import cv2
import numpy as np

# Shift x, shift y, softness (px) and strength (0..1) of one lamp's shadow.
Shadow = tuple[float, float, float, float]


def choose_shadows(rng: np.random.Generator, length: float) -> list[Shadow]:
    """The shadows that an animal of ``length`` px casts: one underneath, one or two to a side."""
    soft = rng.uniform(0.02, 0.09)
    toward = rng.uniform(0, 2 * math.pi)
    shadows: list[Shadow] = [
        # Ambient light is missing where the body all but touches the floor.
        (0.0, 0.0, 0.055 * length, rng.uniform(0.30, 0.46)),
    ]
    for _ in range(int(rng.integers(1, 3))):
        reach = rng.uniform(0.05, 0.13) * length
        shadows.append(
            (
                reach * math.cos(toward),
                reach * math.sin(toward),
                soft * length,
                rng.uniform(0.22, 0.44),
            )
        )
        toward += rng.uniform(1.2, 3.0)
    return shadows


def cast_shadows(crop: np.ndarray, solid: np.ndarray, shadows: list[Shadow]) -> None:
    """Darken ``crop`` (float32 ``[h, w, 3]``) with the shadows of what ``solid`` covers."""
    small = cv2.resize(solid, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    dimming: np.ndarray = np.ones(small.shape, np.float32)
    for shift_x, shift_y, sigma, strength in shadows:
        shade = cv2.GaussianBlur(small, (0, 0), max(sigma / 2, 0.4))
        if shift_x or shift_y:
            shade = shifted(shade, shift_x / 2, shift_y / 2)
        dimming *= 1 - strength * shade
    full = cv2.resize(dimming, solid.shape[::-1], interpolation=cv2.INTER_LINEAR)
    crop *= three(full)


def blurred(layers: np.ndarray, travel_x: float, travel_y: float, sigma: float) -> np.ndarray:
    """Focus blur of ``sigma`` px, and motion blur along the path of the exposure (px)."""
    travel = math.hypot(travel_x, travel_y)
    if travel < 0.8:
        return cv2.GaussianBlur(layers, (0, 0), sigma) if sigma > 0.3 else layers
    half = math.ceil(travel / 2) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    ends = [
        (round((half + sign * travel_x / 2) * 16), round((half + sign * travel_y / 2) * 16))
        for sign in (-1, 1)
    ]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    weights = cv2.GaussianBlur(kernel.astype(np.float32), (0, 0), max(sigma, 0.3))
    return cv2.filter2D(layers, -1, weights / weights.sum(), borderType=cv2.BORDER_CONSTANT)


def three(plane: np.ndarray) -> np.ndarray:
    """``[h, w]`` three times as ``[h, w, 3]``: many times faster to multiply with than a view."""
    return cv2.merge([plane, plane, plane])


def shifted(image: np.ndarray, shift_x: float, shift_y: float) -> np.ndarray:
    """``image`` moved by a part of a pixel or more; 0 where nothing was."""
    matrix = np.array([[1, 0, shift_x], [0, 1, shift_y]], dtype=np.float64)
    return cv2.warpAffine(image, matrix, image.shape[1::-1])
