"""Once an hour, what is over and old enough is forgotten (run_queue/retention.py)."""

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.video_registry import VideoRegistry
from run_queue.retention import forget_what_is_old
from run_queue.retention_policy import load_retention_policy
from tailor_assets.compute.errors import PermanentProblem

# A tick is stopped by Dagster after 60 s.
SECONDS_PER_TICK = 40.0


@dg.sensor(
    name="retention",
    minimum_interval_seconds=3600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Deletes finished jobs, runs, events and working copies that are old enough.",
)
def retention(
    context: dg.SensorEvaluationContext, registry: VideoRegistry, store: ArtifactStore
) -> dg.SkipReason:
    """Launches nothing; says what it has deleted."""
    try:
        policy = load_retention_policy()
    except PermanentProblem as problem:
        return dg.SkipReason(f"Nothing is deleted: {problem}")
    done = forget_what_is_old(context.instance, registry, store, policy, seconds=SECONDS_PER_TICK)
    return dg.SkipReason("Another look is under way." if done is None else done.sentence())
