"""A video's results on one page, for people: figures, bouts, flags, and where they come from."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactRecord, ArtifactStore, version_of
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, pictures_shown
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress
from tailor_assets.prompts import read_prompts
from tailor_assets.version import TAILOR_VERSION

CODE_VERSION = "1"
MADE_FROM = ("video", "frames", "prompts", "masks", "features", "predictions", "flags")
_IN_METADATA = ("ethogram", "track", "occupancy")


class ReportConfig(dg.Config):
    """How the report is made."""

    bin_s: float | None = Field(
        default=None, gt=0, description="Width of time bins in seconds; a round one unless given."
    )


@dg.asset(
    partitions_def=videos,
    deps=list(MADE_FROM),
    group_name="behaviour",
    kinds={"matplotlib", "html"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def report(
    context: dg.AssetExecutionContext, config: ReportConfig, store: ArtifactStore
) -> dg.MaterializeResult:
    """``report.html``, one file that needs nothing else, and its figures as PNGs.

    Ethogram, time budget, track, occupancy, speed and distance, nest use, mask quality, flags with
    thumbnails, bout tables, and everything that says where the numbers come from. What each figure
    shows is in ``docs/report.md``.
    """
    from tailor_assets.compute.report.assemble import assemble, wanted_columns, wanted_frames
    from tailor_assets.compute.report.make_report import REPORT_VERSION, make_report

    key = context.partition_key
    with bad_input_fails_once(context), store.making(key, "report") as draft:
        records = {name: store.require(key, name) for name in MADE_FROM}
        template, _, px_per_cm, arena = read_prompts(store, key)
        tables = {
            name: store.read_table(key, name, partial(wanted_columns, kind=name))
            for name in ("features", "flags")
        }
        video = records["video"].details
        pictures = [f"{number:06d}.jpg" for number in wanted_frames(tables["flags"])]
        with (
            store.local(key, "masks.npz") as masks,
            store.local_files(key, "frames", pictures) as frames_dir,
        ):
            data = assemble(
                video["results_name"],
                tables["features"],
                tables["flags"],
                masks=masks,
                frames_dir=frames_dir,
                size=(video["width"], video["height"]),
                subject=template.subject,
                nest=template.nest,
                px_per_cm=px_per_cm,
                seconds_window=records["flags"].details["seconds_window"],
                arena=arena,
                provenance=provenance(key, records),
                bin_s=config.bin_s,
            )
            made = make_report(data, draft.folder, LogProgress(context.log, "report", "figures"))
        size = draft.path("report.html").stat().st_size
        record = draft.commit(
            version=version_of(
                "report", CODE_VERSION, REPORT_VERSION, TAILOR_VERSION, config.bin_s,
                video["results_name"], {name: one.version for name, one in records.items()},
            ),
            made_from=records,
            details={"bin_s": made.bin_s, "figures": sorted(made.figures), "bytes": size},
            run_id=context.run.run_id,
        )  # fmt: skip
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            **dict(made.key_figures),
            **pictures_shown(made.figures, _IN_METADATA),
            "file": dg.MetadataValue.path(str(store.path(key, "report.html"))),
            "bytes": size,
        },
    )


def provenance(key: str, records: Mapping[str, ArtifactRecord]) -> dict[str, list[tuple[str, Any]]]:
    """Tables of what the results are of, and how they were made: by title, (what, value)."""
    video, frames = records["video"].details, records["frames"].details
    prompts, masks = records["prompts"].details, records["masks"].details
    model = records["predictions"].details["model"]
    clean_up = records["predictions"].details.get("clean_up") or {}
    taken = f"every {frames['stride']}th frame" if frames["stride"] else (
        f"{frames['fps']:g} frames/s" if frames["fps"] else "ten frames/s")  # fmt: skip
    points = [
        (f"point of {p['name']}",
         f"({p['x']:.1f}, {p['y']:.1f}) px on frame {p['source_frame']}, {p['origin']}")
        for p in prompts["points"]
    ]  # fmt: skip
    found = [
        (f"{name} found", f"in {one['frames']:,} of {frames['frame_count']:,} frames")
        for name, one in masks["objects"].items()
    ]
    px_per_cm = prompts.get("px_per_cm")
    return {
        "Recording": [
            ("file", video["file_name"]),
            ("md5", video["md5"]),
            ("picture", f"{video['width']} × {video['height']} px, {video['codec']}"),
            ("frames", f"{video['frame_count']:,}"),
            ("frame rate", _rate(video)),
            ("length", f"{video['duration_s']:.2f} s"),
        ],
        "Frames analysed": [
            ("taken", taken),
            ("frames", f"{frames['frame_count']:,}"),
            ("true rate given in tailor.json", frames.get("fps_override") or "none"),
        ],
        "Objects": [
            ("template", prompts["template"]["name"]),
            *points,
            *([] if points else [("points", "none")]),
            ("scale", f"{px_per_cm:g} px/cm" if px_per_cm else "not given; lengths are in pixels"),
            *([("arena outline", prompts["arena"])] if prompts.get("arena") else []),
        ],
        "Masks": [("segmenter", masks["segmenter"]), *found],
        "Behaviour": [
            ("model", f"{model['name']} {model['version']}"),
            ("model's hash", model["hash"]),
            ("features version", records["features"].details["features_version"]),
            ("feature set", records["features"].details["feature_set"]),
            *((name.replace("_ms", " (ms)").replace("_", " "), f"{value:g}")
              for name, value in clean_up.items()),
            ("review window", f"{records['flags'].details['seconds_window']:g} s"),
        ],
        "Versions": [
            ("tailor", TAILOR_VERSION),
            ("partition", key),
            *((name, record.version) for name, record in records.items()),
        ],
    }  # fmt: skip


def _rate(video: Mapping[str, Any]) -> str:
    if video["fps"] is None:
        return "one frame"
    return f"{video['fps']:.3f} frames/s" + (", variable" if video["variable_frame_rate"] else "")
