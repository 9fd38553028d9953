"""What the pipeline asks of the worker: the one definition of the words both sides use.

Plain Python, imported by both environments. The frame table is a file, not part of the message: an
hour at 30 frames/s has 108,000 rows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tailor_assets.compute.prompts import ObjectKind

# Raised whenever the same request gives other masks: old checkpoints are then of no use.
ENGINE_VERSION = "8"

# Kinds of message that the worker sends through `report_custom_message`.
PROGRESS = "progress"
RESULT = "result"
PERMANENT_PROBLEM = "permanent_problem"
DEVICE = "device"

# The worker compares it with its own parent's process id, in case the parent died before it asked.
PARENT_PID_VARIABLE = "TAILOR_WORKER_PARENT_PID"


# In a checkpoint's folder: the partition whose it is, by which it is found when a tenant leaves.
PARTITION_NOTE = ".partition"


@dataclass(frozen=True)
class Click:
    """One positive click: pixels of the upright picture, and the frame of the video it is on.

    ``guessed``: it was not given by a person or a template but found by the background model. It
    then counts only where the model sees an object there.
    """

    name: str
    x: float
    y: float
    source_frame: int
    guessed: bool = False


@dataclass(frozen=True)
class DeviceInUse:
    """What a video is segmented on, as the worker says as soon as it has it.

    ``gpu_uuid`` is as ``nvidia-smi -L`` writes it; None on a CPU, whose ``gpu_name`` is ``cpu``.
    ``waited_s``: how long others had held the GPU.
    """

    gpu_uuid: str | None = None
    gpu_name: str = "cpu"
    waited_s: float = 0.0


@dataclass(frozen=True)
class ModelSpec:
    """A SAM2 model: ``config`` is a file of the sam2 package (``configs/...``) or a YAML path.

    ``precision`` is ``auto``, ``bf16``, ``fp16`` or ``fp32``; ``compile`` asks for torch.compile;
    ``follow`` shows the model each object in a view of its own that follows it; ``refine`` moves the
    masks' edges to where the picture changes.
    """

    name: str
    config: str
    checkpoint: str
    sha256: str | None = None
    image_size: int | None = None
    precision: str = "auto"
    compile: bool = False
    follow: bool = False
    refine: bool = False


@dataclass(frozen=True)
class EngineSettings:
    """How the engine works on one video.

    ``drift_guard``: judge every mask, and empty those beyond belief; ``refind``: look for a lost
    animal with the background model where the camera stands still; ``nest_every``: look at a nest
    that does not move in every so many frames only (1: in each); ``checkpoint_frames``: most frames
    to do again after a crash.
    """

    drift_guard: bool = True
    refind: bool = True
    nest_every: int = 30
    checkpoint_frames: int = 100


@dataclass(frozen=True)
class WorkerRequest:
    """One video to segment. Paths are absolute; the worker writes ``masks_path`` and, while it
    works, in ``checkpoint_folder``, where a later request of the same ``identity`` goes on.

    ``frame_table`` is what ``write_frame_table`` wrote;
    ``objects`` are (name, kind) pairs; ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``;
    ``identity`` names the content of the video. ``known_masks`` is a masks NPZ of the same frames in
    which ``changed_from`` says what still holds: per object the source frame from which its masks
    change, or None where they do not.
    """

    video_path: str
    identity: str
    masks_path: str
    frame_table: str
    height: int
    width: int
    objects: tuple[tuple[str, ObjectKind], ...]
    clicks: tuple[Click, ...]
    model: ModelSpec
    device: str
    locks_folder: str
    checkpoint_folder: str
    settings: EngineSettings = EngineSettings()
    known_masks: str | None = None
    changed_from: Mapping[str, int | None] = field(default_factory=dict)

    def to_extras(self) -> dict[str, Any]:
        """As plain values for the Pipes context."""
        return asdict(self)

    @classmethod
    def from_extras(cls, extras: Mapping[str, Any]) -> "WorkerRequest":
        """The inverse of ``to_extras``. Raises KeyError or TypeError on a message of another kind."""
        values = dict(extras)
        values["objects"] = tuple((name, kind) for name, kind in values["objects"])
        values["clicks"] = tuple(Click(**click) for click in values["clicks"])
        values["model"] = ModelSpec(**values["model"])
        values["settings"] = EngineSettings(**values["settings"])
        return cls(**values)

    def fingerprint(self, weights_sha256: str) -> str:
        """Hash of all that decides the masks: equal for requests that one checkpoint serves."""
        frames, times, _ = read_frame_table(self.frame_table)
        said = {
            "engine": ENGINE_VERSION,
            "identity": self.identity,
            "size": [self.height, self.width],
            "objects": self.objects,
            "clicks": [asdict(click) for click in self.clicks],
            "weights": weights_sha256,
            "model": [
                self.model.config,
                self.model.image_size,
                self.model.precision,
                self.model.compile,
                self.model.follow,
                self.model.refine,
            ],
            "settings": asdict(self.settings) | {"checkpoint_frames": 0},
            "changed_from": dict(sorted(self.changed_from.items())),
            "frames": hashlib.sha256(frames.tobytes() + times.tobytes()).hexdigest(),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write_frame_table(
    path: Path,
    source_frames: Sequence[int] | np.ndarray,
    timestamps_s: Sequence[float] | np.ndarray,
    video_timestamps_s: np.ndarray | None = None,
) -> None:
    """Write the frames to segment (int64 [N], increasing) and their times in seconds [N].

    ``video_timestamps_s`` float64: of all frames of the video, where they are known.
    """
    frames = np.asarray(source_frames, np.int64)
    times = np.asarray(timestamps_s, np.float64)
    if frames.ndim != 1 or frames.shape != times.shape:
        raise ValueError(
            f"one timestamp per segmented frame is needed, not {times.shape} for {frames.shape}"
        )
    every = (
        np.zeros(0) if video_timestamps_s is None else np.asarray(video_timestamps_s, np.float64)
    )
    np.savez(path, source_frame=frames, timestamp_s=times, video_timestamp_s=every)


def read_frame_table(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read back (source frames int64 [N], times float64 [N], times of all frames of the video)."""
    with np.load(path, allow_pickle=False) as table:
        every = table["video_timestamp_s"]
        return table["source_frame"], table["timestamp_s"], every if every.size else None
