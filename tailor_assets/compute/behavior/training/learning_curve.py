"""How much better a model becomes with more labelled videos, and so whether to label more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tailor_assets.compute.behavior.probabilities import most_probable
from tailor_assets.compute.behavior.training.folds import Fold
from tailor_assets.compute.behavior.training.labelled_data import LabelledData
from tailor_assets.compute.behavior.training.recipe import Recipe, fit_model
from tailor_assets.compute.behavior.training.scores import ClassScore, frame_scores, macro_f1
from tailor_assets.compute.behavior.training.validation import without_nan

CURVE_FOLDS = 5


def curve_sizes(folds: Sequence[Fold], data: LabelledData) -> list[int]:
    """Numbers of training videos, or of training blocks of the one video: 1, 2, 4, ... all."""
    most = (len(data.names) if len(data.names) > 1 else len(folds)) - 1
    if len(data.names) > len(folds):  # whole videos in folds
        most = len(data.names) - math.ceil(len(data.names) / len(folds))
    sizes = [2**power for power in range(10) if 2**power < most]
    return [*sizes, most]


def curve_point(
    data: LabelledData,
    recipe: Recipe,
    folds: Sequence[Fold],
    tested: Sequence[Fold],
    size: int,
    one_more: Callable[[], None],
) -> dict[str, Any]:
    """Macro F1 with ``size`` videos (or blocks), without calibration and smoothing."""
    predicted = np.full(len(data.codes), -1, dtype=np.int64)
    for number, fold in enumerate(tested):
        # Those that follow the tested one, round the end: the same for every recipe.
        if len(data.names) > 1:
            last = int(data.video[fold.test].max())
            order = [(last + 1 + k) % len(data.names) for k in range(len(data.names))]
            trained = set(np.unique(data.video[fold.train]).tolist())
            chosen = [video for video in order if video in trained][:size]
            train = fold.train[np.isin(data.video[fold.train], chosen)]
        else:
            others = [folds[(number + 1 + k) % len(folds)].test for k in range(size)]
            train = np.intersect1d(fold.train, np.concatenate(others))
        if np.unique(data.codes[train]).size > 1:
            model = fit_model(data, train, recipe, finish=False)
            predicted[fold.test] = most_probable(model.raw(data, fold.test))
        one_more()
    rows = np.concatenate([fold.test for fold in tested])
    # A fold that had nothing to learn from counts as wrong, not as left out: it cannot be told.
    wrong = _scores_with_unanswered(data, rows, predicted)
    unit = "videos" if len(data.names) > 1 else "share_of_blocks"
    amount = size if len(data.names) > 1 else size / len(folds)
    return without_nan({unit: amount, "macro_f1": macro_f1(wrong)})


def _scores_with_unanswered(
    data: LabelledData, rows: np.ndarray, predicted: np.ndarray
) -> list[ClassScore]:
    classes = len(data.labels)
    answers = np.where(predicted[rows] >= 0, predicted[rows], classes)
    return frame_scores(data.codes[rows], answers, (*data.labels, "no answer"))[:classes]
