"""A candidate beside the version in force: the same folds of the same data, video by video."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailor_assets.compute.behavior.probabilities import most_probable
from tailor_assets.compute.behavior.training.labelled_data import LabelledData
from tailor_assets.compute.behavior.training.recipe import Recipe
from tailor_assets.compute.behavior.training.scores import (
    bootstrap_difference,
    frame_scores,
    macro_f1,
)
from tailor_assets.compute.behavior.training.validation import (
    Validation,
    cross_validate,
    without_nan,
)

BOOTSTRAP_REPEATS = 2000
BLOCK_S = 10.0
# From so many videos on, an interval draws videos and not blocks of time: what is asked is how well
# a model does on the next video.
VIDEOS_TO_DRAW = 8


def block_s(data: LabelledData) -> float:
    """Seconds of what a bootstrap draws: blocks of time, or whole videos where there are enough."""
    return math.inf if len(data.names) >= VIDEOS_TO_DRAW else BLOCK_S


@dataclass(frozen=True)
class Rival:
    """The model in force, as it would be without each fold: its recipe and the videos it had."""

    version: int
    recipe: Recipe
    videos: tuple[str, ...]


def compare(
    data: LabelledData,
    recipe: Recipe,
    validation: Validation,
    finished: np.ndarray,
    rival: Rival,
    one_more: Callable[[], None],
) -> dict[str, Any]:
    """The rival on the same folds, trained with the videos it had but for the tested ones.

    Folds in which it has nothing left to learn from are left out for both.
    """
    _, theirs = cross_validate(
        data, rival.recipe, validation.folds, only_videos=rival.videos, progress=one_more
    )
    ours_codes, their_codes = most_probable(finished), most_probable(theirs)
    both = (ours_codes >= 0) & (their_codes >= 0)
    truth = np.where(both, data.codes, -1)
    low, high = bootstrap_difference(
        truth,
        ours_codes,
        their_codes,
        data.timestamps_s,
        block_s(data),
        BOOTSTRAP_REPEATS,
        recipe.seed,
        groups=data.video,
    )
    ours = macro_f1(frame_scores(truth, ours_codes, data.labels))
    rivals = macro_f1(frame_scores(truth, their_codes, data.labels))
    return without_nan(
        {
            "with_version": rival.version,
            "rows": int(both.sum()),
            "folds_hash": validation.hash,
            "data_hash": data.data_hash,
            "macro_f1": ours,
            "macro_f1_in_force": rivals,
            "difference": ours - rivals,
            "difference_interval_95": [low, high],
        }
    )
