"""What the pipeline asks of the worker: the one definition of the words both sides use.

Plain Python, imported by both environments. The frame table is a file, not part of the message: an
hour at 30 frames/s has 108,000 rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Kinds of message that the worker sends through `report_custom_message`.
PROGRESS = "progress"
RESULT = "result"
PERMANENT_PROBLEM = "permanent_problem"
OUT_OF_MEMORY = "out_of_memory"

# The worker compares it with its own parent's process id, in case the parent died before it asked.
PARENT_PID_VARIABLE = "TAILOR_WORKER_PARENT_PID"


@dataclass(frozen=True)
class Click:
    """One positive click: pixels of the upright picture, and the frame of the video it is on."""

    name: str
    x: float
    y: float
    source_frame: int


@dataclass(frozen=True)
class ModelSpec:
    """A SAM2 model: ``config`` is a file of the sam2 package (``configs/...``) or a YAML path."""

    name: str
    config: str
    checkpoint: str
    sha256: str | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class WorkerRequest:
    """One video to segment. Paths are absolute; the worker writes ``masks_path`` and nothing else.

    ``frame_table`` is an NPZ with ``source_frame`` int64 [N] and ``timestamp_s`` float64 [N];
    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    video_path: str
    masks_path: str
    frame_table: str
    height: int
    width: int
    objects: tuple[str, ...]
    clicks: tuple[Click, ...]
    model: ModelSpec
    device: str
    locks_folder: str

    def to_extras(self) -> dict[str, Any]:
        """As plain values for the Pipes context."""
        return asdict(self)

    @classmethod
    def from_extras(cls, extras: Mapping[str, Any]) -> "WorkerRequest":
        """The inverse of ``to_extras``. Raises KeyError or TypeError on a message of another kind."""
        values = dict(extras)
        values["objects"] = tuple(values["objects"])
        values["clicks"] = tuple(Click(**click) for click in values["clicks"])
        values["model"] = ModelSpec(**values["model"])
        return cls(**values)


def write_frame_table(
    path: Path,
    source_frames: Sequence[int] | np.ndarray,
    timestamps_s: Sequence[float] | np.ndarray,
) -> None:
    """Write the frames to segment (int64 [N], increasing) and their times in seconds [N]."""
    frames = np.asarray(source_frames, np.int64)
    times = np.asarray(timestamps_s, np.float64)
    if frames.ndim != 1 or frames.shape != times.shape:
        raise ValueError(
            f"one timestamp per segmented frame is needed, not {times.shape} for {frames.shape}"
        )
    np.savez(path, source_frame=frames, timestamp_s=times)


def read_frame_table(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read back (source frames int64 [N], timestamps in seconds float64 [N])."""
    with np.load(path, allow_pickle=False) as table:
        return table["source_frame"], table["timestamp_s"]
