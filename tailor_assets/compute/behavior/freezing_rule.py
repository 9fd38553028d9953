"""BehaviorDEPOT's rule for freezing on tracked points, untrained, with every duration in seconds.

A row is immobile when the body moves slower than ``speed_cm_s`` and the head turns slower than
``head_turning_deg_s``. It is freezing when enough of the time around it is immobile and the bout
that comes of it lasts. Gabriel et al. 2022, eLife 11:e74314, and the released program (DeNardoLab/
BehaviorDEPOT, calculateFreezing_velocity); what is theirs and what is tailor's own is said at each
number, and in docs/keypoints.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import predict
from tailor_assets.compute.behavior.bouts import (
    NO_DATA,
    TIME_TOLERANCE_S,
    bout_duration_of_rows,
    row_durations,
)
from tailor_assets.compute.behavior.probabilities import agree_with_labels
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.body import first_known, mean_of_known
from tailor_assets.compute.keypoints.point_features import KEYPOINT_FEATURES_VERSION

FREEZING, NOT_FREEZING = "freezing", "not freezing"
FREEZING_RULE = "freezing"
FREEZING_RULE_VERSION = "1"
TURNING_COLUMN = "head_turning_deg_s"
# Which points' speeds are averaged, by the choice ``speed_of``; best first.
SPEED_COLUMNS = {
    "head and rear back": ("head_speed_cm_s", "rear_back_speed_cm_s"),
    "mid-back": ("mid_back_speed_cm_s",),
}


@dataclass(frozen=True)
class FreezingRule:
    """The rule as a behaviour model (see ``behavior_model.BehaviorModel``), and its numbers.

    speed_cm_s, head_turning_deg_s, least_bout_s: the defaults of the paper. window_s, least_share:
    the width of its sliding window and the count in it, from the parameter file of its velocity
    heuristic (``windowWidth`` 32 and ``countThreshold`` 10 rows, at the 50 frames per second of its
    videos: 0.64 s, and 10/32 of it). speed_of: the paper says "the back" and the program takes the
    mean of the speeds of the head (nose and ears) and of the rear of the back (hips or legs and tail
    base), which is the default; "mid-back" takes that one point. In rows in which neither of the
    chosen is known, the other choice is asked (tailor's own).
    """

    speed_cm_s: float = 0.59
    head_turning_deg_s: float = 15.0
    window_s: float = 0.64
    least_share: float = 10 / 32
    least_bout_s: float = 0.9
    speed_of: str = "head and rear back"
    name: str = FREEZING_RULE
    version: str = FREEZING_RULE_VERSION
    labels: tuple[str, ...] = (NOT_FREEZING, FREEZING)
    feature_columns: tuple[str, ...] = ("timestamp_s", TURNING_COLUMN)
    optional_columns: tuple[str, ...] = tuple(
        sorted({c for cs in SPEED_COLUMNS.values() for c in cs})
    )
    features_version: str | None = None  # none in particular: it needs names, not a version

    def __post_init__(self) -> None:
        for name in self._numbers():
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise PermanentProblem(
                    f"The freezing rule has {name} {value}; give a number that is 0 or more."
                )
        if self.speed_of not in SPEED_COLUMNS:
            raise PermanentProblem(
                f"The freezing rule cannot take the speed of {self.speed_of!r}; take that of "
                f"{' or '.join(SPEED_COLUMNS)}."
            )

    @cached_property
    def hash(self) -> str:
        """sha256 of every number that decides a label."""
        decides: dict[str, str | float] = {"version": self.version, "speed_of": self.speed_of}
        decides |= {name: getattr(self, name) for name in self._numbers()}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def label(self, features: pl.DataFrame) -> pl.DataFrame:
        """Freezing or not, row for row.

        features: as ``point_features.keypoint_features`` makes them with ``px_per_cm``. Returns
        what ``behavior_model.predict`` does, with ``behavior`` "freezing", "not freezing" or "no
        data", ``behavior_raw`` the same of the row alone (below both thresholds or not), and
        ``immobile_share`` (Float64, 0..1, of the known time in the window; null where there is
        none).

        A row whose speed or turning is not known counts neither way; where nothing is known in the
        whole window, or no part was found in the row itself, it is "no data".

        Raises PermanentProblem, in one sentence, when a column that the rule needs is not there.
        """
        known, immobile, share = self._measure(features)
        found = features["mask_quality"].fill_null(0.0).to_numpy() > 0
        words = np.where(immobile, FREEZING, NOT_FREEZING)
        raw = np.where(known & found, words, NO_DATA)
        predicted = predict(features, self, features_version=KEYPOINT_FEATURES_VERSION)
        return predicted.with_columns(
            pl.Series("behavior_raw", raw.tolist(), dtype=pl.String),
            pl.Series("immobile_share", share, dtype=pl.Float64).fill_nan(None),
        )

    def predict_proba(self, features: pl.DataFrame) -> np.ndarray:
        """float64 [rows, 2] for not freezing and freezing; NaN where nothing is known.

        How far the share of immobile time is from the least share that freezing needs, which is
        0.5; not how often a person would agree. A bout that is too short is raised just above it.
        """
        _, _, share = self._measure(features)
        seen = np.isfinite(share)
        candidate = seen & (share >= self.least_share - TIME_TOLERANCE_S)
        durations_s = row_durations(features["timestamp_s"].to_numpy())
        lasted_s = bout_duration_of_rows(candidate, durations_s)
        freezing = candidate & (lasted_s >= self.least_bout_s - TIME_TOLERANCE_S)
        below = share / max(2 * self.least_share, 1e-9)
        above = 1 - (1 - share) / max(2 * (1 - self.least_share), 1e-9)
        p_freezing = np.where(share < self.least_share, below, above)
        codes = np.where(seen, freezing.astype(np.int64), -1)
        return agree_with_labels(np.column_stack([1 - p_freezing, p_freezing]), codes)

    def _measure(self, features: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows that are measured and that are immobile (bool [n]) and the share of time that is."""
        self._check(features)
        speed, turning = self._speed(features), _floats(features, TURNING_COLUMN)
        known = np.isfinite(speed) & np.isfinite(turning)
        with np.errstate(invalid="ignore"):
            slow, steady = speed < self.speed_cm_s, np.abs(turning) < self.head_turning_deg_s
        immobile = known & slow & steady
        timestamp_s = features["timestamp_s"].to_numpy()
        return known, immobile, _share_of_known(timestamp_s, immobile, known, self.window_s)

    def _speed(self, features: pl.DataFrame) -> np.ndarray:
        """cm/s, float64 [n]: the mean of those chosen that are known, or else of the others."""
        ways = sorted(SPEED_COLUMNS, key=lambda way: way != self.speed_of)
        means = []
        for way in ways:
            there = [name for name in SPEED_COLUMNS[way] if name in features.columns]
            if there:
                means.append(mean_of_known(np.stack([_floats(features, name) for name in there])))
        speed = first_known(means)
        assert speed is not None, "_check has been asked"
        return speed

    def _check(self, features: pl.DataFrame) -> None:
        wanted = [name for names in SPEED_COLUMNS.values() for name in names]
        if not set(wanted) & set(features.columns):
            pixels = {name.replace("_cm_", "_px_") for name in wanted}
            raise PermanentProblem(
                "The freezing rule is in centimetres and the features are in pixels; give the "
                "scale, in pixels per centimetre."
                if pixels & set(features.columns)
                else "The freezing rule needs the speed of the body and no tracked part is known to "
                "be of its head, back or rear; say which parts have the roles nose, left_ear, "
                "right_ear, mid_back or tail_base."
            )
        if TURNING_COLUMN not in features.columns:
            raise PermanentProblem(
                "The freezing rule needs the direction of the head and no tracked parts give it; "
                "say which parts have the roles nose, left_ear and right_ear, or head and neck."
            )

    @staticmethod
    def _numbers() -> list[str]:
        return [field.name for field in fields(FreezingRule) if isinstance(field.default, float)]


def _floats(features: pl.DataFrame, name: str) -> np.ndarray:
    return features[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _share_of_known(
    timestamp_s: np.ndarray, flags: np.ndarray, known: np.ndarray, width_s: float
) -> np.ndarray:
    """Share of the known time in [t - width_s / 2, t + width_s / 2) that is flagged; NaN without.

    Open at its end, because a row stands for the time that follows it: 0.64 s are 32 rows at 50 a
    second.
    """
    edges_s = timestamp_s - TIME_TOLERANCE_S
    first = np.searchsorted(timestamp_s, edges_s - width_s / 2)
    stop = np.searchsorted(timestamp_s, edges_s + width_s / 2)
    durations_s = row_durations(timestamp_s)

    def within(chosen: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(np.where(chosen, durations_s, 0.0))])
        return total[stop] - total[first]

    flagged, seen = within(flags), within(known)
    return np.where(seen > TIME_TOLERANCE_S, flagged / np.maximum(seen, 1e-12), np.nan)
