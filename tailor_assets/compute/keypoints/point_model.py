"""Train a model on features of tracked points, and say how good it is without fooling oneself.

One recording is divided into blocks of time, with the rows beside a block left out of the training
(``training.folds``). Every choice, of classifiers, smoothing and threshold, is made by a second,
inner division of the training blocks: the tested block has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bouts import BoutCleanUp, clean_up_bouts
from tailor_assets.compute.behavior.training.estimators import (
    fit_estimator,
    make_estimator,
    predict_probabilities,
)
from tailor_assets.compute.behavior.training.folds import BLOCKS, PURGE_S, Fold, contiguous_blocks
from tailor_assets.compute.behavior.training.labelled_data import (
    numbers_of,
    stretches_of,
    trainable_columns,
)
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.rolling_features import rolling_column, rolling_features

INNER_BLOCKS = 4


def model_columns(features: pl.DataFrame) -> tuple[str, ...]:
    """Columns of a keypoint features table that mean the same in another recording."""
    return trainable_columns([features.schema])


@dataclass(frozen=True)
class Learner:
    """Classifiers of ``training.estimators`` whose probabilities are averaged."""

    estimators: tuple[str, ...]
    columns: tuple[str, ...]

    def said(self, answers: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probability of True, float64 [rows], from those of its classifiers."""
        return np.mean([answers[kind] for kind in self.estimators], axis=0)


@dataclass(frozen=True)
class Decision:
    """From probabilities to labels: mean over a centred window, threshold, bout clean-up."""

    mean_over_s: float = 0.0
    threshold: float = 0.5
    stitch_ms: float = 0.0
    min_bout_ms: float = 0.0

    def labels(self, probability: np.ndarray, timestamp_s: np.ndarray) -> np.ndarray:
        """bool [n]. The rows are one stretch of time; see ``labels_of_stretches`` for several."""
        if self.mean_over_s:
            smooth = rolling_features(timestamp_s, {"p": probability}, [self.mean_over_s])
            probability = smooth[rolling_column("p", "mean", self.mean_over_s)]
        codes = (probability >= self.threshold).astype(np.int64)
        clean_up = BoutCleanUp(stitch_ms=self.stitch_ms, min_bout_ms=self.min_bout_ms)
        return clean_up_bouts(codes, timestamp_s, clean_up) == 1

    def labels_of_stretches(
        self, probability: np.ndarray, timestamp_s: np.ndarray, stretches: np.ndarray
    ) -> np.ndarray:
        """bool [n]; nothing passes from one stretch to another (``labelled_data.stretches_of``)."""
        result = np.zeros(probability.size, bool)
        for stretch in np.unique(stretches):
            rows = stretches == stretch
            result[rows] = self.labels(probability[rows], timestamp_s[rows])
        return result


# What the inner division chooses from; written down before anything was measured with it.
DECISIONS = tuple(
    Decision(mean_over_s, threshold, stitch_ms=min_bout_ms / 2, min_bout_ms=min_bout_ms)
    for mean_over_s, threshold, min_bout_ms in product(
        (0.0, 0.3, 0.6), (0.35, 0.5, 0.65), (0.0, 500.0, 900.0)
    )
)


@dataclass(frozen=True)
class NestedResult:
    """What a validation came to. probability, predicted: of each row by a model that never saw its
    block, float64 and bool [rows]. chosen: per block, what the inner division chose, and its F1
    there."""

    probability: np.ndarray
    predicted: np.ndarray
    chosen: list[dict[str, object]]


def f1_score(predicted: np.ndarray, truth: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) of two bool arrays; NaN where neither has a True."""
    both = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(predicted & truth)) / both if both else float("nan")


def validate_nested(
    features: pl.DataFrame,
    truth: np.ndarray,
    learners: Mapping[str, Learner],
    decisions: Sequence[Decision] = DECISIONS,
    *,
    blocks: int = BLOCKS,
    purge_s: float = PURGE_S,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> NestedResult:
    """Predict every row of one recording by a model that was trained without its block of time.

    features: a row per frame; truth: bool [rows], a person's labels. In each training set the
    learner and the decision with the best pooled F1 over ``INNER_BLOCKS`` blocks of that set, the
    first of equals, are chosen, and the learner trained again with all of it. With one learner and
    one decision nothing is chosen and nothing is nested.

    Raises PermanentProblem when the labels do not fit the rows or a block leaves one label only.
    """
    timestamp_s = features["timestamp_s"].to_numpy()
    truth = np.asarray(truth)
    if truth.dtype != bool or truth.shape != timestamp_s.shape:
        raise PermanentProblem(
            f"The labels are {truth.shape} of {truth.dtype} and the features have "
            f"{features.height} rows; give one True or False a row."
        )
    questions = _Questions(features, truth, timestamp_s, purge_s, seed)
    probability = np.full(truth.shape, np.nan)
    predicted = np.zeros(truth.shape, bool)
    chosen = []
    for fold in contiguous_blocks(timestamp_s, blocks, purge_s):
        name, decision, inner_f1 = _choose(questions, learners, decisions, fold.train)
        said = questions.ask({name: learners[name]}, fold)[name]
        probability[fold.test] = said
        predicted[fold.test] = decision.labels(said, timestamp_s[fold.test])
        f1 = f1_score(predicted[fold.test], truth[fold.test])
        chosen.append({"learner": name, **asdict(decision), "inner_f1": inner_f1, "f1": f1})
        if progress is not None:
            progress(f"block {len(chosen)} of {blocks}: {name}, F1 {f1:.3f}")
    return NestedResult(probability, predicted, chosen)


@dataclass(frozen=True)
class _Questions:
    """The recording, and classifiers trained with some of its rows and asked about others."""

    features: pl.DataFrame
    truth: np.ndarray
    timestamp_s: np.ndarray
    purge_s: float
    seed: int

    def ask(self, learners: Mapping[str, Learner], fold: Fold) -> dict[str, np.ndarray]:
        """Each learner's probability of True in the tested rows: float64 [test].

        A classifier that several learners have is trained once.
        """
        if np.unique(self.truth[fold.train]).size < 2:
            raise PermanentProblem(
                "A block of the labels leaves only one behaviour to train with; label more of the "
                "video, or divide it into fewer blocks."
            )
        result = {}
        answers: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
        for name, learner in learners.items():
            of_columns = answers.setdefault(learner.columns, {})
            matrix = _matrix(self.features, learner.columns)
            for kind in learner.estimators:
                if kind not in of_columns:
                    estimator = make_estimator(kind, self.seed)
                    fit_estimator(estimator, matrix[fold.train], self.truth[fold.train])
                    said = predict_probabilities(estimator, matrix[fold.test])
                    of_columns[kind] = said[:, 1]
            result[name] = learner.said(of_columns)
        return result


def _choose(
    questions: _Questions,
    learners: Mapping[str, Learner],
    decisions: Sequence[Decision],
    rows: np.ndarray,
) -> tuple[str, Decision, float | None]:
    """Best learner and decision on blocks of ``rows``, and their F1; None where nothing was asked."""
    if not learners or not decisions:
        raise PermanentProblem("There is nothing to choose from; give a learner and a decision.")
    if len(learners) == 1 and len(decisions) == 1:
        return next(iter(learners)), decisions[0], None
    times, labels = questions.timestamp_s[rows], questions.truth[rows]
    said = {name: np.full(labels.shape, np.nan) for name in learners}
    for inner in contiguous_blocks(times, INNER_BLOCKS, questions.purge_s):
        fold = Fold(rows[inner.train], rows[inner.test])
        for name, probability in questions.ask(learners, fold).items():
            said[name][inner.test] = probability
    stretches = stretches_of(rows, questions.timestamp_s)
    ways = [(name, decision) for name in learners for decision in decisions]
    scores = [
        f1_score(decision.labels_of_stretches(said[name], times, stretches), labels)
        for name, decision in ways
    ]
    best = int(np.nanargmax(scores))
    return (*ways[best], scores[best])


def _matrix(features: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """float64 [rows, columns], NaN where missing, with the seven digits that stored models see."""
    missing = [name for name in columns if name not in features.columns]
    if missing:
        raise PermanentProblem(
            f"The features lack {', '.join(missing[:5])}; make them with the same parts, scale and "
            "windows, or train with other columns."
        )
    return numbers_of(features, columns).astype(np.float64)
