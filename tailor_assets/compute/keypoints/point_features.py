"""The features table of tracked points: what docs/keypoints.md lists, column for column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import polars as pl

from tailor_assets.compute.features.motion_features import shorter_way
from tailor_assets.compute.features.rolling_features import rolling_features
from tailor_assets.compute.keypoints.body import (
    DERIVED,
    Body,
    first_known,
    head_headings,
    heading,
    joint_angle,
    mean_of_known,
    turned,
)
from tailor_assets.compute.keypoints.cleaning import Cleaning, clean_points
from tailor_assets.compute.keypoints.part_roles import find_roles
from tailor_assets.compute.keypoints.temporal_context import context_features
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints, checked_scale
from tailor_assets.compute.mask_state import MaskState

# Raised whenever a column is added, removed, renamed or computed differently.
KEYPOINT_FEATURES_VERSION = "keypoints-1"
DEFAULT_WINDOWS_S = (0.3, 1.0, 3.0)
# With these a rich table looks 1.5 s to either side, as far as its widest centred window.
CONTEXT_WINDOWS_S = (0.3, 1.0)
# The tail drags behind and is tracked worst: it says little of where the body is.
_NO_BODY = ("tail_tip",)
_JOINTS = (
    ("nose", "neck", "mid_back"),
    ("nose", "mid_back", "tail_base"),
    ("head", "mid_back", "tail_base"),
    ("left_ear", "nose", "right_ear"),
    ("mid_back", "tail_base", "tail_tip"),
)
# What has windows: single parts would make a table of thousands of columns that say the same.
_WINDOWED = (
    "nose_speed", "head_speed", "mid_back_speed", "rear_back_speed", "body_speed",
    "part_speed_mean", "part_speed_max", "head_turning_abs", "body_turning_abs", "body_length",
    "head_body_angle", "shape_change",
)  # fmt: skip


def keypoint_features(
    points: TrackedPoints,
    *,
    px_per_cm: float | None = None,
    roles: Mapping[str, str] | None = None,
    cleaning: Cleaning | None = None,
    windows_s: Sequence[float] = DEFAULT_WINDOWS_S,
    rich: bool = False,
) -> pl.DataFrame:
    """Features of every row of tracked points (as ``reading.read_points`` gives them, uncleaned).

    px_per_cm: pixels per centimetre; without it lengths are in pixels and the columns say so.
    roles: role -> part, where the parts have unusual names (``part_roles.ROLE_NAMES``). cleaning:
    what is done first (``cleaning.Cleaning``). windows_s: widths of the centred windows. rich:
    also the windows before and after each row (``temporal_context``), over CONTEXT_WINDOWS_S.

    Returns a row per frame: ``frame`` and ``source_frame`` Int64, ``mask_state`` String,
    ``timestamp_s`` and all else Float64, null where it is not known. Columns are named by role, so
    the same for any names of parts; a part without a role keeps its own. docs/keypoints.md has
    formulas, units and missing-data rules. ``mask_quality`` and ``mask_state`` are there so that
    behaviour models and flags take this table as they take that of masks: the share of parts that
    were found, and "tracked", or "lost" where none was.

    Raises PermanentProblem for a scale that is no number above 0, and for unknown roles or parts.
    """
    scale, unit = (1.0, "px") if px_per_cm is None else (checked_scale(px_per_cm), "cm")
    body = Body.of(clean_points(points, cleaning), find_roles(points.parts, roles))
    columns = _of_rows(body, scale, unit)
    base = [name for name in columns if name.startswith(_WINDOWED)]
    timestamp_s = points.timestamp_s
    windowed = {name: columns[name] for name in base}
    columns |= rolling_features(timestamp_s, windowed, windows_s)
    if rich:
        more = [width_s for width_s in CONTEXT_WINDOWS_S if width_s not in windows_s]
        centred = columns | rolling_features(timestamp_s, windowed, more)
        columns |= context_features(timestamp_s, base, CONTEXT_WINDOWS_S, centred)
    found = np.mean([~np.isnan(position[:, 0]) for position in body.named.values()], axis=0)
    state = np.where(found > 0, MaskState.TRACKED.label, MaskState.LOST.label)
    return pl.DataFrame(
        [
            pl.Series("frame", np.arange(points.rows), dtype=pl.Int64),
            pl.Series("source_frame", points.source_frame, dtype=pl.Int64),
            pl.Series("timestamp_s", timestamp_s, dtype=pl.Float64),
            pl.Series("mask_quality", found, dtype=pl.Float64),
            pl.Series("mask_state", state.tolist(), dtype=pl.String),
            *(
                pl.Series(name, values, dtype=pl.Float64).fill_nan(None)
                for name, values in columns.items()
            ),
        ]
    )


def _of_rows(body: Body, scale: float, unit: str) -> dict[str, np.ndarray]:
    """Columns of single rows and steps, in order: float64 [rows] each, NaN where not known."""
    columns: dict[str, np.ndarray] = {}
    per_second = f"{unit}_s"
    inner = [name for name in body.named if name not in _NO_BODY] or list(body.named)
    for name in (*body.named, *(name for name in DERIVED if name not in body.named)):
        speed = body.speed(name)
        if speed is not None:
            columns[f"{name}_speed_{per_second}"] = speed / scale
    for name, likelihood in body.likelihood.items():
        columns[f"{name}_likelihood"] = likelihood

    centroid = mean_of_known(np.stack([body.named[name] for name in inner]))
    columns["centroid_x"], columns["centroid_y"] = centroid[:, 0].copy(), centroid[:, 1].copy()
    speed = body.joint_speed(inner) / scale
    columns[f"body_speed_{per_second}"] = speed
    speeds = np.stack([columns[f"{name}_speed_{per_second}"] for name in inner])
    columns[f"part_speed_mean_{per_second}"] = mean_of_known(speeds)
    columns[f"part_speed_max_{per_second}"] = np.fmax.reduce(speeds, axis=0)
    walked = np.nancumsum(speed * body.step_s)
    columns[f"path_length_{unit}"] = np.where(np.isnan(centroid[:, 0]), np.nan, walked)
    columns |= _directions(body)
    columns |= _shape(body, scale, unit)
    return columns


def _directions(body: Body) -> dict[str, np.ndarray]:
    """Where head and body point to, how fast they turn, and the angle between them."""
    columns: dict[str, np.ndarray] = {}
    ways = {"head": head_headings(body), "body": []}
    tail, back = body.named.get("tail_base"), body.where("mid_back")
    if tail is not None and back is not None:
        ways["body"].append(heading(tail, back))
    facing: dict[str, np.ndarray] = {}
    for what, headings in ways.items():
        direction = first_known(headings)
        turning = first_known([turned(body, one) for one in headings])
        if direction is None or turning is None:
            continue
        facing[what] = direction
        columns[f"{what}_direction_sin"] = np.sin(direction)
        columns[f"{what}_direction_cos"] = np.cos(direction)
        columns[f"{what}_turning_deg_s"] = turning
        columns[f"{what}_turning_abs_deg_s"] = np.abs(turning)
    if len(facing) == 2:
        between = shorter_way(facing["head"] - facing["body"])
        columns["head_body_angle_deg"] = np.degrees(between)
    return columns


def _shape(body: Body, scale: float, unit: str) -> dict[str, np.ndarray]:
    """Length of the body, angles at joints, distances between parts and how fast they change."""
    columns: dict[str, np.ndarray] = {}
    front = body.named.get("nose", body.where("head"))
    tail = body.named.get("tail_base")
    if front is not None and tail is not None:
        columns[f"body_length_{unit}"] = np.hypot(*(front - tail).T) / scale
    for a, joint, b in _JOINTS:
        if joint not in body.named and joint != "mid_back":
            continue
        ends = [place for name in (a, joint, b) if (place := body.where(name)) is not None]
        if len(ends) == 3:
            columns[f"angle_{a}_{joint}_{b}_deg"] = joint_angle(*ends)
    changes = []
    for a, b in combinations(body.named, 2):
        distance = np.hypot(*(body.named[a] - body.named[b]).T) / scale
        columns[f"distance_{a}_{b}_{unit}"] = distance
        if a not in _NO_BODY and b not in _NO_BODY:
            changes.append(np.abs(body.step(distance)) / body.step_s)
    if changes:
        columns[f"shape_change_{unit}_s"] = mean_of_known(np.stack(changes))
    return columns
