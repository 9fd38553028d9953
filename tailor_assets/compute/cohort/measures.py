"""What one video comes to: a number with a unit for each measure, or none where there is no data.

Adding a measure touches this file (and docs/cohort.md, which a test holds against it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import is_probability, probability_column
from tailor_assets.compute.behavior.bout_table import bout_statistics, bout_table
from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.motion_features import mean_over_steps

# Columns that measures and NWB files are made from; a features table has hundreds.
FEATURE_COLUMNS = (
    "frame", "timestamp_s", "mask_quality", "centroid_x", "centroid_y", "speed_px_s", "speed_cm_s",
    "path_length_px", "path_length_cm", "nest_entries", "nest_time_s",
)  # fmt: skip
PREDICTION_COLUMNS = (
    "frame", "timestamp_s", "behavior", "model_name", "model_version", "model_hash",
    "features_version",
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One measure. ``kind`` groups those that are drawn together, ``about`` says it in words."""

    name: str
    unit: str
    kind: str
    about: str


# Per behaviour, named as the column of ``bout_statistics`` that it is.
OF_BEHAVIOR = {
    "share": Measure("share", "1", "share", "share of the time whose behaviour is known"),
    "total_s": Measure("total_time", "s", "total_time", "time"),
    "bouts": Measure("bout_count", "1", "bout_count", "number of bouts"),
    "mean_s": Measure("mean_bout", "s", "mean_bout", "mean length of a bout"),
    "latency_s": Measure("latency", "s", "latency", "time from the first frame to the first bout"),
}
OF_VIDEO = (
    Measure("distance_travelled", "cm or px", "movement", "distance walked while seen"),
    Measure("mean_speed", "cm/s or px/s", "movement", "distance / time of the steps seen"),
    Measure("time_in_nest", "s", "nest", "time spent in the nest"),
    Measure("nest_entries", "1", "nest", "number of visits to the nest"),
    Measure("frames_without_data", "1", "recording", "share of frames without a behaviour"),
    Measure("duration", "s", "recording", "time recorded"),
)


@dataclass(frozen=True)
class VideoTables:
    """One video's results.

    features: a row per frame with columns of ``FEATURE_COLUMNS``, as many as there are.
    predictions: the same rows, with those of ``PREDICTION_COLUMNS`` and ``probability_<label>``.
    about: what is known of how they were made, for provenance; text by text.
    """

    features: pl.DataFrame
    predictions: pl.DataFrame
    px_per_cm: float | None = None
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VideoMeasures:
    """Numbers of one video; None is "no data".

    of_behavior: by label, then by measure. model_columns: the probability columns of its model, which
    name labels that never came up. of_video: measure to (unit, value). model: name, version, hash.
    """

    of_behavior: Mapping[str, Mapping[str, float | None]]
    model_columns: Sequence[str]
    of_video: Mapping[str, tuple[str, float | None]]
    model: str = ""


def wanted_columns(columns: Sequence[str], table: str) -> list[str]:
    """Those of ``columns`` that are read, of the ``features`` or the ``predictions``."""
    wanted = FEATURE_COLUMNS if table == "features" else PREDICTION_COLUMNS
    return [
        name
        for name in columns
        if name in wanted or (table == "predictions" and is_probability(name))
    ]


def measure_video(tables: VideoTables) -> VideoMeasures:
    """All measures of one video; O(rows), and nothing of the tables is kept.

    Raises PermanentProblem for predictions that are not as they should be (``bout_table``),
    or not of the same frames as the features.
    """
    if tables.features.height != tables.predictions.height:
        raise PermanentProblem(
            f"There are {tables.features.height} rows of features and {tables.predictions.height} of "
            "predictions, so they are not of the same frames: make the predictions again."
        )
    bouts = bout_table(tables.predictions)
    columns = [name for name in tables.predictions.columns if is_probability(name)]
    known = bouts.filter(pl.col("behavior") != NO_DATA)
    by_label: dict[str, dict[str, float | None]] = {}
    if known.height:
        seen = known["behavior"].unique(maintain_order=True).to_list()
        for row in bout_statistics(bouts, seen).iter_rows(named=True):
            by_label[row["behavior"]] = {
                measure.name: None if row[column] is None else float(row[column])
                for column, measure in OF_BEHAVIOR.items()
            }
    rows = tables.predictions.height
    lost = int((tables.predictions["behavior"] == NO_DATA).sum())
    of_video = {
        **_movement(tables.features),
        "time_in_nest": ("s", _last(tables.features, "nest_time_s")),
        "nest_entries": ("1", _last(tables.features, "nest_entries")),
        "frames_without_data": ("1", lost / rows if rows else None),
        "duration": ("s", float(bouts["duration_s"].sum()) if rows > 1 else None),
    }
    return VideoMeasures(by_label, columns, of_video, _model(tables.predictions))


def never(measures: VideoMeasures, label: str) -> Mapping[str, float | None]:
    """The measures of a behaviour that did not come up in a video.

    Where its model knows the label and something is known of the video, it came up 0 times and has no
    mean bout and no latency; else there is no data.
    """
    if measures.of_behavior and probability_column(label) in measures.model_columns:
        return {"share": 0.0, "total_time": 0.0, "bout_count": 0.0, "mean_bout": None,
                "latency": None}  # fmt: skip
    return {measure.name: None for measure in OF_BEHAVIOR.values()}


def _movement(features: pl.DataFrame) -> dict[str, tuple[str, float | None]]:
    """Distance and mean speed, in centimetres where the scale is known."""
    unit = "cm" if "path_length_cm" in features.columns else "px"
    distance = _last(features, f"path_length_{unit}")
    speed = None
    name = f"speed_{unit}_s"
    if name in features.columns and features.height > 1:
        times = features["timestamp_s"].cast(pl.Float64).to_numpy()
        speeds = features[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        speed = mean_over_steps(times, speeds)
    # A path of which no step was seen is not a path of no length.
    distance = None if speed is None else distance
    return {"distance_travelled": (unit, distance), "mean_speed": (f"{unit}/s", speed)}


def _last(features: pl.DataFrame, name: str) -> float | None:
    """The greatest value of a column that only grows; None where it has none."""
    if name not in features.columns:
        return None
    most = features[name].cast(pl.Float64).max()
    return None if most is None else float(most)  # type: ignore[arg-type]


def _model(predictions: pl.DataFrame) -> str:
    names = [n for n in ("model_name", "model_version", "model_hash") if n in predictions.columns]
    if not names or not predictions.height:
        return ""
    first = predictions.row(0, named=True)
    return " ".join(str(first[name])[:12] for name in names)
