"""Writes planar yuv420p frames as an H.264 mp4, the same bytes for the same frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


class H264Writer:
    """Streams uint8 ``[H * 3 / 2, W]`` yuv420p frames into an mp4 at ``path``.

    One encoder thread: x264 decides differently with other thread counts, and a video made twice
    from one seed should be one video. Use ``close`` on success; ``abort`` closes without finishing.
    """

    def __init__(self, path: Path, *, width: int, height: int, rate: Fraction, crf: int) -> None:
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = 1 / rate
        context = self._stream.codec_context
        context.thread_count = 1
        context.options = {
            "preset": "veryfast",
            "crf": str(crf),
            "threads": "1",
            # Measured with x264 165: macroblock-tree rate control alone made one in five encodings
            # of the same frames differ; without it, and with no look-ahead to feed it, none of 80.
            "x264-params": "mbtree=0:rc-lookahead=0",
        }
        context.color_range = 1  # limited
        context.colorspace = 6  # BT.601
        self._time_base = 1 / rate
        self._next = 0

    def write(self, planes: np.ndarray) -> None:
        """Append one frame; ``planes`` is copied."""
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self._next, self._time_base
        self._next += 1
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()

    def abort(self) -> None:
        """Let go of the file; what was written is not a video."""
        self._container.close()
