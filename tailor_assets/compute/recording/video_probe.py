"""What a video file really holds: decoded frames, true times, upright size, checksum."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailor_assets.compute.checksum import file_md5
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.decoding import (
    OpenVideo,
    Orientation,
    decode_frames,
    open_video,
    orientation_of,
    refuse_damage,
)
from tailor_assets.compute.recording.frame_timing import (
    frames_per_second,
    is_variable_frame_rate,
    mend_timestamps,
)

PROGRESS_EVERY_FRAMES = 100
# Cameras and encoders round the shape of a pixel; what is off by more is meant so.
_SQUARE_WITHIN = 0.02


@dataclass(frozen=True)
class VideoInfo:
    """Facts about one video, all of them measured but ``header_frame_count`` and ``container``.

    ``width`` and ``height`` are those of the upright picture; ``rotation_deg`` (0, 90, 180, 270)
    is the clockwise turn that makes the stored picture upright, after mirroring it left to right
    where ``mirrored``. ``fps`` is None below two frames. ``duration_s`` is from the first frame to
    the end of the last one. ``lost_or_damaged_frames`` counts what the decoder could not decode
    (at most 1%, or the probe refuses the file).
    """

    width: int
    height: int
    rotation_deg: int
    codec: str
    pixel_format: str
    container: str
    frame_count: int
    header_frame_count: int | None
    fps: float | None
    duration_s: float
    variable_frame_rate: bool
    timestamps_repaired: int
    size_bytes: int
    md5: str
    mirrored: bool = False
    lost_or_damaged_frames: int = 0


def probe_video(
    path: str | Path, progress: Callable[[int, int], None] | None = None
) -> tuple[VideoInfo, np.ndarray]:
    """Decode the whole file once, in order, and say what is in it.

    Args:
        path: a local file.
        progress: called now and then as ``progress(frames_decoded, frames_expected)``, 0 where unknown.

    Returns:
        The facts, and timestamps_s float64 [frame_count]: seconds from the first frame, strictly
        increasing, from the container (``pts`` times time base) and mended where it has none.

    Raises:
        PermanentProblem: the file cannot be processed; the sentence says why and what to do.
    """
    path = Path(path)
    with open_video(path) as video, ThreadPoolExecutor(1, "md5") as reader:
        # Reading for the checksum beside the decoding also brings the file into memory once.
        md5 = reader.submit(file_md5, path)
        expected = video.stream.frames or None
        first_frame: tuple[Orientation, int, int, str] | None = None
        pts: list[float] = []
        for frame in decode_frames(video):
            if first_frame is None:
                first_frame = (
                    orientation_of(frame), frame.width, frame.height, frame.format.name
                )  # fmt: skip
            pts.append(np.nan if frame.pts is None else frame.pts)
            if progress is not None and len(pts) % PROGRESS_EVERY_FRAMES == 0:
                progress(len(pts), expected or 0)
        refuse_damage(video)
        _refuse_oblong_pixels(video)
        assert first_frame is not None  # refuse_damage raises where there is no frame
        orientation, width, height, pixel_format = first_frame
        rate = video.stream.average_rate or video.stream.guessed_rate
        stated_fps = float(rate) if rate else None
        tick_s = video.time_base
        raw_s = video.seconds(np.array(pts))
        timestamps_s, repaired = mend_timestamps(raw_s, tick_s, stated_fps)
        fps = frames_per_second(timestamps_s, tick_s, stated_fps)
        last_step = 1.0 / fps if fps else (1.0 / stated_fps if stated_fps else 0.0)
        duration_s = float(timestamps_s[-1]) + last_step
        known = ~np.isnan(raw_s)
        # The median, so that a time which is not believed says nothing of where the others begin.
        begins_s = float(np.median((raw_s - timestamps_s)[known])) if known.any() else 0.0
        _refuse_cut_off(video, begins_s, duration_s)
        if orientation.swaps_sides:
            width, height = height, width
        if progress is not None:
            progress(len(pts), len(pts))
        return VideoInfo(
            width=width,
            height=height,
            rotation_deg=orientation.clockwise_deg,
            codec=video.stream.codec_context.codec.canonical_name,
            pixel_format=pixel_format,
            container=video.container.format.name,
            frame_count=len(pts),
            header_frame_count=expected,
            fps=fps,
            duration_s=duration_s,
            variable_frame_rate=is_variable_frame_rate(timestamps_s, tick_s),
            timestamps_repaired=repaired,
            size_bytes=path.stat().st_size,
            md5=md5.result(),
            mirrored=orientation.mirrored,
            lost_or_damaged_frames=video.damaged,
        ), timestamps_s


def _refuse_oblong_pixels(video: OpenVideo) -> None:
    """Raise where a pixel is wider than high (DV, HDV): a centimetre would be two lengths."""
    shape = video.stream.sample_aspect_ratio
    if not shape or abs(float(shape) - 1) <= _SQUARE_WITHIN:
        return
    raise PermanentProblem(
        f"{video.path.name} has pixels that are not square (sample aspect ratio "
        f"{shape.numerator}:{shape.denominator}), so lengths and speeds across and down the picture "
        "would not be the same; make them square with `ffmpeg -i INPUT -vf "
        "scale=iw*sar:ih,setsar=1 OUTPUT.mp4`, or, where the file says so wrongly, with `-vf setsar=1`."
    )


def _refuse_cut_off(video: OpenVideo, begins_s: float, duration_s: float) -> None:
    """Raise where the file's own header promises clearly more video than the file holds.

    ``begins_s``: the container's time of the first frame, up to which there is no video.
    """
    name = video.path.name
    remedy = (
        "recording or copying was interrupted; copy it again from its source or export it again"
    )
    container = video.container.format.name
    if container.startswith("mov"):
        # The index says where every picture lies, so a missing tail is certain.
        size = video.path.stat().st_size
        entries = video.stream.index_entries
        missing = sum(1 for entry in entries if entry.pos + entry.size > size)
        if missing:
            raise PermanentProblem(
                f"{name} is cut off: {missing} of its {len(entries)} pictures lie behind the end "
                f"of the file; {remedy}."
            )
        return
    rate = video.stream.average_rate
    if container == "avi" and rate:
        stated_s = video.stream.frames / float(rate)  # at a constant rate, dropped frames counted
    elif container.startswith("matroska") and len(video.container.streams) == 1:
        stated_s = (video.container.duration or 0) / 1_000_000
    else:
        return  # the others estimate their length from what is there, or another track is longer
    # Headers count from 0; a part of a long recording, or one by the wall clock, begins later.
    promised_s = stated_s - begins_s
    if duration_s < 0.98 * promised_s - 0.5:
        raise PermanentProblem(
            f"{name} is cut off: its header promises {promised_s:.1f} s and the file holds "
            f"{duration_s:.1f} s; {remedy}."
        )
