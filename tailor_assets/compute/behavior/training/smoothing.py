"""A hidden Markov model over the classes' probabilities, in continuous time.

Its rates are per second, so that one model serves at any frame rate and for a variable one: from
row to row the transition matrix is expm(rates * seconds). Neighbouring rows see nearly the same
window of time, so a row counts as evidence only for the share of ``EVIDENCE_S`` that it stands for;
otherwise twice the frame rate would be twice the evidence. Nothing passes over a gap.

Rabiner 1989, Proceedings of the IEEE 77:257, for both algorithms.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from tailor_assets.compute.behavior.bouts import LONGEST_ROW_S, bout_edges, row_durations
from tailor_assets.compute.behavior.probabilities import agree_with_labels
from tailor_assets.compute.behavior.training.choices import SmoothingMethod

EVIDENCE_S = 0.3
_LEAST = 1e-4  # the least that one row may say against a class
_STEP_DIGITS = 4


class Smoothing(BaseModel):
    """``rates_per_s`` [classes][classes]: from row to column; the diagonal makes rows add up to 0.

    ``shares``: how much of the labelled time each class has. ``prior``: what the probabilities would
    be of a row that says nothing, by which they are divided.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: SmoothingMethod = "none"
    rates_per_s: tuple[tuple[float, ...], ...] = ()
    shares: tuple[float, ...] = ()
    prior: tuple[float, ...] = ()
    evidence_s: float = EVIDENCE_S

    def apply(
        self, probabilities: np.ndarray, timestamps_s: np.ndarray, stretches: np.ndarray
    ) -> np.ndarray:
        """float64 [n, classes]: of every row, given all rows of its stretch.

        forward_backward: the posterior probabilities. viterbi: the same, raised just above the
        others for the class that the most probable path has. stretches: int64 [n], never
        decreasing; rows of one number follow one another without a gap. probabilities: no NaN.
        """
        if self.method == "none" or not len(probabilities):
            return probabilities
        smoothed = np.empty_like(probabilities)
        transitions = _Transitions(np.array(self.rates_per_s))
        for first, stop in zip(*bout_edges(stretches), strict=True):
            times = timestamps_s[first:stop]
            evidence = self._evidence(probabilities[first:stop], times)
            matrices = transitions.of(np.diff(times))
            start = np.array(self.shares)
            posterior = _forward_backward(evidence, matrices, start)
            if self.method == "viterbi":
                posterior = agree_with_labels(posterior, _viterbi(evidence, matrices, start))
            smoothed[first:stop] = posterior
        return smoothed

    def _evidence(self, probabilities: np.ndarray, timestamps_s: np.ndarray) -> np.ndarray:
        """Log-likelihood of every row under every class, up to a constant: float64 [n, classes]."""
        log = np.log(np.clip(probabilities, _LEAST, None) / np.array(self.prior))
        seconds = row_durations(timestamps_s) if len(timestamps_s) > 1 else np.full(1, np.inf)
        return np.asarray(log * np.minimum(seconds / self.evidence_s, 1.0)[:, None])


def fit_smoothing(
    method: SmoothingMethod,
    codes: np.ndarray,
    timestamps_s: np.ndarray,
    stretches: np.ndarray,
    classes: int,
    *,
    even_prior: bool,
) -> Smoothing:
    """Rates and shares of a person's labels.

    codes: int64 [n] of 0 to classes; stretches as for ``Smoothing.apply``. even_prior: whether the
    probabilities come from a classifier that weighs all classes alike, uncalibrated.
    """
    if method == "none":
        return Smoothing()
    seconds = np.zeros(classes)
    changes = np.zeros((classes, classes))
    for first, stop in zip(*bout_edges(stretches), strict=True):
        inside = codes[first:stop]
        np.add.at(seconds, inside, row_durations(timestamps_s[first:stop]))
        np.add.at(changes, (inside[:-1], inside[1:]), 1.0)
    np.fill_diagonal(changes, 0.0)
    # As if each class had been left once more, to any of the others: nothing is impossible because
    # nobody has seen it.
    others = max(classes - 1, 1)
    rates = (changes + 1 / others) / (seconds[:, None] + LONGEST_ROW_S)
    np.fill_diagonal(rates, 0.0)
    np.fill_diagonal(rates, -rates.sum(axis=1))
    shares = (seconds + LONGEST_ROW_S) / (seconds + LONGEST_ROW_S).sum()
    rows = np.bincount(codes, minlength=classes) + 1.0
    prior = np.full(classes, 1 / classes) if even_prior else rows / rows.sum()
    return Smoothing(
        method=method,
        rates_per_s=tuple(tuple(float(rate) for rate in row) for row in rates),
        shares=tuple(float(share) for share in shares),
        prior=tuple(float(share) for share in prior),
    )


class _Transitions:
    """Transition matrices for steps of time, each length computed once."""

    def __init__(self, rates_per_s: np.ndarray) -> None:
        self._rates = rates_per_s
        self._known: dict[float, np.ndarray] = {}

    def of(self, steps_s: np.ndarray) -> list[np.ndarray]:
        """One float64 [classes, classes] per step."""
        from scipy.linalg import expm

        matrices = []
        for step in np.round(steps_s, _STEP_DIGITS).tolist():
            if step not in self._known:
                self._known[step] = np.clip(expm(self._rates * step), 1e-12, None)
            matrices.append(self._known[step])
        return matrices


def _forward_backward(
    evidence: np.ndarray, matrices: list[np.ndarray], start: np.ndarray
) -> np.ndarray:
    likelihood = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    forward = np.empty_like(likelihood)
    state = start * likelihood[0]
    forward[0] = state / state.sum()
    for row in range(1, len(likelihood)):
        state = (forward[row - 1] @ matrices[row - 1]) * likelihood[row]
        forward[row] = state / state.sum()
    backward = np.ones_like(likelihood)
    for row in range(len(likelihood) - 2, -1, -1):
        state = matrices[row] @ (likelihood[row + 1] * backward[row + 1])
        backward[row] = state / state.sum()
    posterior = forward * backward
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def _viterbi(evidence: np.ndarray, matrices: list[np.ndarray], start: np.ndarray) -> np.ndarray:
    """The most probable path: int64 [n]."""
    rows, classes = evidence.shape
    came_from = np.zeros((rows, classes), dtype=np.int64)
    logs = {id(matrix): np.log(matrix) for matrix in matrices}
    best = np.log(start) + evidence[0]
    for row in range(1, rows):
        paths = best[:, None] + logs[id(matrices[row - 1])]
        came_from[row] = paths.argmax(axis=0)
        best = paths.max(axis=0) + evidence[row]
    path = np.empty(rows, dtype=np.int64)
    path[-1] = best.argmax()
    for row in range(rows - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path
