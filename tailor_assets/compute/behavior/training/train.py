"""From labelled videos to a candidate: fitted on all of them, validated by video, not yet in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tailor_assets.compute.behavior.sklearn_model import SklearnModel
from tailor_assets.compute.behavior.training.evaluation import Progress, Rival, evaluate_recipe
from tailor_assets.compute.behavior.training.labelled_data import LabelledData
from tailor_assets.compute.behavior.training.model_description import (
    ModelDescription,
    libraries_here,
)
from tailor_assets.compute.behavior.training.recipe import FittedModel, Recipe, fit_model
from tailor_assets.compute.behavior.training.registry import ModelRegistry
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.version import TAILOR_VERSION


@dataclass(frozen=True)
class Candidate:
    """A new version of a model, what was found of it, and the version it was compared with."""

    name: str
    version: int
    hash: str
    evaluation: dict[str, Any]
    in_force: int | None


def train_candidate(
    registry: ModelRegistry,
    name: str,
    data: LabelledData,
    recipe: Recipe,
    *,
    features_version: str,
    who: str,
    warnings: Sequence[str] = (),
    learning_curve: bool = True,
    progress: Progress | None = None,
) -> Candidate:
    """Validate, train with everything, and store as a new version; nothing is promoted.

    Where a version of that name is in force, it is tested on the same folds of the same data, as it
    would be without the tested videos. ``warnings`` go into the report. Raises
    PermanentProblem, with one sentence, for data that no model can be made of.
    """
    in_force = registry.in_force(name)
    rival, why_not = _rival(registry, name, in_force, data, features_version)
    evaluation = evaluate_recipe(
        data, recipe, rival=rival, learning_curve=learning_curve, progress=progress
    )
    evaluation["warnings"] += [*warnings, *why_not]
    fitted = fit_model(data, np.arange(len(data.codes)), recipe)
    training = {
        "recipe": recipe.model_dump(mode="json", exclude={"columns"}),
        "videos": list(data.names),
        "rows": len(data.codes),
        "data_hash": data.data_hash,
        "features_hash": data.features_hash,
        "folds_hash": evaluation["folds_hash"],
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "trained_by": who,
        "tailor": TAILOR_VERSION,
    }

    def make(version: int) -> SklearnModel:
        return _as_model(fitted, name, version, features_version, training)

    version = registry.add(name, make, evaluation, who=who)
    stored = registry.load(name, version)
    return Candidate(name, version, stored.hash, evaluation, in_force)


def _as_model(
    fitted: FittedModel,
    name: str,
    version: int,
    features_version: str,
    training: Mapping[str, Any],
) -> SklearnModel:
    """A fitted model with its description, as predictions are made by."""
    description = ModelDescription(
        name=name,
        version=version,
        features_version=features_version,
        feature_columns=fitted.recipe.columns,
        labels=fitted.labels,
        calibration=fitted.calibration,
        smoothing=fitted.smoothing,
        libraries=libraries_here(),
        sha256="0" * 64,  # of the file, which is not written yet
        training=dict(training),
    )
    return SklearnModel(description, fitted.estimator)


def columns_in_force(registry: ModelRegistry, name: str) -> tuple[str, ...]:
    """Columns that the version in force needs to be compared; none where there is none."""
    version = registry.in_force(name)
    if version is None:
        return ()
    try:
        return registry.description(name, version).feature_columns
    except PermanentProblem:
        return ()


def _rival(
    registry: ModelRegistry,
    name: str,
    in_force: int | None,
    data: LabelledData,
    features_version: str,
) -> tuple[Rival | None, list[str]]:
    """The version in force as a recipe; None, and why, where it cannot be made with these features."""
    if in_force is None:
        return None, []
    without = f"Version {in_force} of {name}, which is in force, could not be tested beside it"
    try:
        model = registry.load(name, in_force)
    except PermanentProblem as problem:
        return None, [f"{without}: {problem}"]  # a candidate is how one gets out of this
    training = model.description.training
    if model.features_version != features_version:
        return None, [f"{without}: it was made for features of version {model.features_version}."]
    if not set(model.feature_columns) <= set(data.columns) or "recipe" not in training:
        return None, [f"{without}: it needs features that these videos lack."]
    recipe = Recipe(columns=model.feature_columns, **training["recipe"])
    return Rival(in_force, recipe, tuple(training.get("videos", ()))), []
