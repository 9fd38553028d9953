"""Every five minutes, what the event handlers missed is found and mended (run_queue/reconciler.py)."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.configured_drive import DriveResource
from resources.settings import load_settings
from resources.video_registry import VideoRegistry
from run_queue.reconciler import Look, mend
from run_queue.retention_policy import load_retention_policy
from tailor_assets.compute.errors import PermanentProblem

# Files are many, and what is left of them is in nobody's way.
_SWEEP_EVERY = timedelta(hours=1)


@dg.sensor(
    name="reconciler",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Finds videos, retries, publications and files that were missed, and mends them.",
)
def reconciler(
    context: dg.SensorEvaluationContext,
    drive: DriveResource,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.SkipReason:
    """Launches nothing itself: what is missing becomes a job. Says what it has mended."""
    try:
        memory = load_retention_policy().finished
        source, home = drive.open(), load_settings().home
    except PermanentProblem as problem:
        return dg.SkipReason(f"Nothing is looked at: {problem}")
    now = datetime.now(UTC)
    sweep = not context.cursor or now - datetime.fromisoformat(context.cursor) > _SWEEP_EVERY
    said = mend(Look(context.instance, registry, store, source, home, memory), sweep=sweep)
    if said is None:
        return dg.SkipReason("Another look is under way.")
    if sweep:
        context.update_cursor(now.isoformat())
    return dg.SkipReason(" ".join(said) or "Nothing was to be mended.")
