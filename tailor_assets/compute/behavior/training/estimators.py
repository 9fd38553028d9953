"""The classifiers that can be trained, set up so that one thread or many give the same model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tailor_assets.compute.behavior.training.choices import ESTIMATORS
from tailor_assets.compute.errors import PermanentProblem

# Rows of some hundred columns that stay in a processor's cache while hundreds of trees pass over them:
# a quarter of the time that all rows of five minutes take at once.
_ROWS_AT_A_TIME = 1024


def make_estimator(kind: str, seed: int) -> Any:
    """An unfitted scikit-learn classifier that weighs every class alike, however rare it is.

    All take missing values (NaN): the trees as they are, the linear baseline by the column's median
    and with a column that says so. Fit it by ``fit_estimator``. Raises PermanentProblem for an
    unknown kind.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "hist_gradient_boosting":
        # No early stopping: it would set aside shuffled frames, which are no test.
        return HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=100,
            max_leaf_nodes=15,
            # With hundreds of columns the time goes into histograms and not into rows; a quarter of
            # the bins takes a quarter of it. Trees that see a part of the columns each differ more.
            max_bins=64,
            max_features=0.2,
            min_samples_leaf=40,
            l2_regularization=1.0,
            early_stopping=False,
            class_weight="balanced",
            random_state=seed,
        )
    if kind == "random_forest":
        return RandomForestClassifier(
            n_estimators=200,
            min_samples_leaf=10,
            max_features="sqrt",
            class_weight="balanced",
            n_jobs=1,
            random_state=seed,
        )
    if kind == "logistic":
        return Pipeline(
            [
                (
                    "impute",
                    SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
                ),
                ("scale", StandardScaler()),
                (
                    "classify",
                    LogisticRegression(
                        C=0.1, class_weight="balanced", max_iter=1000, random_state=seed
                    ),
                ),
            ]
        )
    raise PermanentProblem(
        f"There is no estimator {kind!r}: choose one of {', '.join(ESTIMATORS)}."
    )


def fit_estimator(estimator: Any, features: np.ndarray, labels: np.ndarray) -> Any:
    """Fit on float64 [n, columns] (NaN: missing) and labels [n]; returns the estimator.

    A forest is grown by all cores, and predicts on one: the sum over its trees would depend on
    which core is first.
    """
    # A column without any value teaches nothing, and some estimators stumble over it.
    empty = np.isnan(features).all(axis=0)
    if empty.any():
        features = np.where(empty, 0.0, features)
    forest = "n_jobs" in estimator.get_params(deep=False)
    if forest:
        estimator.set_params(n_jobs=-1)
    with one_blas_thread():
        estimator.fit(features, labels)
    if forest:
        estimator.set_params(n_jobs=1)
    if hasattr(estimator, "_bin_mapper"):
        # How many cores this machine has is no part of the model.
        estimator._bin_mapper.n_threads = None
    return estimator


def predict_probabilities(estimator: Any, features: np.ndarray) -> np.ndarray:
    """float64 [n, classes] in the order of ``estimator.classes_``."""
    if not len(features):
        return np.zeros((0, len(estimator.classes_)))
    with one_thread():
        return np.concatenate(
            [
                np.asarray(estimator.predict_proba(features[first : first + _ROWS_AT_A_TIME]))
                for first in range(0, len(features), _ROWS_AT_A_TIME)
            ]
        ).astype(np.float64, copy=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """For predictions: of hundreds of small trees, whose threads would mostly wait for each other.

    Where other processes use the cores too, as in a backfill, they wait by spinning.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Sums of a linear algebra library depend, in their last digits, on its number of threads."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
