"""The frames of a video as arrays, in order or backwards, decoded ahead of the one who reads them.

Two decoders stand behind it. PyAV reads every video, has back-pressure, takes the luma plane as it
is and converts only the frames asked for. decord gives the same pictures of some videos; which of
the two reads a video, and why, is ``decoder_choice``'s to say. A frame's time is never a decoder's
word: whoever wants it looks the frame up in the times that ``probe_video`` found in the container.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.backward_frames import pictures_backwards
from tailor_assets.compute.recording.decoder_choice import (
    DecoderInUse,
    DecoderWish,
    pictures_by_choice,
)
from tailor_assets.compute.recording.read_ahead import ReadAhead
from tailor_assets.compute.recording.selected_frames import check_source_frames, first_frame
from tailor_assets.compute.recording.upright_pictures import PictureMaker, Pixels

# Enough to ride out a decoder's bursts; four 4K RGB frames are 100 MB, four of 640x480 4 MB.
PREFETCHED_FRAMES = 4
# Pictures held to be handed out in reverse: 325 of 512x512 in RGB, 81 of 1024x1024.
HELD_BYTES = 256_000_000


def read_frames(
    path: str | Path,
    source_frames: np.ndarray | None = None,
    *,
    pixels: Pixels = "rgb",
    size: tuple[int, int] | None = None,
    timestamps_s: np.ndarray | None = None,
    prefetch: int = PREFETCHED_FRAMES,
    decoder: DecoderWish = "auto",
) -> FrameReader:
    """Read frames of a video sequentially, upright, in bounded memory.

    ::

        with read_frames(path, chosen, pixels="gray", timestamps_s=timestamps_s) as frames:
            for source_frame, picture in frames:
                ...

    A background thread decodes up to ``prefetch`` frames ahead and then waits. Leaving the ``with``
    block, by the end, ``break`` or an exception, stops it.

    Args:
        source_frames: int64 [M], sorted, unique indices in the order of ``probe_video``; None for
            all frames.
        pixels: ``"rgb"``: uint8 [H, W, 3], full range. ``"gray"``: uint8 [H, W], the luma plane as
            stored (16 to 235 in most videos), which costs no conversion.
        size: (width, height) to resize the upright picture to (area averaging when shrinking).
        timestamps_s: float64 [N] of *all* frames of the video, from ``probe_video``; optional.
            With them, packets that no chosen frame needs are not decoded.
        prefetch: frames held ready, at least 1.
        decoder: ``"auto"`` takes what was measured to be faster (PyAV, in everything measured so
            far); ``"decord"`` takes decord wherever it gives the same pictures in bounded memory,
            else PyAV; ``"pyav"`` takes PyAV. The reader's ``decoder`` and ``decoder_reason`` say
            which it is.

    Returns:
        A context manager and iterator of (source_frame, picture); each picture is the caller's.

    Raises:
        PermanentProblem: while iterating, for a file that cannot be read or has no such frame; at
            once for a bad selection, size, kind of pixels, prefetch or decoder.
    """
    make = _picture_maker(pixels, size)
    if decoder not in ("auto", "pyav", "decord"):
        raise PermanentProblem(
            f"A decoder can be 'auto', 'pyav' or 'decord', not {decoder!r}; choose one."
        )
    if prefetch < 1:
        raise PermanentProblem(f"At least 1 frame is decoded ahead, not {prefetch}.")
    in_use = DecoderInUse()
    pictures = pictures_by_choice(
        path, check_source_frames(source_frames), make, timestamps_s, decoder, in_use
    )
    return FrameReader(pictures, prefetch, in_use)


def read_frames_backwards(
    path: str | Path,
    source_frames: np.ndarray | None = None,
    *,
    pixels: Pixels = "rgb",
    size: tuple[int, int] | None = None,
    timestamps_s: np.ndarray | None = None,
    held_bytes: int = HELD_BYTES,
) -> FrameReader:
    """Read frames of a video from the last to the first, in bounded memory.

    The pictures are those of ``read_frames``, exactly. Video decodes forward only, so blocks of it
    are decoded from a key frame on, held, and handed out in reverse, while the block before is
    being decoded. ``size`` is applied before pictures are held, so a small one makes blocks long.

    Cost: with ``timestamps_s``, H.264 in MP4 or MKV and videos of pictures that stand alone are
    decoded once, packets that no chosen frame needs left out. All others are decoded once more
    beforehand, to count their frames. Where key frames are further apart than a block of B pictures
    (half of ``held_bytes``), G pictures between two of them are decoded about G / 2B times over;
    so is a video that cannot be entered in its middle (times missing or repeated).

    Args:
        source_frames: int64 [M], *ascending*, unique, as in ``read_frames``; None for all.
        held_bytes: how many bytes of pictures may be held; at least two pictures are.

    The other arguments, and what is returned, are those of ``read_frames``.

    Raises:
        PermanentProblem: at once for bad arguments and a file that cannot be opened; while
            iterating for one that cannot be decoded or has no such frame.
    """
    make = _picture_maker(pixels, size)
    wanted = check_source_frames(source_frames)
    stop = threading.Event()
    in_use = DecoderInUse("pyav", "only PyAV reads backwards")
    if wanted is not None and wanted.size == 0:
        return FrameReader(iter(()), 1, in_use)
    # One block waits in the queue to be read, one is being decoded.
    block = max(1, held_bytes // (2 * make(first_frame(path)).nbytes))
    pictures = pictures_backwards(path, wanted, make, timestamps_s, block, stop)
    return FrameReader(pictures, block, in_use, stop)


class FrameReader(ReadAhead[tuple[int, np.ndarray]]):
    """Iterator over (source_frame, picture) that a background thread keeps a little ahead of."""

    def __init__(
        self,
        pictures: Iterator[tuple[int, np.ndarray]],
        prefetch: int,
        in_use: DecoderInUse,
        stop: threading.Event | None = None,
    ) -> None:
        self._in_use = in_use
        super().__init__(pictures, prefetch, "read_frames", stop)

    @property
    def decoder(self) -> str:
        """``"pyav"`` or ``"decord"``: what decodes now, known once the first frame is here."""
        return self._in_use.name

    @property
    def decoder_reason(self) -> str:
        """Why that decoder, in half a sentence."""
        return self._in_use.reason


def _picture_maker(pixels: Pixels, size: tuple[int, int] | None) -> PictureMaker:
    if pixels not in ("rgb", "gray"):
        raise PermanentProblem(f"Pixels can be 'rgb' or 'gray', not {pixels!r}; choose one.")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise PermanentProblem(f"A size is (width, height) in whole pixels, not {size!r}.")
    return PictureMaker(pixels, size)
