"""Features and a person's labels of several videos in one table of numbers.

Only rows that have both a label and an animal are kept, as 32-bit floats: what a model is trained
with, and asked with later, has seven digits, whichever file it came from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import has_animal, probability_column
from tailor_assets.compute.behavior.bouts import longest_step_s
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.lengths_in_cm import (
    columns_made_in_cm,
    in_centimetres,
    number_of,
    read_from,
)

LARGEST_TABLE_BYTES = 6 << 30
_KEYS = {"frame", "source_frame", "timestamp_s"}
# Where in the picture and which way in it, how much so far, and how sure the segmenter was: true of
# one recording only.
_OF_ONE_RECORDING = re.compile(
    r"centroid_[xy]|bbox_\w+|orientation|orientation_double_\w+|(body_)?heading_(sin|cos)"
    r"|path_length_\w+|nest_(entries|latency_s|time_s)|\w*mask_(quality|state)[\w.]*"
    # Of keypoints: how sure the tracker was, and directions in the picture.
    r"|\w+_likelihood[\w.]*|\w+_direction_(sin|cos)"
)
_WINDOW = re.compile(r"_(\d+(?:\.\d+)?)s$")


@dataclass(frozen=True)
class LabelledVideo:
    """Rows of one video that have a label and an animal.

    features: float32 [n, columns], NaN where missing; labels: str [n]; timestamps_s: float64 [n];
    stretches: int64 [n], the same number for rows that follow one another without a gap.
    ``without_data`` counts labelled rows in which the animal was lost: no model can say anything
    there, so they are left out and told of.
    """

    name: str
    columns: tuple[str, ...]
    features: np.ndarray
    labels: np.ndarray
    timestamps_s: np.ndarray
    stretches: np.ndarray
    without_data: int


@dataclass(frozen=True)
class LabelledData:
    """All videos together; ``codes`` are places in ``labels``, ``video`` places in ``names``."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    features: np.ndarray
    codes: np.ndarray
    timestamps_s: np.ndarray
    video: np.ndarray
    stretches: np.ndarray
    without_data: int

    def matrix(self, rows: np.ndarray, columns: Sequence[str]) -> np.ndarray:
        """float64 [rows, columns]."""
        if tuple(columns) == self.columns:
            return self.features[rows].astype(np.float64)
        places = [self.columns.index(name) for name in columns]
        return self.features[rows][:, places].astype(np.float64)

    def stretches_of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of the stretches that these rows are in, which those left out break, too.

        rows: int64, increasing. int64 [rows], never decreasing.
        """
        return self.stretches[rows] + np.concatenate([[0], np.cumsum(np.diff(rows) > 1)])

    @cached_property
    def data_hash(self) -> str:
        """sha256 of which rows of which videos have which label."""
        digest = hashlib.sha256("\0".join((*self.names, "", *self.labels)).encode())
        for array in (self.codes, self.video, np.round(self.timestamps_s, 6)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @cached_property
    def features_hash(self) -> str:
        """sha256 of the names and values of all features."""
        digest = hashlib.sha256("\0".join(self.columns).encode())
        digest.update(np.ascontiguousarray(self.features).tobytes())
        return digest.hexdigest()


def trainable_columns(tables: Iterable[dict[str, pl.DataType] | pl.Schema]) -> tuple[str, ...]:
    """Columns that a model may be trained with, in the order of the first table.

    tables: names and types of the columns of each video's features. Numbers that all videos have,
    without those that are true of one recording only (place and direction in the picture, distance
    so far, quality of the mask). A length, and what is made of one, is in centimetres where all
    videos have a scale, and in pixels otherwise. Raises PermanentProblem where nothing is left.
    """
    tables = list(tables)
    common = set.intersection(*(set(table) for table in tables)) if tables else set()
    numbers = [
        name
        for name, kind in (tables[0].items() if tables else ())
        if name in common
        and name not in _KEYS
        and (kind.is_numeric() or kind == pl.Boolean)
        and not _OF_ONE_RECORDING.fullmatch(name)
    ]
    if numbers:
        kinds_of_table = {tuple(table) for table in tables}
        numbers += [
            name
            for name in columns_made_in_cm(tables[0])
            if not _OF_ONE_RECORDING.fullmatch(name)
            and all(read_from(name, there) for there in kinds_of_table)
        ]
    every = set(numbers)
    chosen = tuple(name for name in numbers if in_centimetres(name) not in every)
    if not chosen:
        raise PermanentProblem(
            "The labelled videos have no feature in common that a model could be trained with: make "
            "their features again with one version and one feature set."
        )
    return chosen


def widest_window_s(columns: Iterable[str]) -> float:
    """Seconds of the widest window that any of these columns looks at; 0 without windows."""
    found = (_WINDOW.search(name) for name in columns)
    return max((float(match[1]) for match in found if match), default=0.0)


def labelled_video(
    name: str, table: pl.DataFrame, labels: Sequence[str | None], columns: Sequence[str]
) -> LabelledVideo:
    """Take what a model learns from out of a video's features and the labels of its rows.

    Raises PermanentProblem where the features lack a column or have another number of rows.
    """
    needed = (*columns, "timestamp_s", "mask_quality")
    missing = [name for name in needed if not read_from(name, table.columns)]
    if missing:
        raise PermanentProblem(
            f"The features of {name} lack {', '.join(missing[:5])}: make the features again, with "
            "one feature set for all labelled videos."
        )
    if table.height != len(labels):
        raise PermanentProblem(
            f"{name} has {table.height} rows of features and {len(labels)} labels: label the rows "
            "that are there."
        )
    labelled = np.array([label is not None for label in labels], dtype=bool)
    found = has_animal(table)
    rows = np.flatnonzero(labelled & found)
    timestamps_s = table["timestamp_s"].cast(pl.Float64).to_numpy()
    matrix = numbers_of(table, columns)
    return LabelledVideo(
        name=name,
        columns=tuple(columns),
        features=np.ascontiguousarray(matrix[rows], dtype=np.float32),
        labels=np.array([labels[row] for row in rows.tolist()], dtype=object),
        timestamps_s=timestamps_s[rows],
        stretches=stretches_of(rows, timestamps_s),
        without_data=int((labelled & ~found).sum()),
    )


def numbers_of(table: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """What a model is trained and asked with: float32 [rows, columns], NaN where missing.

    A column in centimetres is made where it is not there (lengths_in_cm.py).
    """
    there = table.columns
    return table.select(
        number_of(column, there).fill_null(np.nan).cast(pl.Float32) for column in columns
    ).to_numpy()


def stretches_of(rows: np.ndarray, timestamps_s: np.ndarray) -> np.ndarray:
    """Numbers of the unbroken stretches that the chosen rows of one video are in: int64 [rows].

    rows: int64, increasing. A row that was not chosen ends a stretch, and so does a pause in the
    recording of more than 1 s (or one and a half median steps, where that is more).
    """
    if not rows.size:
        return np.zeros(0, dtype=np.int64)
    broken = (np.diff(rows) > 1) | (np.diff(timestamps_s[rows]) > longest_step_s(timestamps_s))
    return np.concatenate([[0], np.cumsum(broken)]).astype(np.int64)


def join_videos(videos: Iterable[LabelledVideo]) -> LabelledData:
    """Put videos together, in the order of their names. Each is read when its turn comes.

    Raises PermanentProblem without labelled rows, for one label only, for two that are alike, and
    for more numbers than memory should be asked for.
    """
    kept: list[LabelledVideo] = []
    size = 0
    for video in videos:
        size += video.features.nbytes
        if size > LARGEST_TABLE_BYTES:
            raise PermanentProblem(
                f"The labelled rows are more than {LARGEST_TABLE_BYTES >> 30} GB of features: name "
                "fewer columns, or label less of each video."
            )
        kept.append(video)
    kept.sort(key=lambda video: video.name)
    used = [video for video in kept if video.labels.size]
    labels = sorted({str(label) for video in used for label in video.labels})
    without_data = sum(video.without_data for video in kept)
    if len(labels) < 2:
        raise PermanentProblem(
            f"The labels name {len(labels)} behaviour ({', '.join(labels) or 'none'}) of frames that "
            f"have an animal, and a model tells at least two apart: label another, or say what the "
            "rest of the time is (`--rest`)."
        )
    _refuse_alike(labels)
    code = {label: number for number, label in enumerate(labels)}
    stretches, before = [], 0
    for video in used:
        stretches.append(video.stretches + before)
        before = int(stretches[-1][-1]) + 1
    return LabelledData(
        names=tuple(video.name for video in used),
        labels=tuple(labels),
        columns=used[0].columns,
        features=np.concatenate([video.features for video in used]),
        codes=np.array([code[str(x)] for video in used for x in video.labels], dtype=np.int64),
        timestamps_s=np.concatenate([video.timestamps_s for video in used]),
        video=np.repeat(np.arange(len(used)), [video.labels.size for video in used]),
        stretches=np.concatenate(stretches),
        without_data=without_data,
    )


def _refuse_alike(labels: Sequence[str]) -> None:
    """Raise PermanentProblem for two labels that would be one column of the predictions."""
    by_column: dict[str, str] = {}
    for label in labels:
        other = by_column.setdefault(probability_column(label), label)
        if other != label:
            raise PermanentProblem(
                f"The labels {other!r} and {label!r} differ in their spaces alone and cannot be told "
                "apart in the results: write one of them as the other in the label files."
            )
