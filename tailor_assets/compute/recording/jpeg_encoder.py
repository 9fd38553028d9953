"""One JPEG after the other from decoded frames, by libavcodec's mjpeg encoder.

It is the ffmpeg command line's own encoder: the same quantisation, the same Huffman tables made
for each picture, and a tenth to a third fewer bytes than libjpeg-turbo's fixed tables at the same
error. The planes of the frame go in as they are, without a round trip through RGB.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.decoding import Orientation
from tailor_assets.compute.recording.frame_pixels import fill_full_range, jpeg_format

LAMBDA_PER_QSCALE = 118  # FF_QP2LAMBDA of libavutil
COARSEST_QSCALE = 31


def qscale_of_quality(quality: int) -> int:
    """The mjpeg quantiser scale (ffmpeg's ``-q:v``, 1 finest to 31) for a quality of 1 to 100.

    Quantisation grows with falling quality as in libjpeg (``5000 / q`` below 50, ``200 - 2 q``
    from there on); at 90 it is ``-q:v 2``. The scale is a whole number, so neighbouring qualities
    can give the same file.

    Raises:
        PermanentProblem: not a whole number from 1 to 100.
    """
    if isinstance(quality, bool) or not isinstance(quality, int | np.integer):
        raise PermanentProblem(
            f"JPEG quality must be a whole number, not {quality!r}; 90 is usual."
        )
    if not 1 <= quality <= 100:
        raise PermanentProblem(f"JPEG quality must be from 1 to 100, not {quality}; 90 is usual.")
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    return int(min(max(round(percent / 10), 1), COARSEST_QSCALE))


class JpegEncoder:
    """An encoder for frames of one size and format, for the use of one thread.

    It keeps one picture buffer and fills it again for every frame. Chroma sampling is the
    video's (``jpeg_format``); the picture comes out upright, full range, with a JFIF header.
    """

    def __init__(self, frame: VideoFrame, orientation: Orientation, qscale: int) -> None:
        width, height = frame.width, frame.height
        sampling = jpeg_format(frame)
        if orientation.swaps_sides:
            width, height = height, width
            if sampling == "yuvj422p":
                # Turned by a quarter, 4:2:2 would be 4:4:0, which few programs expect.
                sampling = "yuvj420p"
        self._kind = _kind(frame)
        self._orientation = orientation
        self._picture = VideoFrame(width, height, sampling)
        self._picture.color_range = ColorRange.JPEG
        self._encoded = 0
        codec: VideoCodecContext = av.CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, sampling
        codec.time_base = Fraction(1, 25)  # a picture has no rate; the encoder wants one
        codec.sample_aspect_ratio = Fraction(1, 1)  # makes it write the JFIF header
        codec.color_range = ColorRange.JPEG
        codec.thread_count = 1
        codec.qmin = codec.qmax = qscale
        codec.flags |= Flags.qscale
        codec.global_quality = LAMBDA_PER_QSCALE * qscale
        self._codec = codec

    def fits(self, frame: VideoFrame) -> bool:
        """Whether this encoder was made for frames of this size and format."""
        return _kind(frame) == self._kind

    def encode(self, frame: VideoFrame) -> bytes:
        """A complete JFIF file of the upright frame."""
        fill_full_range(frame, self._picture, self._orientation)
        self._encoded += 1
        self._picture.pts = self._encoded  # the encoder refuses a time that does not increase
        return b"".join(bytes(packet) for packet in self._codec.encode(self._picture))


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
