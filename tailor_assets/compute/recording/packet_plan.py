"""Which packets need not be decoded to show only some frames, without losing count.

Two kinds of packets can be left out and every other frame still decodes to the same pixels:
pictures that no other picture refers to (``nal_ref_idc`` 0 in H.264, ITU-T H.264 7.4.1; all
pictures of a codec without inter prediction), and pictures after the last wanted one of a group
that ends with an IDR picture (H.264 8.2.1: nothing after it refers to anything before it).

A frame's index is then the rank of its packet's timestamp, which is true only where each packet
is one frame. So a plan is made only where the probe counted exactly as many frames as there are
packets and gave them exactly these times; everything else is decoded in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailor_assets.compute.recording.decoding import OpenVideo, open_video

# Codecs in which every picture stands alone.
INTRA_CODECS = frozenset(
    {"mjpeg", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "prores", "dnxhd", "dvvideo", "png",
     "jpeg2000", "magicyuv", "v210"}
)  # fmt: skip
# Containers that store presentation times; AVI and others store only the decoding order.
CONTAINERS_WITH_PRESENTATION_TIMES = ("mov", "matroska")

NAL_SLICES = range(1, 6)
NAL_IDR_SLICE = 5


@dataclass(frozen=True)
class PacketPlan:
    """What to decode of one video for one selection of frames.

    Attributes:
        keep: bool [packets in file order]; False where the packet is not decoded.
        pts: int64 [packets in file order]; the time by which its frame is recognised.
        source_frame: int64 [packets in file order]; the index of its frame.
        wanted: bool [packets in file order]; whether its frame was asked for.
        restart: bool [packets in file order]; True where decoding can start afresh.
    """

    keep: np.ndarray
    pts: np.ndarray
    source_frame: np.ndarray
    wanted: np.ndarray
    restart: np.ndarray

    def expected(self, start: int = 0, stop: int | None = None) -> list[tuple[int, int, bool]]:
        """(pts, source_frame, wanted) of each frame that packets start..stop give, in order."""
        kept = np.flatnonzero(self.keep[start:stop]) + start
        kept = kept[np.argsort(self.pts[kept])]
        return list(
            zip(
                self.pts[kept].tolist(),
                self.source_frame[kept].tolist(),
                self.wanted[kept].tolist(),
                strict=True,
            )
        )

    def restarts(self) -> tuple[np.ndarray, np.ndarray]:
        """Where decoding can start and show nothing of before: (packets, their source frames).

        int64 [R] each, ascending, the first 0.
        """
        packets = np.union1d(np.zeros(1, np.int64), np.flatnonzero(self.restart))
        shown_before = np.maximum.accumulate(np.concatenate([[-1], self.source_frame]))[packets]
        shown_next = np.minimum.accumulate(self.source_frame[::-1])[::-1][packets]
        return packets[shown_next > shown_before], shown_next[shown_next > shown_before]

    def parts(self, frames: int) -> list[tuple[int, int]]:
        """Ranges of packets that decode independently, of at least ``frames`` decoded frames."""
        decoded = np.cumsum(self.keep)
        bounds = [0]
        for start in np.flatnonzero(self.restart).tolist():
            if (
                start
                and decoded[start - 1] - (decoded[bounds[-1] - 1] if bounds[-1] else 0) >= frames
            ):
                bounds.append(start)
        return list(zip(bounds, [*bounds[1:], self.keep.size], strict=True))


def plan_packets(
    path: str | Path, source_frames: np.ndarray, timestamps_s: np.ndarray
) -> PacketPlan | None:
    """Plan the decoding of ``source_frames`` only; None where the frames must be counted.

    Reads the file once without decoding it.

    Args:
        source_frames: int64 [M], sorted.
        timestamps_s: float64 [N] of all frames of the video, from ``probe_video``.
    """
    if source_frames.size == 0 or source_frames[-1] >= timestamps_s.size:
        return None
    with open_video(path) as video:
        intra = video.stream.codec_context.name in INTRA_CODECS
        nal_length_size = 0 if intra else _nal_length_size(video)
        if not intra and nal_length_size == 0:
            return None
        pts, referenced, restart = _scan_packets(video, nal_length_size)
        if pts is None or pts.size != timestamps_s.size:
            return None
        rank = np.empty(pts.size, dtype=np.int64)
        rank[np.argsort(pts)] = np.arange(pts.size)
        in_order = bool((np.diff(rank) == 1).all())
        if not intra and in_order and video.stream.codec_context.has_b_frames:
            return None  # reordered pictures whose times tell nothing of it: the times are false
        ordered_pts = np.sort(pts)
        times_s = video.seconds(ordered_pts - ordered_pts[0])
        if np.abs(times_s - timestamps_s).max() > video.time_base / 4:
            return None
    wanted = np.zeros(pts.size, dtype=bool)
    wanted[source_frames] = True
    wanted = wanted[rank]  # now by packet
    if intra:
        keep, restart = wanted, np.ones(pts.size, dtype=bool)
    else:
        # A wanted picture still to come in this group needs what it may refer to.
        group = np.cumsum(restart)
        last_wanted = np.full(group[-1] + 1, -1)
        np.maximum.at(last_wanted, group[wanted], np.flatnonzero(wanted))
        keep = wanted | (referenced & (np.arange(pts.size) <= last_wanted[group]))
    return PacketPlan(keep, pts, rank, wanted, restart)


def _nal_length_size(video: OpenVideo) -> int:
    """Bytes of a NAL unit's length in this stream (ISO 14496-15, 5.3.3); 0 where not applicable."""
    codec = video.stream.codec_context
    header = codec.extradata or b""
    stores_times = video.container.format.name.startswith(CONTAINERS_WITH_PRESENTATION_TIMES)
    if codec.name != "h264" or not stores_times or len(header) < 7 or header[0] != 1:
        return 0
    return (header[4] & 3) + 1


def _scan_packets(
    video: OpenVideo, nal_length_size: int
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Per packet: pts, whether others may refer to it, whether decoding can start afresh at it.

    pts is None where a packet lacks a time of its own or is flagged as broken or not to be shown.
    """
    pts: list[int] = []
    referenced: list[bool] = []
    restart: list[bool] = []
    nothing = np.zeros(0, dtype=bool)
    for packet in video.container.demux(video.stream):
        if not packet.size:
            continue
        if packet.pts is None or packet.is_discard or packet.is_corrupt:
            return None, nothing, nothing
        pts.append(packet.pts)
        if nal_length_size:
            is_referenced, is_idr = _h264_slices(memoryview(packet), nal_length_size)
            referenced.append(is_referenced)
            restart.append(is_idr)
    if not pts or len(set(pts)) != len(pts):
        return None, nothing, nothing
    return np.array(pts, dtype=np.int64), np.array(referenced), np.array(restart)


def _h264_slices(data: memoryview, nal_length_size: int) -> tuple[bool, bool]:
    """(is a reference, is an IDR picture) of one access unit; doubt counts as a plain reference."""
    position, slices, referenced, idr = 0, 0, False, False
    while position + nal_length_size < len(data):
        length = int.from_bytes(data[position : position + nal_length_size], "big")
        header = data[position + nal_length_size]
        if header & 31 in NAL_SLICES:
            slices += 1
            referenced |= header >> 5 & 3 != 0
            idr |= header & 31 == NAL_IDR_SLICE
        position += nal_length_size + length
    if slices == 0 or position != len(data):
        return True, False
    return referenced, idr
