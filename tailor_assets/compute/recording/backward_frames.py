"""The chosen frames of a video from the last to the first, decoded in blocks of bounded memory.

A video decodes forward only, from a picture at which decoding can start afresh. So the last block
of pictures is decoded from such a restart on, held and handed out in reverse, then the one before.
Pictures must be those of forward decoding, bit by bit, and nothing in most formats promises that
a key frame is a restart. Two ways make sure of it:

- by plan (``packet_plan``): IDR pictures of H.264, and codecs whose pictures all stand alone;
- by survey: the video is decoded once, forward, noting each frame's time and each wanted picture's
  checksum, and what is decoded again must have them. Where something has not, the video is decoded
  from its beginning, which is the forward reader's way itself.
"""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import av.error
import numpy as np
from av.video.frame import VideoFrame

from tailor_assets.compute.recording.decoding import (
    OpenVideo,
    decode_frames,
    open_video,
    refuse_damage,
)
from tailor_assets.compute.recording.packet_plan import plan_packets
from tailor_assets.compute.recording.planned_video import RESTARTS_BACK, PlannedVideo
from tailor_assets.compute.recording.selected_frames import PlanFailed, refuse_missing_frames
from tailor_assets.compute.recording.upright_pictures import PictureMaker


def pictures_backwards(
    path: str | Path,
    wanted: np.ndarray | None,
    make: PictureMaker,
    timestamps_s: np.ndarray | None,
    block: int,
    stop: threading.Event,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (source_frame, picture) of the wanted frames, last first, holding ``block`` at most.

    Args:
        wanted: int64 [M], ascending, unique; None for all frames.
        timestamps_s: float64 [N] of all frames of the video, from ``probe_video``; optional.
        block: pictures held at a time, at least 1.
        stop: set by another thread to end it early.

    Raises:
        PermanentProblem: the file cannot be opened or is damaged, or has no such frame.
    """
    if timestamps_s is not None:
        times = np.asarray(timestamps_s, dtype=np.float64)
        planned = wanted if wanted is not None else np.arange(times.size, dtype=np.int64)
        plan = plan_packets(path, planned, times)
        if plan is not None:
            wanted = planned
            try:
                with open_video(path) as video:
                    for item in _in_blocks(PlannedVideo(video, plan), wanted, make, block, stop):
                        yield item
                        wanted = planned[: np.searchsorted(planned, item[0])]
                return
            except PlanFailed:
                pass  # the decoder did not give back what was put in: survey what is left
    survey = _Survey(path, wanted, make, block, stop)
    left = survey.wanted
    while survey.last_pictures:
        item = survey.last_pictures.pop()
        left = left[: np.searchsorted(left, item[0])]
        yield item
    try:
        with open_video(path) as video:
            again = _Surveyed(path, video, survey)
            for item in _in_blocks(again, left, make, block, stop, survey.check):
                left = left[: np.searchsorted(left, item[0])]
                yield item
    except PlanFailed:
        yield from _in_blocks(_FromTheStart(path), left, make, block, stop)


class _Restartable(Protocol):
    """A video that can be decoded again from some of its frames.

    ``restarts``: int64 [R], ascending source frames at which decoding can start, the first 0.
    """

    restarts: np.ndarray

    def decode(self, restart: int, last: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (source_frame, frame) from one of ``restarts`` to ``last``; unwanted may lack.

        Raises:
            PlanFailed: what comes is not what was to come.
        """


def _in_blocks(
    video: _Restartable,
    wanted: np.ndarray,
    make: PictureMaker,
    block: int,
    stop: threading.Event,
    check: Callable[[int, np.ndarray], None] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    end = wanted.size
    while end > 0 and not stop.is_set():
        restart, begin = _next_block(video.restarts, wanted, end, block)
        held: list[tuple[int, np.ndarray]] = []
        for source_frame, frame in video.decode(restart, int(wanted[end - 1])):
            if stop.is_set():
                return
            if source_frame == wanted[begin + len(held)]:
                picture = make(frame)
                if check is not None:
                    check(source_frame, picture)
                held.append((source_frame, picture))
        if len(held) != end - begin:
            raise PlanFailed
        while held:
            yield held.pop()  # popped, so that a picture is held in one place only
        end = begin


def _next_block(restarts: np.ndarray, wanted: np.ndarray, end: int, block: int) -> tuple[int, int]:
    """Where to decode from, and the first of the wanted frames before ``end`` to hold.

    A full block, unless one at least half as long begins just at a restart: then nothing before it
    has to be decoded for it, and again later.
    """
    begin = max(0, end - block)
    before = int(np.searchsorted(restarts, wanted[begin], side="right")) - 1
    if begin > 0 and restarts[before] != wanted[begin] and before + 1 < restarts.size:
        later = int(np.searchsorted(wanted, restarts[before + 1]))
        if 2 * (end - later) >= block:
            return int(restarts[before + 1]), later
    return int(restarts[before]), begin


class _Survey:
    """One forward pass up to the last wanted frame.

    Attributes:
        wanted: int64 [M], the wanted frames (all, where all were asked for).
        pts: presentation time of each frame, None where it has none.
        key_frames: source frames that the decoder calls key frames.
        last_pictures: the last ``block`` wanted (source_frame, picture), ready to be handed out.
    """

    def __init__(
        self,
        path: str | Path,
        wanted: np.ndarray | None,
        make: PictureMaker,
        block: int,
        stop: threading.Event,
    ) -> None:
        self.pts: list[int | None] = []
        self.key_frames: list[int] = []
        self.last_pictures: deque[tuple[int, np.ndarray]] = deque(maxlen=block)
        self._checksums: dict[int, int] = {}
        with open_video(path) as video:
            for source_frame, frame in enumerate(decode_frames(video)):
                self.pts.append(frame.pts)
                if frame.key_frame:
                    self.key_frames.append(source_frame)
                done = len(self._checksums)
                if wanted is None or source_frame == wanted[done]:
                    picture = make(frame)
                    self._checksums[source_frame] = zlib.adler32(picture.data)
                    self.last_pictures.append((source_frame, picture))
                    if wanted is not None and done + 1 == wanted.size:
                        break
                if stop.is_set():
                    break
            else:
                refuse_damage(video)
                if wanted is not None:
                    refuse_missing_frames(video, wanted[len(self._checksums) :])
        self.wanted = np.fromiter(self._checksums, np.int64, len(self._checksums))

    def check(self, source_frame: int, picture: np.ndarray) -> None:
        """Raise PlanFailed unless the picture is the one that was seen."""
        if self._checksums[source_frame] != zlib.adler32(picture.data):
            raise PlanFailed


class _Surveyed:
    """Key frames as restarts; what is decoded from them has to be checked against the survey."""

    def __init__(self, path: str | Path, video: OpenVideo, survey: _Survey) -> None:
        self._start = _FromTheStart(path)
        self._video = video
        self._pts = survey.pts
        self._number_of = {pts: number for number, pts in enumerate(survey.pts)}
        one_time_each = None not in self._number_of and len(self._number_of) == len(survey.pts)
        restarts = survey.key_frames if one_time_each else []
        self.restarts = np.union1d(np.zeros(1, np.int64), np.array(restarts, np.int64))

    def decode(self, restart: int, last: int) -> Iterator[tuple[int, VideoFrame]]:
        if restart == 0:
            yield from self._start.decode(restart, last)
            return
        group = int(np.searchsorted(self.restarts, restart))
        for back in RESTARTS_BACK:
            target = self._pts[self.restarts[max(0, group - back)]]
            try:
                self._video.container.seek(target or 0, stream=self._video.stream)
            except av.error.FFmpegError as problem:
                raise PlanFailed from problem
            number = -1
            for frame in decode_frames(self._video):
                if number >= restart:
                    number += 1
                    if frame.pts != self._pts[number]:
                        raise PlanFailed
                else:
                    number = self._number_of.get(frame.pts, -1)
                    if number > restart:
                        break  # landed too late
                if number >= restart:
                    yield number, frame
                if number == last:
                    return
            else:
                raise PlanFailed  # the last one asked for did not come
        raise PlanFailed


class _FromTheStart:
    """The forward reader's way, for what cannot be entered in its middle."""

    def __init__(self, path: str | Path) -> None:
        self.restarts = np.zeros(1, np.int64)
        self._path = path

    def decode(self, restart: int, last: int) -> Iterator[tuple[int, VideoFrame]]:
        with open_video(self._path) as video:
            for source_frame, frame in enumerate(decode_frames(video)):
                yield source_frame, frame
                if source_frame == last:
                    return
