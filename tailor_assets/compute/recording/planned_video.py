"""A video entered in its middle, where the plan of its packets says that nothing before is needed."""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame

from tailor_assets.compute.recording.decoding import OpenVideo, read_packets
from tailor_assets.compute.recording.packet_plan import PacketPlan
from tailor_assets.compute.recording.selected_frames import PlanFailed, as_expected

# A container's seek may land after the place asked for; then restarts before it are tried.
RESTARTS_BACK = (0, 1, 2, 4, 8, 16, 32)


class PlannedVideo:
    """An open video that can be decoded again from the restarts that its plan knows.

    ``restarts``: int64 [R], ascending source frames at which decoding can start, the first 0.
    """

    def __init__(self, video: OpenVideo, plan: PacketPlan) -> None:
        self._video = video
        self._plan = plan
        self._number_of = {pts: number for number, pts in enumerate(plan.pts.tolist())}
        self._starts, self.restarts = plan.restarts()
        self._stops = np.append(self._starts[1:], plan.keep.size)

    def decode(self, restart: int, last: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (source_frame, frame) of the plan's wanted frames from a restart to ``last``.

        Args:
            restart: one of ``restarts``.
            last: a wanted frame, not before ``restart``.

        Raises:
            PlanFailed: the file or the decoder gives other frames than planned.
        """
        group = int(np.searchsorted(self.restarts, restart))
        stop = int(self._stops[np.searchsorted(self.restarts, last, side="right") - 1])
        expected = iter(self._plan.expected(int(self._starts[group]), stop))
        try:
            for source_frame, frame in as_expected(self._frames(group, stop), expected):
                yield source_frame, frame
                if source_frame == last:
                    return
        except (av.error.FFmpegError, ValueError) as problem:
            raise PlanFailed from problem
        raise PlanFailed  # the last one asked for did not come

    def _frames(self, group: int, stop: int) -> Iterator[VideoFrame]:
        stream = self._video.stream
        for number, packet in self._packets(group, stop):
            if self._plan.keep[number]:
                yield from stream.decode(packet)
        yield from stream.decode(None)

    def _packets(self, group: int, stop: int) -> Iterator[tuple[int, av.Packet]]:
        """(number in the file, packet) from the first packet of a group to before ``stop``."""
        start = int(self._starts[group])
        pts = self._plan.pts
        for back in RESTARTS_BACK:
            target = int(pts[self._starts[max(0, group - back)]])
            self._video.container.seek(target, stream=self._video.stream)
            number = -1
            for packet in read_packets(self._video):
                if number < 0:
                    number = self._number_of.get(packet.pts, pts.size)
                    if number > start:
                        break  # landed too late
                else:
                    number += 1
                if number == stop:
                    return
                if packet.pts != pts[number]:
                    raise PlanFailed
                if number >= start:
                    yield number, packet
            else:
                return
        raise PlanFailed
