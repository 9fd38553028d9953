"""Results as ``tailor run`` and the Drive have them: folders of CSV files, found under one folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tailor_assets.compute.cohort.measures import VideoTables, wanted_columns
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.results_folder import (
    FEATURES_ENDING,
    features_files,
    manifest_of,
    scale_of,
)

_PREDICTIONS = "_prediction.csv"
_WORDS = ("behavior", "model_name", "model_version", "model_hash", "features_version")
_INTEGERS = ("frame",)


class ResultsFolders:
    """Results of videos under ``root``.

    A video is named as its results are (``m3v1`` of ``m3v1_features.csv``), by its partition key in
    ``manifest.json``, or by the path of its results folder, from ``root`` or absolute.
    """

    def __init__(self, root: Path) -> None:
        """Looks for ``<video>_features.csv``. Raises PermanentProblem where there is no folder."""
        if not root.is_dir():
            raise PermanentProblem(
                f"The folder of results {root} is not there: give the folder that `tailor run --out` "
                "has written to."
            )
        self._root = root
        self._found: dict[str, list[Path]] = {}
        for features in features_files(root):
            name = features.name.removesuffix(FEATURES_ENDING)
            key = manifest_of(features.parent).get("partition")
            for known_as in {name, key} - {None}:
                self._found.setdefault(str(known_as), []).append(features)

    def has(self, video: str) -> bool:
        """Whether there are features and predictions of it."""
        path = self._features(video)
        return path is not None and _beside(path).is_file()

    def read(self, video: str) -> VideoTables:
        """Its tables. Raises PermanentProblem for files that are no such tables."""
        path = self._features(video)
        if path is None:
            raise PermanentProblem(f"There are no results of {video} under {self._root}.")
        manifest = manifest_of(path.parent)
        features = _read(path, "features")
        predictions = _read(_beside(path), "predictions")
        about = {
            what: str(manifest[name])
            for what, name in (
                ("partition", "partition"),
                ("results by tailor", "tailor_version"),
                ("segmenter", "segmenter"),
                ("template", "template"),
            )
            if manifest.get(name) is not None
        }
        return VideoTables(
            features,
            predictions,
            scale_of(manifest, features),
            {"results": path.name.removesuffix(FEATURES_ENDING), **about, **model_of(predictions)},
        )

    def _features(self, video: str) -> Path | None:
        """The features table of a video, None where there is none or it is not clear which."""
        found = self._found.get(video, [])
        if len(found) > 1:
            raise PermanentProblem(
                f"There are results of {len(found)} videos named {video!r} under {self._root} "
                f"({found[0].parent} and {found[1].parent}): give the path of the results folder in "
                "the cohort file."
            )
        if found:
            return found[0]
        folder = self._root / video
        here = sorted(folder.glob(f"*{FEATURES_ENDING}")) if folder.is_dir() else []
        return here[0] if len(here) == 1 else None


def model_of(predictions: pl.DataFrame) -> dict[str, str]:
    """Which model scored a video, and on features of which version."""
    names = [name for name in _WORDS if name != "behavior" and name in predictions.columns]
    first = predictions.select(names).row(0, named=True) if predictions.height and names else {}
    return {name.replace("_", " "): str(value) for name, value in first.items()}


def _beside(features: Path) -> Path:
    return features.with_name(features.name.removesuffix(FEATURES_ENDING) + _PREDICTIONS)


def _read(path: Path, table: str) -> pl.DataFrame:
    try:
        # As text first: what a column of empty cells is cannot be inferred.
        scan = pl.scan_csv(path, infer_schema=False)
        columns = wanted_columns(scan.collect_schema().names(), table)
        return scan.select(pl.col(name).cast(_kind(name)) for name in columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        first = " ".join(str(error).split())[:200]
        raise PermanentProblem(
            f"{path} is no table of {table} ({first}): process the video again."
        ) from None


def _kind(name: str) -> pl.DataType:
    if name in _INTEGERS:
        return pl.Int64()
    return pl.String() if name in _WORDS else pl.Float64()
