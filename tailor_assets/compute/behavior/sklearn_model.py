"""A trained scikit-learn classifier as a behaviour model.

On disk it is a folder: ``model.skops`` with the fitted estimator, ``model.json`` with its
description (``training/model_description.py``), and ``evaluation.json``. A file is loaded only if it
is byte for byte the one its description was written for and holds nothing but what
``training/skops_file.py`` lists.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import has_animal
from tailor_assets.compute.behavior.training.estimators import predict_probabilities
from tailor_assets.compute.behavior.training.labelled_data import numbers_of, stretches_of
from tailor_assets.compute.behavior.training.model_description import (
    ModelDescription,
    check_libraries,
    libraries_here,
    read_description,
)
from tailor_assets.compute.behavior.training.skops_file import read_estimator, write_estimator
from tailor_assets.compute.errors import PermanentProblem

ROWS_AT_ONCE = 65_536  # bounds the copy of the features that the estimator is given
MODEL_FILE, DESCRIPTION_FILE = "model.skops", "model.json"


class SklearnModel:
    """A fitted classifier with its description (see ``behavior_model.BehaviorModel``)."""

    def __init__(self, description: ModelDescription, estimator: Any) -> None:
        """estimator: fitted, with predict_proba; its classes_ are the description's labels."""
        self.description = description
        self._estimator = estimator
        self._order = _check_estimator(description, estimator)

    @classmethod
    def load(cls, folder: Path) -> SklearnModel:
        """Read ``model.skops`` and ``model.json`` of a folder.

        Raises PermanentProblem, in one sentence, when either is missing or damaged, when they do
        not belong together, when the model was made by another version of scikit-learn, and when
        the file holds anything but a classifier that is what the description says.
        """
        folder = Path(folder)
        description = read_description(folder / DESCRIPTION_FILE)
        path = folder / MODEL_FILE
        try:
            content_hash = _sha256(path)
        except OSError as error:
            raise PermanentProblem(
                f"The behaviour model {path} cannot be read ({error.strerror}); choose another "
                "version, or train it again."
            ) from error
        if content_hash != description.sha256:
            raise PermanentProblem(
                f"The behaviour model {path} is not the file its description was written for (its "
                "sha256 differs), so it is not loaded; train it again."
            )
        check_libraries(description)
        with warnings.catch_warnings():
            # Its libraries are those of here, as has just been seen.
            warnings.simplefilter("ignore")
            estimator = read_estimator(path)
        return cls(description, estimator)

    def save(self, folder: Path) -> SklearnModel:
        """Write the two files into a folder that is there; return the model as it will be loaded."""
        path = Path(folder) / MODEL_FILE
        write_estimator(self._estimator, path)
        description = self.description.model_copy(
            update={"sha256": _sha256(path), "libraries": libraries_here()}
        )
        (Path(folder) / DESCRIPTION_FILE).write_text(
            description.model_dump_json(indent=1) + "\n", encoding="utf-8"
        )
        return SklearnModel(description, self._estimator)

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def version(self) -> str:
        return str(self.description.version)

    @property
    def hash(self) -> str:
        """sha256 of all that decides its answers: estimator, columns, calibration, smoothing."""
        return self.description.hash

    @property
    def labels(self) -> tuple[str, ...]:
        return self.description.labels

    @property
    def feature_columns(self) -> tuple[str, ...]:
        return self.description.feature_columns

    @property
    def optional_columns(self) -> tuple[str, ...]:
        return ()

    @property
    def features_version(self) -> str | None:
        return self.description.features_version

    def predict_proba(self, features: pl.DataFrame) -> np.ndarray:
        """float64 [rows, labels], in the order of ``labels``; NaN where it cannot say.

        Empty cells reach the estimator as NaN if it can take them; otherwise such rows are NaN. A
        row without the animal is NaN, and smoothing does not pass over it.
        """
        probabilities = np.full((features.height, len(self.labels)), np.nan)
        takes_missing = _takes_missing_values(self._estimator)
        answerable = has_animal(features)
        for first in range(0, features.height, ROWS_AT_ONCE):
            part = numbers_of(features.slice(first, ROWS_AT_ONCE), self.feature_columns)
            rows = first + np.flatnonzero(answerable[first : first + ROWS_AT_ONCE])
            part = part[rows - first].astype(np.float64)
            if not takes_missing:
                complete = np.all(np.isfinite(part), axis=1)
                part, rows = part[complete], rows[complete]
            if rows.size:
                with warnings.catch_warnings():
                    # Fitted on a named table, asked with a bare matrix in the checked order.
                    warnings.filterwarnings("ignore", "X does not have valid feature names")
                    said = predict_probabilities(self._estimator, part)
                probabilities[rows] = said[:, self._order]
        return self._finish(probabilities, features)

    def _finish(self, probabilities: np.ndarray, features: pl.DataFrame) -> np.ndarray:
        rows = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
        calibrated = self.description.calibration.apply(probabilities[rows])
        if self.description.smoothing.method != "none":
            timestamps_s = features["timestamp_s"].cast(pl.Float64).to_numpy()
            calibrated = self.description.smoothing.apply(
                calibrated, timestamps_s[rows], stretches_of(rows, timestamps_s)
            )
        probabilities[rows] = calibrated
        return probabilities


def _check_estimator(description: ModelDescription, estimator: Any) -> list[int]:
    """Column of the estimator's output for every label, in the description's order."""
    who = f"The behaviour model {description.name} {description.version}"
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        raise PermanentProblem(
            f"{who} is no fitted classifier with probabilities but a "
            f"{type(estimator).__name__}; train one that has predict_proba."
        )
    classes = [str(label) for label in estimator.classes_]
    if sorted(classes) != sorted(description.labels):
        raise PermanentProblem(
            f"{who} was trained for the labels {', '.join(classes)} and its description says "
            f"{', '.join(description.labels)}; train it again."
        )
    expected = getattr(estimator, "n_features_in_", len(description.feature_columns))
    names = getattr(estimator, "feature_names_in_", description.feature_columns)
    if expected != len(description.feature_columns) or list(names) != list(
        description.feature_columns
    ):
        raise PermanentProblem(
            f"{who} was trained on other features ({expected}) than its description names "
            f"({len(description.feature_columns)}), or in another order; train it again."
        )
    for part, size in (
        (description.calibration.curves, len(classes)),
        (description.smoothing.rates_per_s, len(classes)),
    ):
        if part and len(part) != size:
            raise PermanentProblem(
                f"{who} has a calibration or smoothing for {len(part)} labels and "
                f"{size} labels; train it again."
            )
    return [classes.index(label) for label in description.labels]


def _takes_missing_values(estimator: Any) -> bool:
    from sklearn.utils import get_tags

    # Of a pipeline the first step meets the missing values, and may fill them.
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    return bool(get_tags(first).input_tags.allow_nan)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
