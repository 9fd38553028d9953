"""From features to predictions and flags of one video: plain functions the asset is made of."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from resources.artifact_store import ArtifactRecord, ArtifactStore, version_of
from tailor_assets.checks import problem_with_flags, problem_with_predictions
from tailor_assets.prompts import read_prompts

if TYPE_CHECKING:
    from tailor_assets.compute.behavior.behavior_model import BehaviorModel
    from tailor_assets.compute.behavior.bouts import BoutCleanUp

CODE_VERSION = "4"


@dataclass(frozen=True)
class ScoredArtifact:
    """A finished artifact and what to show of it."""

    record: ArtifactRecord
    problem: str | None
    metadata: dict[str, Any]


def describe_model(model: "BehaviorModel") -> dict[str, str]:
    """The model's identity, as it stands in predictions, records and the manifest."""
    return {"name": model.name, "version": model.version, "hash": model.hash}


def species_of(feature_set: str) -> str:
    """``mouse`` or ``rat``, whose body length the rules measure by."""
    return "rat" if feature_set.startswith("rat") else "mouse"


def make_predictions(
    store: ArtifactStore,
    key: str,
    model: "BehaviorModel",
    clean_up: "BoutCleanUp",
    run_id: str,
) -> ScoredArtifact:
    """Behaviour per frame of one video. Raises PermanentProblem for features that do not fit."""
    from tailor_assets.compute.behavior.behavior_model import columns_to_read, predict

    features = store.require(key, "features")
    # A table of hours has some hundred columns, of which a model looks at a few.
    table = store.read_table(key, "features", partial(columns_to_read, model))
    predictions = predict(
        table,
        model,
        features_version=features.details["features_version"],
        clean_up=clean_up,
    )
    problem = problem_with_predictions(predictions, table.height)
    counts = predictions["behavior"].value_counts(sort=True)
    shares = {label: count / predictions.height for label, count in counts.iter_rows()}
    with store.making(key, "predictions") as draft:
        predictions.write_parquet(draft.path("predictions.parquet"))
        record = draft.commit(
            version=version_of(
                "predictions", CODE_VERSION, features.version, model.hash, asdict(clean_up)
            ),
            made_from={"features": features},
            details={
                "model": describe_model(model),
                "rows": predictions.height,
                "shares": shares,
                "clean_up": asdict(clean_up),
            },
            problem=problem,
            run_id=run_id,
        )
    return ScoredArtifact(
        record,
        problem,
        {
            "dagster/row_count": predictions.height,
            "model": f"{model.name} {model.version}",
            "model hash": model.hash,
            "features version": features.details["features_version"],
            "time budget": "\n".join(f"{label}: {share:.1%}" for label, share in shares.items()),
        },
    )


def make_flags(
    store: ArtifactStore,
    key: str,
    seconds_window: float | None,
    run_id: str,
    *,
    uncertain_windows: int = 0,
) -> ScoredArtifact:
    """Flags, their summary and ``watch/`` of one video; the template's window unless given.

    ``uncertain_windows``: so many windows without a change at most (``review_flags``).
    """
    from tailor_assets.compute.behavior.review_flags import (
        copy_flagged_frames,
        flag_predictions,
        flag_summary,
        flagged_frame_numbers,
    )

    predictions, frames = store.require(key, "predictions"), store.require(key, "frames")
    template, *_ = read_prompts(store, key)
    window = seconds_window if seconds_window is not None else template.seconds_window
    table = store.read_table(key, "predictions")
    flags = flag_predictions(table, seconds_window=window, uncertain_windows=uncertain_windows)
    wanted = flagged_frame_numbers(flags)
    with store.making(key, "flags") as draft:
        with store.local_files(key, "frames", [f"{n:06d}.jpg" for n in wanted]) as folder:
            copied = copy_flagged_frames(folder, wanted, draft.path("watch"))
        summary = flag_summary(
            flags, flagged_frames=copied, effective_fps=frames.details["effective_fps"]
        )
        problem = problem_with_flags(flags, table.height, copied)
        flags.write_parquet(draft.path("flags.parquet"))
        pl.DataFrame([summary]).write_parquet(draft.path("flags_summary.parquet"))
        record = draft.commit(
            version=version_of(
                "flags",
                CODE_VERSION,
                predictions.version,
                frames.version,
                window,
                uncertain_windows,
            ),
            made_from={"predictions": predictions, "frames": frames},
            details={
                "summary": summary,
                "seconds_window": window,
                "uncertain_windows": uncertain_windows,
            },
            problem=problem,
            run_id=run_id,
        )
    return ScoredArtifact(
        record,
        problem,
        {
            "dagster/row_count": flags.height,
            "seconds_window": window,
            **{name: value if value is not None else "no data" for name, value in summary.items()},
            "watch": str(store.path(key, "watch")),
        },
    )


def score_npz(
    npz: Path, model_name: str | None, species: str, seconds_window: float
) -> "NpzScores":
    """Features, predictions and flags from an existing masks NPZ alone, no video, no store.

    The first object whose name is not ``nest`` is the animal; an object named ``nest`` is the nest.
    Raises PermanentProblem when the file is not a masks NPZ.
    """
    from resources.behavior_models import BehaviorModels
    from tailor_assets.compute.behavior.behavior_model import predict
    from tailor_assets.compute.behavior.review_flags import (
        effective_fps,
        flag_predictions,
        flag_summary,
    )
    from tailor_assets.compute.features.feature_table import FEATURES_VERSION, feature_table
    from tailor_assets.compute.mask_file import MaskReader

    model = BehaviorModels().get(model_name, species=species)
    with MaskReader(npz) as reader:
        nest = "nest" if "nest" in reader.objects else None
        subject = next((name for name in reader.objects if name != "nest"), reader.objects[0])
        feature_set = species if species == "mouse" or nest else "rat_only"
        features = feature_table(reader, feature_set=feature_set, subject=subject, nest=nest)
        rate = effective_fps(None, timestamps_s=reader.timestamp_s)
    predictions = predict(features, model, features_version=FEATURES_VERSION)
    flags = flag_predictions(predictions, seconds_window=seconds_window)
    # No video, so no frame is copied: none is claimed to be.
    summary = flag_summary(flags, flagged_frames=0, effective_fps=rate)
    return NpzScores(features, predictions, flags, summary)


@dataclass(frozen=True)
class NpzScores:
    """Tables and summary that ``score_npz`` made."""

    features: pl.DataFrame
    predictions: pl.DataFrame
    flags: pl.DataFrame
    summary: dict[str, Any]
