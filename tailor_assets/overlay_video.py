"""The recording with what was found drawn on it, to be watched in a browser."""

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactStore, version_of
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress
from tailor_assets.prompts import read_prompts

CODE_VERSION = "1"
_MADE_FROM = ("video", "frames", "prompts", "masks", "predictions", "flags")


class OverlayConfig(dg.Config):
    """How the overlay is drawn."""

    tail_s: float = Field(default=3.0, ge=0, description="Seconds of the track that are shown.")


@dg.asset(
    partitions_def=videos,
    deps=list(_MADE_FROM),
    group_name="behaviour",
    kinds={"opencv", "mp4"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def overlay_video(
    context: dg.AssetExecutionContext, config: OverlayConfig, store: ArtifactStore
) -> dg.MaterializeResult:
    """``overlay.mp4``: every analysed frame with masks, track, behaviour, review window and time.

    H.264 that browsers play, each frame at its own time. The video is decoded again at the frames
    that the table names, as for the masks.
    """
    from tailor_assets.compute.mask_file import MaskReader
    from tailor_assets.compute.overlay.make_overlay import (
        OVERLAY_VERSION,
        make_overlay,
        wanted_columns,
    )

    key = context.partition_key
    with bad_input_fails_once(context), store.making(key, "overlay_video") as draft:
        records = {name: store.require(key, name) for name in _MADE_FROM}
        template, *_ = read_prompts(store, key)
        flags = store.read_table(key, "flags", wanted_columns)
        times = store.read_table(key, "video_timestamps")["timestamp_s"].to_numpy()
        with (
            store.local(key, records["video"].details["file"]) as video_path,
            store.local(key, "masks.npz") as masks_path,
            MaskReader(masks_path) as reader,
        ):
            made = make_overlay(
                video_path,
                reader,
                flags,
                draft.path("overlay.mp4"),
                subject=template.subject,
                nest=template.nest,
                video_timestamps_s=times,
                tail_s=config.tail_s,
                progress=LogProgress(context.log, "overlay video", "frames"),
            )
        size = draft.path("overlay.mp4").stat().st_size
        record = draft.commit(
            version=version_of(
                "overlay_video", CODE_VERSION, OVERLAY_VERSION, config.tail_s, made.encoder,
                {name: one.version for name, one in records.items()},
            ),
            made_from=records,
            details={"encoder": made.encoder, "frames": made.frames, "bytes": size},
            run_id=context.run.run_id,
        )  # fmt: skip
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "frames": made.frames,
            "seconds": made.seconds,
            "size": f"{made.width} x {made.height}",
            "encoder": made.encoder,
            "bytes": size,
            "file": dg.MetadataValue.path(str(store.path(key, "overlay.mp4"))),
        },
    )
