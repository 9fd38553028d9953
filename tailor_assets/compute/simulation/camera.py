"""The imperfect camera: drifting light, mains flicker, sensor noise, blur, burnt-in clock, yuv420p."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import cv2
import numpy as np

_TILES = 3
_SLIDE = 96  # how far noise tiles are shifted about, px
_LIGHT_UPDATE_FRAMES = 12


class Camera:
    """Turns a clean picture into an 8-bit frame as a cheap camera would deliver it.

    Noise comes from a bank of precomputed tiles at random offsets: fresh for every frame, at the
    cost of an addition. Its variance grows with brightness (shot noise over read noise).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        *,
        infrared: bool,
        monochrome: bool,
        clock: bool,
    ) -> None:
        self._rng = rng
        self.height, self.width = height, width
        self.monochrome = monochrome
        self._read = rng.uniform(1.6, 3.0) if infrared else rng.uniform(0.7, 1.6)
        self._shot = rng.uniform(0.006, 0.012) if infrared else rng.uniform(0.003, 0.009)
        self._tiles = [
            self._noise_tile(rng, height + _SLIDE, width + _SLIDE) for _ in range(_TILES)
        ]
        self.focus_sigma = rng.uniform(0.55, 1.0) * width / 640
        self.exposure_s = rng.uniform(1 / 140, 1 / 55)
        self._drift = [
            (rng.uniform(0.006, 0.022), rng.uniform(25, 220), rng.uniform(0, 2 * math.pi))
            for _ in range(3)
        ]
        self._tilt = rng.uniform(0.004, 0.014, 2)
        # What is left of 100 or 120 Hz lamps after sampling at the frame rate.
        self._flicker = (rng.uniform(0.001, 0.004), rng.uniform(0.3, 7.0))
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self._ramp_x, self._ramp_y = columns / width - 0.5, rows / height - 0.5
        lines = rng.standard_normal((1, width)).astype(np.float32) * rng.uniform(0.1, 0.5)
        self._pattern = np.broadcast_to(16 + lines, (height, width)).copy()
        self._field = np.ones((height, width), np.float32)
        self._count = 0
        self._signal = np.empty((height, width), np.float32)
        self._noise = np.empty((height, width), np.float32)
        self._neutral = np.full((height // 2, width // 2), 128, np.float32)
        self._frame = np.full((height * 3 // 2, width), 128, np.uint8)
        self._clock = None
        if clock:
            self._clock = datetime(2023, 1, 1) + timedelta(
                seconds=float(rng.integers(0, 5 * 10**7))
            )

    @staticmethod
    def _noise_tile(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        white = rng.standard_normal((height, width), dtype=np.float32)
        # In-camera processing leaves noise a little correlated.
        smooth = cv2.GaussianBlur(white, (0, 0), 0.8)
        mixed = 0.6 * white + 1.2 * smooth
        return mixed / float(mixed.std())

    def _some_noise(self, height: int, width: int) -> np.ndarray:
        tile = self._tiles[int(self._rng.integers(_TILES))]
        row, column = (int(v) for v in self._rng.integers(0, _SLIDE, 2))
        return tile[row : row + height, column : column + width]

    def gain(self, time_s: float) -> float:
        """Brightness of the lamps at this moment, about 1."""
        slow = sum(a * math.sin(2 * math.pi * time_s / p + f) for a, p, f in self._drift)
        quick = self._flicker[0] * math.sin(2 * math.pi * self._flicker[1] * time_s)
        return 1.0 + slow + quick

    def expose(self, luma: np.ndarray, chroma: np.ndarray, time_s: float) -> np.ndarray:
        """One frame as uint8 ``[H * 3 / 2, W]`` planar yuv420p (BT.601, limited range).

        ``luma`` is float32 ``[H, W]``, ``chroma`` float32 ``[H/2, W/2, 2]`` around 0. The array is
        reused by the next call.
        """
        if self._count % _LIGHT_UPDATE_FRAMES == 0:
            swing = 2 * math.pi * time_s
            self._field = (
                1
                + self._tilt[0] * math.sin(swing / 47) * self._ramp_x
                + self._tilt[1] * math.sin(swing / 71 + 1) * self._ramp_y
            ).astype(np.float32)
        self._count += 1
        gain = self.gain(time_s)
        height, width = self.height, self.width
        signal, noise = self._signal, self._noise
        cv2.multiply(luma, self._field, dst=signal, scale=gain * 219 / 255)
        grain = self._some_noise(height, width)
        cv2.multiply(signal, grain, dst=noise, scale=self._shot)
        cv2.scaleAdd(grain, self._read, noise, dst=noise)
        cv2.add(noise, self._pattern, dst=noise)
        plane = self._frame[:height]
        cv2.add(signal, noise, dst=plane, dtype=cv2.CV_8U)
        np.minimum(plane, 240, out=plane)
        if not self.monochrome:
            half_h, half_w = height // 2, width // 2
            planes = self._frame[height:].reshape(2, half_h, half_w)
            for index in (0, 1):
                grain = self._some_noise(half_h, half_w)
                part = cv2.scaleAdd(
                    grain, 0.4 * self._read, chroma[..., index] * (gain * 224 / 255)
                )
                cv2.add(part, self._neutral, dst=planes[index], dtype=cv2.CV_8U)
        if self._clock is not None:
            self._burn_in(self._clock + timedelta(seconds=time_s))
        return self._frame

    def _burn_in(self, moment: datetime) -> None:
        text = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
        scale = self.width / 640 * 0.42
        box = (round(200 * self.width / 640), round(18 * self.width / 640))
        top = self.height - box[1]
        self._frame[top : self.height, : box[0]] = 18
        cv2.putText(
            self._frame[: self.height],
            text,
            (3, self.height - max(2, round(box[1] * 0.28))),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            230,
            1,
            cv2.LINE_AA,
        )
        half_h, half_w = self.height // 2, self.width // 2
        planes = self._frame[self.height :].reshape(2, half_h, half_w)
        planes[:, top // 2 :, : box[0] // 2] = 128
