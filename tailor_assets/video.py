"""The recording itself: fetched from the Drive once, checksummed, every frame decoded and counted."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePosixPath

import dagster as dg
import polars as pl

from resources.artifact_store import ArtifactStore, version_of
from resources.configured_drive import DriveResource
from resources.drive import VIDEO_SUFFIXES, DriveMustWait, UserMustAct
from resources.video_registry import VideoRegistry
from run_queue.failure import permanent_failure
from run_queue.usage import metered
from tailor_assets.asset_helpers import (
    OWNERS,
    RUN_KEY_TAG,
    bad_input_fails_once,
    check_result,
    check_spec,
)
from tailor_assets.checks import problem_with_video
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress

CODE_VERSION = "1"


@dg.asset(
    partitions_def=videos,
    group_name="recording",
    kinds={"video"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    check_specs=[check_spec("video_is_readable", "video", "Frames decode and time moves forward.")],
)
def video(
    context: dg.AssetExecutionContext,
    drive: DriveResource,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> Iterator[dg.MaterializeResult]:
    """The video file as it lies in the Drive, with what decoding it to the end has shown.

    The frame count is of frames that decode, not the header's; the frame rate is one over the
    median difference of the container's timestamps; width and height are of the upright picture.
    A file that can never be processed fails once and says why.
    """
    from tailor_assets.compute.recording.frame_timing import TIMING_VERSION
    from tailor_assets.compute.recording.video_probe import probe_video

    key = context.partition_key
    with (
        metered(context, registry.database_url) as usage,
        bad_input_fails_once(context),
        store.making(key, "video") as draft,
    ):
        row = registry.get(key)
        # Of the raw name only a known suffix is used; everything else in it could be anything.
        suffix = PurePosixPath(row.file_name or "").suffix.lower()
        name = f"video{suffix if suffix in VIDEO_SUFFIXES else '.bin'}"
        path = draft.path(name)
        fetching = LogProgress(context.log, "fetching", "bytes")
        try:
            md5 = drive.open().download(row.tenant, row.file_id or "", path, fetching)
        except DriveMustWait as limit:
            # Within seconds it is of no use; the reconciler has it tried when the day has turned.
            permanent_failure(context, f"{limit} It is tried again after midnight, Pacific time.")
        except UserMustAct:
            # When they have, nobody has to remember which videos it was about.
            registry.ask_again(key, context.run.tags.get(RUN_KEY_TAG))
            raise
        if row.checksum and md5 != row.checksum:
            raise dg.Failure(
                f"{row.file_name} changed in the Drive while it was being fetched; it is fetched "
                "again."
            )
        try:
            info, timestamps_s = probe_video(path, LogProgress(context.log, "decoding", "frames"))
        except PermanentProblem as refused:
            # The sentence names the working copy; people know the file by the name they gave it.
            sentence = str(refused).replace(name, row.file_name or name)
            raise PermanentProblem(sentence) from None
        problem = problem_with_video(info.frame_count, timestamps_s)
        pl.DataFrame(
            {"source_frame": range(info.frame_count), "timestamp_s": timestamps_s},
            schema={"source_frame": pl.Int64, "timestamp_s": pl.Float64},
        ).write_parquet(draft.path("video_timestamps.parquet"))
        record = draft.commit(
            version=version_of("video", CODE_VERSION, TIMING_VERSION, md5),
            details={
                "file": name,
                "tenant": row.tenant,
                "folder_name": row.folder_name,
                "file_name": row.file_name,
                "results_name": row.results_name,
                **asdict(info),
            },
            problem=problem,
            run_id=context.run.run_id,
        )
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "tenant": row.tenant,
            "folder in the Drive": row.folder_name,
            "file": row.file_name or "",
            "size": f"{info.width} x {info.height}",
            "rotated by": f"{info.rotation_deg}°",
            "frames": info.frame_count,
            "frames by the header": (
                "not said" if info.header_frame_count is None else str(info.header_frame_count)
            ),
            "fps": dg.MetadataValue.float(info.fps) if info.fps is not None else "one frame",
            "variable frame rate": info.variable_frame_rate,
            "timestamps repaired": info.timestamps_repaired,
            "duration_s": info.duration_s,
            "codec": info.codec,
            "bytes": info.size_bytes,
            "md5": info.md5,
            **usage.metadata(),
        },
        check_results=[check_result("video_is_readable", "video", problem)],
    )
