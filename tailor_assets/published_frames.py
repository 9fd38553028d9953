"""All frames in the Drive: thousands of small files, at low priority, after the results."""

import dagster as dg

from resources.artifact_store import ArtifactStore, version_of
from resources.configured_drive import DriveResource
from resources.publications import forget_parked
from resources.video_registry import VideoRegistry
from run_queue.usage import metered
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, link
from tailor_assets.partitions import videos
from tailor_assets.publication_claim import publication
from tailor_assets.publishing import publish_folder

CODE_VERSION = "1"


@dg.asset(
    partitions_def=videos,
    deps=["frames", "published_results"],
    group_name="delivery",
    kinds={"jpeg"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def published_frames(
    context: dg.AssetExecutionContext,
    drive: DriveResource,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """``frames/`` of the results folder. A tenant who does not want it switches it off.

    Verified file by file; what is there and right is left alone, and pictures of an earlier
    sampling are removed.
    """
    key = context.partition_key
    with (
        metered(context, registry.database_url) as usage,
        bad_input_fails_once(context),
        store.making(key, "published_frames") as draft,
    ):
        row = registry.get(key)
        frames = store.require(key, "frames")
        if not registry.publishes_frames(row.tenant):
            context.log.info(f"{row.tenant} does not want frames/ in the Drive; nothing is sent.")
            forget_parked(registry.database_url, key, "frames")
            return dg.MaterializeResult(metadata={"uploaded": 0, "switched off": True})
        with store.local(key, "frames") as folder:
            files = {f"frames/{path.name}": path for path in sorted(folder.glob("*.jpg"))}
            with publication(context, registry, "frames", files) as fence:
                report = publish_folder(
                    drive.open(), row, files, prefix="frames/", fence=fence, log=context.log
                )
        record = draft.commit(
            version=version_of("published_frames", CODE_VERSION, frames.version),
            made_from={"frames": frames},
            details={"files": len(files)},
            run_id=context.run.run_id,
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "frames": link(drive.open().link(row.tenant, row.results_name, "frames")),
            "files": len(files),
            "uploaded": report.uploaded,
            "already there": report.kept,
            "removed": report.removed,
            "seconds": report.seconds,
            **usage.metadata(),
        },
    )
