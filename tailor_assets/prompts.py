"""Where each object is: a point or several per object, and who gave them."""

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from pydantic import Field

from resources.artifact_store import ArtifactRecord, ArtifactStore, version_of
from resources.settings import load_settings
from resources.video_registry import VideoRegistry
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once
from tailor_assets.choose_points import ChosenPoints, choose_points
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.prompts import ObjectPrompt
from tailor_assets.partitions import videos
from tailor_assets.templates import Template, choose_template, load_templates
from tailor_assets.video_settings import parse_points, parse_settings

CODE_VERSION = "1"
WAITING_TAG = "tailor/waiting"


class PromptsConfig(dg.Config):
    """Points of this run; they go before those of tailor.json and of the template."""

    # Any, because Dagster has no type for "a point or a list of points"; parse_points refuses others.
    points: dict[str, Any] = Field(
        default={},
        description="Object name to a point, [x, y] or [x, y, frame], or to a list of points: pixels "
        "of the upright picture. A later point of an object is a correction from its frame on.",
    )
    template: str | None = Field(default=None, description="Analysis template, by name.")


@dg.asset(
    partitions_def=videos,
    deps=["frames"],
    group_name="recording",
    kinds={"json"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    output_required=False,
)
def prompts(
    context: dg.AssetExecutionContext,
    config: PromptsConfig,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> Iterator[dg.MaterializeResult]:
    """Points inside each object of the template, drawn on the frames they belong to.

    From, in order: the run's configuration, ``tailor.json``, the template's fixed points, automatic
    detection. A later point of an object corrects it from its frame on. Where a point is needed that
    only a person can give, nothing is materialized: the run ends well, tagged
    ``tailor/waiting=points``, and the sensor starts the rest when the points come.
    """
    key = context.partition_key
    with bad_input_fails_once(context):
        video, frames = store.require(key, "video"), store.require(key, "frames")
        settings = parse_settings(registry.get(key).sidecar_text)
        from_run = parse_points(config.points, "The run's configuration")
        template = choose_template(
            load_templates(load_settings().templates_file),
            config.template or settings.template,
            set(settings.points) | set(from_run),
        )
        if settings.stride is None and settings.fps is None:
            _refuse_frames_of_another_template(template, frames)
        source_frames = store.read_table(key, "frames")["source_frame"].to_numpy()

        with store.local(key, video.details["file"]) as path:

            def detect(count: int) -> list[tuple[float, float, int, float]]:
                from tailor_assets.compute.background.animal_detection import detect_animals

                return detect_animals(path, source_frames=source_frames, count=count)

            chosen = choose_points(
                template,
                from_run=from_run,
                from_sidecar=settings.points,
                width=video.details["width"],
                height=video.details["height"],
                frame_count=video.details["frame_count"],
                detect=detect,
            )
            registry.set_waiting(key, "points" if chosen.missing else None)
            if chosen.missing:
                _wait(context, template, chosen)
                return
            times = store.read_table(key, "video_timestamps")["timestamp_s"].to_numpy()
            picture, not_shown = _picture(path, source_frames, times, chosen.prompts)

        arena = settings.arena_outline()
        with store.making(key, "prompts") as draft:
            draft.path("prompts_picture.jpg").write_bytes(picture)
            points = [asdict(prompt) for prompt in chosen.prompts]
            said = (points, template, settings.px_per_cm, *([arena] if arena else []))
            record = draft.commit(
                version=version_of("prompts", CODE_VERSION, frames.version, *said),
                made_from={"frames": frames},
                details={
                    "template": template.model_dump(mode="json"),
                    "points": points,
                    "not_found": list(chosen.not_found),
                    "px_per_cm": settings.px_per_cm,
                    "arena": arena,
                },
                run_id=context.run.run_id,
            )
    if chosen.not_found:
        context.log.warning(
            f"No {' or '.join(chosen.not_found)} was found in the video: its masks will be empty. "
            "Give a point in tailor.json if it is there."
        )
    encoded = base64.b64encode(picture).decode()
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "picture": dg.MetadataValue.md(
                f"![points](data:image/jpeg;base64,{encoded})"
                + (f"\n\nNot shown: the points on frames {not_shown}." if not_shown else "")
            ),
            "template": template.name,
            "points": dg.MetadataValue.md(
                "\n".join(
                    f"- **{p.name}** ({p.x:.0f}, {p.y:.0f}) on frame {p.source_frame}, {p.origin}"
                    for p in chosen.prompts
                )
                or "none"
            ),
            "not found": ", ".join(chosen.not_found) or "none",
        },
    )


def read_prompts(
    store: ArtifactStore, key: str
) -> tuple[Template, list[ObjectPrompt], float | None, list[tuple[float, float]] | None]:
    """Template, points, px/cm and the arena's outline that a video's ``prompts`` artifact holds.

    The last two are None where they were not given.
    """
    details = store.require(key, "prompts").details
    arena = details.get("arena")
    return (
        Template.model_validate(details["template"]),
        [ObjectPrompt(**point) for point in details["points"]],
        details.get("px_per_cm"),
        None if arena is None else [(float(x), float(y)) for x, y in arena],
    )


def _refuse_frames_of_another_template(template: Template, frames: ArtifactRecord) -> None:
    """Points of a run can choose another template than ``frames`` did, which knew nothing of them."""
    taken = frames.details.get("stride"), frames.details.get("fps")
    wanted = template.stride, template.fps
    # Frames of an earlier tailor do not say who said it.
    if frames.details.get("rate_said_by") == "template" and taken != wanted:
        raise PermanentProblem(
            f"The frames were taken at {_rate(*taken)} and template {template.name!r} asks for "
            f"{_rate(*wanted)}: name it in the configuration of `frames`, too (template: "
            f"{template.name}), and run both again."
        )


def _rate(stride: int | None, fps: float | None) -> str:
    if stride is not None:
        return f"a stride of {stride}"
    return "ten frames per second" if fps is None else f"{fps:g} frames per second"


def _wait(context: dg.AssetExecutionContext, template: Template, chosen: ChosenPoints) -> None:
    names = " and ".join(chosen.missing)
    example = json.dumps(
        {"template": template.name, "points": {name: [320, 240] for name in chosen.missing}}
    )
    context.instance.add_run_tags(context.run.run_id, {WAITING_TAG: "points"})
    context.log.warning(
        f"Waiting for a person: template {template.name!r} needs a point for {names}. Put a "
        f"tailor.json such as {example} beside the video; the rest then starts by itself."
    )


def _picture(
    path: Path,
    source_frames: np.ndarray,
    video_s: np.ndarray,
    points: tuple[ObjectPrompt, ...],
) -> tuple[bytes, str]:
    """The frames with points, and the numbers of those there was no room for."""
    from tailor_assets.compute.point_picture import MOST_FRAMES, draw_points
    from tailor_assets.compute.recording.frame_source import read_frames

    at = sorted({p.source_frame for p in points}) or [int(source_frames[0])]
    shown = np.array(at[:MOST_FRAMES], np.int64)
    with read_frames(path, shown, pixels="rgb", timestamps_s=video_s) as frames:
        picture = draw_points(frames, points)
    return picture, ", ".join(map(str, at[MOST_FRAMES:]))
