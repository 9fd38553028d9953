"""The wanted frames of a video, decoded in one sequential pass that leaves out idle work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import av.error
import numpy as np
from av.video.frame import VideoFrame

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.decoding import (
    OpenVideo,
    decode_frames,
    open_video,
    read_packets,
    refuse_damage,
)
from tailor_assets.compute.recording.packet_plan import PacketPlan, plan_packets


def check_source_frames(source_frames: np.ndarray | None) -> np.ndarray | None:
    """Return the selection as int64 [M], sorted and unique, or raise PermanentProblem."""
    if source_frames is None:
        return None
    chosen = np.asarray(source_frames)
    if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
        raise PermanentProblem("Source frames must be a list of whole numbers; choose them again.")
    chosen = chosen.astype(np.int64)
    if chosen.size and (chosen[0] < 0 or (np.diff(chosen) <= 0).any()):
        raise PermanentProblem(
            "Source frames must be ascending, without repeats, and not negative; sort them first."
        )
    return chosen


def first_frame(path: str | Path) -> VideoFrame:
    """Decode the first frame as stored.

    Raises:
        PermanentProblem: the file cannot be opened or holds no picture.
    """
    with open_video(path) as video:
        for frame in decode_frames(video):
            return frame
        refuse_damage(video)
    raise AssertionError("refuse_damage raises where there is no frame")


def decode_selected(
    path: str | Path,
    source_frames: np.ndarray | None,
    timestamps_s: np.ndarray | None = None,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode sequentially and yield (source_frame, frame as stored) for the wanted frames.

    Args:
        source_frames: int64 [M], sorted; None for all.
        timestamps_s: float64 [N] of all frames of the video. With them, packets that no wanted
            frame needs are not decoded (``packet_plan``); the frames and indices are the same.

    Raises:
        PermanentProblem: the file cannot be opened or is damaged, or has no such frame.
    """
    wanted = check_source_frames(source_frames)
    if wanted is not None and wanted.size == 0:
        return
    done = -1
    if wanted is not None and timestamps_s is not None:
        plan = plan_packets(path, wanted, np.asarray(timestamps_s, dtype=np.float64))
        if plan is not None and not plan.keep.all():
            for index, frame in _decode_planned(path, plan):
                done = index
                yield index, frame
            if done == wanted[-1]:
                return
            # The decoder did not give back what was put in: count every frame, from there on.
    yield from _decode_counted(path, wanted, done)


class PartDecoder:
    """Decodes independent parts of a planned video on the caller's thread, in ascending order."""

    def __init__(self, video: OpenVideo, plan: PacketPlan) -> None:
        self._video = video
        self._plan = plan
        self._packets = enumerate(read_packets(video))

    def decode(self, start: int, stop: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (source_frame, frame) of the wanted frames of packets ``start`` to ``stop``.

        Raises:
            PlanFailed: the decoder gives other frames than planned.
        """
        stream = self._video.stream
        expected = iter(self._plan.expected(start, stop))
        try:
            for index, packet in self._packets:
                if index >= start and self._plan.keep[index]:
                    yield from as_expected(stream.decode(packet), expected)
                if index == stop - 1:
                    break
            yield from as_expected(stream.decode(None), expected)
            stream.codec_context.flush_buffers()  # ready for the next part
        except (av.error.FFmpegError, ValueError) as problem:
            raise PlanFailed from problem
        if next(expected, None) is not None:
            raise PlanFailed


class PlanFailed(Exception):
    """Decoding by plan did not give the planned frames; every frame must be decoded."""


def as_expected(
    frames: Iterable[VideoFrame], expected: Iterator[tuple[int, int, bool]]
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield (source_frame, frame) of the wanted ones of a plan's frames.

    Args:
        expected: (pts, source_frame, wanted) of each frame to come, as ``PacketPlan.expected``.

    Raises:
        PlanFailed: at the first frame that is not the one expected, or is marked as broken.
    """
    for frame in frames:
        pts, source_frame, wanted = next(expected, (None, -1, False))
        if frame.pts != pts or frame.is_corrupt:
            raise PlanFailed
        if wanted:
            yield source_frame, frame


def _decode_planned(path: str | Path, plan: PacketPlan) -> Iterator[tuple[int, VideoFrame]]:
    """Wanted frames by plan; ends early at the first frame that is not the one expected."""
    with open_video(path) as video:
        frames = decode_frames(video, plan.keep)
        try:
            for index, frame in as_expected(frames, iter(plan.expected())):
                if video.decode_errors:
                    return
                yield index, frame
        except PlanFailed:
            return


def _decode_counted(
    path: str | Path, wanted: np.ndarray | None, done: int
) -> Iterator[tuple[int, VideoFrame]]:
    """Wanted frames after index ``done`` by decoding and counting every frame."""
    with open_video(path) as video:
        if wanted is None:
            yield from enumerate(decode_frames(video))
            refuse_damage(video)
            return
        remaining = iter(wanted[wanted > done].tolist())
        target = next(remaining, None)
        for index, frame in enumerate(decode_frames(video)):
            if index == target:
                yield index, frame
                target = next(remaining, None)
                if target is None:
                    return
        refuse_damage(video)
        refuse_missing_frames(video, wanted[wanted >= target])


def refuse_missing_frames(video: OpenVideo, missing: np.ndarray) -> NoReturn:
    """After the last frame: raise PermanentProblem for the wanted frames that did not come."""
    raise PermanentProblem(
        f"{video.path.name} has {video.frames} frames, so {missing.size} of the wanted frames, from "
        f"frame {missing[0]} on, do not exist; was the video replaced? Probe it again."
    )
