"""What is done to tracked points before anything is measured on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.smoothing import fill_short_gaps, hampel, lowess
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints


@dataclass(frozen=True)
class Cleaning:
    """Steps in this order; 0 turns one off. The defaults are BehaviorDEPOT's, put into seconds.

    least_likelihood: a point at or below it was not found (0.1: Gabriel et al. 2022, eLife
    11:e74314; the released ``cutoffThreshold``). A point without a likelihood counts as found.
    hampel_s, hampel_sigmas: width of the filter of outliers (there MATLAB's default, 3 rows either
    side at 50 frames per second: 7 rows, 0.14 s; 3 sigmas).
    longest_gap_s: longest time between two known rows across which a line is drawn (tailor's
    choice; there every gap is filled by a spline, whatever its length).
    lowess_s: width of the smoothing (there ``smoothSpan`` 14 rows at 50 frames per second, 0.28 s).
    """

    least_likelihood: float = 0.1
    hampel_s: float = 0.14
    hampel_sigmas: float = 3.0
    longest_gap_s: float = 0.5
    lowess_s: float = 0.28

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0:
                raise PermanentProblem(
                    f"The cleaning of tracked points has {field.name} {value}; give a number that "
                    "is 0 (off) or more."
                )


def clean_points(points: TrackedPoints, cleaning: Cleaning | None = None) -> TrackedPoints:
    """Points without the unlikely ones and the outliers, short gaps filled, smoothed.

    What is not known stays NaN: a part that was lost for long has no position there.
    """
    cleaning = cleaning or Cleaning()
    unlikely = points.likelihood <= cleaning.least_likelihood
    if cleaning.least_likelihood == 0:
        unlikely = np.zeros(points.x.shape, bool)
    cleaned = []
    for raw in (points.x, points.y):
        values = np.where(unlikely, np.nan, raw)
        if cleaning.hampel_s and cleaning.hampel_sigmas:
            values = hampel(points.timestamp_s, values, cleaning.hampel_s, cleaning.hampel_sigmas)
        if cleaning.longest_gap_s:
            values = fill_short_gaps(points.timestamp_s, values, cleaning.longest_gap_s)
        cleaned.append(lowess(points.timestamp_s, values, cleaning.lowess_s))
    return points.with_positions(*cleaned)
