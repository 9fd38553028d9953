"""The overlay video in the Drive: large, so it comes after the results, at low priority."""

import dagster as dg

from resources.artifact_store import ArtifactStore, version_of
from resources.configured_drive import DriveResource
from resources.publications import forget_parked
from resources.video_registry import VideoRegistry
from run_queue.usage import metered
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, link
from tailor_assets.compute.results_folder import overlay_name
from tailor_assets.partitions import videos
from tailor_assets.publication_claim import publication
from tailor_assets.publishing import publish_folder

CODE_VERSION = "1"


@dg.asset(
    partitions_def=videos,
    deps=["overlay_video", "published_results"],
    group_name="delivery",
    kinds={"mp4"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def published_overlay(
    context: dg.AssetExecutionContext,
    drive: DriveResource,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """``<video-name>_overlay.mp4`` in the results folder. Whoever wants no ``frames/`` gets none.

    Not in the manifest, as it is not there yet when that is written. One of earlier results is
    removed when new results are published.
    """
    key = context.partition_key
    with (
        metered(context, registry.database_url) as usage,
        bad_input_fails_once(context),
        store.making(key, "published_overlay") as draft,
    ):
        row = registry.get(key)
        if not registry.publishes_frames(row.tenant):
            context.log.info(
                f"{row.tenant} does not want what follows the results; nothing is sent."
            )
            forget_parked(registry.database_url, key, "overlay")
            return dg.MaterializeResult(metadata={"uploaded": 0, "switched off": True})
        overlay, flags = store.require(key, "overlay_video"), store.require(key, "flags")
        name = overlay_name(row.results_name)
        with store.local(key, "overlay.mp4") as path:
            files = {name: path}
            with publication(context, registry, "overlay", files) as fence:
                report = publish_folder(
                    drive.open(), row, files, prefix=None, fence=fence, log=context.log
                )
        record = draft.commit(
            version=version_of("published_overlay", CODE_VERSION, overlay.version),
            made_from={"overlay_video": overlay, "flags": flags},
            details={"files": [name]},
            run_id=context.run.run_id,
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "overlay": link(drive.open().link(row.tenant, row.results_name, name)),
            "uploaded": report.uploaded,
            "already there": report.kept,
            "seconds": report.seconds,
            **usage.metadata(),
        },
    )
