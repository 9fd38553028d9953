"""How labelled data are divided for validation, and what models say of rows they never saw."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tailor_assets.compute.behavior.training.folds import (
    BLOCKS,
    Fold,
    contiguous_blocks,
    videos_in_folds,
)
from tailor_assets.compute.behavior.training.labelled_data import LabelledData
from tailor_assets.compute.behavior.training.recipe import Recipe, fit_model

MOST_FOLDS = 20


@dataclass(frozen=True)
class Validation:
    """How the data are divided: the same for every recipe that is to be compared."""

    folds: tuple[Fold, ...]
    how: str
    warning: str | None

    @cached_property
    def hash(self) -> str:
        """sha256 of which rows are trained with and tested, fold by fold."""
        digest = hashlib.sha256()
        for fold in self.folds:
            for rows in (fold.train, fold.test):
                digest.update(len(rows).to_bytes(8, "little"))
                digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
        return digest.hexdigest()


def divide(data: LabelledData, purge_s: float) -> Validation:
    """Leave one video out; whole videos in folds where there are very many; blocks of one video.

    purge_s: seconds left out beside a block of the one video.
    """
    videos = len(data.names)
    if videos > 1:
        how = (
            "leave one video out"
            if videos <= MOST_FOLDS
            else f"{MOST_FOLDS} folds of whole videos, about {videos / MOST_FOLDS:.0f} in each"
        )
        return Validation(tuple(videos_in_folds(data.video, MOST_FOLDS)), how, None)
    return Validation(
        tuple(contiguous_blocks(data.timestamps_s, BLOCKS, purge_s)),
        f"{BLOCKS} blocks of one video, {purge_s:g} s left out beside each",
        "THERE IS ONE LABELLED VIDEO. The model was tested on other minutes of the recording it was "
        "trained with: the same animal, camera and light. How it does on another video is not known; "
        "label a second one.",
    )


def cross_validate(
    data: LabelledData,
    recipe: Recipe,
    folds: Sequence[Fold],
    *,
    only_videos: Sequence[str] | None = None,
    progress: Callable[[], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What models say of rows they were not trained with: two float64 [rows, labels].

    The first is the estimator's own word, the second is calibrated and smoothed. only_videos: train
    with no others. NaN in a fold that leaves fewer than two behaviours to train with.
    """
    raw = np.full((len(data.codes), len(data.labels)), np.nan)
    finished = raw.copy()
    allowed = np.isin(np.array(data.names), list(only_videos or data.names))[data.video]
    for fold in folds:
        train = fold.train[allowed[fold.train]]
        if np.unique(data.codes[train]).size > 1:
            model = fit_model(data, train, recipe)
            raw[fold.test] = model.raw(data, fold.test)
            finished[fold.test] = model.finish(raw[fold.test], data, fold.test)
        if progress is not None:
            progress()
    return raw, finished


def without_nan(value: Any) -> Any:
    """The same with None where a number is not defined: JSON knows no other."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
