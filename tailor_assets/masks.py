"""Where every object is in every frame, pixel by pixel."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import dagster as dg
import numpy as np
from pydantic import Field

from resources.artifact_store import ArtifactRecord, ArtifactStore, version_of
from resources.segmenter import EngineSettings, KnownMasks, SegmentationRequest, Segmenter
from resources.settings import load_settings
from resources.video_registry import VideoRegistry
from run_queue.usage import gpu_time
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, check_result, check_spec
from tailor_assets.checks import problem_with_masks
from tailor_assets.compute.corrections import first_changed_frame
from tailor_assets.compute.prompts import ObjectPrompt
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress
from tailor_assets.prompts import read_prompts

CODE_VERSION = "2"
GPU_POOL = "gpu"


class MasksConfig(dg.Config):
    """Which segmenter, of those in models.toml (TAILOR_SEGMENTER where none is named), and how."""

    segmenter: str | None = Field(default=None, description="Segmenter, by name.")
    nest_every: int = Field(
        default=EngineSettings.nest_every,
        ge=1,
        description="SAM2: look at a nest that does not move in every so many frames (1: in each).",
    )
    drift_guard: bool = Field(
        default=EngineSettings.drift_guard,
        description="SAM2: empty masks beyond belief, and find lost animals again.",
    )
    use_known_masks: bool = Field(
        default=True,
        description="SAM2: where points were added, keep the masks that they do not change.",
    )


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
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """The masks NPZ: every object in every frame, with score, area, bounding box and centroid.

    The animal is body, head and ears, without tail, shadow or reflection. The video is decoded
    again at the frames the table names, so nothing is lost to JPEG. A lost animal is an empty mask,
    and every mask has a state that says what happened to it. Where points were added to a video that
    has its masks, only what they change is segmented again. A SAM2 segmentation that was ended goes
    on where it was. The layout is in ``docs/data_formats.md``.
    """
    from tailor_assets.compute.mask_file import MaskReader
    from tailor_assets.compute.mask_state import MaskState

    key = context.partition_key
    name = config.segmenter or load_settings().segmenter
    with bad_input_fails_once(context), store.making(key, "masks") as draft:
        video, frames = store.require(key, "video"), store.require(key, "frames")
        prompts = store.require(key, "prompts")
        template, points, *_ = read_prompts(store, key)
        table = store.read_table(key, "frames")
        source_frames = table["source_frame"].to_numpy()
        path = draft.path("masks.npz")
        progress = LogProgress(context.log, f"segmenting with {name}", "frames")
        engine = EngineSettings(
            drift_guard=config.drift_guard,
            refind=config.drift_guard,
            nest_every=config.nest_every,
        )
        before = store.record(key, "masks") if config.use_known_masks else None
        with ExitStack() as files:
            video_path = files.enter_context(store.local(key, video.details["file"]))
            request = SegmentationRequest(
                video_path=video_path,
                masks_path=path,
                source_frames=source_frames,
                timestamps_s=table["timestamp_s"].to_numpy(),
                height=video.details["height"],
                width=video.details["width"],
                objects=[(o.name, o.kind) for o in template.objects],
                prompts=points,
                identity=version_of(video.version, frames.version, before and before.version),
                video_timestamps_s=store.read_table(key, "video_timestamps")[
                    "timestamp_s"
                ].to_numpy(),
                engine=engine,
            )
            made_by = segmenter.fingerprint(name, request)
            changed = changed_since(before, frames, made_by, points)
            if changed is not None:
                known = files.enter_context(store.local(key, "masks.npz"))
                request = replace(request, known=KnownMasks(known, changed))
                context.log.info(describe_changes(changed, points))
            with gpu_time(context, registry.database_url) as gpu:
                report = segmenter.segment(context, name, request, progress, gpu.runs_on)
        found: dict[str, dict[str, Any]] = {}
        with MaskReader(path) as reader:
            problem = problem_with_masks(reader.source_frame, table)
            for o in template.objects:
                area = reader.area(o.name)
                states = np.bincount(reader.state(o.name), minlength=len(MaskState))
                found[o.name] = {
                    "states": {s.label: int(states[s]) for s in MaskState if states[s]},
                    "frames": int((area > 0).sum()),
                    "median_area": float(np.median(area[area > 0])) if (area > 0).any() else None,
                }
        record = draft.commit(
            version=version_of(
                "masks", CODE_VERSION, frames.version, prompts.version, name, made_by,
                report.get("precision"),
            ),
            made_from={"frames": frames, "prompts": prompts},
            details={
                **report,
                "objects": found,
                "made_by": made_by,
                "points": [asdict(point) for point in points],
            },
            problem=problem,
            run_id=context.run.run_id,
        )  # fmt: skip
        size = store.path(key, "masks.npz").stat().st_size
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            **{name: value for name, value in report.items() if name != "stages_busy"},
            "stages busy": stages_table(report.get("stages_busy") or {}),
            "gpu seconds": round(gpu.seconds, 3),
            "bytes": size,
            "file": dg.MetadataValue.path(str(store.path(key, "masks.npz"))),
            "objects": dg.MetadataValue.md(
                "\n".join(
                    f"- **{o}**: in {n['frames']:,} of {table.height:,} frames"
                    + (f", median area {n['median_area']:,.0f} px" if n["median_area"] else "")
                    + "; "
                    + ", ".join(f"{state} {count:,}" for state, count in n["states"].items())
                    for o, n in found.items()
                )
            ),
        },
        check_results=[check_result("masks_match_frames", "masks", problem)],
    )


def changed_since(
    before: ArtifactRecord | None,
    frames: ArtifactRecord,
    made_by: str,
    points: Sequence[ObjectPrompt],
) -> dict[str, int | None] | None:
    """From which source frame on each object's masks differ from those there are.

    None where those are of no use: there are none, or they were refused, or made from other frames
    or by another segmenter, or nothing of them would be kept.
    """
    if before is None or before.problem or before.details.get("made_by") != made_by:
        return None
    if not made_by or before.made_from.get("frames") != frames.version:
        return None
    old = [ObjectPrompt(**point) for point in before.details["points"]]
    changed = first_changed_frame(old, points)
    return None if all(frame == 0 for frame in changed.values()) else changed


def describe_changes(changed: Mapping[str, int | None], points: Sequence[ObjectPrompt]) -> str:
    """For a person: what is segmented again and what is kept."""
    pointed = {point.name for point in points}
    parts = []
    for name, frame in changed.items():
        if name not in pointed:
            parts.append(f"{name}: no point any more")
        elif frame is None:
            parts.append(f"{name}: kept")
        else:
            parts.append(f"{name}: again from frame {frame} of the video")
    return "masks from before are used where the points allow it (" + "; ".join(parts) + ")"


def stages_table(busy: Mapping[str, float]) -> dg.MetadataValue[str]:
    """How much of the time each stage of the segmentation worked; the busiest sets the pace."""
    if not busy:
        return dg.MetadataValue.md("one stage")
    rows = sorted(busy.items(), key=lambda item: -item[1])
    return dg.MetadataValue.md(
        "| stage | busy | |\n|---|---:|---|\n"
        + "\n".join(
            f"| {stage} | {share:.0%} | {'█' * round(20 * share)} |" for stage, share in rows
        )
    )
