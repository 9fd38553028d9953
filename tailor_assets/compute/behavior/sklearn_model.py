"""A trained scikit-learn classifier as a behaviour model.

On disk it is two files: ``<name>.joblib`` with the fitted estimator, and ``<name>.json`` with its
description: name, version, features_version, feature_columns, labels, sha256 of the first file.

A joblib file is a program: whoever can write it can run anything here. So a file is loaded only if
it is byte for byte the one its description was written for, and both must come from a folder that
operators alone can write, never from a user's Drive.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.errors import PermanentProblem

ROWS_AT_ONCE = 65_536  # bounds the copy of the features that the estimator is given


class ModelDescription(BaseModel):
    """What ``<name>.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    features_version: str = Field(min_length=1)
    feature_columns: tuple[str, ...] = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=2)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("labels", "feature_columns")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError("names one thing twice")
        if NO_DATA in values:
            raise ValueError(f"must not hold '{NO_DATA}', which no model may predict")
        return values


class SklearnModel:
    """A fitted classifier with its description (see ``behavior_model.BehaviorModel``)."""

    def __init__(self, description: ModelDescription, estimator: Any) -> None:
        """estimator: fitted, with predict_proba; its classes_ are the description's labels."""
        self._description = description
        self._estimator = estimator
        self._order = _check_estimator(description, estimator)

    @classmethod
    def load(cls, path: Path) -> SklearnModel:
        """Read ``<name>.joblib`` and ``<name>.json`` beside it.

        Raises PermanentProblem, in one sentence, when either is missing or damaged, when they do
        not belong together, when the file was made by another version of scikit-learn, and when
        the estimator is not what the description says.
        """
        path = Path(path)
        description = _read_description(path.with_suffix(".json"))
        try:
            content_hash = _sha256(path)
        except OSError as error:
            raise PermanentProblem(
                f"The behaviour model {path.name} cannot be read ({error.strerror}); put the file "
                "in its place or choose another model."
            ) from error
        if content_hash != description.sha256:
            raise PermanentProblem(
                f"The behaviour model {path.name} is not the file its description was written for "
                "(its sha256 differs), so it is not loaded; save the model again."
            )
        return cls(description, _load_estimator(path))

    def save(self, path: Path) -> SklearnModel:
        """Write the two files, the description last, and return the model as it will be loaded."""
        import joblib

        path = Path(path)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            joblib.dump(self._estimator, temporary, compress=3)
            description = self._description.model_copy(update={"sha256": _sha256(temporary)})
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        beside = path.with_suffix(".json")
        temporary = beside.with_name(f".{beside.name}.partial")
        temporary.write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, beside)
        return SklearnModel(description, self._estimator)

    @property
    def name(self) -> str:
        return self._description.name

    @property
    def version(self) -> str:
        return self._description.version

    @property
    def hash(self) -> str:
        """sha256 of the model's file."""
        return self._description.sha256

    @property
    def labels(self) -> tuple[str, ...]:
        return self._description.labels

    @property
    def feature_columns(self) -> tuple[str, ...]:
        return self._description.feature_columns

    @property
    def features_version(self) -> str | None:
        return self._description.features_version

    def predict_proba(self, features: pl.DataFrame) -> np.ndarray:
        """float64 [rows, labels], in the order of ``labels``; NaN where it cannot say.

        Empty cells reach the estimator as NaN if it can take them; otherwise such rows are NaN.
        """
        columns = [pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in self.feature_columns]
        probabilities = np.full((features.height, len(self.labels)), np.nan)
        takes_missing = _takes_missing_values(self._estimator)
        for first in range(0, features.height, ROWS_AT_ONCE):
            part = features.slice(first, ROWS_AT_ONCE).select(columns).to_numpy()
            rows = np.arange(first, first + len(part))
            if not takes_missing:
                complete = np.all(np.isfinite(part), axis=1)
                part, rows = part[complete], rows[complete]
            if rows.size:
                with warnings.catch_warnings():
                    # Fitted on a named table, asked with a bare matrix in the checked order.
                    warnings.filterwarnings("ignore", "X does not have valid feature names")
                    probabilities[rows] = self._estimator.predict_proba(part)[:, self._order]
        return probabilities


def _read_description(path: Path) -> ModelDescription:
    try:
        return ModelDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PermanentProblem(
            f"The behaviour model has no description {path.name} ({error.strerror}); save the "
            "model together with its description."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise PermanentProblem(
            f"The description {path.name} of a behaviour model has a bad {where} "
            f"({first['msg']}); save the model together with its description."
        ) from error
    except ValueError as error:
        raise PermanentProblem(
            f"The description {path.name} of a behaviour model is not JSON ({error}); save the "
            "model together with its description."
        ) from error


def _load_estimator(path: Path) -> Any:
    import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        try:
            return joblib.load(path)
        except InconsistentVersionWarning as error:
            raise PermanentProblem(
                f"The behaviour model {path.name} was trained with scikit-learn "
                f"{error.original_sklearn_version} and this is {error.current_sklearn_version}, "
                "where it may answer differently; train it again here."
            ) from error
        except Exception as error:  # a damaged pickle can raise anything
            raise PermanentProblem(
                f"The behaviour model {path.name} cannot be loaded ({type(error).__name__}: "
                f"{error}); save the model again."
            ) from error


def _check_estimator(description: ModelDescription, estimator: Any) -> list[int]:
    """Column of the estimator's output for every label, in the description's order."""
    who = f"The behaviour model {description.name} {description.version}"
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        raise PermanentProblem(
            f"{who} is no fitted classifier with probabilities but a "
            f"{type(estimator).__name__}; save one that has predict_proba."
        )
    classes = [str(label) for label in estimator.classes_]
    if sorted(classes) != sorted(description.labels):
        raise PermanentProblem(
            f"{who} was trained for the labels {', '.join(classes)} and its description says "
            f"{', '.join(description.labels)}; correct the description."
        )
    expected = getattr(estimator, "n_features_in_", len(description.feature_columns))
    names = getattr(estimator, "feature_names_in_", description.feature_columns)
    if expected != len(description.feature_columns) or list(names) != list(
        description.feature_columns
    ):
        raise PermanentProblem(
            f"{who} was trained on other features ({expected}) than its description names "
            f"({len(description.feature_columns)}), or in another order; correct the description."
        )
    return [classes.index(label) for label in description.labels]


def _takes_missing_values(estimator: Any) -> bool:
    from sklearn.utils import get_tags

    return bool(get_tags(estimator).input_tags.allow_nan)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
