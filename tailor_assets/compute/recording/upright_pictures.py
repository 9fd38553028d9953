"""From a decoded frame to the picture a reader is given: upright, resized, and the reader's own."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from av.video.frame import VideoFrame

from tailor_assets.compute.recording.decoding import Orientation, orientation_of
from tailor_assets.compute.recording.frame_pixels import gray_picture, rgb_picture

Pixels = Literal["rgb", "gray"]


class PictureMaker:
    """Makes pictures of one video: all of them get the orientation of the first frame seen."""

    def __init__(self, pixels: Pixels, size: tuple[int, int] | None) -> None:
        self.pixels = pixels
        self.size = size
        self._orientation: Orientation | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Picture of a frame: uint8 [H, W, 3] (RGB) or [H, W] (luma), which nothing else holds."""
        if self._orientation is None:
            self._orientation = orientation_of(frame)
        stored = gray_picture(frame) if self.pixels == "gray" else rgb_picture(frame)
        picture = resized(self._orientation.apply(stored), self.size)
        if self.pixels == "gray" and picture is stored:
            picture = stored.copy()  # a view of the decoder's own reference picture
        return picture


def resized(picture: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Resize to (width, height), by area averaging when shrinking; None leaves it as it is."""
    if size is None or (picture.shape[1], picture.shape[0]) == tuple(size):
        return picture
    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
