"""The overlay video: every analysed frame with masks, tail, behaviour, flag and time.

One pass, and in memory at any time: a few pictures, one chunk of masks per object, and the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import is_probability
from tailor_assets.compute.behavior.bout_table import label_probabilities, labels_of, row_codes
from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.overlay.info_bar import InfoBar, InfoRow
from tailor_assets.compute.overlay.mask_layer import MaskLayer
from tailor_assets.compute.overlay.timed_video import TimedVideoWriter
from tailor_assets.compute.overlay.track_tail import TrackTail
from tailor_assets.compute.palette import label_styles
from tailor_assets.compute.recording.frame_source import read_frames

OVERLAY_VERSION = "2"
DEFAULT_TAIL_S = 3.0
# Larger pictures are for analysis, not for a look in a browser; smaller ones have no room for text.
LONGEST_SIDE, LEAST_WIDTH = 1280, 480
FLAG_COLUMNS = (
    "frame", "source_frame", "timestamp_s", "behavior", "mask_state", "flag_window",
)  # fmt: skip


@dataclass(frozen=True)
class Overlay:
    """What was written. ``height`` is that of the picture with the bar beneath it."""

    frames: int
    width: int
    height: int
    encoder: str
    seconds: float


def wanted_columns(names: Sequence[str]) -> list[str]:
    """Of the columns of the flags those that an overlay reads."""
    return [name for name in names if name in FLAG_COLUMNS or is_probability(name)]


def overlay_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the picture in the overlay: both even, at most 1280, 480 wide or more."""
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    if width * scale < LEAST_WIDTH:
        scale = min(LEAST_WIDTH / width, LONGEST_SIDE / height)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def make_overlay(
    video: Path,
    reader: MaskReader,
    flags: pl.DataFrame,
    target: Path,
    *,
    subject: str | None = None,
    nest: str | None = None,
    video_timestamps_s: np.ndarray | None = None,
    tail_s: float = DEFAULT_TAIL_S,
    progress: Callable[[int, int | None], None] | None = None,
) -> Overlay:
    """Write an MP4 of the frames in ``flags`` to ``target``, each shown at its own time.

    flags: a row per frame with ``FLAG_COLUMNS`` and, where there are any, ``probability_<label>``.
    Time in the video is the table's, from its first row on, so a variable frame rate is kept.
    subject: the animal that leaves a tail; the first object that is no nest unless given.
    video_timestamps_s: float64 [N] of all frames of the video; with them, what is not shown is not
    decoded.

    Raises PermanentProblem when masks and table are not of the same frames, the video cannot be
    read or has no such frame, or it has a hole of more days than an MP4 can hold.
    """
    missing = [name for name in FLAG_COLUMNS if name not in flags.columns]
    if missing:
        raise PermanentProblem(
            f"The flags lack {', '.join(missing)}, so no overlay can be made; make them again."
        )
    sources = flags["source_frame"].to_numpy().astype(np.int64)
    if not sources.size or reader.source_frame.tolist() != sources.tolist():
        raise PermanentProblem(
            f"The masks ({len(reader)} frames) and the flags ({sources.size}) are not of the same "
            "frames: make the flags again from these masks."
        )
    size = overlay_size(reader.width, reader.height)
    rows = _info_rows(flags)
    times = flags["timestamp_s"].cast(pl.Float64).to_numpy()
    labels = labels_of(flags)
    codes = row_codes(flags, labels)
    flagged = flags["flag_window"].to_numpy() > 0
    bar = InfoBar(size[0], times, codes, labels, flagged, label_styles(labels))
    layer = MaskLayer(reader, size, nest)
    animal = subject or next((name for name in reader.objects if name != nest), reader.objects[0])
    tail = TrackTail(
        reader.centroid(animal),
        times,
        seconds=tail_s,
        scale=(size[0] / reader.width, size[1] / reader.height),
        colour=layer.colours[animal],
        line=max(1, round(min(size) / 320)),
    )
    canvas = np.zeros((size[1] + bar.height, size[0], 3), np.uint8)
    steps = np.diff(times)
    writer = TimedVideoWriter(
        target,
        width=canvas.shape[1],
        height=canvas.shape[0],
        usual_fps=1 / float(np.median(steps)) if steps.size else 1.0,
        longest_step_s=float(steps.max(initial=0.0)),
    )
    try:
        with read_frames(video, sources, size=size, timestamps_s=video_timestamps_s) as pictures:
            for row, (_, picture) in enumerate(pictures):
                layer.draw(picture, row)
                tail.draw(picture, row)
                canvas[: size[1]] = picture
                bar.draw(canvas[size[1] :], rows[row])
                writer.write(canvas, times[row] - times[0])
                if progress is not None:
                    progress(row + 1, sources.size)
    except BaseException:
        writer.abort()
        target.unlink(missing_ok=True)
        raise
    writer.close()
    height, width = canvas.shape[:2]
    return Overlay(writer.frames, width, height, writer.encoder.name, float(times[-1] - times[0]))


def _info_rows(flags: pl.DataFrame) -> list[InfoRow]:
    probability = label_probabilities(flags)
    columns = [flags[name].to_list() for name in
               ("timestamp_s", "behavior", "mask_state", "flag_window")]  # fmt: skip
    return [
        InfoRow(
            float(time), str(behavior or NO_DATA), float(probability[i]), str(state), int(window)
        )
        for i, (time, behavior, state, window) in enumerate(zip(*columns, strict=True))
    ]
