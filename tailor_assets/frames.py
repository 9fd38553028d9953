"""The frames that are analysed: numbered JPEGs, and a table that says where each came from."""

import dagster as dg
import numpy as np
from pydantic import Field

from resources.artifact_store import ArtifactStore, version_of
from resources.settings import load_settings
from resources.video_registry import VideoRegistry
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, check_result, check_spec
from tailor_assets.checks import problem_with_frames
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress
from tailor_assets.templates import choose_template, load_templates
from tailor_assets.video_settings import parse_settings

CODE_VERSION = "1"


class FramesConfig(dg.Config):
    """Which frames to take. What is not given comes from tailor.json, then from the template."""

    stride: int | None = Field(default=None, ge=1, description="Every Nth frame of the video.")
    fps: float | None = Field(default=None, gt=0, description="Frames per second to take.")
    quality: int = Field(default=90, ge=1, le=100, description="JPEG quality.")
    template: str | None = Field(default=None, description="Analysis template, by name.")


@dg.asset(
    partitions_def=videos,
    deps=["video"],
    group_name="recording",
    kinds={"jpeg"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    check_specs=[check_spec("frames_match_table", "frames", "One picture per row of the table.")],
)
def frames(
    context: dg.AssetExecutionContext,
    config: FramesConfig,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.MaterializeResult:
    """``000000.jpg``, ``000001.jpg``, ... with the frame table (frame, source_frame, timestamp_s).

    Ten frames per second unless the run, ``tailor.json`` or the template says otherwise. Times are
    the container's, so that variable frame rate is right; ``fps_override`` in ``tailor.json``
    replaces them for a recording whose container is wrong.
    """
    from tailor_assets.compute.behavior.review_flags import effective_fps
    from tailor_assets.compute.recording.frame_extraction import extract_frames
    from tailor_assets.compute.recording.frame_sampling import choose_frames

    key = context.partition_key
    with bad_input_fails_once(context), store.making(key, "frames") as draft:
        video = store.require(key, "video")
        settings = parse_settings(registry.get(key).sidecar_text)
        template = choose_template(
            load_templates(load_settings().templates_file),
            config.template or settings.template,
            set(settings.points),
        )
        if config.stride is not None or config.fps is not None:
            stride, fps, said_by = config.stride, config.fps, "run"
        elif settings.stride is not None or settings.fps is not None:
            stride, fps, said_by = settings.stride, settings.fps, "tailor.json"
        else:
            stride, fps, said_by = template.stride, template.fps, "template"

        source_s = store.read_table(key, "video_timestamps")["timestamp_s"].to_numpy()
        if settings.fps_override:
            source_s = np.arange(len(source_s)) / settings.fps_override
        chosen = choose_frames(source_s, stride=stride, target_fps=fps)
        with store.local(key, video.details["file"]) as path:
            table = extract_frames(
                path,
                chosen,
                source_s,
                draft.path("frames"),
                quality=config.quality,
                progress=LogProgress(context.log, "frames", "frames"),
            )
        files = sum(1 for _ in draft.path("frames").glob("*.jpg"))
        problem = problem_with_frames(table, files)
        table.write_parquet(draft.path("frames.parquet"))
        video_fps = settings.fps_override or video.details["fps"]
        rate = effective_fps(video_fps, stride=stride, timestamps_s=table["timestamp_s"].to_numpy())
        size = sum(p.stat().st_size for p in draft.path("frames").glob("*.jpg"))
        record = draft.commit(
            version=version_of(
                "frames",
                CODE_VERSION,
                video.version,
                stride,
                fps,
                config.quality,
                settings.fps_override,
            ),
            made_from={"video": video},
            details={
                "frame_count": table.height,
                "stride": stride,
                "fps": fps,
                "rate_said_by": said_by,
                "quality": config.quality,
                "fps_override": settings.fps_override,
                "video_fps": video_fps,
                "effective_fps": rate,
                "bytes": size,
            },
            problem=problem,
            run_id=context.run.run_id,
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "dagster/row_count": table.height,
            "frames per second taken": rate if rate is not None else "one frame",
            "of frames in the video": len(source_s),
            "bytes": size,
            "folder": dg.MetadataValue.path(str(store.path(key, "frames"))),
            "table": dg.MetadataValue.md(_as_markdown(table)),
        },
        check_results=[check_result("frames_match_table", "frames", problem)],
    )


def player_times(
    store: ArtifactStore, key: str, source_frames: np.ndarray | None
) -> np.ndarray | None:
    """When a video player, and so BORIS, shows these frames of a video; None where tailor says so too.

    source_frames: int64 [n]; returns float64 [n], seconds from the first frame by the container's
    timestamps, which are tailor's own times unless there is an ``fps_override``. Raises
    PermanentProblem where there is one and the container's times are not known.
    """
    frames = store.record(key, "frames")
    if frames is None or not frames.details.get("fps_override"):
        return None
    if source_frames is None or store.record(key, "video") is None:
        raise PermanentProblem(
            f"The video {key} has an fps_override, and when a player shows its frames is not known "
            "any more, so BORIS's times mean nothing for it: materialize `video` and all that "
            "follows again."
        )
    table = store.read_table(key, "video_timestamps", lambda _: ["timestamp_s"])
    return table["timestamp_s"].to_numpy()[source_frames]


def _as_markdown(table: object, rows: int = 5) -> str:
    head = table.head(rows)  # type: ignore[attr-defined]
    lines = ["| " + " | ".join(head.columns) + " |", "|" + "---|" * len(head.columns)]
    lines += ["| " + " | ".join(str(v) for v in row) + " |" for row in head.iter_rows()]
    return "\n".join(lines)
