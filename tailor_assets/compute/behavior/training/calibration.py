"""Probabilities that can be taken at their word: one curve per class, fitted on held-out videos.

The curves are plain numbers in the model's description, so that a person can read them and no
version of a library changes them.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from tailor_assets.compute.behavior.training.choices import CalibrationMethod

Curve = tuple[tuple[float, ...], tuple[float, ...]]

_LEAST = 1e-6  # keeps the log-odds finite
_AS_IT_IS: Curve = ((), ())


class Calibration(BaseModel):
    """``curves`` has, per class, two equally long lists.

    sigmoid: ([slope], [offset]) of the log-odds (Platt 1999); isotonic: points of a rising line
    (Zadrozny and Elkan 2002, KDD). Both empty: the class is left as it is. Rows are scaled to add up
    to 1 afterwards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: CalibrationMethod = "none"
    curves: tuple[Curve, ...] = ()

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 [n, classes] of such, adding up to 1 again."""
        if self.method == "none":
            return probabilities
        calibrated = np.empty_like(probabilities)
        for k, (first, second) in enumerate(self.curves):
            column = probabilities[:, k]
            if not first:
                calibrated[:, k] = column
            elif self.method == "sigmoid":
                calibrated[:, k] = _expit(first[0] * _log_odds(column) + second[0])
            else:
                calibrated[:, k] = np.interp(column, first, second)
        total = calibrated.sum(axis=1, keepdims=True)
        even = np.full_like(calibrated, 1 / max(calibrated.shape[1], 1))
        return np.divide(calibrated, total, out=even, where=total > 0)


def fit_calibration(
    method: CalibrationMethod, probabilities: np.ndarray, truth: np.ndarray
) -> Calibration:
    """Fit on probabilities that models gave for rows they were not trained with.

    probabilities: float64 [n, classes], NaN where a class was not among those that the model knew;
    truth: int64 [n] of 0 to classes. A class that all rows or none belong to is left as it is, and so
    is one that is less likely the surer the models are: what they say elsewhere is no worse.
    """
    if method == "none":
        return Calibration()
    curves: list[Curve] = []
    for k in range(probabilities.shape[1]):
        known = ~np.isnan(probabilities[:, k])
        said, belongs = probabilities[known, k], truth[known] == k
        if belongs.all() or not belongs.any():
            curves.append(_AS_IT_IS)
            continue
        slope, offset = _platt(_log_odds(said), belongs)
        if slope <= 0:
            curves.append(_AS_IT_IS)
        elif method == "sigmoid":
            curves.append(((slope,), (offset,)))
        else:
            curves.append(_isotonic(said, belongs))
    return Calibration(method=method, curves=tuple(curves))


def _isotonic(column: np.ndarray, belongs: np.ndarray) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(column, belongs.astype(np.float64))
    return (
        tuple(float(value) for value in fitted.X_thresholds_),
        tuple(float(value) for value in fitted.y_thresholds_),
    )


def _platt(log_odds: np.ndarray, belongs: np.ndarray) -> tuple[float, float]:
    """Slope and offset by Newton's method, with Platt's targets, which keep both finite."""
    yes, no = int(belongs.sum()), int((~belongs).sum())
    target = np.where(belongs, (yes + 1) / (yes + 2), 1 / (no + 2))
    design = np.stack([log_odds, np.ones_like(log_odds)])
    weights = np.array([1.0, 0.0])
    loss = _log_loss(weights @ design, target)
    for _ in range(100):
        guess = _expit(weights @ design)
        gradient = design @ (guess - target)
        curvature = (design * (guess * (1 - guess))) @ design.T + 1e-9 * np.eye(2)
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while scale > 1e-6:
            new_loss = _log_loss((weights - scale * step) @ design, target)
            if new_loss <= loss:
                break
            scale /= 2
        else:
            break
        weights, gain, loss = weights - scale * step, loss - new_loss, new_loss
        if gain <= 1e-12 * max(loss, 1.0):
            break
    return float(weights[0]), float(weights[1])


def _log_loss(scores: np.ndarray, target: np.ndarray) -> float:
    return float((np.logaddexp(0.0, scores) - target * scores).sum())


def _log_odds(column: np.ndarray) -> np.ndarray:
    clipped = np.clip(column, _LEAST, 1 - _LEAST)
    return np.log(clipped) - np.log1p(-clipped)


def _expit(scores: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(scores, -500, 500)))
