"""Everything that tailor holds of a tenant, deleted: rows, working copies, runs and partitions.

Nothing in the tenant's Drive is touched: what is there is theirs.
"""

from collections.abc import Collection
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from resources.artifact_store import ArtifactStore
from resources.notifications.outbox import forget_notifications
from resources.sam2_client import remove_checkpoints_of
from resources.settings import Settings
from resources.video_registry import VideoRegistry
from run_queue.dagster_history import delete_run
from run_queue.job_ledger import TENANT_TAG
from run_queue.retention import forget_tenant_jobs
from tailor_assets.behavior_model import LABELS_FOLDER
from tailor_assets.compute.behavior.training.sources import LABEL_ENDINGS
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.retraining import REVIEW_LABELS_FOLDER


def forget_tenant(
    tenant: str,
    instance: dg.DagsterInstance,
    registry: VideoRegistry,
    store: ArtifactStore,
    settings: Settings,
) -> int:
    """Delete all of it; returns the number of videos. What was cut off is finished by doing it again.

    The registry's rows go last, because they say what else there is. Raises PermanentProblem while
    runs of the tenant are unfinished: they would write some of it again.
    """
    from resources.google_drive.downloads import remove_parts

    keys = registry.partitions_of(tenant)
    runs = {
        run.run_id: run
        for tags in ({TENANT_TAG: tenant}, *({PARTITION_NAME_TAG: key} for key in keys))
        for run in instance.get_runs(dg.RunsFilter(tags=tags))
    }
    busy = [run for run in runs.values() if not run.is_finished]
    if busy:
        raise PermanentProblem(
            f"{len(busy)} runs of {tenant} are not finished: cancel them or wait, then delete the data "
            "with the same command."
        )
    for run_id in runs:
        delete_run(instance, run_id)
    for key in keys:
        store.forget(key)
        instance.delete_dynamic_partition(str(videos.name), key)
    _remove_labels(settings.home, keys)
    remove_checkpoints_of(settings.home / "checkpoints", keys)
    remove_parts(settings.home / "incoming", tenant, registry.file_ids_of(tenant))
    forget_tenant_jobs(registry.database_url, tenant, runs)
    forget_notifications(registry.database_url, tenant)
    registry.forget(tenant)
    return len(keys)


def _remove_labels(home: Path, keys: Collection[str]) -> None:
    """What people said of the videos: label files, and those made of decisions."""
    folders = [home / LABELS_FOLDER, *(home / REVIEW_LABELS_FOLDER).glob("*/*")]
    for folder in folders:
        for key in keys:
            for ending in LABEL_ENDINGS:
                (folder / f"{key}{ending}").unlink(missing_ok=True)
