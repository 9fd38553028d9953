"""A recipe validated on labelled videos that the tested model never saw, and the report of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from tailor_assets.compute.behavior.probabilities import most_probable
from tailor_assets.compute.behavior.training.calibration_scores import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from tailor_assets.compute.behavior.training.comparison import (
    BOOTSTRAP_REPEATS,
    Rival,
    block_s,
    compare,
)
from tailor_assets.compute.behavior.training.folds import Fold
from tailor_assets.compute.behavior.training.labelled_data import LabelledData
from tailor_assets.compute.behavior.training.learning_curve import (
    CURVE_FOLDS,
    curve_point,
    curve_sizes,
)
from tailor_assets.compute.behavior.training.recipe import Recipe
from tailor_assets.compute.behavior.training.scores import (
    BOUT_IOU,
    bootstrap_f1,
    bout_scores,
    confusion_matrix,
    frame_scores,
    macro_f1,
)
from tailor_assets.compute.behavior.training.validation import (
    cross_validate,
    divide,
    without_nan,
)
from tailor_assets.compute.errors import PermanentProblem

EVALUATION_VERSION = 1

Progress = Callable[[int, int | None], None]


def evaluate_recipe(
    data: LabelledData,
    recipe: Recipe,
    *,
    rival: Rival | None = None,
    learning_curve: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Validate by video and report: what ``evaluation.json`` holds (``docs/behavior_models.md``).

    rival: the model in force, tested on the same folds of the same data.
    """
    # Both are tested on the same folds, so these are as far apart as the wider of them looks.
    validation = divide(data, max(recipe.purge_s, rival.recipe.purge_s if rival else 0.0))
    sizes = curve_sizes(validation.folds, data) if learning_curve else []
    tested = validation.folds[:CURVE_FOLDS]
    total = len(validation.folds) * (2 if rival else 1) + len(sizes) * len(tested)
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    raw, finished = cross_validate(data, recipe, validation.folds, progress=one_more)
    if not np.isfinite(finished).all(axis=1).any():
        raise PermanentProblem(
            "Whichever video is left out, the others show one behaviour only, so nothing can be "
            "tested: label every behaviour in two videos or more."
        )
    report = score_report(data, finished, recipe.seed, raw=raw)
    warnings = [validation.warning] if validation.warning else []
    warnings += _thin_classes(data)
    report |= {
        "how": validation.how,
        "warnings": warnings,
        "folds": [_fold_report(data, fold, finished) for fold in validation.folds],
        "folds_hash": validation.hash,
        "recipe": recipe.model_dump(mode="json"),
        "learning_curve": [
            curve_point(data, recipe, validation.folds, tested, size, one_more) for size in sizes
        ],
    }
    if rival is not None:
        report["comparison"] = compare(data, recipe, validation, finished, rival, one_more)
    return report


def score_report(
    data: LabelledData,
    probabilities: np.ndarray,
    seed: int,
    *,
    raw: np.ndarray | None = None,
) -> dict[str, Any]:
    """Agreement of given probabilities with the labels; NaN rows are "no data" and counted.

    probabilities: float64 [rows, labels] of ``data``.
    """
    predicted = most_probable(probabilities)
    said = predicted >= 0
    truth = np.where(said, data.codes, -1)
    drawn_s = block_s(data)
    frames = frame_scores(truth, predicted, data.labels)
    bouts = bout_scores(
        truth, predicted, data.timestamps_s, data.labels, groups=data.stretches, iou=BOUT_IOU
    )
    interval = bootstrap_f1(
        truth,
        predicted,
        data.timestamps_s,
        drawn_s,
        BOOTSTRAP_REPEATS,
        seed,
        groups=data.video,
    )
    report: dict[str, Any] = {
        "format_version": EVALUATION_VERSION,
        "videos": list(data.names),
        "labels": list(data.labels),
        "rows": len(data.codes),
        "rows_per_label": dict(
            zip(
                data.labels,
                np.bincount(data.codes, minlength=len(data.labels)).tolist(),
                strict=True,
            )
        ),
        "labelled_rows_without_animal": data.without_data,
        "rows_not_answered": int((~said).sum()),
        "data_hash": data.data_hash,
        "features_hash": data.features_hash,
        "frames": {
            "macro_f1": macro_f1(frames),
            "interval_95": list(interval),
            "interval_of": "videos" if math.isinf(drawn_s) else f"blocks of {drawn_s:g} s",
            "classes": [asdict(score) for score in frames],
        },
        "bouts": {
            "iou": BOUT_IOU,
            "macro_f1": macro_f1(bouts),
            "classes": [asdict(score) for score in bouts],
        },
        "confusion_matrix": confusion_matrix(truth, predicted, len(data.labels)).tolist(),
        "calibration": _calibration_report(probabilities[said], data.codes[said]),
    }
    if raw is not None:
        report["calibration"]["before"] = _calibration_report(raw[said], data.codes[said])
    return without_nan(report)


def _calibration_report(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    bins = reliability(probabilities, truth)
    return {
        "brier": brier_score(probabilities, truth),
        "expected_calibration_error": expected_calibration_error(bins),
        "reliability": [asdict(row) for row in bins],
    }


def _fold_report(data: LabelledData, fold: Fold, finished: np.ndarray) -> dict[str, Any]:
    predicted = most_probable(finished[fold.test])
    truth = np.where(predicted >= 0, data.codes[fold.test], -1)
    times = data.timestamps_s[fold.test]
    tested = [data.names[video] for video in np.unique(data.video[fold.test])]
    return without_nan(
        {
            "tested": tested,
            "from_s": float(times.min()),
            "to_s": float(times.max()),
            "rows": len(fold.test),
            "trained_with_rows": len(fold.train),
            "macro_f1": macro_f1(frame_scores(truth, predicted, data.labels)),
        }
    )


def _thin_classes(data: LabelledData) -> list[str]:
    """What to say of behaviours that only one video has."""
    if len(data.names) < 2:
        return []
    thin = [
        label
        for code, label in enumerate(data.labels)
        if np.unique(data.video[data.codes == code]).size < 2
    ]
    if not thin:
        return []
    return [
        f"Only one video has {', '.join(thin)}: when it is left out, no model has seen "
        "that behaviour, so its scores are 0 whatever the model is worth; label it in another video."
    ]
