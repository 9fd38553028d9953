"""Runs a segmenter on a recording: a registered one as production does, or a checkpoint in here."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.mask_quality.recordings import Recording
from sam2_worker.request import Click, EngineSettings, ModelSpec, WorkerRequest, write_frame_table

OnProgress = Callable[[int, int], None]

SHIPPED = "shipped"
NETWORK_ALONE = "network alone"
ENGINES = {
    # Without the background model's help for a tracker that has lost its animal. The guard still
    # judges masks and empties those beyond belief: it looks at nothing but the network's own masks.
    NETWORK_ALONE: EngineSettings(refind=False),
    SHIPPED: EngineSettings(),
}


@dataclass(frozen=True)
class Contender:
    """What is judged. ``engine`` is one of ``ENGINES``, None for the background model.

    ``segment(recording, masks_path, progress)`` writes the masks NPZ. Raises PermanentProblem as
    ``Segmenter.segment`` does.
    """

    segmenter: str
    engine: str | None
    segment: Callable[[Recording, Path, OnProgress], None]

    @property
    def label(self) -> str:
        """Heads its column."""
        return f"{self.segmenter}, {self.engine}" if self.engine else self.segmenter


def one_per_segmenter(contenders: Sequence[Contender]) -> list[Contender]:
    """For parts in which the engine's settings change nothing: the last of each segmenter."""
    return list({contender.segmenter: contender for contender in contenders}.values())


def registered(name: str, engines: Sequence[str]) -> list[Contender]:
    """A segmenter of models.toml, run as the ``masks`` asset runs it: SAM2 in its own process.

    Raises PermanentProblem for one that is not there, or whose weights are not.
    """
    from resources.segmenter import Segmenter

    registry = Segmenter().registry()
    entry = registry.get(name)
    if entry.kind == "background":
        return [Contender(name, None, partial(_as_in_production, name, EngineSettings()))]
    registry.spec(entry)
    return [
        Contender(name, engine, partial(_as_in_production, name, ENGINES[engine]))
        for engine in engines
    ]


def _as_in_production(
    name: str,
    engine: EngineSettings,
    recording: Recording,
    masks_path: Path,
    progress: OnProgress,
) -> None:
    import dagster as dg

    from resources.segmenter import SegmentationRequest, Segmenter

    request = SegmentationRequest(
        video_path=recording.video,
        masks_path=masks_path,
        source_frames=recording.source_frames,
        timestamps_s=recording.timestamps_s[recording.source_frames],
        height=recording.height,
        width=recording.width,
        objects=recording.objects,
        prompts=recording.prompts,
        identity=_identity(recording),
        video_timestamps_s=recording.timestamps_s,
        engine=engine,
    )

    @dg.asset
    def masks(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        Segmenter().segment(context, name, request, progress)
        return dg.MaterializeResult()

    # Pipes wants a real step. Its log lines of every clip would bury what is printed here.
    quiet = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
    dg.materialize([masks], run_config=quiet)


def of_checkpoint(model: ModelSpec, engines: Sequence[str], device: str) -> list[Contender]:
    """Weights that are in no registry, in this process, which is one of the SAM2 environment.

    The worker's own code without the worker: no Pipes, no hand-over, and the model stays loaded.
    """
    from sam2_worker.model_keeper import ModelKeeper
    from sam2_worker.worker import segment_video

    keeper = ModelKeeper()

    def segment(
        engine: EngineSettings, recording: Recording, masks_path: Path, progress: OnProgress
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="tailor-mask-quality-") as folder:
            table = Path(folder) / "frames.npz"
            frames, times = recording.source_frames, recording.timestamps_s
            write_frame_table(table, frames, times[frames], times)
            request = WorkerRequest(
                video_path=str(recording.video),
                identity=_identity(recording),
                masks_path=str(masks_path),
                frame_table=str(table),
                height=recording.height,
                width=recording.width,
                objects=recording.objects,
                clicks=tuple(Click(p.name, p.x, p.y, p.source_frame) for p in recording.prompts),
                model=model,
                device=device,
                locks_folder=str(Path(folder) / "locks"),
                checkpoint_folder=str(Path(folder) / "checkpoint"),
                settings=engine,
            )
            segment_video(
                request,
                say=lambda text: None,
                progress=lambda done, total, rate: progress(done, total),
                keeper=keeper,
            )

    return [Contender(model.name, engine, partial(segment, ENGINES[engine])) for engine in engines]


def _identity(recording: Recording) -> str:
    """Names the content: a clip that was made anew must not go on with the old one's checkpoint."""
    video = recording.video
    said = f"{video.resolve()} {video.stat().st_size} {video.stat().st_mtime_ns}"
    return hashlib.sha256(said.encode()).hexdigest()
