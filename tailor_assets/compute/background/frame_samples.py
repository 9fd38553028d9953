"""A bounded number of frames spread over a recording, to learn its background from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.frame_source import read_frames

# Enough that an animal at rest for nine tenths of the time leaves its place in several of them.
SAMPLE_COUNT = 64
# Frames held at once while the background is learnt, whatever the recording's length and size.
_SAMPLE_BYTES = 96 * 2**20
_FEWEST_SAMPLES = 16


@dataclass(frozen=True)
class FrameSamples:
    """``frames``: uint8 [H, W] each, or [H, W, 3] where the recording has colour;
    ``source_frames`` int64 [N], increasing."""

    frames: list[np.ndarray]
    source_frames: np.ndarray


def sample_frames(
    video_path: str | Path,
    source_frames: np.ndarray,
    *,
    also: Sequence[int] = (),
    timestamps_s: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FrameSamples:
    """Read up to 64 of ``source_frames``, evenly spread, and those named in ``also``.

    ``timestamps_s`` as for ``read_frames``: of all frames of the video, to decode less of it.
    Colour is dropped where the recording has none. Raises ``PermanentProblem`` when no frame can
    be read.
    """
    wanted = np.asarray(source_frames, np.int64)
    if not len(wanted):
        raise PermanentProblem(
            "There is no frame to learn the background from: no frames were chosen from the "
            "recording. Choose a smaller stride, or leave it out."
        )
    spread = np.union1d(spread_frames(wanted), np.asarray(list(also), np.int64))
    frames: list[np.ndarray] = []
    numbers: list[int] = []
    gray = False
    for number, frame in read_frames(video_path, spread, pixels="rgb", timestamps_s=timestamps_s):
        if not numbers:
            gray = not has_colour(frame)
            most = _SAMPLE_BYTES // (frame.nbytes // (3 if gray else 1))
            keep = set(_thinned(spread, max(_FEWEST_SAMPLES, int(most)), also).tolist())
        if gray and has_colour(frame):
            # Colour that comes later (lights change): the grey ones so far stand for themselves.
            gray = False
            frames = [np.repeat(f[..., None], 3, axis=2) for f in frames]
        if number in keep:
            frames.append(frame[..., 1].copy() if gray else frame)
            numbers.append(number)
        if progress is not None:
            progress(len(numbers), len(keep))
    if not frames:
        raise PermanentProblem(
            f"None of the chosen frames of {Path(video_path).name} could be read. "
            "Check that the video plays to its end."
        )
    return FrameSamples(frames, np.asarray(numbers, np.int64))


def spread_frames(source_frames: np.ndarray) -> np.ndarray:
    """Up to 64 of the chosen frames (int64 [N], not empty), evenly spread."""
    count = min(len(source_frames), SAMPLE_COUNT)
    return source_frames[np.linspace(0, len(source_frames) - 1, count).round().astype(int)]


def has_colour(frame: np.ndarray) -> bool:
    """Whether an RGB picture (uint8 [H, W, 3]) has colour beyond what compression leaves."""
    part = frame[::4, ::4].astype(np.int16)
    return bool(np.percentile(part.max(axis=-1) - part.min(axis=-1), 99.5) > 6)


def _thinned(numbers: np.ndarray, most: int, also: Sequence[int]) -> np.ndarray:
    if len(numbers) <= most:
        return numbers
    kept = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
    return np.union1d(kept, np.asarray(list(also), np.int64))
