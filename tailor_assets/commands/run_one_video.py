"""``tailor run``: the same assets as the server's, on one file, with no server at all."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor_assets.commands.results_folder import require_same_recording
from tailor_assets.compute.errors import PermanentProblem

TENANT = "local"


@dataclass(frozen=True)
class FinishedVideo:
    """Where the results of one video are and what they say."""

    folder: Path
    summary: Mapping[str, Any]
    masks: Mapping[str, Any]


def run_one_video(
    video: Path,
    out: Path,
    *,
    template: str | None = None,
    points: Mapping[str, Sequence[Sequence[float]]] | None = None,
    stride: int | None = None,
    fps: float | None = None,
    segmenter: str | None = None,
    model: str | None = None,
    seconds_window: float | None = None,
) -> FinishedVideo:
    """Process ``video`` and write the results layout to ``out/<video-name>/``.

    ``points``: per object, (x, y) or (x, y, frame) of one point or more. A ``tailor.json`` beside
    the video counts, and the arguments go before it. Working files are kept under ``out`` meanwhile
    and removed at the end, whatever happens.

    Raises PermanentProblem with one sentence for bad input, and where that folder has the results of
    another recording.
    """
    if not video.is_file():
        what = "is a folder" if video.is_dir() else "is not there"
        raise PermanentProblem(f"{video} {what}: give the path of one video file.")
    import sqlalchemy as sa

    from resources.artifact_store import draft_name, remove_dead_drafts
    from tailor_assets.monitoring.database_look import reason

    try:
        out.mkdir(parents=True, exist_ok=True)
        # What a killed run left holds a whole copy of its video.
        remove_dead_drafts(out)
        work = out / draft_name("run")
        work.mkdir()
    except OSError as error:
        raise PermanentProblem(
            f"Results cannot be written to {out} ({error.strerror}): give another --out."
        ) from None
    try:
        return _run(
            video, out, work, template, dict(points or {}), stride, fps, segmenter, model,
            seconds_window,
        )  # fmt: skip
    except sa.exc.DBAPIError as error:
        raise PermanentProblem(
            f"Results cannot be written to {out} ({reason(error)}): make room there, or give another "
            "--out."
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(
    video: Path,
    out: Path,
    work: Path,
    template: str | None,
    points: Mapping[str, Sequence[Sequence[float]]],
    stride: int | None,
    fps: float | None,
    segmenter: str | None,
    model: str | None,
    seconds_window: float | None,
) -> FinishedVideo:
    sidecar = _sidecar_text(video)
    # By name for every asset: the points given here are not all that decides which one is meant.
    template = _template_with_its_points(template, points, sidecar)

    import dagster as dg

    from resources.artifact_store import ArtifactStore
    from resources.drive import SIDECAR_NAME, VIDEO_SUFFIXES
    from resources.local_drive import LocalDrive
    from resources.segmenter import Segmenter
    from resources.video_registry import VideoRegistry, VideoRow
    from tailor_assets.definitions import build_defs
    from tailor_assets.partitions import partition_key, results_name, videos

    drive = LocalDrive(root=str(work / "drive"), results_root=str(out.resolve()))
    registry = VideoRegistry(url=f"sqlite:///{work / 'registry.db'}")
    store = ArtifactStore(root=str(work / "artifacts"))
    registry.create_in_sqlite()

    # A path may hold bytes that are no text.
    place = os.fsencode(video.resolve()).decode("utf-8", "backslashreplace")
    name = results_name(video.stem, set(), place)
    require_same_recording(out / name, video)
    folder = work / "drive" / TENANT / "tailor" / "videos" / name
    folder.mkdir(parents=True)
    _link_or_copy(video, folder / f"video{video.suffix.lower()}")
    if sidecar is not None:
        (folder / SIDECAR_NAME).write_text(sidecar)
    listed = [file for found in drive.open().video_folders(TENANT) for file in found.videos]
    if not listed:
        raise PermanentProblem(
            f"{video.name} has no ending of a video ({', '.join(VIDEO_SUFFIXES)}): give a video file."
        )
    file = listed[0]
    key = partition_key(TENANT, name, place)
    registry.save(
        [
            VideoRow(
                partition_key=key,
                tenant=TENANT,
                folder_id=place,
                folder_name=name,
                results_name=name,
                state="admitted",
                file_id=file.id,
                file_name=os.fsencode(video.name).decode("utf-8", "replace"),
                size=file.size,
                sidecar_text=sidecar,
            )
        ]
    )
    definitions = build_defs(
        {
            "drive": drive,
            "registry": registry,
            "store": store,
            # After the one video there is no other that a worker could wait for.
            "segmenter": Segmenter(linger_s=0),
        }
    )
    # A model is trained from many videos, as a cohort is summarised, and never by processing one.
    of_many = dg.AssetSelection.assets("behavior_model", "cohort_summary")
    selection = dg.AssetSelection.all() - of_many
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral(tempdir=str(work)) as instance:
        assert videos.name is not None
        instance.add_dynamic_partitions(videos.name, [key])
        result = job.execute_in_process(
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            asset_selection=sorted(selection.resolve(definitions.resolve_asset_graph())),
            run_config={
                "ops": {
                    "frames": _config(stride=stride, fps=fps, template=template),
                    "prompts": _config(
                        points={
                            name: [list(point) for point in several]
                            for name, several in points.items()
                        },
                        template=template,
                    ),
                    "masks": _config(segmenter=segmenter),
                    "predictions_and_flags": _config(model=model, seconds_window=seconds_window),
                },
                # The terminal has its own progress; what the log says comes out in the sentence.
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    if not result.success:
        raise _why(result, out)
    masks, flags = store.require(key, "masks"), store.require(key, "flags")
    return FinishedVideo(out / name, flags.details["summary"], masks.details)


def _config(**values: Any) -> dict[str, Any]:
    return {"config": {name: value for name, value in values.items() if value not in (None, {})}}


def _sidecar_text(video: Path) -> str | None:
    beside = video.parent / "tailor.json"
    return beside.read_text(errors="replace") if beside.is_file() else None


def _template_with_its_points(
    template: str | None, points: Mapping[str, Sequence[Sequence[float]]], sidecar: str | None
) -> str:
    """Name of the template. Says at once what point is missing: here nobody can bring it later."""
    from resources.settings import load_settings
    from tailor_assets.templates import choose_template, load_templates
    from tailor_assets.video_settings import parse_points, parse_settings

    settings = parse_settings(sidecar)
    given = set(parse_points(points, "--point")) | set(settings.points)
    chosen = choose_template(
        load_templates(load_settings().templates_file), template or settings.template, given
    )
    missing = [
        o.name for o in chosen.objects if o.name not in given and o.point is None and not o.detect
    ]
    if missing:
        raise PermanentProblem(
            f"Template {chosen.name!r} needs a point for {' and '.join(missing)}: add "
            + " ".join(f"--point {name}=X,Y" for name in missing)
            + ", or choose another template."
        )
    return chosen.name


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _why(result: Any, out: Path) -> Exception:
    """The sentence a failed step gave or, for a fault of ours, where the whole story is."""
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return PermanentProblem(data.user_failure_data.description)
        story = out / "tailor-error.txt"
        story.write_text(data.error_display_string)
        error = data.error
        while error is not None and error.cause is not None:
            error = error.cause
        first = error.message.strip().splitlines()[0] if error else "unknown trouble"
        return RuntimeError(f"{event.step_key} failed ({first}); the whole story is in {story}.")
    return RuntimeError("The run failed before its first step.")
