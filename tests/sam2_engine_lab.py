"""What the checks of the SAM2 engine share: a home with models and a video, clicks, and requests."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import official_sam2_reference as official
import torch
from official_sam2_reference import FRAMES, HEIGHT, SIDE, WIDTH

from sam2_worker.first_look import Look
from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.model_keeper import ModelKeeper
from sam2_worker.model_loading import load_model
from sam2_worker.request import Click, EngineSettings, WorkerRequest, write_frame_table
from sam2_worker.stop_request import StopRequest
from sam2_worker.tracking_pass import Stopped
from sam2_worker.video_model import VideoModel, resize_to_square
from sam2_worker.worker import segment_video

KINDS = {"mouse": "animal", "nest": "nest", "rat": "animal"}
MOUSE, NEST, RAT = (80.0, 90.0), (250.0, 60.0), (160.0, 150.0)
EXACT = EngineSettings(drift_guard=False, refind=False, nest_every=1)
# What follows depends on every earlier frame, and every object has another way to be looked at.
ALL_AT_ONCE = EngineSettings(nest_every=5, checkpoint_frames=20)
ALL_AT_ONCE_CLICKS = {
    "mouse": {32: [MOUSE], 61: [MOUSE, RAT]},  # 61 is not written
    "rat": {0: [RAT]},
    "nest": {32: [NEST]},
}
ALL_AT_ONCE_FRAMES = range(0, 96, 2)

Clicks = Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]


def whole(features: ImageFeatures) -> Look:
    """A frame of which only the whole picture is looked at."""
    return lambda _: features


class StopAfter(StopRequest):
    """Asks to stop after so many batches."""

    def __init__(self, batches: int) -> None:
        """Count from here."""
        super().__init__()
        self._left = batches

    def is_set(self) -> bool:
        """Asked once per batch."""
        self._left -= 1
        return self._left < 0


class Lab:
    """A home with models and a video, and what several questions need."""

    def __init__(self, folder: Path) -> None:
        """Make the home in ``folder``."""
        self.home = folder
        official.make_home(folder)
        self.keeper = ModelKeeper()
        self._kept: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @functools.cached_property
    def squares(self) -> list[np.ndarray]:
        """The video's pictures as the model sees them."""
        return [resize_to_square(picture, SIDE) for picture in official.pictures()]

    @functools.cached_property
    def predictor(self) -> official.Official:
        """The official predictor."""
        return official.Official(
            official.model_spec(self.home), self.squares, self.home / "squares"
        )

    def official_from(self, at: int, reverse: bool) -> official.Logits:
        """Its logits of three objects clicked in frame ``at``."""
        clicks = {"mouse": {at: [MOUSE]}, "nest": {at: [NEST]}, "rat": {at: [RAT]}}
        return self._once((at, reverse), lambda: self.predictor.propagated(clicks, reverse=reverse))

    def model(self, name: str = "calm", dtype: torch.dtype = torch.float32) -> VideoModel:
        """Ours."""
        cpu = torch.device("cpu")
        spec = official.model_spec(self.home, name)
        return self._once((name, dtype), lambda: VideoModel(load_model(spec, cpu), cpu, dtype))

    def features(self, name: str = "calm", frames: int = FRAMES) -> list[ImageFeatures]:
        """Of the video's first pictures, in float32."""
        model = self.model(name)
        return self._once(
            (name, frames), lambda: [model.encode([one])[0] for one in self.squares[:frames]]
        )

    def request(
        self,
        masks_path: Path,
        clicks: Clicks,
        *,
        frames: Sequence[int] = ALL_AT_ONCE_FRAMES,
        video: str = "video.mp4",
        **fields: Any,
    ) -> WorkerRequest:
        """A request for the objects that are clicked, and one that is not."""
        table = masks_path.with_suffix(".frames.npz")
        write_frame_table(table, list(frames), [frame / 30 for frame in frames])
        values: dict[str, Any] = {
            "video_path": str(self.home / video),
            "identity": "video",
            "masks_path": str(masks_path),
            "frame_table": str(table),
            "height": HEIGHT,
            "width": WIDTH,
            "objects": (*((name, KINDS[name]) for name in clicks), ("stranger", "animal")),
            "clicks": tuple(
                Click(name, x, y, frame)
                for name, by_frame in clicks.items()
                for frame, points in by_frame.items()
                for x, y in points
            ),
            "model": official.model_spec(self.home, "lively"),
            "device": "cpu",
            "locks_folder": str(self.home / "locks"),
            "checkpoint_folder": str(masks_path.with_suffix(".checkpoints")),
            **fields,
        }
        return WorkerRequest(**values)

    def segment(self, request: WorkerRequest, stop: StopRequest | None = None) -> dict[str, Any]:
        """In this process, with a model that is loaded once."""
        return segment_video(request, say=print, progress=nothing, stop=stop, keeper=self.keeper)

    def segment_with_stops(
        self, request: WorkerRequest, every: int | None, say: Callable[[str], None] = print
    ) -> tuple[dict[str, Any], int]:
        """The report, and how often it was stopped: after ``every`` frames, until it is done."""
        for stops in range(200):
            stop = StopRequest() if every is None else StopAfter(every)
            try:
                report = segment_video(
                    request, say=say, progress=nothing, stop=stop, keeper=self.keeper
                )
                return report, stops
            except Stopped:
                assert not Path(request.masks_path).exists()
        raise AssertionError("it does not come to an end")

    @functools.cached_property
    def uninterrupted(self) -> tuple[str, int]:
        """sha256 of the NPZ with everything at once, and how many frames were looked at."""
        path = self.home / "uninterrupted.npz"
        report = self.segment(self.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE))
        return sha256(path), report["frames_tracked"]


def nothing(*_: object) -> None:
    """Progress that nobody asks for."""


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_fractions(clicks: Clicks) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """Pixels of the video -> fractions."""
    return {
        name: {t: [(x / WIDTH, y / HEIGHT) for x, y in points] for t, points in by_frame.items()}
        for name, by_frame in clicks.items()
    }


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` in this block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
