"""What a model is made by, and the model as it comes out: estimator, calibration, smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tailor_assets.compute.behavior.training.calibration import Calibration, fit_calibration
from tailor_assets.compute.behavior.training.choices import (
    CalibrationMethod,
    EstimatorKind,
    SmoothingMethod,
)
from tailor_assets.compute.behavior.training.estimators import (
    fit_estimator,
    make_estimator,
    predict_probabilities,
)
from tailor_assets.compute.behavior.training.folds import (
    BLOCKS,
    PURGE_S,
    Fold,
    contiguous_blocks,
    videos_in_folds,
)
from tailor_assets.compute.behavior.training.labelled_data import LabelledData, widest_window_s
from tailor_assets.compute.behavior.training.smoothing import Smoothing, fit_smoothing
from tailor_assets.compute.errors import PermanentProblem

_CALIBRATION_FOLDS = 3


class Recipe(BaseModel):
    """All that decides a model, but for the data. ``columns`` are the features it is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimator: EstimatorKind = "hist_gradient_boosting"
    calibration: CalibrationMethod = "sigmoid"
    smoothing: SmoothingMethod = "none"
    seed: int = 0
    columns: tuple[str, ...] = Field(min_length=1)

    @property
    def purge_s(self) -> float:
        """Seconds left out beside a block of time: as far as the features look, 2 s at least."""
        return max(PURGE_S, widest_window_s(self.columns))


@dataclass(frozen=True)
class FittedModel:
    """A trained model. ``estimator`` is of scikit-learn, its classes are words of ``labels``."""

    recipe: Recipe
    labels: tuple[str, ...]
    estimator: Any
    calibration: Calibration
    smoothing: Smoothing

    def raw(self, data: LabelledData, rows: np.ndarray) -> np.ndarray:
        """What the estimator alone says: float64 [rows, labels]."""
        return _raw(self.estimator, self.labels, data.matrix(rows, self.recipe.columns))

    def finish(self, raw: np.ndarray, data: LabelledData, rows: np.ndarray) -> np.ndarray:
        """Calibrated and smoothed: float64 [rows, labels]. Rows left out break a stretch."""
        return self.smoothing.apply(
            self.calibration.apply(raw), data.timestamps_s[rows], data.stretches_of_rows(rows)
        )


def fit_model(
    data: LabelledData, rows: np.ndarray, recipe: Recipe, *, finish: bool = True
) -> FittedModel:
    """Train on these rows of the data; ``finish`` False leaves out calibration and smoothing.

    The calibration is fitted on what models trained without a video (or a block of time, where
    there is one video) said of it. Raises PermanentProblem for rows of fewer than two classes.
    """
    labels = np.array(data.labels)
    codes = data.codes[rows]
    if np.unique(codes).size < 2:
        raise PermanentProblem(
            f"Without the videos it is tested with, only {labels[codes[0]]!r} is left to train with: "
            "label every behaviour in two videos or more."
        )
    matrix = data.matrix(rows, recipe.columns)
    calibration, smoothing = Calibration(), Smoothing()
    if finish and recipe.calibration != "none":
        held_out, said = _held_out(data, rows, recipe, matrix)
        calibration = fit_calibration(recipe.calibration, said, codes[held_out])
    if finish:
        smoothing = fit_smoothing(
            recipe.smoothing,
            codes,
            data.timestamps_s[rows],
            data.stretches_of_rows(rows),
            len(data.labels),
            even_prior=calibration.method == "none",
        )
    estimator = fit_estimator(make_estimator(recipe.estimator, recipe.seed), matrix, labels[codes])
    return FittedModel(recipe, data.labels, estimator, calibration, smoothing)


def _held_out(
    data: LabelledData, rows: np.ndarray, recipe: Recipe, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places in ``rows`` and what models said of them that were trained without their videos.

    A model that was shown no row of a behaviour says nothing of it (NaN), and is not asked about
    its rows: a probability of 0 there would teach that the behaviour is likely where it is denied.
    """
    labels = np.array(data.labels)
    codes = data.codes[rows]
    places, said = [], []
    for fold in _calibration_folds(data, rows, recipe):
        shown = np.unique(codes[fold.train])
        test = fold.test[np.isin(codes[fold.test], shown)]
        if shown.size < 2 or not test.size:
            continue  # nothing can be learnt there, and so nothing of what it would say
        estimator = fit_estimator(
            make_estimator(recipe.estimator, recipe.seed),
            matrix[fold.train],
            labels[codes[fold.train]],
        )
        raw = _raw(estimator, data.labels, matrix[test])
        raw[:, np.setdiff1d(np.arange(len(labels)), shown)] = np.nan
        places.append(test)
        said.append(raw)
    if not places:
        raise PermanentProblem(
            "There are too few labels to calibrate with: label every behaviour in two videos or "
            "more, or train with the calibration `none`."
        )
    return np.concatenate(places), np.concatenate(said)


def _calibration_folds(data: LabelledData, rows: np.ndarray, recipe: Recipe) -> Sequence[Fold]:
    videos = data.video[rows]
    count = np.unique(videos).size
    if count > 1:
        return _folds_that_part(videos, data.codes[rows], count)
    return list(contiguous_blocks(data.timestamps_s[rows], BLOCKS, recipe.purge_s))


def _folds_that_part(videos: np.ndarray, codes: np.ndarray, count: int) -> Sequence[Fold]:
    """As few folds as tell something of every behaviour that is in two of the ``count`` videos.

    Where all its videos are tested together, no model that is asked about them knows it.
    """
    in_two = [code for code in np.unique(codes) if np.unique(videos[codes == code]).size > 1]
    for number in range(min(_CALIBRATION_FOLDS, count), count):
        folds = list(videos_in_folds(videos, number))
        if all((codes[fold.train] == code).any() for code in in_two for fold in folds):
            return folds
    return list(videos_in_folds(videos, count))


def _raw(estimator: Any, labels: tuple[str, ...], matrix: np.ndarray) -> np.ndarray:
    """A class that the estimator was never shown has probability 0."""
    said = predict_probabilities(estimator, matrix)
    probabilities = np.zeros((len(matrix), len(labels)))
    for column, label in enumerate(estimator.classes_):
        probabilities[:, labels.index(str(label))] = said[:, column]
    return probabilities
