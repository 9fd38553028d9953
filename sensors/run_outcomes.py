"""What follows from a run that has ended well: the full frames go to the Drive, at low priority."""

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.tags import PARTITION_NAME_TAG

from resources.video_registry import VideoRegistry
from run_queue.job_ledger import accept
from run_queue.job_requests import frames_request
from tailor_assets.compute.errors import PermanentProblem

_PUBLISHED = dg.AssetKey("published_results")


@dg.run_status_sensor(
    name="frames_follow_results",
    run_status=dg.DagsterRunStatus.SUCCESS,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="After results are published, publishes all frames, when nothing urgent waits.",
)
def frames_follow_results(
    context: dg.RunStatusSensorContext, registry: VideoRegistry
) -> dg.SkipReason:
    """One job ``publish_frames`` per run that published results, unless switched off."""
    run = context.dagster_run
    partition = run.tags.get(PARTITION_NAME_TAG)
    if partition is None or not _has_published(context.instance, run.run_id):
        return dg.SkipReason("The run published no results.")
    try:
        row = registry.get(partition)
    except PermanentProblem as problem:
        return dg.SkipReason(str(problem))
    if not registry.publishes_frames(row.tenant):
        return dg.SkipReason(f"{row.tenant} does not want frames/ in the Drive.")
    accept(registry.database_url, frames_request(row, run.run_id))
    return dg.SkipReason(f"The frames of {row.folder_name} follow.")


def _has_published(instance: dg.DagsterInstance, run_id: str) -> bool:
    records = instance.get_records_for_run(
        run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    ).records
    return any(record.asset_key == _PUBLISHED for record in records)
