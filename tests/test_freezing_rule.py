"""BehaviorDEPOT's freezing rule: by hand, at any rate and scale, and beside a person's labels."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor_assets.compute.behavior.freezing_rule import FREEZING, FreezingRule
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.point_features import keypoint_features
from tailor_assets.compute.keypoints.point_model import f1_score
from tailor_assets.compute.keypoints.reading import read_points
from tailor_assets.compute.keypoints.scoring import score_points
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints

DEMO = Path(__file__).parents[2] / "shared/data/freezing/behaviordepot_demo1.csv"
needs_demo = pytest.mark.skipif(not DEMO.is_file(), reason=f"{DEMO} is not here")


def mouse_that_stops(
    *stops: tuple[float, float],
    fps: float = 50.0,
    px_per_cm: float = 32.0,
    seconds: float = 20.0,
    noise_cm: float = 0.0,
) -> TrackedPoints:
    """A mouse that walks in a circle at 8 cm/s and stands still between the given times."""
    times = np.arange(round(seconds * fps)) / fps
    moves = np.ones(times.size)
    for start, stop in stops:
        moves[(times >= start) & (times < stop)] = 0.0
    angle = np.cumsum(moves) / fps * 8 / 10  # radians, on a circle of 10 cm
    places = {"nose": 2.0, "left_ear": 1.0, "right_ear": 1.0, "mid_back": -1.5,
              "left_hip": -3.5, "right_hip": -3.5, "tail_base": -4.0}  # fmt: skip
    across = {"left_ear": -0.6, "right_ear": 0.6, "left_hip": -0.8, "right_hip": 0.8}
    rng = np.random.default_rng(3)
    x, y = [], []
    for part, along in places.items():
        around, radius = angle + along / 10, 10 - across.get(part, 0.0)
        x.append(15 + radius * np.cos(around) + rng.normal(0, noise_cm, times.size))
        y.append(15 + radius * np.sin(around) + rng.normal(0, noise_cm, times.size))
    x, y = np.column_stack(x) * px_per_cm, np.column_stack(y) * px_per_cm
    return TrackedPoints(tuple(places), x, y, np.ones(x.shape), np.arange(times.size), times)


def freezing(points: TrackedPoints, px_per_cm: float = 32.0, **options: object) -> pl.DataFrame:
    features = keypoint_features(points, px_per_cm=px_per_cm)
    return FreezingRule(**options).label(features)


@pytest.mark.parametrize("fps", [10.0, 25.0, 29.97, 50.0, 120.0])
@pytest.mark.parametrize("px_per_cm", [6.0, 32.0])
def test_a_mouse_that_stands_freezes_at_any_rate_and_scale(fps: float, px_per_cm: float) -> None:
    points = mouse_that_stops((4, 7), (12, 12.4), fps=fps, px_per_cm=px_per_cm)
    table = freezing(points, px_per_cm)
    times = table["timestamp_s"].to_numpy()
    found = (table["behavior"] == FREEZING).to_numpy()
    assert found[(times > 4.3) & (times < 6.7)].all()
    assert not found[(times < 3.6) | (times > 7.4)].any(), "the short stop is no bout"
    assert table.height == points.rows
    assert set(table["behavior"]) == {"freezing", "not freezing"}


def test_the_numbers_agree_with_the_labels() -> None:
    table = freezing(mouse_that_stops((4, 7), (12, 12.4)))
    p = table["probability_freezing"].to_numpy()
    np.testing.assert_array_equal(p > 0.5, (table["behavior"] == FREEZING).to_numpy())
    np.testing.assert_allclose(p + table["probability_not_freezing"].to_numpy(), 1.0)


def test_a_head_that_turns_is_no_freezing() -> None:
    points = mouse_that_stops((4, 10))
    turning = np.radians(60) * np.sin(2 * np.pi * points.timestamp_s / 2.0)
    centre_x, centre_y = points.x[:, 1:3].mean(axis=1), points.y[:, 1:3].mean(axis=1)
    x, y = points.x.copy(), points.y.copy()
    for k in range(3):
        dx, dy = points.x[:, k] - centre_x, points.y[:, k] - centre_y
        x[:, k] = centre_x + dx * np.cos(turning) - dy * np.sin(turning)
        y[:, k] = centre_y + dx * np.sin(turning) + dy * np.cos(turning)
    table = freezing(points.with_positions(x, y))
    assert (table["behavior"] == FREEZING).sum() == 0


def test_where_the_animal_is_lost_there_is_no_data_and_a_short_loss_ends_no_bout() -> None:
    points = mouse_that_stops((4, 16))
    x = points.x.copy()
    x[(points.timestamp_s >= 8) & (points.timestamp_s < 11)] = np.nan
    x[(points.timestamp_s >= 13) & (points.timestamp_s < 13.3)] = np.nan
    table = freezing(points.with_positions(x, points.y))
    times, words = table["timestamp_s"].to_numpy(), table["behavior"].to_numpy()
    assert set(words[(times > 8.4) & (times < 10.6)]) == {"no data"}
    assert set(words[(times > 11.2) & (times < 15.5)]) == {"freezing"}
    assert table.filter(pl.col("behavior") == "no data")["probability_freezing"].null_count() > 0


def test_unlikely_ears_leave_the_nose_and_the_rear_to_judge_by() -> None:
    points = mouse_that_stops((4, 7))
    likelihood = points.likelihood.copy()
    likelihood[:, 1] = 0.02
    unlikely = TrackedPoints(
        points.parts, points.x, points.y, likelihood, points.source_frame, points.timestamp_s
    )
    features = keypoint_features(unlikely, px_per_cm=32, roles={"neck": "mid_back", "mid_back": ""})
    table = FreezingRule().label(features)
    found = (table["behavior"] == FREEZING).to_numpy()
    assert found[(points.timestamp_s > 4.3) & (points.timestamp_s < 6.7)].all()


def test_without_a_scale_a_back_or_a_head_it_says_what_is_missing() -> None:
    points = mouse_that_stops((4, 7), seconds=5)
    rule = FreezingRule()
    with pytest.raises(PermanentProblem, match="give the scale"):
        rule.label(keypoint_features(points))
    only = TrackedPoints(
        ("paw",), points.x[:, :1], points.y[:, :1], points.likelihood[:, :1],
        points.source_frame, points.timestamp_s,
    )  # fmt: skip
    with pytest.raises(PermanentProblem, match="speed of the body"):
        rule.label(keypoint_features(only, px_per_cm=32))
    with pytest.raises(PermanentProblem, match="direction of the head"):
        rule.label(keypoint_features(only, px_per_cm=32, roles={"mid_back": "paw"}))


def test_numbers_that_are_none_are_refused_and_the_hash_knows_them() -> None:
    with pytest.raises(PermanentProblem, match="window_s"):
        FreezingRule(window_s=-1.0)
    with pytest.raises(PermanentProblem, match="mid-back"):
        FreezingRule(speed_of="tail")
    assert FreezingRule().hash == FreezingRule().hash
    assert FreezingRule().hash != FreezingRule(speed_cm_s=0.6).hash
    assert FreezingRule().hash != FreezingRule(speed_of="mid-back").hash


def test_one_row_is_no_data_and_no_row_is_refused() -> None:
    points = mouse_that_stops(seconds=0.02)
    assert points.rows == 1
    assert freezing(points)["behavior"].to_list() == ["no data"]
    with pytest.raises(PermanentProblem, match="no rows"):
        score_points(mouse_that_stops(seconds=0), px_per_cm=32)


@needs_demo
def test_beside_a_person_the_published_defaults_reach_the_bar() -> None:
    labels = pl.read_csv(DEMO)
    person = labels["freezing_human"].to_numpy() == 1
    program = labels["freezing_behaviordepot"].to_numpy() == 1
    table = freezing(read_points(DEMO, fps=50))
    ours = (table["behavior"] == FREEZING).to_numpy()
    assert f1_score(ours, person) >= 0.85
    assert f1_score(ours, program) >= 0.97, "it is BehaviorDEPOT's rule, so it says what that says"
    by_back = freezing(read_points(DEMO, fps=50), speed_of="mid-back")["behavior"] == FREEZING
    assert f1_score(by_back.to_numpy(), person) >= 0.85


@needs_demo
@pytest.mark.parametrize("stride", [2, 3, 5])
def test_at_fewer_frames_a_second_it_says_about_the_same(stride: int) -> None:
    points = read_points(DEMO, fps=50)
    person = pl.read_csv(DEMO)["freezing_human"].to_numpy()[::stride] == 1
    fewer = TrackedPoints(
        points.parts, points.x[::stride], points.y[::stride], points.likelihood[::stride],
        points.source_frame[::stride], points.timestamp_s[::stride],
    )  # fmt: skip
    assert f1_score((freezing(fewer)["behavior"] == FREEZING).to_numpy(), person) >= 0.85
