"""From tracked points to behaviour and bouts, in one call: what ``tailor score-keypoints`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from tailor_assets.compute.behavior.behavior_model import BehaviorModel, predict
from tailor_assets.compute.behavior.bout_table import bout_statistics, bout_table
from tailor_assets.compute.behavior.freezing_rule import FreezingRule
from tailor_assets.compute.behavior.review_flags import (
    effective_fps,
    flag_predictions,
    flag_summary,
)
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.cleaning import Cleaning
from tailor_assets.compute.keypoints.point_features import (
    KEYPOINT_FEATURES_VERSION,
    keypoint_features,
)
from tailor_assets.compute.keypoints.temporal_context import SIDES
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints


@dataclass(frozen=True)
class PointScores:
    """Tables of one recording: features and predictions row for row, bouts, and what they come to.

    flags, flag_summary: windows that a person should look at (``review_flags``).
    """

    features: pl.DataFrame
    predictions: pl.DataFrame
    bouts: pl.DataFrame
    statistics: pl.DataFrame
    flags: pl.DataFrame
    flag_summary: dict[str, Any]


def score_points(
    points: TrackedPoints,
    *,
    px_per_cm: float | None,
    model: BehaviorModel | None = None,
    roles: Mapping[str, str] | None = None,
    cleaning: Cleaning | None = None,
    seconds_window: float = 3.0,
) -> PointScores:
    """Features, behaviour and bouts of tracked points, as ``reading.read_points`` gives them.

    model: the untrained freezing rule unless given; a trained one must have been trained with
    features of KEYPOINT_FEATURES_VERSION. seconds_window: width of the windows for review.

    Raises PermanentProblem when there are no rows, the scale is missing where the rule needs it, or
    the model needs parts that were not tracked.
    """
    if not points.rows:
        raise PermanentProblem(
            "The tracking has a header and no rows, so there is nothing to score; export it again "
            "from the tracking program."
        )
    model = model or FreezingRule()
    sides = tuple(f"_{side}_" for side, _ in SIDES)
    rich = any(side in column for column in model.feature_columns for side in sides)
    features = keypoint_features(
        points, px_per_cm=px_per_cm, roles=roles, cleaning=cleaning, rich=rich
    )
    if isinstance(model, FreezingRule):
        predictions = model.label(features)
    else:
        predictions = predict(features, model, features_version=KEYPOINT_FEATURES_VERSION)
    bouts = bout_table(predictions)
    flags = flag_predictions(predictions, seconds_window=seconds_window)
    # No video, so no frame is copied: none is claimed to be.
    summary = flag_summary(
        flags,
        flagged_frames=0,
        effective_fps=effective_fps(None, timestamps_s=points.timestamp_s),
    )
    return PointScores(
        features, predictions, bouts, bout_statistics(bouts, model.labels), flags, summary
    )
