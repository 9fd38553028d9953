"""A behaviour model of the laboratory's own, trained from people's labels: a candidate, never in
force by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactStore
from resources.behavior_models import BehaviorModels
from resources.settings import load_settings
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once
from tailor_assets.compute.behavior.training.choices import (
    CalibrationMethod,
    EstimatorKind,
    SmoothingMethod,
)
from tailor_assets.progress import LogProgress

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from tailor_assets.compute.behavior.training.train import Candidate

CODE_VERSION = "1"
LABELS_FOLDER = "labels"


class TrainingConfig(dg.Config):
    """What is trained, from which labels, by what."""

    # Not required of the configuration, or the web page asks for it in every launch of other assets.
    name: str = Field(
        default="", description="Name of the model; each run makes a new version of it."
    )
    labels: str | None = Field(
        default=None,
        description="Folder of label files, <partition key>.csv or .tsv [$TAILOR_HOME/labels].",
    )
    behaviors: list[str] = Field(
        default=[], description="Only these behaviours count [all that are in the label files]."
    )
    subject: str | None = Field(default=None, description="Only this subject's events (BORIS).")
    rest: str | None = Field(
        default=None,
        description="Label of all time in which none of the behaviours was coded [not labelled].",
    )
    columns: list[str] = Field(
        default=[], description="Features it is given [all that do not name a place]."
    )
    estimator: EstimatorKind = Field(
        default="hist_gradient_boosting", description="Kind of classifier."
    )
    calibration: CalibrationMethod = Field(
        default="sigmoid", description="How probabilities are calibrated, on held-out videos."
    )
    smoothing: SmoothingMethod = Field(
        default="none", description="Smoothing in time by a hidden Markov model."
    )
    seed: int = Field(default=0, ge=0, description="The same seed and data give the same model.")


@dg.asset(
    deps=["features"],
    group_name="behaviour",
    kinds={"scikitlearn"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def behavior_model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    behavior_models: BehaviorModels,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """A new version of a behaviour model, trained from label files and validated by video.

    It is a candidate: nothing is scored with it until somebody promotes it (``tailor
    behavior-models promote``) or names it. ``docs/behavior_models.md`` has labels, report, versions.
    """
    from tailor_assets.compute.behavior.training.label_files import LabelChoice
    from tailor_assets.compute.behavior.training.recipe import Recipe
    from tailor_assets.compute.behavior.training.sources import gather, label_files
    from tailor_assets.compute.behavior.training.train import columns_in_force, train_candidate

    with bad_input_fails_once(context):
        registry = behavior_models.registry()
        registry.versions(config.name)  # refuses a name that cannot be one before anything is read
        folder = Path(config.labels or load_settings().home / LABELS_FOLDER).expanduser()
        gathered, columns = gather(
            StoredFeatures(store),
            label_files(folder),
            choice=LabelChoice(
                behaviors=tuple(config.behaviors) or None,
                subject=config.subject,
                rest=config.rest,
            ),
            columns=config.columns,
            also=columns_in_force(registry, config.name),
            progress=LogProgress(context.log, "reading labelled videos", "videos"),
        )
        candidate = train_candidate(
            registry,
            config.name,
            gathered.data,
            Recipe(
                estimator=config.estimator,
                calibration=config.calibration,
                smoothing=config.smoothing,
                seed=config.seed,
                columns=columns,
            ),
            features_version=gathered.features_version,
            who=f"run {context.run.run_id}",
            warnings=gathered.warnings,
            progress=LogProgress(context.log, "training", "models"),
        )
    for warning in candidate.evaluation["warnings"]:
        context.log.warning(warning)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(candidate.hash[:16]),
        metadata=candidate_metadata(candidate, registry.path(candidate.name, candidate.version)),
    )


def candidate_metadata(candidate: "Candidate", folder: Path) -> dict[str, dg.MetadataValue]:
    """What the web page shows of a new version in ``folder``: its name, hashes, figures, report."""
    from tailor_assets.compute.behavior.training.evaluation_text import evaluation_markdown

    evaluation = candidate.evaluation
    figures = {
        "macro F1 by frame": evaluation["frames"]["macro_f1"],
        "macro F1 by bout": evaluation["bouts"]["macro_f1"],
    }
    return {
        "model": dg.MetadataValue.text(f"{candidate.name}@{candidate.version}"),
        "model hash": dg.MetadataValue.text(candidate.hash),
        "in force": dg.MetadataValue.text(
            "none" if candidate.in_force is None else f"{candidate.name}@{candidate.in_force}"
        ),
        "folder": dg.MetadataValue.path(str(folder)),
        "data hash": dg.MetadataValue.text(evaluation["data_hash"]),
        "features hash": dg.MetadataValue.text(evaluation["features_hash"]),
        **{
            name: dg.MetadataValue.float(value)
            for name, value in figures.items()
            if value is not None
        },
        "report": dg.MetadataValue.md(evaluation_markdown(evaluation)),
    }


class StoredFeatures:
    """Features of the partitions in the store, for ``training/sources.py``."""

    def __init__(self, store: ArtifactStore) -> None:
        """Each table is opened when it is asked for, and only the columns that are wanted."""
        self._store = store

    def version(self, video: str) -> str | None:
        """None where there is no such partition or it has no features.

        Raises PermanentProblem for features that are refused or out of date.
        """
        from tailor_assets.compute.errors import PermanentProblem

        try:
            if self._store.record(video, "features") is None:
                return None
        except PermanentProblem:
            return None  # no partition key: the label file is of something else
        return str(self._store.require(video, "features").details["features_version"])

    def recording(self, video: str) -> str | None:
        """The md5 of the video file."""
        record = self._store.record(video, "video")
        md5 = record.details.get("md5") if record else None
        return None if md5 is None else str(md5)

    def schema(self, video: str) -> "pl.Schema":
        """Names and types of its columns."""
        import polars as pl

        with self._store.local(video, "features.parquet") as path:
            return pl.Schema(pl.read_parquet_schema(path))

    def read(self, video: str, columns: Sequence[str]) -> "pl.DataFrame":
        """These columns alone."""
        return self._store.read_table(video, "features", lambda _: columns)

    def player_times(self, video: str, source_frames: "np.ndarray | None") -> "np.ndarray | None":
        """Where a person has corrected the container's frame rate. Raises as ``player_times``."""
        from tailor_assets.frames import player_times

        return player_times(self._store, video, source_frames)
