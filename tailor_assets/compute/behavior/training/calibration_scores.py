"""Whether probabilities can be taken at their word: reliability, expected error, Brier's score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose greatest probability is in (low, high]: how sure the model was, and how right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def reliability(probabilities: np.ndarray, truth: np.ndarray) -> list[ReliabilityBin]:
    """Of ``BINS`` equally wide bins of the greatest probability, those that have rows.

    probabilities: float64 [n, classes], rows add up to 1; truth: int64 [n], 0 to classes.
    """
    if not len(truth):
        return []
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    rows = []
    for number in range(BINS):
        inside = place == number
        if inside.any():
            rows.append(
                ReliabilityBin(
                    number / BINS,
                    (number + 1) / BINS,
                    int(inside.sum()),
                    float(confidence[inside].mean()),
                    float(right[inside].mean()),
                )
            )
    return rows


def expected_calibration_error(rows: list[ReliabilityBin]) -> float:
    """Mean distance of confidence and accuracy over all rows (Guo et al. 2017, ICML), 0..1."""
    total = sum(row.rows for row in rows)
    if not total:
        return float("nan")
    return sum(row.rows * abs(row.confidence - row.accuracy) for row in rows) / total


def brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean over rows of the squared distance of the probabilities from the truth, 0..2.

    Brier's own (1950, Monthly Weather Review 78:1), summed over all classes: with two classes it is
    twice what counts the second class only. NaN without rows.
    """
    if not len(truth):
        return float("nan")
    right = np.zeros_like(probabilities)
    right[np.arange(len(truth)), truth] = 1.0
    return float(((probabilities - right) ** 2).sum(axis=1).mean())
