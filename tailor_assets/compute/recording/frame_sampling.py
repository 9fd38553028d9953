"""Which frames of a video are analysed, and the table that remembers it."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from tailor_assets.compute.errors import PermanentProblem

DEFAULT_TARGET_FPS = 10.0


def choose_frames(
    timestamps_s: np.ndarray, *, stride: int | None = None, target_fps: float | None = None
) -> np.ndarray:
    """Choose source frames by a stride, or the frame nearest to each point of a time grid.

    With ``target_fps`` a grid of that rate starts at the first frame and ends at the last; each
    grid time takes the nearest frame (the earlier one of two equally near), and a frame nearest
    to several times is taken once, so a variable frame rate is sampled evenly in time as far as
    there are frames. A target above the video's own rate takes every frame.
    With neither, 10 frames per second.

    Args:
        timestamps_s: float64 [N], seconds, strictly increasing (``probe_video``).

    Returns:
        int64 [M], M <= N: sorted, unique indices into ``timestamps_s``; the first is 0.

    Raises:
        PermanentProblem: both are given, or one is not a sensible number, or there are no frames.
    """
    times = np.asarray(timestamps_s, dtype=np.float64)
    if times.ndim != 1 or times.size == 0:
        raise PermanentProblem("The video has no frames to choose from; check the file.")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise PermanentProblem(
            "The video's timestamps do not increase from frame to frame; probe the video again."
        )
    if stride is not None and target_fps is not None:
        raise PermanentProblem(
            f"Both a stride ({stride}) and a frame rate ({target_fps}) are given; give one of them."
        )
    if stride is not None:
        if isinstance(stride, bool) or not isinstance(stride, int | np.integer) or stride < 1:
            raise PermanentProblem(
                f"The stride must be a whole number of at least 1, not {stride!r}; 1 takes every "
                "frame, 3 every third."
            )
        return np.arange(0, times.size, int(stride), dtype=np.int64)
    if target_fps is None:
        target_fps = DEFAULT_TARGET_FPS
    if (
        isinstance(target_fps, bool)
        or not isinstance(target_fps, int | float | np.integer | np.floating)
        or not math.isfinite(target_fps)
        or target_fps <= 0
    ):
        raise PermanentProblem(
            f"The frame rate to analyse must be a number above 0, not {target_fps!r}; 10 is usual."
        )
    return _nearest_to_grid(times, float(target_fps))


def frame_table(source_frames: np.ndarray, timestamps_s: np.ndarray) -> pl.DataFrame:
    """The frame table: ``frame`` Int64 (row number), ``source_frame`` Int64, ``timestamp_s``.

    Args:
        source_frames: int64 [M] indices into ``timestamps_s``.
        timestamps_s: float64 [N] of all frames of the video.
    """
    chosen = np.asarray(source_frames, dtype=np.int64)
    return pl.DataFrame(
        {
            "frame": np.arange(chosen.size, dtype=np.int64),
            "source_frame": chosen,
            "timestamp_s": np.asarray(timestamps_s, dtype=np.float64)[chosen],
        }
    )


def _nearest_to_grid(times: np.ndarray, target_fps: float) -> np.ndarray:
    """Frames that are nearest to a grid time: those whose neighbourhood holds a multiple of 1/fps.

    A frame's neighbourhood reaches to the middle between it and its neighbours; the middle itself
    belongs to the earlier frame. No grid is built, so an absurdly high target costs nothing.
    """
    since = times - times[0]
    middles = (since[:-1] + since[1:]) / 2
    ends = np.append(middles, since[-1])
    # Timestamps come rounded to the container's ticks: a grid time meets its frame all the same.
    last_grid_step = np.floor((ends + 1e-6) * target_fps)
    return np.flatnonzero(np.diff(last_grid_step, prepend=-1.0) > 0).astype(np.int64)
