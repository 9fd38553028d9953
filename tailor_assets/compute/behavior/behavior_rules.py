"""The first behaviour model: rules a person can check by hand, with published thresholds.

For every row where the animal was found, in this order:

1. **in nest**: its centroid is on the nest, or more than ``in_nest_share`` of it lies there, seen
   or hidden (``nest_share``). First, because nest material hides and moves the outline, and an
   animal that lies still in its nest rests and does not freeze.
2. **moving**: its speed reached ``moving_start`` and has not fallen below ``moving_stop`` since.
3. **freezing**: immobile in enough of the rows around, for at least ``freezing_min_duration``. A
   row is immobile when, either since or for ``speed_time_base``, the speed was below
   ``immobile_speed``, the body turned slower than ``immobile_turning``, and the outline changed
   less than ``immobile_mask_motion`` beyond its jitter.
4. **still**: everything else: in one place, but grooming, sniffing, turning, or only a short pause.

Rows without the animal, and rows whose movement cannot be measured (one lone frame), are "no data".

Speed is displacement of the centroid over ``speed_time_base`` (around the row for moving; before
it and after it for immobile, so that the first and the last row of a pause belong to it), and every
duration is in seconds of the timestamps: the rules mean the same at any rate of sampling.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_measures import (
    Spans,
    centroid_noise,
    displacement_speed,
    mean_of_steps,
    spans_around,
    turning_speed,
)
from tailor_assets.compute.behavior.behavior_thresholds import RuleThresholds
from tailor_assets.compute.behavior.bouts import (
    TIME_TOLERANCE_S,
    after_hole,
    bout_duration_of_rows,
    row_durations,
)
from tailor_assets.compute.behavior.probabilities import agree_with_labels, logistic
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.nest_features import nest_share

RULES_VERSION = "2"
IN_NEST, MOVING, STILL, FREEZING = range(4)
LABELS = ("in nest", "moving", "still", "freezing")

# The softness of a threshold whose measurement had no noise, as a share of the threshold.
LEAST_SOFTNESS = 0.1
# 2 standard deviations: noise alone crosses a raised threshold in 1 row of 7 (Rayleigh), which the
# smoothing that follows lets pass.
NOISE_MARGIN = 2.0
# Below it (axes 9:10 or rounder) noise turns the axis of an ellipse at will.
LEAST_ECCENTRICITY = 0.45
# What the outline of a motionless animal changes by itself: the calmest tenth of all steps.
JITTER_QUANTILE = 0.10


@dataclass(frozen=True)
class Calibration:
    """What the rules made of one recording; for metadata, so that a person can check it.

    px_per_cm and its origin ("px_per_cm" where the table has lengths in cm, else "body length");
    speed_noise_cm_s: standard deviation; mask_jitter: what the outline changes by itself from row
    to row; and the two thresholds of immobility after both were allowed for.
    """

    px_per_cm: float
    px_per_cm_origin: str
    speed_noise_cm_s: float
    mask_jitter: float
    immobile_speed_cm_s: float
    immobile_mask_motion: float


@dataclass(frozen=True)
class _Measures:
    """Speed around every row, and the rows' softness-scaled margin below both immobile limits."""

    speed_cm_s: np.ndarray
    p_immobile: np.ndarray
    calibration: Calibration


@dataclass(frozen=True)
class _Timeline:
    """Time of the rows that have the animal: seconds each stands for, and its unbroken stretch."""

    timestamps_s: np.ndarray
    durations_s: np.ndarray
    stretch: np.ndarray

    @classmethod
    def of(cls, timestamps_s: np.ndarray, found: np.ndarray) -> _Timeline:
        rows = np.flatnonzero(found)
        hole = after_hole(timestamps_s)
        lost = np.diff(rows, prepend=rows[0] - 1) > 1
        durations_s = row_durations(timestamps_s)
        # Nobody saw the animal go on resting into the hole.
        durations_s[np.append(hole[1:], False)] = durations_s[-1]
        return cls(timestamps_s[rows], durations_s[rows], np.cumsum(lost | hole[rows]))


@dataclass(frozen=True)
class RuleSet:
    """The rules as a behaviour model (see ``behavior_model.BehaviorModel``)."""

    species: str = "mouse"
    thresholds: RuleThresholds = field(default_factory=RuleThresholds)
    name: str = "rules"
    version: str = RULES_VERSION
    labels: tuple[str, ...] = LABELS
    feature_columns: tuple[str, ...] = ("timestamp_s", "centroid_x", "centroid_y")
    optional_columns: tuple[str, ...] = (
        "mask_motion",
        "axis_major_length",
        "axis_major_length_cm",
        "orientation_double_sin",
        "orientation_double_cos",
        "eccentricity",
        "area",
        "nest_area",
        "nest_overlap",
        "distance_to_nest_px",
    )
    features_version: str | None = None  # none in particular: it needs names, not a version

    def __post_init__(self) -> None:
        self.thresholds.body_length_cm(self.species)  # refuses an unknown species

    @cached_property
    def hash(self) -> str:
        """sha256 of everything that decides a label: version, species, every threshold."""
        values = {row["name"]: row["value"] for row in self.thresholds.table()}
        decides = {"rules": self.name, "version": self.version, "species": self.species, **values}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def calibration(self, features: pl.DataFrame) -> Calibration | None:
        """Scale, noise and thresholds in force for this recording; None where no animal moved."""
        found = _found(features)
        measures = self._measure(features.filter(pl.Series(found)))
        return measures.calibration if measures else None

    def predict_proba(self, features: pl.DataFrame) -> np.ndarray:
        """Probability of every label: float64 [n, 4], rows add up to 1, NaN where nothing is known.

        What the numbers are: each threshold is made soft by the noise of what it is compared with
        (a logistic curve with the standard deviation of the speed noise; of the sampling step for
        durations), as if noise were the only thing in doubt. They say how near a row was to
        another label, not how often a person would agree. Where time decided against the row
        (hysteresis, smoothing), the label's probability is raised just above the others.
        """
        probabilities = np.full((features.height, len(LABELS)), np.nan)
        found = _found(features)
        animal = features.filter(pl.Series(found))
        if animal.height:
            timeline = _Timeline.of(_floats(features, "timestamp_s"), found)
            probabilities[found] = self._score(animal, self._measure(animal), timeline)
        return probabilities

    def _measure(self, animal: pl.DataFrame) -> _Measures | None:
        """Speed and motion of the outline per row; None for fewer than two rows."""
        if animal.height < 2:
            return None
        thresholds = self.thresholds
        timestamps_s, x, y = (_floats(animal, name) for name in self.feature_columns)
        px_per_cm, origin = self._scale(animal)
        base_s = thresholds.speed_time_base.value
        around = spans_around(timestamps_s, base_s / 2, base_s / 2)
        sides = (spans_around(timestamps_s, base_s, 0.0), spans_around(timestamps_s, 0.0, base_s))

        def speed_over(spans: Spans) -> np.ndarray:
            return displacement_speed(timestamps_s, x, y, spans) / px_per_cm

        since_s = timestamps_s - timestamps_s[sides[0].first]
        usual_s = float(np.median(since_s[since_s > 0])) if np.any(since_s > 0) else np.inf
        noise = centroid_noise(x, y) * np.sqrt(2.0) / usual_s / px_per_cm
        step_motion = _floats(animal, "mask_motion")
        calm = mean_of_steps(step_motion, around)
        calm = calm[np.isfinite(calm)]
        jitter = float(np.quantile(calm, JITTER_QUANTILE)) if calm.size else 0.0
        # Movement adds up from step to step and jitter does not, so only the first is scaled.
        usual_step_s = float(np.median(np.diff(timestamps_s)))
        motion_of_a_step = thresholds.immobile_mask_motion.value * min(1.0, usual_step_s / base_s)
        calibration = Calibration(
            px_per_cm=px_per_cm,
            px_per_cm_origin=origin,
            speed_noise_cm_s=float(noise),
            mask_jitter=jitter,
            immobile_speed_cm_s=_raised(
                thresholds.immobile_speed.value,
                NOISE_MARGIN * float(noise),
                thresholds.immobile_speed_limit.value,
            ),
            immobile_mask_motion=_raised(
                motion_of_a_step,
                jitter + motion_of_a_step,
                thresholds.immobile_mask_motion_limit.value,
            ),
        )
        orientation = _orientation(animal)
        p_immobile = np.zeros(animal.height)
        for spans in sides:
            speed = np.nan_to_num(speed_over(spans), nan=np.inf)
            # A motion that is not known, as in the first row, leaves the speed to decide.
            motion = np.nan_to_num(mean_of_steps(step_motion, spans), nan=0.0)
            # So does a body too round to have a direction.
            turning = np.nan_to_num(turning_speed(timestamps_s, orientation, spans), nan=0.0)
            p_side = np.minimum.reduce(
                [
                    logistic(_below(speed, calibration.immobile_speed_cm_s)),
                    logistic(_below(turning, thresholds.immobile_turning.value)),
                    logistic(_below(motion, calibration.immobile_mask_motion)),
                ]
            )
            p_immobile = np.maximum(p_immobile, p_side)
        return _Measures(speed_over(around), p_immobile, calibration)

    def _scale(self, animal: pl.DataFrame) -> tuple[float, str]:
        """Pixels per cm: from lengths the table has in both units, or else from the body's length."""
        lengths = _floats(animal, "axis_major_length")
        in_cm = _floats(animal, "axis_major_length_cm")
        scales = (lengths / in_cm)[in_cm > 0]
        if scales.size:
            return float(np.median(scales)), "px_per_cm"
        in_nest, _ = _nest(animal, self.thresholds.in_nest_share.value)
        outside = lengths[~in_nest & (lengths > 0)]
        lengths = outside if outside.size else lengths[lengths > 0]
        if not lengths.size:
            raise PermanentProblem(
                "The features have no axis_major_length, so speeds in pixels cannot be put into "
                "cm/s; make the features again."
            )
        return float(np.median(lengths)) / self.thresholds.body_length_cm(self.species), (
            "body length"
        )

    def _score(
        self, animal: pl.DataFrame, measures: _Measures | None, timeline: _Timeline
    ) -> np.ndarray:
        """Probabilities of rows that have the animal: float64 [rows, 4], NaN where unmeasured."""
        rows = animal.height
        in_nest, nest_probability = _nest(animal, self.thresholds.in_nest_share.value)
        if measures is None:
            probabilities = np.full((rows, len(LABELS)), np.nan)
            probabilities[in_nest] = np.eye(len(LABELS))[IN_NEST]
            return probabilities

        thresholds, calibration = self.thresholds, measures.calibration
        durations_s, speed = timeline.durations_s, measures.speed_cm_s
        unmeasured = ~np.isfinite(speed) & ~in_nest
        speed = np.where(np.isfinite(speed), speed, 0.0)

        moving, move_threshold = _with_hysteresis(
            speed,
            thresholds.moving_start.value,
            thresholds.moving_stop.value,
            outside=in_nest | unmeasured,
            begins=np.diff(timeline.stretch, prepend=-1) > 0,
        )
        softness = max(calibration.speed_noise_cm_s, LEAST_SOFTNESS * thresholds.moving_start.value)
        p_moving = logistic((speed - move_threshold) / softness)

        p_immobile = measures.p_immobile
        may_freeze = ~in_nest & ~moving & ~unmeasured
        share = _share_in_window(
            (p_immobile > 0.5) & may_freeze,
            timeline,
            thresholds.freezing_smoothing_window.value,
        )
        least_share = thresholds.freezing_smoothing_share.value
        candidate = may_freeze & (share >= least_share - TIME_TOLERANCE_S)
        stretches = np.where(candidate, timeline.stretch, -1)  # a loss of the animal ends a bout
        lasted_s = np.where(candidate, bout_duration_of_rows(stretches, durations_s), 0.0)
        least_s = thresholds.freezing_min_duration.value
        freezing = candidate & (lasted_s >= least_s - TIME_TOLERANCE_S)
        # Either end of a bout is known to within a step: the error of its length has the standard
        # deviation step / sqrt(6).
        step_s = max(float(np.median(durations_s)), TIME_TOLERANCE_S)
        p_lasting = logistic((lasted_s + TIME_TOLERANCE_S - least_s) / (step_s / np.sqrt(6.0)))
        p_freezing = np.minimum(p_immobile, p_lasting)

        probabilities = np.empty((rows, len(LABELS)))
        elsewhere = 1 - nest_probability
        probabilities[:, IN_NEST] = nest_probability
        probabilities[:, MOVING] = elsewhere * p_moving
        probabilities[:, FREEZING] = elsewhere * (1 - p_moving) * p_freezing
        probabilities[:, STILL] = elsewhere * (1 - p_moving) * (1 - p_freezing)
        codes = np.select([in_nest, moving, freezing], [IN_NEST, MOVING, FREEZING], STILL)
        probabilities = agree_with_labels(probabilities, codes)
        probabilities[unmeasured] = np.nan
        return probabilities


def _raised(published: float, by_noise: float, limit: float) -> float:
    """A published threshold, raised by noise up to a limit that cannot lower it."""
    return max(published, min(by_noise, limit))


def _below(values: np.ndarray, threshold: float) -> np.ndarray:
    """How far below the threshold, in units of its softness (a quarter of it)."""
    return (threshold - values) / max(threshold / 4, 1e-9)


def _floats(features: pl.DataFrame, name: str) -> np.ndarray:
    """A column as float64 [n], NaN where it is empty; all NaN where there is no such column."""
    if name not in features.columns:
        return np.full(features.height, np.nan)
    return features[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _found(features: pl.DataFrame) -> np.ndarray:
    """Rows in which the animal has a place and a mask that the segmenter stands by: bool [n]."""
    found = np.isfinite(_floats(features, "centroid_x")) & np.isfinite(
        _floats(features, "centroid_y")
    )
    if "mask_quality" in features.columns:
        found &= _floats(features, "mask_quality") > 0
    return found


def _orientation(animal: pl.DataFrame) -> np.ndarray:
    """Direction of the body's axis in radians, modulo pi; NaN where it is too round to have one."""
    angle = np.arctan2(
        _floats(animal, "orientation_double_sin"), _floats(animal, "orientation_double_cos")
    )
    round_body = _floats(animal, "eccentricity") < LEAST_ECCENTRICITY
    return np.where(round_body, np.nan, angle / 2)


def _nest(animal: pl.DataFrame, least_share: float) -> tuple[np.ndarray, np.ndarray]:
    """In nest or not (bool [n]) and its probability (float64 [n]); False and 0 without a nest."""
    distance_px = _floats(animal, "distance_to_nest_px")
    share = nest_share(
        distance_px,
        _floats(animal, "nest_overlap"),
        _floats(animal, "nest_area"),
        _floats(animal, "area"),
        _floats(animal, "axis_major_length"),
    )
    in_nest = (distance_px == 0) | (share > least_share)
    # The softness: outlines of animal and nest err by some percent of the animal's area.
    probability = logistic((np.nan_to_num(share) - least_share) / LEAST_SOFTNESS)
    return in_nest, np.where(np.isfinite(share), probability, in_nest.astype(np.float64))


def _with_hysteresis(
    speed: np.ndarray, start: float, stop: float, *, outside: np.ndarray, begins: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moving or not (bool [n]) and the threshold that each row was held against (float64 [n]).

    Rows ``outside`` are never moving; what follows them, or ``begins`` after a loss, starts anew.
    """
    decides = np.where(speed >= start, 1, np.where((speed < stop) | begins, 0, -1))
    decides[outside] = 0
    rows = np.arange(speed.size)
    latest = np.maximum.accumulate(np.where(decides >= 0, rows, -1))
    moving = (latest >= 0) & (decides[np.maximum(latest, 0)] == 1)
    was_moving = np.concatenate([[False], moving[:-1]]) & ~begins
    return moving, np.where(was_moving, stop, start)


def _share_in_window(flags: np.ndarray, timeline: _Timeline, width_s: float) -> np.ndarray:
    """Share of the time within width_s / 2 of each row that is flagged: float64 [n]."""
    timestamps_s, durations_s = timeline.timestamps_s, timeline.durations_s
    half = width_s / 2 + TIME_TOLERANCE_S
    first = np.searchsorted(timestamps_s, timestamps_s - half, side="left")
    stop = np.searchsorted(timestamps_s, timestamps_s + half, side="right")
    flagged = np.concatenate([[0.0], np.cumsum(np.where(flags, durations_s, 0.0))])
    total = np.concatenate([[0.0], np.cumsum(durations_s)])
    return (flagged[stop] - flagged[first]) / np.maximum(total[stop] - total[first], 1e-12)
