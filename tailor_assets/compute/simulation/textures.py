"""Random textures and colour arithmetic that the painted parts of a scene share.

Colours inside the simulator are full-range BT.601 ``(Y, Cb, Cr)`` with Cb and Cr centred on 0, so
that light falling on a surface multiplies all three alike and H.264's planes need no conversion.
"""

from __future__ import annotations

import cv2
import numpy as np

_RGB_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    dtype=np.float32,
)


def ycc(rgb: tuple[float, float, float]) -> np.ndarray:
    """One RGB colour (0..255) as float32 ``[3]`` full-range BT.601 Y, Cb, Cr (Cb, Cr around 0)."""
    return _RGB_TO_YCC @ np.asarray(rgb, dtype=np.float32)


def value_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: float | tuple[float, float],
    octaves: int = 1,
) -> np.ndarray:
    """Smooth random field, float32 ``[height, width]``, zero mean and about unit deviation.

    ``scale`` is the size of a blob in pixels, ``(rows, columns)`` for grain with a direction; each
    further octave is half as large and 0.55 times as strong (Perlin's fractal sum, by
    interpolating random lattices).
    """
    rows, columns = (scale, scale) if isinstance(scale, int | float) else scale
    field = np.zeros((height, width), np.float32)
    strength = 1.0
    for _ in range(octaves):
        lattice = rng.standard_normal(
            (
                max(2, round(height / max(rows, 1.0)) + 3),
                max(2, round(width / max(columns, 1.0)) + 3),
            )
        ).astype(np.float32)
        field += strength * cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)
        rows, columns, strength = rows / 2, columns / 2, strength * 0.55
    field -= field.mean()
    return field / max(float(field.std()), 1e-6)


def soft_blend(canvas: np.ndarray, color: np.ndarray, coverage: np.ndarray) -> None:
    """Paint ``color`` (``[3]`` or ``[H, W, 3]``) over float32 ``canvas`` where ``coverage`` > 0."""
    canvas += (color - canvas) * coverage[..., None]


def polyline_coverage(
    height: int, width: int, points: np.ndarray, thickness: int, closed: bool = False
) -> np.ndarray:
    """Antialiased line through ``points`` (``[N, 2]`` x, y) as float32 coverage 0..1."""
    image = np.zeros((height, width), np.uint8)
    fixed = np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(image, [fixed], closed, 255, thickness, cv2.LINE_AA, 4)
    return image.astype(np.float32) / 255


def polygon_coverage(height: int, width: int, points: np.ndarray) -> np.ndarray:
    """Antialiased filled polygon (``[N, 2]`` x, y) as float32 coverage 0..1."""
    image = np.zeros((height, width), np.uint8)
    cv2.fillPoly(
        image, [np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)], 255, cv2.LINE_AA, 4
    )
    return image.astype(np.float32) / 255
