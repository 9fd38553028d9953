"""Which end is the head: skewness and motion, over a whole recording, without flipping."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor_assets.compute.features import body_heading
from tailor_assets.compute.features.body_heading import HEADING_COLUMNS, heading_features
from tailor_assets.compute.features.motion_features import motion_features


def headings(
    heading: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    skewness: np.ndarray | float = 0.0,
    eccentricity: np.ndarray | float = 0.8,
    time: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Of an animal whose true heading (angle from x towards y) is given; NaN x where it is lost."""
    time = np.arange(len(x)) / 10 if time is None else time
    seen = np.where(np.isnan(x), np.nan, 1.0)
    # The long axis as regionprops gives it, -pi/2..pi/2 from the vertical: its end is arbitrary.
    orientation = seen * (np.remainder(np.pi / 2 - heading + np.pi / 2, np.pi) - np.pi / 2)
    end = np.cos(heading) * np.sin(orientation) + np.sin(heading) * np.cos(orientation)
    eccentricity = np.broadcast_to(eccentricity, x.shape) * seen
    motion = motion_features(time, x, y, orientation, eccentricity, 100 * seen, 80 * seen)
    return heading_features(
        time,
        x,
        y,
        orientation,
        eccentricity,
        60 * seen,
        np.sign(end) * skewness,
        motion["heading_sin"],
        motion["heading_cos"],
    )


def agreement(got: dict[str, np.ndarray], heading: np.ndarray) -> np.ndarray:
    return got["body_heading_cos"] * np.cos(heading) + got["body_heading_sin"] * np.sin(heading)


def test_an_animal_that_walks_round_in_circles_heads_where_it_goes() -> None:
    angle = np.arange(300) / 15
    got = headings(angle + np.pi / 2, 100 * np.cos(angle), 100 * np.sin(angle))
    np.testing.assert_allclose(agreement(got, angle + np.pi / 2), 1.0)
    np.testing.assert_allclose(got["forward_cos"][1:], 1.0, atol=0.01)
    np.testing.assert_allclose(got["body_turning_rad_s"][1:], 10 / 15)
    assert (got["body_heading_confidence"] > 0.99).all()


def test_an_animal_that_never_moves_heads_where_its_mask_narrows() -> None:
    heading = np.full(100, 2.5)
    still = np.full(100, 50.0)
    got = headings(heading, still, still, skewness=0.2)
    np.testing.assert_allclose(agreement(got, heading), 1.0)
    np.testing.assert_allclose(got["body_asymmetry"], 0.2)
    turned = headings(heading, still, still, skewness=-0.2)
    np.testing.assert_allclose(agreement(turned, heading), -1.0)


def test_a_few_steps_backwards_and_a_short_wrong_shape_do_not_turn_it_about() -> None:
    heading = np.zeros(200)
    speed = np.where(np.arange(200) // 20 % 5 == 4, -2.0, 3.0)
    skewness = np.where(np.arange(200) % 50 < 10, -0.4, 0.1)
    got = headings(heading, np.cumsum(speed), np.zeros(200), skewness=skewness)
    np.testing.assert_allclose(agreement(got, heading), 1.0)
    assert (got["forward_cos"][1:] == np.sign(speed[1:])).all()


def test_the_axis_passing_the_end_of_its_range_is_no_turn() -> None:
    heading = np.linspace(-7, 7, 500)
    step = 2.0
    x, y = np.cumsum(step * np.cos(heading)), np.cumsum(step * np.sin(heading))
    got = headings(heading, x, y)
    np.testing.assert_allclose(agreement(got, heading), 1.0)
    assert np.abs(got["body_turning_rad_s"][1:]).max() < 0.5


def test_where_nothing_tells_the_ends_apart_there_is_no_heading() -> None:
    still = np.full(50, 50.0)
    with np.errstate(all="raise"):
        got = headings(np.zeros(50), still, still, skewness=0.0)
        round_body = headings(np.zeros(50), still, still, skewness=0.3, eccentricity=0.05)
        one = headings(np.zeros(1), still[:1], still[:1], skewness=0.3)
        none = headings(np.zeros(0), still[:0], still[:0])
        lost = headings(np.zeros(9), np.full(9, np.nan), np.full(9, np.nan))
    for found in (got, round_body, one, none, lost):
        assert set(found) == set(HEADING_COLUMNS)
    for name in HEADING_COLUMNS:
        assert np.isnan(got[name]).all()
        assert np.isnan(round_body[name]).all()
        assert np.isnan(lost[name]).all()
    assert np.isnan(one["body_heading_cos"]).all(), (
        "one moment lasts no time, so its shape is silent"
    )


def test_a_pause_of_the_recording_lets_the_animal_turn_about_and_a_lost_moment_does_not() -> None:
    x = np.concatenate((np.arange(30) * 3.0, 90 - np.arange(30) * 3.0))
    heading = np.repeat([0.0, np.pi], 30)
    time = np.arange(60) / 10 + np.repeat([0.0, 60.0], 30)
    got = headings(heading, x, np.zeros(60), time=time)
    np.testing.assert_allclose(agreement(got, heading), 1.0)
    lost = np.arange(60) * 3.0
    lost[40:43] = np.nan
    lost[45:] = lost[44]
    got = headings(np.zeros(60), lost, np.zeros(60))
    np.testing.assert_allclose(agreement(got, np.zeros(60))[~np.isnan(lost)], 1.0)
    assert np.isnan(got["body_heading_cos"][40:43]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(-1, 1)), min_size=1, max_size=9))
def test_margins_are_those_of_the_best_of_all_sequences(rows: list[tuple[float, float]]) -> None:
    evidence = np.array([row[0] for row in rows])
    joined = np.array([row[1] for row in rows])
    best: dict[tuple[int, int], float] = {}
    for ends in itertools.product((-1, 1), repeat=len(rows)):
        total = sum(e * s for e, s in zip(ends, evidence / 2, strict=True))
        for before, after, cosine in zip(ends[:-1], ends[1:], joined[1:], strict=True):
            total -= body_heading.TURNING_ABOUT * (1 - before * after * cosine) / 2
        for row, end in enumerate(ends):
            best[row, end] = max(best.get((row, end), -np.inf), total)
    expected = [best[row, 1] - best[row, -1] for row in range(len(rows))]
    np.testing.assert_allclose(body_heading._margins(evidence, joined), expected, atol=1e-9)


def test_the_end_does_not_depend_on_how_often_the_recording_is_sampled() -> None:
    time = np.arange(0, 60, 1 / 50)
    heading = 0.5 * np.sin(time)
    speed = np.where(time % 20 < 12, 25.0, -4.0)
    x, y = np.cumsum(speed / 50 * np.cos(heading)), np.cumsum(speed / 50 * np.sin(heading))
    for stride in (1, 2, 5, 15):
        part = slice(None, None, stride)
        got = headings(heading[part], x[part], y[part], skewness=0.05, time=time[part])
        assert agreement(got, heading[part]).min() == pytest.approx(1.0)
