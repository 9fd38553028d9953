"""Pictures by decord, with the back-pressure that it lacks, and checked where it was asked to seek.

decord (0.6.0) decodes ahead of its reader without a limit: whoever pauses finds the rest of the
video in memory. So it is read in bursts of whole groups of pictures, as fast as it gives them;
``seek(0)`` then empties its queues and stops it, the pictures are handed out at leisure, and the
next burst begins with a seek to the next group. Groups are decoded once that way; going on in the
middle of a group would mean to decode it again from its start.

decord says nothing of where a seek landed. The first picture of each burst is therefore decoded by
PyAV as well, and must be the same, pixel by pixel; that also catches any difference in colour.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tailor_assets.compute.recording.decoding import open_video
from tailor_assets.compute.recording.packet_plan import PacketPlan
from tailor_assets.compute.recording.planned_video import PlannedVideo
from tailor_assets.compute.recording.selected_frames import PlanFailed
from tailor_assets.compute.recording.upright_pictures import PictureMaker, resized


class DecordFailed(Exception):
    """decord cannot go on; ``str`` says why, in half a sentence. Another decoder can."""


class DecordDecoder:
    """RGB pictures in bursts; see the module. Only for videos that ``decoder_choice`` allows."""

    name = "decord"

    def __init__(
        self,
        path: str | Path,
        make: PictureMaker,
        timestamps_s: np.ndarray,
        plan: PacketPlan,
        *,
        burst: int,
        memory_bytes: int,
    ) -> None:
        """``plan`` wants all frames; ``burst`` is in pictures, no less than the longest group."""
        self._path = Path(path).absolute()
        self._make = make
        self._times = timestamps_s
        self._plan = plan
        self.frame_count = int(timestamps_s.size)
        self._burst = burst
        self._memory_bytes = memory_bytes
        self._baseline = 0

    def pictures(self, source_frames: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (source_frame, picture) of these frames (int64 [M], sorted; None for all).

        Raises:
            DecordFailed: at any frame; those handed out before are right.
        """
        if source_frames is None:
            source_frames = np.arange(self.frame_count)
        with open_video(self._path) as video:
            reference = PlannedVideo(video, self._plan)
            self._baseline = _resident_bytes()
            reader = self._open()
            for restart, chosen in _bursts(source_frames, reference.restarts, self._burst):
                held = self._read(reader, reference, restart, chosen)
                held.reverse()
                while held:
                    yield held.pop()

    def _open(self) -> Any:
        import decord  # only where it is used: it is not there on every machine

        try:
            reader = decord.VideoReader(f"file:{self._path}")
            count = len(reader)
            if count == self._times.size:
                shown = reader.get_frame_timestamp(np.arange(count))[:, 0]
                tick = float(np.diff(self._times).min(initial=1.0))
                if np.abs(shown - shown[0] - self._times).max() < tick / 4:
                    return reader
        except _decord_errors() as problem:
            raise DecordFailed("decord cannot open it") from problem
        raise DecordFailed("decord counts other frames or times than the container has")

    def _read(
        self, reader: Any, reference: PlannedVideo, restart: int, chosen: np.ndarray
    ) -> list[tuple[int, np.ndarray]]:
        """One burst: the chosen frames, from the group that begins at ``restart`` on."""
        held: list[tuple[int, np.ndarray]] = []
        try:
            reader.seek(restart)
            first = reader.next().asnumpy()
            self._check(first, reference, restart)
            at = restart
            for index in chosen.tolist():
                if index - at > 1:
                    reader.skip_frames(index - at - 1)
                picture = first if index == restart else reader.next().asnumpy()
                at = index
                held.append((index, resized(picture, self._make.size)))
                grown = _resident_bytes() - self._baseline
                if grown > self._memory_bytes:
                    raise DecordFailed(
                        f"memory grew by {grown / 1e6:.0f} MB with decord, more than the "
                        f"{self._memory_bytes / 1e6:.0f} MB it may take"
                    )
            reader.seek(0)  # empties its queues; it stands still until it is asked again
        except _decord_errors() as problem:
            raise DecordFailed(f"decord failed after frame {restart}") from problem
        return held

    def _check(self, picture: np.ndarray, reference: PlannedVideo, restart: int) -> None:
        try:
            _, frame = next(reference.decode(restart, restart))
        except (PlanFailed, StopIteration) as problem:
            raise DecordFailed("its packets cannot be decoded from a key frame on") from problem
        if not np.array_equal(picture, PictureMaker("rgb", None)(frame)):
            raise DecordFailed(f"decord shows another picture than PyAV at frame {restart}")


def _bursts(
    wanted: np.ndarray, restarts: np.ndarray, most: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(restart, wanted frames) of each burst: whole groups in a row, together ``most`` at most."""
    group = np.searchsorted(restarts, wanted, side="right") - 1
    begin = 0
    while begin < wanted.size:
        end = int(np.searchsorted(group, group[begin], side="right"))
        while end < wanted.size and group[end] == group[end - 1] + 1:
            after = int(np.searchsorted(group, group[end], side="right"))
            if after - begin > most:
                break
            end = after
        yield int(restarts[group[begin]]), wanted[begin:end]
        begin = end


def _decord_errors() -> tuple[type[BaseException], ...]:
    import decord

    # StopIteration: it ended early. The others: its C++ side, and its own assertions.
    return decord.DECORDError, RuntimeError, AssertionError, StopIteration


def _resident_bytes() -> int:
    """Resident memory of this process; decord is there on Linux only, and so is this file."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
