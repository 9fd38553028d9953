"""What the animal does in every frame, and the moments that are worth a person's eyes.

One multi-asset, because scoring a video takes a fraction of a second and starting a run takes
several: a backfill scores up to 200 videos per run, and one that fails, fails alone.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactStore
from resources.behavior_models import BehaviorModels
from run_queue.failure import permanent_failure
from tailor_assets.asset_helpers import OWNERS, check_result, check_spec
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.prompts import read_prompts
from tailor_assets.scoring import (
    CODE_VERSION,
    ScoredArtifact,
    make_flags,
    make_predictions,
    species_of,
)

VIDEOS_PER_RUN = 200
_CHECKS = {"predictions": "predictions_are_sound", "flags": "flags_match_predictions"}


class ScoringConfig(dg.Config):
    """How to score. What is not given comes from the template and the shipped rules."""

    model: str | None = Field(
        default=None,
        description="Behaviour model: rules, a name (its version in force), or name@version.",
    )
    seconds_window: float | None = Field(
        default=None, gt=0, description="Total width of a review window in seconds."
    )
    uncertain_windows: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Also windows for so many of the moments at most in which the model is unsure "
        "for long and no label changes. They count in the flags' summary.",
    )
    fill_gaps_ms: float = Field(
        default=0.0, ge=0, description='First: close "no data" of at most this length.'
    )
    stitch_ms: float = Field(
        default=0.0, ge=0, description="Then: join bouts of one label across at most this length."
    )
    min_bout_ms: float = Field(
        default=0.0, ge=0, description="Last: give shorter bouts to their longer neighbour."
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "predictions",
            deps=["features"],
            skippable=True,
            group_name="behaviour",
            kinds={"scikitlearn", "parquet"},
            owners=OWNERS,
            code_version=CODE_VERSION,
            description="Behaviour per frame with probabilities, and the identity of the model. "
            'Frames in which the animal is lost are "no data".',
        ),
        dg.AssetSpec(
            "flags",
            deps=["predictions", "frames"],
            skippable=True,
            group_name="behaviour",
            kinds={"parquet", "jpeg"},
            owners=OWNERS,
            code_version=CODE_VERSION,
            description="Windows around every change of behaviour, numbered; the frames in them are "
            "copied to watch/.",
        ),
    ],
    partitions_def=videos,
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.multi_run(VIDEOS_PER_RUN),
    check_specs=[
        check_spec(_CHECKS["predictions"], "predictions", "Probabilities sum to 1."),
        check_spec(_CHECKS["flags"], "flags", "One row per prediction."),
    ],
)
def predictions_and_flags(
    context: dg.AssetExecutionContext,
    config: ScoringConfig,
    behavior_models: BehaviorModels,
    store: ArtifactStore,
) -> Iterator[Any]:
    """Score every video of the run; one that cannot be scored fails alone, at the end."""
    from tailor_assets.compute.behavior.bouts import BoutCleanUp

    keys = list(context.partition_keys)
    alone = len(keys) == 1
    selected = {key.to_user_string() for key in context.selected_asset_keys}
    problems: dict[str, str] = {}
    troubles: dict[str, str] = {}
    for key in keys:
        try:
            for name in ("predictions", "flags"):
                if name not in selected:
                    continue
                if name == "predictions":
                    template = read_prompts(store, key)[0]
                    model = behavior_models.get(
                        config.model or template.model, species=species_of(template.feature_set)
                    )
                    clean_up = BoutCleanUp(
                        config.fill_gaps_ms, config.stitch_ms, config.min_bout_ms
                    )
                    made = make_predictions(store, key, model, clean_up, context.run.run_id)
                else:
                    made = make_flags(
                        store,
                        key,
                        config.seconds_window,
                        context.run.run_id,
                        uncertain_windows=config.uncertain_windows,
                    )
                yield from _report(context, name, key, made, alone)
                if made.problem:
                    raise PermanentProblem(f"The {name} of {key} are refused: {made.problem}")
        except PermanentProblem as problem:
            problems[key] = str(problem)
            context.log.error(f"{key}: {problem}")
        except Exception as trouble:
            # Whatever it is, it is this video's: the other 199 are scored first.
            troubles[key] = f"{type(trouble).__name__}: {trouble}"
            context.log.error(f"{key} could not be scored", exc_info=True)
    if troubles:
        raise dg.Failure(
            f"{len(troubles)} of {len(keys)} videos met with trouble that may pass, first "
            + "; ".join(f"{key}: {trouble}" for key, trouble in list(troubles.items())[:3])
        )
    if problems:
        first = next(iter(problems.values()))
        permanent_failure(
            context,
            first
            if alone
            else f"{len(problems)} of {len(keys)} videos could not be scored, the others are done: "
            + " ".join(problems.values()),
        )


def _report(
    context: dg.AssetExecutionContext, name: str, key: str, made: ScoredArtifact, alone: bool
) -> Iterator[Any]:
    """Tell Dagster of one artifact.

    In a run of one video as the step's output, so that what follows in the run goes on; in a run of
    many as an event of that video, because an output would stand for all of them, failed ones too.
    """
    check = check_result(_CHECKS[name], name, made.problem)
    if alone:
        yield dg.MaterializeResult(
            asset_key=name,
            data_version=dg.DataVersion(made.record.version),
            metadata=made.metadata,
            check_results=[check],
        )
        return
    # Yielded, not context.log_event: what is logged is lost when the step fails afterwards.
    yield dg.AssetMaterialization(
        asset_key=name,
        partition=key,
        metadata=made.metadata,
        tags={"dagster/data_version": made.record.version},
    )
    yield dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(name),
        check_name=_CHECKS[name],
        passed=made.problem is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=made.problem or "",
        partition=key,
    )
