"""``tailor report``: the report, and the overlay video, from a results folder, with no server."""

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from resources.atomic_write import write_atomically
from tailor_assets.compute.checksum import file_md5
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.results_folder import MANIFEST, manifest_of, overlay_name, scale_of
from tailor_assets.progress import LogProgress
from tailor_assets.version import TAILOR_VERSION

_FLAGS = "_flags_predonly.csv"
_INTEGERS = ("frame", "source_frame", "change_point", "flag_window")
_WORDS = ("behavior", "mask_state", "nest_mask_state", "in_nest")
_log = logging.getLogger("tailor")


def report_of_folder(
    folder: Path, *, out: Path | None = None, bin_s: float | None = None, video: Path | None = None
) -> list[Path]:
    """Write ``<name>_report.html`` into ``out`` (the folder itself unless given); what was written.

    With ``video``, the recording that the results are of, ``<name>_overlay.mp4`` too. A manifest in
    the folder that names the report is given its new size and md5.

    Raises PermanentProblem with one sentence when the folder holds no results, or the video is not
    the one that they are of.
    """
    from tailor_assets.compute.report.assemble import assemble, wanted_columns
    from tailor_assets.compute.report.make_report import make_report

    name = _name_of_results(folder)
    out = out or folder
    masks = folder / f"{name}.npz"
    if video is not None and not masks.is_file():
        raise PermanentProblem(f"{folder} has no {masks.name}, without which there is no overlay.")
    flags_path, features_path = folder / f"{name}{_FLAGS}", folder / f"{name}_features.csv"
    if not features_path.is_file():
        raise PermanentProblem(
            f"{folder} has no {features_path.name}: give a whole results folder, or run it again."
        )
    features = _read(features_path, wanted_columns(_header(features_path), "features"))
    header = _header(flags_path)
    flags = _read(flags_path, ["source_frame", *wanted_columns(header, "flags")])
    manifest = manifest_of(folder)
    window = manifest.get("seconds_window")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentProblem(
            f"The report cannot be written to {out} ({error.strerror}): give another --out."
        ) from None
    data = assemble(
        name,
        features,
        flags,
        masks=masks if masks.is_file() else None,
        frames_dir=next((f for f in (folder / "frames", folder / "watch") if f.is_dir()), None),
        px_per_cm=scale_of(manifest, features),
        seconds_window=window if isinstance(window, (int, float)) else None,
        provenance=_provenance(manifest, flags_path, header),
        bin_s=bin_s,
    )
    written = [out / f"{name}_report.html"]
    with tempfile.TemporaryDirectory(prefix="tailor-report-") as work:
        make_report(data, Path(work), LogProgress(_log, "report", "figures"))
        with write_atomically(written[0]) as temporary:
            temporary.write_bytes((Path(work) / "report.html").read_bytes())
    if out.resolve() == folder.resolve():
        _note_in_manifest(folder, manifest, written[0])
    if video is not None:
        written.append(out / overlay_name(name))
        _overlay(video, masks, flags, written[1], manifest.get("video"))
    return written


def _overlay(video: Path, masks: Path, flags: pl.DataFrame, target: Path, recorded: object) -> None:
    """``recorded``: what the manifest says of the recording, of whatever kind."""
    from tailor_assets.compute.mask_file import MaskReader
    from tailor_assets.compute.overlay.make_overlay import make_overlay
    from tailor_assets.compute.recording.video_probe import probe_video

    info, times = probe_video(video, LogProgress(_log, "decoding", "frames"))
    with MaskReader(masks) as reader:
        last = int(reader.source_frame[-1]) if len(reader) else 0
        facts = recorded if isinstance(recorded, dict) else {}
        # A camera makes many recordings of one size and length: the checksum tells them apart.
        if facts.get("md5"):
            same, wanted = facts["md5"] == info.md5, f"md5 {facts['md5']}"
        elif facts.get("frame_count"):
            same, wanted = facts["frame_count"] == len(times), f"{facts['frame_count']} frames"
        else:
            same, wanted = True, f"at least {last + 1} frames"
        same_size = (info.width, info.height) == (reader.width, reader.height)
        if not (same and same_size and last < len(times)):
            raise PermanentProblem(
                f"{video.name} ({info.width} x {info.height}, {len(times)} frames, md5 {info.md5}) "
                f"is not the recording of these results ({reader.width} x {reader.height}, "
                f"{wanted}): give the one that they were made from."
            )
        with write_atomically(target) as temporary:
            make_overlay(
                video,
                reader,
                flags,
                temporary,
                nest="nest" if "nest" in reader.objects else None,
                video_timestamps_s=times,
                progress=LogProgress(_log, "overlay video", "frames"),
            )


def _name_of_results(folder: Path) -> str:
    if not folder.is_dir():
        raise PermanentProblem(f"{folder} is no folder: give one with results in it.")
    found = sorted(path.name for path in folder.glob(f"*{_FLAGS}"))
    if len(found) != 1:
        what = "no results" if not found else f"results of {len(found)} videos"
        raise PermanentProblem(
            f"{folder} holds {what} (files *{_FLAGS}): give the folder of one video's results."
        )
    return found[0].removesuffix(_FLAGS)


def _header(path: Path) -> list[str]:
    try:
        return list(pl.read_csv(path, n_rows=0).columns)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PermanentProblem(f"{path} cannot be read as a table: {_first_line(error)}.") from None


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    """The columns of a published CSV, typed as the format says; an empty cell is null."""
    kinds = {
        name: pl.Int64 if name in _INTEGERS else pl.String if name in _WORDS else pl.Float64
        for name in columns
    }
    try:
        table = pl.read_csv(path, columns=columns, schema_overrides=kinds)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PermanentProblem(f"{path} cannot be read as a table: {_first_line(error)}.") from None
    if "in_nest" in table.columns:
        table = table.with_columns(pl.col("in_nest").str.to_lowercase() == "true")
    return table


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["unknown trouble"])[0].rstrip(".")


def _provenance(
    manifest: Mapping[str, Any], flags: Path, header: list[str]
) -> dict[str, list[tuple[str, Any]]]:
    about = [name for name in header if name.startswith("model_") or name == "features_version"]
    words = dict.fromkeys(about, pl.String)
    first = pl.read_csv(flags, columns=about, schema_overrides=words, n_rows=1).to_dicts()
    tables: dict[str, list[tuple[str, Any]]] = {
        "Behaviour": [
            (name.replace("_", " "), value) for one in first for name, value in one.items()
        ],
        "Versions": [
            ("report by tailor", TAILOR_VERSION),
            ("results by tailor", manifest.get("tailor_version", "unknown")),
            ("partition", manifest.get("partition", "unknown")),
            *_pairs(manifest.get("versions")),
        ],
    }
    objects = [(name, manifest[name]) for name in ("template", "segmenter", "px_per_cm")
               if manifest.get(name) is not None]  # fmt: skip
    points = manifest.get("points")
    if isinstance(points, list):
        objects += [("point", json.dumps(point)) for point in points]
    before = {"Recording": _pairs(manifest.get("video")), "Objects": objects}
    return {title: facts for title, facts in {**before, **tables}.items() if facts}


def _pairs(content: object) -> list[tuple[str, Any]]:
    if not isinstance(content, dict):
        return []
    return [(str(name).replace("_", " "), value) for name, value in content.items()]


def _note_in_manifest(folder: Path, manifest: dict[str, Any], report: Path) -> None:
    files = manifest.get("files")
    if not isinstance(files, dict) or report.name not in files:
        return
    files[report.name] = {"size": report.stat().st_size, "md5": file_md5(report)}
    with write_atomically(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, default=str))
