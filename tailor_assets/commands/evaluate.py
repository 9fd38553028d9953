"""``tailor evaluate``: a model against people's labels, or a recipe by cross-validation alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.behavior_models import BehaviorModels
from tailor_assets.commands.terminal import progress_bars
from tailor_assets.commands.train import bar, gather_labelled, show_report
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    import numpy as np

    from tailor_assets.compute.behavior.behavior_model import BehaviorModel
    from tailor_assets.compute.behavior.training.label_files import LabelChoice
    from tailor_assets.compute.behavior.training.labelled_data import LabelledData


def cross_validate_only(
    labels: Path,
    features: Path,
    *,
    choice: "LabelChoice",
    columns: Sequence[str],
    settings: dict[str, Any],
    out: Path | None,
) -> list[str]:
    """What ``tailor train`` would report, without making a model."""
    from tailor_assets.compute.behavior.training.evaluation import evaluate_recipe

    with progress_bars():
        gathered, recipe = gather_labelled(
            labels, features, choice=choice, columns=columns, settings=settings
        )
        report = evaluate_recipe(gathered.data, recipe, progress=bar("validating", "models"))
    report["warnings"] += gathered.warnings
    return _finish(report, out)


def evaluate_model(
    name: str,
    labels: Path,
    features: Path,
    *,
    choice: "LabelChoice",
    species: str,
    out: Path | None,
) -> list[str]:
    """A model as it is, trained or the rules, on labelled videos; returns lines for people.

    Videos that it was trained with are named in a warning: of those it knows the answers. Raises
    PermanentProblem for a model that does not fit the features.
    """
    from tailor_assets.compute.behavior.training.evaluation import score_report
    from tailor_assets.compute.behavior.training.sources import (
        ResultsFolders,
        gather,
        label_files,
    )

    model = BehaviorModels().get(name, species=species)
    source = ResultsFolders(features)
    with progress_bars():
        gathered, _ = gather(
            source,
            label_files(labels),
            choice=choice,
            columns=[c for c in model.feature_columns if c != "timestamp_s"],
            progress=bar("reading labelled videos", "videos"),
        )
        data = gathered.data
        probabilities = _answers(model, source, data, gathered.features_version)
    report = score_report(_with_labels(data, model), probabilities, seed=0)
    report["model"] = {"name": model.name, "version": model.version, "hash": model.hash}
    report["warnings"] = [*gathered.warnings, *_known_to(model, data)]
    return _finish(report, out)


def _answers(
    model: "BehaviorModel", source: Any, data: "LabelledData", features_version: str
) -> "np.ndarray":
    """Probabilities of the labelled rows, in the order of all labels, theirs and the model's."""
    import numpy as np

    from tailor_assets.compute.behavior.behavior_model import check_features

    labels = _all_labels(data, model)
    answers = np.full((len(data.codes), len(labels)), np.nan)
    show = bar("asking the model", "videos")
    for number, video in enumerate(data.names):
        # Whole, as it is scored: rules and smoothing look at the rows around each.
        table = source.read(video, list(source.schema(video)))
        check_features(table, model, features_version)
        said = model.predict_proba(table)
        rows = np.flatnonzero(data.video == number)
        places = np.searchsorted(table["timestamp_s"].to_numpy(), data.timestamps_s[rows] - 1e-9)
        full = np.zeros((rows.size, len(labels)))
        for column, label in enumerate(model.labels):
            full[:, labels.index(label)] = said[places, column]
        full[~np.isfinite(said[places]).all(axis=1)] = np.nan
        answers[rows] = full
        show(number + 1, len(data.names))
    return answers


def _all_labels(data: "LabelledData", model: "BehaviorModel") -> tuple[str, ...]:
    return (*data.labels, *(label for label in model.labels if label not in data.labels))


def _with_labels(data: "LabelledData", model: "BehaviorModel") -> "LabelledData":
    from dataclasses import replace

    return replace(data, labels=_all_labels(data, model))


def _known_to(model: "BehaviorModel", data: "LabelledData") -> list[str]:
    description = getattr(model, "description", None)
    if description is None:  # of the rules, which nobody has trained
        return []
    known = sorted(set(description.training.get("videos", ())) & set(data.names))
    if not known:
        return []
    return [
        f"The model was trained with {len(known)} of these {len(data.names)} videos "
        f"({', '.join(known[:3])}{', ...' if len(known) > 3 else ''}), so these figures say little "
        "of other videos: evaluate it on videos that it has not seen."
    ]


def _finish(report: dict[str, Any], out: Path | None) -> list[str]:
    lines = show_report(report)
    if out is not None:
        try:
            out.write_text(
                json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise PermanentProblem(
                f"The report cannot be written to {out} ({error.strerror}): give another --out."
            ) from None
        lines += ["", f"The report is in {out}."]
    return lines
