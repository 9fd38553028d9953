"""From a decoded frame to arrays: luma, RGB, and the full-range planes that a JPEG stores."""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from tailor_assets.compute.recording.decoding import Orientation

# 8-bit formats whose first plane is the picture's luma and nothing else.
LUMA_FIRST = ("yuv4", "yuvj4", "yuva4", "gray", "nv12", "nv21", "nv16", "nv24")

# Gain and offset from limited to full range.
LUMA_STRETCH = (255 / 219, -16 * 255 / 219)
CHROMA_STRETCH = (255 / 224, 128 - 128 * 255 / 224)


def gray_picture(frame: VideoFrame) -> np.ndarray:
    """The luma of a frame as stored, uint8 [H, W].

    Values are the video's own: 16 to 235 from black to white in most videos (limited range), 0 to
    255 in full-range ones. Nothing is stretched or clipped. Deeper luma keeps its upper 8 bits.
    Formats without a luma plane (RGB) are converted to full-range gray (ITU-R BT.601).
    A view into the frame where that is possible: copy it before keeping it.
    """
    name = frame.format.name
    depth = frame.format.components[0].bits
    if name.startswith(LUMA_FIRST) and depth == 8:
        return _plane(frame, 0)
    if name.startswith(("yuv4", "yuva4", "gray")) and name.endswith("le") and 8 < depth <= 16:
        deep = _plane(frame, 0, np.dtype("<u2"))
        return (deep >> (depth - 8)).astype(np.uint8)
    if name.startswith(("p010le", "p016le")):
        return (_plane(frame, 0, np.dtype("<u2")) >> 8).astype(np.uint8)
    if frame.format.is_rgb:
        return cv2.cvtColor(rgb_picture(frame), cv2.COLOR_RGB2GRAY)
    return _plane(frame.reformat(format="yuv444p", threads=1), 0)


def rgb_picture(frame: VideoFrame) -> np.ndarray:
    """The frame as uint8 [H, W, 3], full range, by its own colour matrix (BT.601 where untold)."""
    return frame.to_ndarray(format="rgb24", threads=1)


def jpeg_format(frame: VideoFrame) -> str:
    """The full-range format a JPEG of this frame is stored in: the frame's own chroma sampling.

    4:4:4, 4:2:2 and 4:2:0 stay what they are (as in the ffmpeg command line); RGB becomes 4:4:4,
    and sampling that a JPEG seldom has (4:1:1, 4:1:0, 4:4:0, gray) the nearest of the three.
    """
    if frame.format.is_rgb:
        return "yuvj444p"
    components = frame.format.components
    if len(components) < 3:
        return "yuvj420p"
    halves_width = components[1].width * 2 <= frame.width + 1
    halves_height = components[1].height * 2 <= frame.height + 1
    if not halves_width:
        return "yuvj444p"
    return "yuvj420p" if halves_height else "yuvj422p"


def is_full_range(frame: VideoFrame) -> bool:
    """Whether black is 0 and white 255 (``yuvj`` or tagged so), not 16 and 235."""
    return frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG


def fill_full_range(frame: VideoFrame, picture: VideoFrame, orientation: Orientation) -> None:
    """Write a frame upright into ``picture`` (a ``yuvj...p`` buffer) as a JPEG holds it.

    JFIF wants luma and chroma in 0 to 255; limited-range video (luma 16 to 235, chroma 16 to 240,
    ITU-R BT.601) is stretched to that, rounded to nearest. The colour matrix is left as it is, as
    the ffmpeg command line leaves it.
    """
    full_range = is_full_range(frame)
    target = picture.format.name
    if frame.format.name not in (target, target.replace("yuvj", "yuv")):
        frame = frame.reformat(
            format=target,
            src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        full_range = True
    for index in range(3):
        stored, upright = _plane(frame, index), _plane(picture, index)
        gain, offset = (1, 0) if full_range else LUMA_STRETCH if index == 0 else CHROMA_STRETCH
        low, high, *_ = cv2.minMaxLoc(stored) if index else (0, 1)
        if low == high:  # no colour, as in every infrared recording: nothing to compute
            upright[:] = round(min(max(low * gain + offset, 0), 255))
        elif full_range:
            upright[:] = orientation.apply(stored)
        else:
            # One saturating, rounding pass into the buffer that is there: fresh arrays of this
            # size cost more than the arithmetic.
            turned = orientation.apply(stored)
            cv2.addWeighted(turned, gain, turned, 0, offset, dst=upright)


def _plane(frame: VideoFrame, index: int, dtype: np.dtype | None = None) -> np.ndarray:
    plane: av.video.plane.VideoPlane = frame.planes[index]
    dtype = dtype or np.dtype(np.uint8)
    rows = np.frombuffer(memoryview(plane), dtype).reshape(
        plane.height, plane.line_size // dtype.itemsize
    )
    return rows[:, : plane.width]
