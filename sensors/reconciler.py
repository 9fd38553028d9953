"""Every five minutes, what the event handlers missed is found and mended (run_queue/reconciler.py)."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.configured_drive import DriveResource
from resources.settings import load_settings
from resources.video_registry import VideoRegistry
from run_queue.reconciler import mend
from run_queue.reconciling.look import Look
from run_queue.retention_policy import load_retention_policy
from tailor_assets.compute.errors import PermanentProblem

_SWEPT = "tailor/reconciler_swept"
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
        memory = load_retention_policy().memory
        source, home = drive.open(), load_settings().home
    except PermanentProblem as problem:
        return dg.SkipReason(f"Nothing is looked at: {problem}")
    now = datetime.now(UTC)
    sweep = _sweep_is_due(context.instance, now)
    said = mend(Look(context.instance, registry, store, source, home, memory), sweep=sweep)
    if said is None:
        return dg.SkipReason("Another look is under way.")
    return dg.SkipReason(" ".join(said) or "Nothing was to be mended.")


def _sweep_is_due(instance: dg.DagsterInstance, now: datetime) -> bool:
    """Whether files are to be looked for; noted before it is done, and not with the tick's end.

    A sweep that outlasts its tick would otherwise begin anew in each.
    """
    last = instance.run_storage.get_cursor_values({_SWEPT}).get(_SWEPT)
    if last and abs(now - datetime.fromisoformat(last)) < _SWEEP_EVERY:
        return False
    instance.run_storage.set_cursor_values({_SWEPT: now.isoformat()})
    return True
