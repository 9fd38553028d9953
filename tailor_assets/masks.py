"""Where every object is in every frame, pixel by pixel."""

import dagster as dg
import numpy as np
from pydantic import Field

from resources.artifact_store import ArtifactStore, version_of
from resources.segmenter import SegmentationRequest, Segmenter
from resources.settings import load_settings
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, check_result, check_spec
from tailor_assets.checks import problem_with_masks
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress
from tailor_assets.prompts import read_prompts

CODE_VERSION = "1"
GPU_POOL = "gpu"


class MasksConfig(dg.Config):
    """Which segmenter, of those in models.toml; TAILOR_SEGMENTER where none is named."""

    segmenter: str | None = Field(default=None, description="Segmenter, by name.")


@dg.asset(
    partitions_def=videos,
    deps=["frames", "prompts"],
    group_name="measurement",
    kinds={"numpy", "sam2"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    # The slot is held for every segmenter: which one it will be is not known when runs are queued.
    pool=GPU_POOL,
    check_specs=[check_spec("masks_match_frames", "masks", "Masks of exactly the frames taken.")],
)
def masks(
    context: dg.AssetExecutionContext,
    config: MasksConfig,
    segmenter: Segmenter,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """The masks NPZ: every object in every frame, with score, area, bounding box and centroid.

    The animal is body, head and ears, without tail, shadow or reflection. The video is decoded
    again at the frames the table names, so nothing is lost to JPEG. A lost animal is an empty mask.
    The layout is in ``docs/data_formats.md``.
    """
    from tailor_assets.compute.mask_file import MaskReader

    key = context.partition_key
    name = config.segmenter or load_settings().segmenter
    with bad_input_fails_once(context), store.making(key, "masks") as draft:
        video, frames = store.require(key, "video"), store.require(key, "frames")
        prompts = store.require(key, "prompts")
        template, points, _ = read_prompts(store, key)
        table = store.read_table(key, "frames")
        source_frames = table["source_frame"].to_numpy()
        path = draft.path("masks.npz")
        progress = LogProgress(context.log, f"segmenting with {name}", "frames")
        with store.local(key, video.details["file"]) as video_path:
            report = segmenter.segment(
                context,
                name,
                SegmentationRequest(
                    video_path=video_path,
                    masks_path=path,
                    source_frames=source_frames,
                    timestamps_s=table["timestamp_s"].to_numpy(),
                    height=video.details["height"],
                    width=video.details["width"],
                    objects=[(o.name, o.kind) for o in template.objects],
                    prompts=points,
                ),
                progress,
            )
        found = {}
        with MaskReader(path) as reader:
            problem = problem_with_masks(reader.source_frame, table)
            for o in template.objects:
                area = reader.area(o.name)
                found[o.name] = {
                    "frames": int((area > 0).sum()),
                    "median_area": float(np.median(area[area > 0])) if (area > 0).any() else None,
                }
        record = draft.commit(
            version=version_of(
                "masks", CODE_VERSION, frames.version, prompts.version, name,
                report.get("checkpoint_sha256"),
            ),
            made_from={"frames": frames, "prompts": prompts},
            details={**report, "objects": found},
            problem=problem,
            run_id=context.run.run_id,
        )  # fmt: skip
        size = store.path(key, "masks.npz").stat().st_size
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            **report,
            "bytes": size,
            "file": dg.MetadataValue.path(str(store.path(key, "masks.npz"))),
            "objects": dg.MetadataValue.md(
                "\n".join(
                    f"- **{o}**: in {n['frames']:,} of {table.height:,} frames"
                    + (f", median area {n['median_area']:,.0f} px" if n["median_area"] else "")
                    for o, n in found.items()
                )
            ),
        },
        check_results=[check_result("masks_match_frames", "masks", problem)],
    )
