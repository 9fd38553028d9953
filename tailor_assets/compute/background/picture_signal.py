"""One number per pixel that tells the animal from the floor best: brightness, or a mix of colours.

Most recordings are grey, or the animal stands out in brightness; then brightness is used, which is
cheapest. Where colour separates the animal much better from this recording's own noise, the signal
is the colour direction that does so best (Fisher's linear discriminant).
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

LUMA = (0.299, 0.587, 0.114)
# Colour must separate this much better (in standard deviations) before it is worth its cost.
_WORTH_IT = 1.5


@dataclass(frozen=True)
class PictureSignal:
    """Weights of red, green and blue; None means brightness."""

    weights: tuple[float, float, float] | None = None

    @property
    def pixels(self) -> Literal["gray", "rgb"]:
        """What to ask ``read_frames`` for: ``gray`` or ``rgb``."""
        return "gray" if self.weights is None else "rgb"

    def of(self, frame: np.ndarray) -> np.ndarray:
        """Signal float32 [H, W] of a uint8 picture [H, W] or [H, W, 3] (RGB)."""
        if frame.ndim == 2:
            return frame.astype(np.float32)
        weights = np.array([LUMA if self.weights is None else self.weights], np.float32)
        return cv2.transform(frame.astype(np.float32), weights)


def choose_signal(pictures: np.ndarray) -> PictureSignal:
    """Choose the signal from small pictures, uint8 [N, h, w] or [N, h, w, 3]."""
    if pictures.ndim == 3 or len(pictures) < 5:
        return PictureSignal()
    background = np.median(pictures, axis=0).astype(np.float32)
    difference = pictures.astype(np.float32) - background
    difference -= np.median(difference, axis=(1, 2), keepdims=True)
    size = np.linalg.norm(difference, axis=-1)
    quiet = difference[size <= np.median(size) * 2]
    noise = np.cov(quiet[:: max(1, len(quiet) // 50_000)].T) + 0.05 * np.eye(3)
    whitener = np.linalg.inv(np.linalg.cholesky(noise))
    loud = np.empty(size.shape, bool)
    square = np.ones((3, 3), np.uint8)
    for k in range(len(pictures)):
        distance = np.linalg.norm(difference[k] @ whitener.T, axis=-1)
        mask = cv2.morphologyEx((distance > 8).astype(np.uint8), cv2.MORPH_OPEN, square)
        loud[k] = mask > 0
    foreground = difference[loud]
    if len(foreground) < 0.0005 * size.size:
        return PictureSignal()
    scatter = foreground.T @ foreground / len(foreground)
    values, vectors = np.linalg.eigh(whitener @ scatter @ whitener.T)
    luma = np.array(LUMA)
    by_luma = (luma @ scatter @ luma) / (luma @ noise @ luma)
    if np.sqrt(values[-1] / max(by_luma, 1e-9)) < _WORTH_IT:
        return PictureSignal()
    weights = whitener.T @ vectors[:, -1]
    weights /= np.abs(weights).sum()
    red, green, blue = (float(w) for w in weights)
    return PictureSignal((red, green, blue))
