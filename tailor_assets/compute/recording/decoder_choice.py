"""Which decoder reads a video, why, and the change from one to the other in its middle."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from tailor_assets.compute.recording.decoding import open_video, orientation_of
from tailor_assets.compute.recording.decord_frames import DecordDecoder, DecordFailed
from tailor_assets.compute.recording.packet_plan import plan_packets
from tailor_assets.compute.recording.pyav_frames import PyAVDecoder
from tailor_assets.compute.recording.selected_frames import first_frame
from tailor_assets.compute.recording.upright_pictures import PictureMaker

DecoderWish = Literal["auto", "pyav", "decord"]

# What decord may add to the process's resident memory. A burst of pictures gets half of it.
DECORD_BYTES = 512_000_000

# Where decord was seen to give the same frames and pixels as PyAV.
DECORD_CONTAINERS = ("mov", "matroska", "avi")
DECORD_CODECS = ("h264", "mjpeg")
DECORD_PIXEL_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")

# docs/benchmarks.md has the table (benchmarks/frame_sources.py). It holds for every format and use
# that was measured, so there is no list of formats in which "auto" would take decord.
NEVER_FASTER = (
    "decord, kept from filling the memory, took more processor time in every use measured"
)


class Decoder(Protocol):
    """Gives chosen frames of one video in order, as upright pictures."""

    @property
    def name(self) -> str:
        """What a reader shows as its ``decoder``."""

    def pictures(self, source_frames: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (source_frame, picture) of these frames (int64 [M], sorted; None for all)."""


@dataclass
class DecoderInUse:
    """What decodes at the moment, and why, in half a sentence."""

    name: str = "pyav"
    reason: str = "nothing was read yet"

    def set(self, decoder: Decoder, reason: str) -> None:
        """Take note of a choice."""
        self.name, self.reason = decoder.name, reason


def pictures_by_choice(
    path: str | Path,
    wanted: np.ndarray | None,
    make: PictureMaker,
    timestamps_s: np.ndarray | None,
    wish: DecoderWish,
    in_use: DecoderInUse,
    *,
    decord_bytes: int = DECORD_BYTES,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (source_frame, picture) by the decoder of choice, told in ``in_use``.

    Where decord fails or takes more memory than it may, PyAV goes on with the next frame.

    Args:
        wanted: int64 [M], ascending, unique; None for all frames.
        timestamps_s: float64 [N] of all frames of the video, from ``probe_video``; optional.
        decord_bytes: by how much the process's resident memory may grow with decord. Whatever else
            the process takes in the meantime counts too: then PyAV is taken where it need not be.

    Raises:
        PermanentProblem: the file cannot be opened or is damaged, or has no such frame.
    """
    pyav = PyAVDecoder(path, make, timestamps_s)
    decord, reason = None, "PyAV was asked for"
    if wish == "auto":
        reason = NEVER_FASTER
    elif wish == "decord" and (wanted is None or wanted.size):
        decord, reason = _decord_where_equal(path, wanted, make, timestamps_s, decord_bytes)
    if decord is not None:
        in_use.set(decord, reason)
        every = np.arange(decord.frame_count) if wanted is None else wanted
        done = 0
        try:
            for item in decord.pictures(every):
                done += 1
                yield item
            return
        except DecordFailed as problem:
            reason = str(problem)
        wanted = every[done:]
    in_use.set(pyav, reason)
    yield from pyav.pictures(wanted)


def _decord_where_equal(
    path: str | Path,
    wanted: np.ndarray | None,
    make: PictureMaker,
    timestamps_s: np.ndarray | None,
    memory_bytes: int,
) -> tuple[DecordDecoder | None, str]:
    """decord where it gives what PyAV gives, in this much memory; or None and why not."""
    if importlib.util.find_spec("decord") is None:
        return None, "decord is not installed here"
    if make.pixels != "rgb":
        return None, "decord gives RGB only, and gray was asked for"
    if timestamps_s is None:
        return None, "without the frame table, decord's frames cannot be checked"
    times = np.asarray(timestamps_s, dtype=np.float64)
    if wanted is not None and wanted[-1] >= times.size:
        return None, "frames are wanted that the frame table does not have"
    with open_video(path) as video:
        container = video.container.format.name
        codec = video.stream.codec_context.name
    frame = first_frame(path)
    if not container.startswith(DECORD_CONTAINERS):
        return None, f"decord was not compared with PyAV on {container} files"
    if codec not in DECORD_CODECS:
        return None, f"decord was not found equal to PyAV on {codec}, or cannot decode it"
    if frame.format.name not in DECORD_PIXEL_FORMATS:
        return None, f"decord converts {frame.format.name} to other colours"
    if not orientation_of(frame).is_identity:
        return None, "decord does not turn and mirror pictures as the container says"
    plan = plan_packets(path, np.arange(times.size), times)
    if plan is None:
        return None, "its packets, frames and times are not one of each in the same order"
    picture_bytes = make(frame).nbytes
    burst = memory_bytes // (2 * picture_bytes)
    _, restarts = plan.restarts()
    every = np.arange(times.size) if wanted is None else wanted
    longest = int(np.bincount(np.searchsorted(restarts, every, side="right")).max())
    if longest > burst:
        return None, (
            f"up to {longest} pictures between two key frames would have to be held, "
            f"{longest * picture_bytes / 1e6:.0f} MB of the {memory_bytes / 2e6:.0f} MB set apart"
        )
    return DecordDecoder(path, make, times, plan, burst=burst, memory_bytes=memory_bytes), (
        "decord gives the same pictures of this video"
    )
