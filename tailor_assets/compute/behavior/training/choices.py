"""What a person may choose of a recipe. Imports nothing, so that a command line knows it at once."""

from __future__ import annotations

from typing import Literal, get_args

EstimatorKind = Literal["hist_gradient_boosting", "random_forest", "logistic"]
ESTIMATORS: tuple[EstimatorKind, ...] = get_args(EstimatorKind)

CalibrationMethod = Literal["none", "sigmoid", "isotonic"]
CALIBRATIONS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)

SmoothingMethod = Literal["none", "viterbi", "forward_backward"]
SMOOTHINGS: tuple[SmoothingMethod, ...] = get_args(SmoothingMethod)
