"""Small arithmetic on probabilities of labels."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.behavior.bouts import NO_DATA_CODE

# By how much the probability of the label given exceeds the next one where it had to be raised.
LEAST_LEAD = 1e-3


def logistic(deviations: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), x scaled so that one unit is one standard deviation of the curve."""
    return 1.0 / (1.0 + np.exp(-np.clip(deviations * (np.pi / np.sqrt(3.0)), -50, 50)))


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The most probable label of every row, -1 where a probability is not known: int64 [rows].

    probabilities: float64 [rows, labels].
    """
    known = np.isfinite(probabilities).all(axis=1)
    codes = np.full(len(probabilities), NO_DATA_CODE, dtype=np.int64)
    codes[known] = probabilities[known].argmax(axis=1)
    return codes


def agree_with_labels(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Raise the probability of the label given just above all others, where it is not there.

    A label can be decided by more than its row (how long a bout lasts, clean-up). The row's
    probabilities are then mixed with as much certainty of that label as it takes and no more, so
    that the table never names a label that its own numbers rank second.

    probabilities: float64 [n, k], rows adding up to 1, or NaN. codes: int64 [n], a column number,
    or -1 where no label is known: NaN there. Returns a new float64 [n, k] adding up to 1 again.
    """
    agreed = np.where((codes < 0)[:, None], np.nan, probabilities)
    rows = np.flatnonzero(codes >= 0)
    if not rows.size:
        return agreed
    labels = codes[rows]
    given = agreed[rows, labels]
    others = agreed[rows].copy()
    others[np.arange(rows.size), labels] = -np.inf
    lead = given - others.max(axis=1)
    # Mixing a share s of certainty: lead becomes (1 - s) * lead + s. Solve for LEAST_LEAD.
    share = np.zeros(rows.size)
    behind = lead <= 0
    share[behind] = (LEAST_LEAD - lead[behind]) / (1 - lead[behind])
    agreed[rows] *= (1 - share)[:, None]
    agreed[rows, labels] += share
    return agreed
