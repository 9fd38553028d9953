"""The user's copy: results in the Drive, verified, the manifest last."""

import dagster as dg

from resources.artifact_store import ArtifactStore, version_of
from resources.configured_drive import DriveResource
from resources.publications import RESULTS_ARE_MADE_FROM
from resources.video_registry import VideoRegistry
from run_queue.usage import metered
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, link
from tailor_assets.partitions import videos
from tailor_assets.publication_claim import publication
from tailor_assets.publishing import outdated_overlay, publish, result_files
from tailor_assets.version import TAILOR_VERSION

CODE_VERSION = "1"


@dg.asset(
    partitions_def=videos,
    deps=list(RESULTS_ARE_MADE_FROM),
    group_name="delivery",
    kinds={"csv"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def published_results(
    context: dg.AssetExecutionContext,
    drive: DriveResource,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """``tailor/results/<video-name>/``: masks, tables, report, flagged frames and a manifest.

    Uploaded in parallel, each file's checksum compared with what arrived; the manifest comes last,
    so a results folder is complete or has none. What is already there and right is left alone.
    """
    key = context.partition_key
    with (
        metered(context, registry.database_url) as usage,
        bad_input_fails_once(context),
        store.making(key, "published_results") as draft,
    ):
        row = registry.get(key)
        records = {name: store.require(key, name) for name in RESULTS_ARE_MADE_FROM}
        before = store.record(key, "published_results")
        with (
            result_files(store, key, row.results_name, draft.folder) as files,
            publication(context, registry, "results", files) as fence,
        ):
            report = publish(
                drive.open(),
                row,
                files,
                manifest_path=draft.path("manifest.json"),
                about={
                    "tailor_version": TAILOR_VERSION,
                    "partition": key,
                    "video": {
                        "name": row.results_name,
                        **{
                            k: records["video"].details[k]
                            for k in ("md5", "width", "height", "frame_count", "fps", "duration_s",
                                      "codec", "variable_frame_rate")
                        },
                    },
                    "template": records["prompts"].details["template"]["name"],
                    "points": records["prompts"].details["points"],
                    "segmenter": records["masks"].details["segmenter"],
                    "features_version": records["features"].details["features_version"],
                    "model": records["predictions"].details["model"],
                    "px_per_cm": records["prompts"].details["px_per_cm"],
                    "seconds_window": records["flags"].details["seconds_window"],
                    "summary": records["flags"].details["summary"],
                    "versions": {name: record.version for name, record in records.items()},
                },
                of_this_run={
                    "run_id": context.run.run_id,
                    "segmentation_seconds": records["masks"].details["seconds"],
                },
                files_before=[
                    *(before.details if before else {}).get("files", []),
                    # It would show what these results no longer say.
                    *outdated_overlay(store, key, row.results_name),
                ],
                fence=fence,
                log=context.log,
            )  # fmt: skip
        usage.note_published()
        record = draft.commit(
            version=version_of("published_results", CODE_VERSION, report.identity),
            made_from=records,
            details={"files": report.names},
            run_id=context.run.run_id,
        )
    summary = records["flags"].details["summary"]
    address = drive.open()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "results": link(address.link(row.tenant, row.results_name)),
            **{
                name: link(address.link(row.tenant, row.results_name, name))
                for name in report.names
                if "/" not in name
            },
            "uploaded": report.uploaded,
            "already there": report.kept,
            "removed": report.removed,
            "seconds": report.seconds,
            **usage.metadata(),
            **{name: value if value is not None else "no data" for name, value in summary.items()},
        },
    )
