"""The job that closes the loop: from people's decisions on windows to a model that was compared."""

from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactStore
from resources.behavior_models import BehaviorModels
from resources.settings import load_settings
from resources.video_registry import VideoRegistry
from run_queue.coordinator import QUEUE_TAG
from run_queue.fairness import LOW
from run_queue.job_ledger import PRIORITY_TAG
from tailor_assets.asset_helpers import bad_input_fails_once
from tailor_assets.behavior_model import LABELS_FOLDER, candidate_metadata
from tailor_assets.compute.behavior.training.choices import (
    CalibrationMethod,
    EstimatorKind,
    SmoothingMethod,
)
from tailor_assets.progress import LogProgress
from tailor_assets.retraining import REVIEW_LABELS_FOLDER
from tailor_assets.retraining import retrain as retrain_model

AS_BEFORE = "as before"


class RetrainConfig(dg.Config):
    """Config of ``retrain``. What is "as before" is that of the version in force."""

    name: str = Field(description="Name of the model; each run makes a new version of it.")
    labels: str | None = Field(
        default=None,
        description="Folder of label files, which win over decisions [$TAILOR_HOME/labels].",
    )
    least_confidence: float = Field(
        default=0.0, ge=0, le=1, description="Decisions with less confidence are not used."
    )
    behaviors: list[str] = Field(default=[], description="Only these behaviours count [all].")
    subject: str | None = Field(
        default=None, description="Only this subject's events of label files (BORIS)."
    )
    rest: str | None = Field(
        default=None,
        description="Label of all time in which a label file has none of them [not labelled].",
    )
    columns: list[str] = Field(default=[], description="Features it is given [as before].")
    estimator: Literal["as before", EstimatorKind] = Field(
        default="as before", description="Kind of classifier."
    )
    calibration: Literal["as before", CalibrationMethod] = Field(
        default="as before", description="How probabilities are calibrated."
    )
    smoothing: Literal["as before", SmoothingMethod] = Field(
        default="as before", description="Smoothing in time by a hidden Markov model."
    )


@dg.op(name="retrain_op")
def _retrain(
    context: dg.OpExecutionContext,
    config: RetrainConfig,
    registry: VideoRegistry,
    store: ArtifactStore,
    behavior_models: BehaviorModels,
) -> None:
    from tailor_assets.compute.behavior.training.evaluation_text import comparison_sentence
    from tailor_assets.compute.behavior.training.label_files import LabelChoice

    home = load_settings().home
    models = behavior_models.registry()
    with bad_input_fails_once(context):
        done = retrain_model(
            store,
            registry.database_url,
            models,
            config.name,
            label_folder=Path(config.labels or home / LABELS_FOLDER).expanduser(),
            work_folder=home / REVIEW_LABELS_FOLDER / config.name / context.run_id,
            choice=LabelChoice(
                behaviors=tuple(config.behaviors) or None,
                subject=config.subject,
                rest=config.rest,
            ),
            settings={
                name: value
                for name in ("estimator", "calibration", "smoothing")
                if (value := getattr(config, name)) != AS_BEFORE
            },
            who=f"run {context.run_id}",
            columns=config.columns,
            least_confidence=config.least_confidence,
            reading=LogProgress(context.log, "reading labelled videos", "videos"),
            training=LogProgress(context.log, "training", "models"),
        )
    candidate = done.candidate
    for warning in candidate.evaluation["warnings"]:
        context.log.warning(warning)
    comparison = candidate.evaluation.get("comparison")
    if comparison:
        context.log.info(comparison_sentence(comparison))
    # So that the version is found where all versions of models are.
    context.log_event(
        dg.AssetMaterialization(
            "behavior_model",
            metadata={
                **candidate_metadata(candidate, models.path(candidate.name, candidate.version)),
                "decisions": ", ".join(
                    f"{count} {verdict}" for verdict, count in sorted(done.labels.verdicts.items())
                )
                or "none",
            },
        )
    )


@dg.job(
    description="A new version of a behaviour model from decisions on review windows and label "
    "files, compared with the version in force; it is not promoted.",
    tags={QUEUE_TAG: "cpu", PRIORITY_TAG: str(LOW)},
)
def retrain() -> None:
    """One run over all videos that somebody has labelled or decided about."""
    _retrain()
