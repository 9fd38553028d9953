"""Where features and labels of videos come from, and both read together, one video at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.training.label_files import LabelChoice, read_labels
from tailor_assets.compute.behavior.training.labelled_data import (
    LabelledData,
    LabelledVideo,
    join_videos,
    labelled_video,
    trainable_columns,
)
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.lengths_in_cm import read_from
from tailor_assets.compute.results_folder import (
    FEATURES_ENDING,
    features_files,
    manifest_of,
    recording_md5,
)

LABEL_ENDINGS = (".csv", ".tsv")


class FeatureSource(Protocol):
    """Features tables by the name of their video."""

    def version(self, video: str) -> str | None:
        """Version of its features; None where there are none."""

    def recording(self, video: str) -> str | None:
        """Checksum of the file that was filmed; None where it is not known."""

    def schema(self, video: str) -> pl.Schema:
        """Names and types of its columns."""

    def read(self, video: str, columns: Sequence[str]) -> pl.DataFrame:
        """These columns of its rows."""

    def player_times(self, video: str, source_frames: np.ndarray | None) -> np.ndarray | None:
        """When a player shows these frames (int64 [n]), float64 [n] in seconds; None where that is
        not known to differ from the features' own times."""


@dataclass(frozen=True)
class Gathered:
    """Labelled rows of all videos, and what was left out and should be said."""

    data: LabelledData
    features_version: str
    warnings: tuple[str, ...]


def label_files(folder: Path) -> dict[str, Path]:
    """Label files of a folder by video: ``<video>.csv`` or ``<video>.tsv``.

    Raises PermanentProblem without any, and for a video that has two.
    """
    if not folder.is_dir():
        raise PermanentProblem(
            f"The folder of labels {folder} is not there: make it, and put <video>.csv or "
            "<video>.tsv into it."
        )
    found = found_label_files(folder)
    if not found:
        raise PermanentProblem(
            f"{folder} holds no label file: put <video>.csv or <video>.tsv into it."
        )
    return found


def found_label_files(folder: Path) -> dict[str, Path]:
    """The same of a folder that need not be there, nor hold any.

    Raises PermanentProblem for a video that has two.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in LABEL_ENDINGS or path.name.startswith("."):
            continue
        if path.stem in found:
            raise PermanentProblem(
                f"{folder} has two label files of {path.stem} ({found[path.stem].name} and "
                f"{path.name}): leave one."
            )
        found[path.stem] = path
    return found


def gather(
    source: FeatureSource,
    labels: dict[str, Path],
    *,
    choice: LabelChoice,
    columns: Sequence[str] | None = None,
    also: Sequence[str] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[Gathered, tuple[str, ...]]:
    """Read the labelled videos; return them, and the columns a new model is to be trained with.

    columns: those, or None for all that ``trainable_columns`` takes. also: columns of another model
    that is to be tested beside it; left out where some video lacks them. Videos without features
    are left out with a warning, and so are those that are one recording with another: tested with
    what it was trained with, a model looks better than it is.

    Raises PermanentProblem where none has any, their versions differ, or a file is not as it should
    be.
    """
    versions = {video: source.version(video) for video in labels}
    there = [video for video in sorted(labels) if versions[video] is not None]
    lacking = [video for video in sorted(labels) if versions[video] is None]
    if not there:
        raise PermanentProblem(
            f"None of the {len(labels)} labelled videos has features ({', '.join(lacking[:3])}"
            f"{', ...' if len(lacking) > 3 else ''}): name the label files as the videos are named, "
            "or make their features first."
        )
    there, doubles = _each_once(source, there)
    different = sorted({str(versions[video]) for video in there})
    if len(different) > 1:
        raise PermanentProblem(
            f"The labelled videos have features of the versions {', '.join(different)}, and a model "
            "takes one: make those of the earlier ones again."
        )
    schemas = {video: source.schema(video) for video in there}
    chosen = tuple(columns) if columns else trainable_columns(schemas.values())
    wanted = chosen
    if all(read_from(name, schema) for schema in schemas.values() for name in also):
        wanted = (*chosen, *(name for name in also if name not in chosen))
    warnings = doubles
    if lacking:
        warnings += (
            f"{len(lacking)} label file(s) belong to no video with features and were left out: "
            f"{', '.join(lacking)}.",
        )
    data = join_videos(_videos(source, labels, there, schemas, wanted, choice, progress))
    return Gathered(data, different[0], warnings), chosen


def _each_once(source: FeatureSource, videos: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The videos without those that another has the recording of, and a warning for each of these."""
    kept: list[str] = []
    warnings: list[str] = []
    first: dict[str, str] = {}
    for video in videos:
        recording = source.recording(video)
        other = video if recording is None else first.setdefault(recording, video)
        if other == video:
            kept.append(video)
        else:
            warnings.append(
                f"{video} is the same recording as {other}, and its labels were left out: a model "
                "would be tested with what it was trained with."
            )
    return kept, tuple(warnings)


def _videos(
    source: FeatureSource,
    labels: dict[str, Path],
    videos: Sequence[str],
    schemas: dict[str, pl.Schema],
    columns: Sequence[str],
    choice: LabelChoice,
    progress: Callable[[int, int | None], None] | None,
) -> Iterator[LabelledVideo]:
    for done, video in enumerate(videos):
        keys = ["timestamp_s", "mask_quality"]
        keys += ["source_frame"] if "source_frame" in schemas[video] else []
        there = schemas[video]
        missing = [name for name in (*keys, *columns) if not read_from(name, there)]
        if missing:
            raise PermanentProblem(
                f"The features of {video} lack {', '.join(missing[:5])}: make the features of all "
                "labelled videos with one feature set, or name other columns."
            )
        needed = (name for column in columns for name in read_from(column, there))
        table = source.read(video, list(dict.fromkeys((*keys, *needed))))
        frames = None
        if "source_frame" in table.columns:
            frames = table["source_frame"].to_numpy().astype(np.int64)
        given = read_labels(
            labels[video],
            table["timestamp_s"].cast(pl.Float64).to_numpy(),
            source_frames=frames,
            player_s=source.player_times(video, frames),
            choice=choice,
        )
        yield labelled_video(video, table, given, columns)
        if progress is not None:
            progress(done + 1, len(videos))


class ResultsFolders:
    """``<video>_features.csv`` anywhere under a folder, as ``tailor run`` writes them."""

    def __init__(self, root: Path) -> None:
        """Raises PermanentProblem where the folder is not there or has a video twice."""
        self._files: dict[str, Path] = {}
        if not root.is_dir():
            raise PermanentProblem(
                f"The folder of features {root} is not there: give the folder that `tailor run` "
                "has written its results to."
            )
        for path in sorted(features_files(root)):
            video = path.name.removesuffix(FEATURES_ENDING)
            if video in self._files:
                raise PermanentProblem(
                    f"{path} and {self._files[video]} are features of videos of one name: rename "
                    "one, and its label file."
                )
            self._files[video] = path

    def version(self, video: str) -> str | None:
        """From the predictions or the manifest beside the features."""
        path = self._files.get(video)
        if path is None:
            return None
        predictions = path.with_name(f"{video}_prediction.csv")
        if predictions.is_file():
            head = pl.read_csv(predictions, n_rows=1, infer_schema=False)
            if "features_version" in head.columns and head.height:
                return str(head["features_version"][0])
        said = manifest_of(path.parent).get("features_version")
        if said is None:
            raise PermanentProblem(
                f"Beside {path} there is neither {predictions.name} nor manifest.json, which say the "
                "features' version: keep the results folder together."
            )
        return str(said)

    def recording(self, video: str) -> str | None:
        """From the manifest beside the features, which `tailor run` does not write."""
        path = self._files.get(video)
        return None if path is None else recording_md5(manifest_of(path.parent))

    def schema(self, video: str) -> pl.Schema:
        """Types by name, since an empty column of a CSV could be anything."""
        head = pl.read_csv(self._files[video], n_rows=0, infer_schema=False)
        return pl.Schema({name: self._kind(name) for name in head.columns})

    def read(self, video: str, columns: Sequence[str]) -> pl.DataFrame:
        """Numbers, true and false as 1 and 0; raises PermanentProblem where a cell is neither."""
        path = self._files[video]
        try:
            # As text first: what a column of empty cells is cannot be inferred.
            text = pl.read_csv(path, columns=list(columns), infer_schema=False)
            return text.select(
                pl.col(name).replace({"true": "1", "false": "0"}).cast(self._kind(name))
                for name in columns
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            first = " ".join(str(error).split())[:200]
            raise PermanentProblem(
                f"{path} is no table of features ({first}): process the video again."
            ) from error

    def player_times(self, video: str, source_frames: np.ndarray | None) -> np.ndarray | None:
        """None: what the container says is not among the results."""
        return None

    @staticmethod
    def _kind(name: str) -> pl.DataType:
        if name in ("frame", "source_frame"):
            return pl.Int64()
        return pl.String() if name.endswith("_state") else pl.Float64()
