"""Any camera and any recorder: colour, exposure, noise, shake, low resolution, burnt-in text, JPEG."""

from __future__ import annotations

import math

import cv2
import numpy as np

_SLIDE = 64  # how far the noise tile is shifted about, px


class Sensor:
    """Turns clean RGB pictures into what such a recorder would have stored.

    Drawn once per recording: noise of 0.5 to 14 grey values, exposure that drifts or jumps, small
    shake or knocks, a colour cast or none at all, sharpening, a lower resolution, text, and
    compression. ``contrast`` (grey values between animal and floor) bounds the noise, so that a
    person could still see the animal. ``level`` is the scene's mean brightness and ``brightest`` that
    of its whitest parts, for the exposure.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        *,
        infrared: bool,
        contrast: float,
        level: float,
        brightest: float,
    ) -> None:
        self._rng = rng
        self.height, self.width = height, width
        self.monochrome = infrared or bool(rng.random() < 0.25)
        # Automatic exposure, though not of every camera, and not for every scene.
        wished = rng.uniform(75, 170) if rng.random() < 0.85 else rng.uniform(30, 70)
        self._gain = min(max(wished / max(level, 1.0), 0.6), 2.3)
        if rng.random() < 0.9:
            self._gain = min(self._gain, 245 / max(brightest, 1.0))
        noisy = rng.random() < (0.25 if infrared else 0.1)
        strength = rng.uniform(3.5, 11) if noisy else rng.uniform(0.4, 2.6)
        strength = min(strength, 0.14 * contrast * self._gain + 0.5)
        self._shot = rng.uniform(0, 0.02)
        self._tile = self._noise_tile(strength)
        self._holds_noise = int(rng.integers(2, 12)) if rng.random() < 0.25 else 1
        self.focus_sigma = float(rng.uniform(0.4, 1.1) * width / 500)
        if rng.random() < 0.1:
            self.focus_sigma = float(rng.uniform(1.2, 2.4) * width / 500)
        self.exposure_s = float(rng.uniform(1 / 200, 1 / 30))
        self._gamma = rng.uniform(0.75, 1.3)
        self._black = rng.uniform(-6, 22)
        self._cast = np.ones(3) if rng.random() < 0.5 else 1 + rng.normal(0, 0.06, 3)
        if rng.random() < 0.05:
            self._cast = np.array([1.0, 0.35, 0.35])  # red light
        self._drift = (rng.uniform(0.0, 0.05), rng.uniform(2, 60), rng.uniform(0, 2 * math.pi))
        self._flicker = (rng.uniform(0.0, 0.015), rng.uniform(0.3, 7.0))
        self._jumps = rng.uniform(0.01, 0.05) if rng.random() < 0.12 else 0.0
        self._jump = 1.0
        self._shake = rng.uniform(0.15, 0.9) if rng.random() < 0.16 else 0.0
        self._knocks = rng.uniform(0.005, 0.04) if rng.random() < 0.12 else 0.0
        self._offset = np.zeros(2)
        self._kick = np.zeros(2)
        self._coarse = rng.uniform(0.45, 0.8) if rng.random() < 0.16 else 1.0
        self._sharpen = rng.uniform(0.2, 0.9) if rng.random() < 0.2 else 0.0
        self._quality = int(rng.integers(18, 92)) if rng.random() < 0.55 else 0
        self._text = _Text(rng, height, width) if rng.random() < 0.28 else None
        self._count = 0
        self._place = (0, 0, 0)

    def _noise_tile(self, strength: float) -> np.ndarray:
        """Noise of ``strength`` grey values, int16 ``[H + 64, W + 64]``, with colour ``[.., 3]``."""
        rng, shape = self._rng, (self.height + _SLIDE, self.width + _SLIDE)
        tile: np.ndarray = rng.standard_normal(shape, dtype=np.float32)
        grain = rng.uniform(0.0, 1.0)
        if grain > 0.35:
            tile = cv2.GaussianBlur(tile, (0, 0), 0.45 + 0.6 * grain)
            tile = np.asarray(tile / max(float(tile[:64].std()), 1e-3), np.float32)
        if not self.monochrome:
            small = rng.standard_normal((shape[0] // 2, shape[1] // 2, 3), dtype=np.float32)
            color = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR)
            tile = cv2.merge([tile, tile, tile]) + 0.5 * color
        return np.round(tile * np.float32(strength)).astype(np.int16)

    def expose(
        self, picture: np.ndarray, labels: np.ndarray, time_s: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The stored frame, a new uint8 ``[H, W, 3]`` RGB, and its labels, uint8 ``[H, W]``.

        ``labels`` move with the picture where the camera shakes.
        """
        rng = self._rng
        picture, labels = self._moved(picture, labels)
        if self._coarse < 1:
            size = (round(self.width * self._coarse), round(self.height * self._coarse))
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            picture = cv2.resize(small, (self.width, self.height))
        tones = self._tones(time_s)
        if self.monochrome:
            picture, tones = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), tones[..., 1]
        picture = cv2.LUT(picture, tones)
        if self._count % self._holds_noise == 0:
            row, column = (int(v) for v in rng.integers(0, _SLIDE, 2))
            self._place = (row, column, int(rng.integers(4)))
        row, column, flip = self._place
        self._count += 1
        noise = self._tile[row : row + self.height, column : column + self.width]
        noise = cv2.flip(noise, flip - 2) if flip < 3 else noise
        # Bright parts are noisier.
        grain = cv2.multiply(picture, noise, scale=self._shot / 4, dtype=cv2.CV_16S)
        picture = cv2.add(picture, cv2.add(grain, noise), dtype=cv2.CV_8U)
        if self._sharpen:
            soft = cv2.blur(picture, (3, 3))
            picture = cv2.addWeighted(picture, 1 + self._sharpen, soft, -self._sharpen, 0)
        if self._text is not None:
            self._text.burn_in(picture, time_s)
        if self._quality:
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._quality]
            if not self.monochrome:
                picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            packed = cv2.imencode(".jpg", picture, quality)[1]
            picture = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))
            if not self.monochrome:
                picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if self.monochrome:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        return picture, labels

    def _tones(self, time_s: float) -> np.ndarray:
        """The table of this moment from light to grey values, uint8 ``[1, 256, 3]``."""
        if self._jumps and self._rng.random() < self._jumps:
            self._jump = self._rng.uniform(0.75, 1.3)
        swing, period, phase = self._drift
        gain = (
            self._gain * self._jump * (1 + swing * math.sin(2 * math.pi * time_s / period + phase))
        )
        gain *= 1 + self._flicker[0] * math.sin(2 * math.pi * self._flicker[1] * time_s)
        cast = np.ones(3) if self.monochrome else self._cast
        light = np.arange(256)[:, None] / 255 * gain * cast
        level = np.clip(light, 0, None) ** self._gamma * (255 - self._black) + self._black
        return np.clip(np.round(level), 0, 255).astype(np.uint8)[None]

    def _moved(self, picture: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not (self._shake or self._knocks):
            return picture, labels
        rng = self._rng
        if rng.random() < self._knocks:
            self._kick = rng.normal(0, 0.02, 2) * self.width
            if rng.random() < 0.3:  # it stays where it was knocked to
                self._offset = self._offset + self._kick
        self._kick = self._kick * 0.55
        shift = self._offset + self._kick + rng.normal(0, 1, 2) * self._shake
        if np.abs(shift).max() < 0.05:
            return picture, labels
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        size = (self.width, self.height)
        return (
            cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE),
            cv2.warpAffine(
                labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            ),
        )


class _Text:
    """A clock, a name or a logo in a corner of the picture."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self._scale = rng.uniform(0.3, 0.8) * width / 500
        self._x = round(rng.choice([0.01, 0.5]) * width)
        self._y = round(rng.choice([0.06, 0.97]) * height)
        self._tone = float(rng.choice([255.0, 230.0, 20.0, 180.0]))
        self._color = (self._tone,) * 3
        if rng.random() < 0.15:
            self._color = (250.0, 240.0, 40.0)
        self._boxed = rng.random() < 0.35
        self._start = float(rng.uniform(0, 86400))
        number = int(rng.integers(1, 99))
        self._name = str(
            rng.choice([f"CAM {number:02d}", f"Mouse {number}", f"Cage {number}", "REC", "OF", ""])
        )
        self._counts = rng.random() < 0.75

    def burn_in(self, picture: np.ndarray, time_s: float) -> None:
        clock = self._start + time_s
        text = self._name
        if self._counts:
            text += f" {int(clock // 3600):02d}:{int(clock // 60 % 60):02d}:{clock % 60:05.2f}"
        font = cv2.FONT_HERSHEY_SIMPLEX
        color: tuple[float, ...] = self._color if picture.ndim == 3 else (self._tone,)
        if self._boxed:
            (wide, high), base = cv2.getTextSize(text, font, self._scale, 1)
            back = (0.0 if self._tone > 100 else 255.0,) * len(color)
            low = (self._x + wide + 2, self._y + base)
            cv2.rectangle(picture, (self._x - 2, self._y - high - 3), low, back, -1)
        cv2.putText(picture, text, (self._x, self._y), font, self._scale, color, 1, cv2.LINE_AA)
