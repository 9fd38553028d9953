"""An MP4 that plays in a browser, every frame at its own time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from tailor_assets.compute.errors import PermanentProblem

# A tick of MPEG's clock: finer than any camera, and every player knows it.
TICKS_PER_S = 90_000
# FFmpeg writes a step of as many ticks or more (6.6 h) as one tick, and says so to nobody; in whole
# milliseconds it is 24.8 days.
_TOO_MANY_TICKS = 2**31
_COARSE_TICKS_PER_S = 1000
_KEY_FRAME_EVERY_S = 2.0


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders and how it is set."""

    name: str
    options: dict[str, str]


# In order: what every browser plays; the same format by another encoder, in builds without x264; and
# what all current browsers but old ones play. mbtree off: with it x264 is not deterministic, and a
# video made again from the same input must be the same file.
ENCODERS = (
    Encoder(
        "libx264",
        {
            "preset": "veryfast",
            "crf": "26",
            "x264-params": "mbtree=0:rc-lookahead=0:scenecut=0:bframes=0",
        },
    ),
    Encoder("libopenh264", {"b": "2000000"}),
    Encoder("libvpx-vp9", {"crf": "34", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
)
_THREADS = 2  # the same everywhere: x264 decides differently with another number


def available_encoder(encoders: tuple[Encoder, ...] = ENCODERS) -> Encoder:
    """The first of these that this build of FFmpeg has. Raises PermanentProblem without any."""
    for encoder in encoders:
        if encoder.name in av.codecs_available:
            return encoder
    raise PermanentProblem(
        "The FFmpeg that is installed here can write no video that browsers play (it has none of "
        f"{', '.join(encoder.name for encoder in encoders)}): install PyAV (`av`) from its wheel."
    )


class TimedVideoWriter:
    """Streams RGB frames of even width and height into an MP4 (yuv420p, index first).

    ``close`` finishes the file; ``abort`` lets go of one that is of no use.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        usual_fps: float,
        longest_step_s: float = 0.0,
    ) -> None:
        """``usual_fps``: about how many frames a second; it decides nothing but key frames.

        ``longest_step_s``: from one frame to the next, at most; it decides how fine times are.
        Raises PermanentProblem for one that no MP4 of ours can hold.
        """
        self.ticks_per_s = _ticks_per_s(longest_step_s)
        self.encoder = available_encoder()
        # By its absolute path through the file protocol, so that a name is only a name.
        self._container = av.open(
            f"file:{path.absolute()}",
            "w",
            format="mp4",
            # Of its own accord FFmpeg makes a coarse clock finer.
            container_options={
                "movflags": "faststart",
                "video_track_timescale": str(self.ticks_per_s),
            },
        )
        rate = Fraction(max(1.0, usual_fps)).limit_denominator(1000)
        stream = self._container.add_stream(self.encoder.name, rate=rate)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = self._time_base = Fraction(1, self.ticks_per_s)
        context.gop_size = min(250, max(10, round(_KEY_FRAME_EVERY_S * usual_fps)))
        context.thread_count = _THREADS
        context.options = self.encoder.options
        context.color_range = 1  # limited
        context.colorspace = 6  # BT.601, which cv2 converts to
        self._last = -1
        self.frames = 0

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Append a frame, uint8 RGB [H, W, 3], to be shown from ``time_s`` on."""
        planes: Any = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        # Two frames never share a time, however near they are.
        self._last = max(round(time_s * self.ticks_per_s), self._last + 1)
        frame.pts, frame.time_base = self._last, self._time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Flush the encoder and write the index."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """Close without finishing; what was written is no video."""
        self._container.close()


def _ticks_per_s(longest_step_s: float) -> int:
    for ticks in (TICKS_PER_S, _COARSE_TICKS_PER_S):
        if longest_step_s * ticks + 1 < _TOO_MANY_TICKS:  # one more, as both ends are rounded
            return ticks
    raise PermanentProblem(
        f"The recording has a hole of {longest_step_s / 86400:.1f} days, and an MP4 holds none of "
        f"more than {_TOO_MANY_TICKS / _COARSE_TICKS_PER_S / 86400:.1f} days, so no overlay can be "
        "made: cut the recording at the hole."
    )
