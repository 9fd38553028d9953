"""Motion between rows: times from timestamps, gaps that stay gaps, angles that wrap."""

import numpy as np
import pytest

from tailor_assets.compute.features.motion_features import (
    MOTION_COLUMNS,
    mean_over_steps,
    motion_features,
    time_steps,
)


def motion(
    time: list[float], x: list[float], y: list[float], orientation: list[float] | None = None
) -> dict[str, np.ndarray]:
    t, cx, cy = (np.array(v, float) for v in (time, x, y))
    seen = np.where(np.isnan(cx), np.nan, 1.0)
    angle = np.array(orientation, float) if orientation else 0.3 * seen
    return motion_features(t, cx, cy, angle, 0.8 * seen, 100 * seen, 80 * seen)


def test_speed_is_the_step_over_its_own_duration_in_a_variable_frame_rate_video() -> None:
    time = np.array([0.0, 0.033, 0.166, 0.2, 0.3])
    got = motion(list(time), list(30 * time), list(40 * time))
    np.testing.assert_allclose(got["speed_px_s"][1:], 50.0)
    assert np.isnan(got["speed_px_s"][0])
    np.testing.assert_allclose(got["acceleration_px_s2"][2:], 0.0, atol=1e-9)
    np.testing.assert_allclose(got["path_length_px"], 50 * time, atol=1e-12)


def test_acceleration_is_right_for_uneven_steps() -> None:
    # x = 5 t^2: the speed of a step is that of its middle, so the acceleration is exactly 10.
    time = np.array([0.0, 0.1, 0.4, 0.5, 0.9])
    got = motion(list(time), list(5 * time**2), [0.0] * 5)
    np.testing.assert_allclose(got["acceleration_px_s2"][2:], 10.0)


def test_a_lost_animal_breaks_every_difference_and_the_path_does_not_jump() -> None:
    nan = float("nan")
    got = motion([0, 0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, nan, 50, 51, 52], [0.0] * 2 + [nan] + [0] * 3)
    assert list(np.isnan(got["speed_px_s"])) == [True, False, True, True, False, False]
    assert list(np.isnan(got["acceleration_px_s2"])) == [True] * 5 + [False]
    assert list(np.isnan(got["turning_rad_s"])) == [True] * 5 + [False]
    assert list(np.isnan(got["mask_motion"])) == [True, False, True, True, False, False]
    np.testing.assert_allclose(got["path_length_px"], [0, 1, nan, 1, 2, 3])
    for name in MOTION_COLUMNS:
        assert np.isnan(got[name][2]), name


def test_a_pause_of_the_recording_is_not_walked_across() -> None:
    time = [0.0, 0.1, 0.2, 30.0, 30.1]
    got = motion(time, [0.0, 1, 2, 300, 301], [0.0] * 5)
    assert list(np.isnan(got["speed_px_s"])) == [True, False, False, True, False]
    assert got["path_length_px"][-1] == pytest.approx(3)


def test_a_slow_recording_has_neighbours_all_the_same() -> None:
    _, neighbours = time_steps(np.arange(5) * 60.0)
    assert list(neighbours) == [False, True, True, True, True]


def test_heading_and_turning_wrap_and_a_resting_animal_has_none() -> None:
    # Just above and just below "to the left": a turn of 0.2 rad, not of 2 pi - 0.2.
    steps = [(-np.cos(0.1), np.sin(0.1)), (-np.cos(0.1), -np.sin(0.1)), (0.01, 0.0)]
    x, y = np.cumsum([(0.0, 0.0), *[(10 * a, 10 * b) for a, b in steps[:2]], steps[2]], axis=0).T
    got = motion([0, 0.5, 1.0, 1.5], list(x), list(y))
    np.testing.assert_allclose(got["heading_cos"][1:3], -np.cos(0.1))
    np.testing.assert_allclose(got["heading_sin"][1:3], [np.sin(0.1), -np.sin(0.1)])
    assert got["turning_rad_s"][2] == pytest.approx(0.2 / 0.5)
    assert np.isnan([got["heading_sin"][3], got["heading_cos"][3], got["turning_rad_s"][3]]).all()
    assert got["speed_px_s"][3] == pytest.approx(0.02)


def test_a_body_axis_that_passes_the_end_of_its_range_turns_a_little_and_not_half_round() -> None:
    got = motion([0, 1], [0.0, 5], [0.0, 0], orientation=[np.pi / 2 - 0.1, -np.pi / 2 + 0.1])
    assert got["orientation_change_rad_s"][1] == pytest.approx(0.2)
    distance = np.hypot(
        np.diff(got["orientation_double_sin"]), np.diff(got["orientation_double_cos"])
    )
    assert distance[0] < 0.4


def test_mask_motion_is_what_two_masks_do_not_share() -> None:
    got = motion([0, 0.1], [5.0, 5], [5.0, 5])
    assert got["mask_motion"][1] == pytest.approx(1 - 80 / 120)
    assert got["mask_change"][1] == pytest.approx(40 / 100)


def test_one_frame_has_no_motion_and_no_warning() -> None:
    with np.errstate(all="raise"):
        got = motion([0.0], [3.0], [4.0])
    assert got["path_length_px"][0] == 0
    for name in ("speed_px_s", "acceleration_px_s2", "heading_sin", "turning_rad_s", "mask_motion"):
        assert np.isnan(got[name][0]), name


def test_the_mean_of_a_rate_is_over_the_time_of_the_steps_that_have_one() -> None:
    nan = float("nan")
    times = np.array([0.0, 0.1, 1.1, 1.2, 3.2])
    mean = mean_over_steps(times, np.array([nan, 10.0, 1.0, nan, 2.0]))
    assert mean == pytest.approx((1 + 1 + 4) / 3.1)
    assert mean_over_steps(times, np.full(5, nan)) is None
    assert mean_over_steps(times[:1], np.ones(1)) is None
    assert mean_over_steps(times[:0], np.ones(0)) is None


def test_turning_is_over_the_time_between_the_middles_of_two_steps() -> None:
    # A quarter to the right (x to y) from a step of 0.1 s to one of 0.3 s: middles 0.2 s apart.
    got = motion([0.0, 0.1, 0.4], [0.0, 10, 10], [0.0, 0, 30])
    assert got["turning_rad_s"][2] == pytest.approx(np.pi / 2 / 0.2)


def test_mask_change_is_a_part_of_the_mask_before() -> None:
    """200 pixels, then 300, of which 150 are the same: 50 went and 150 came."""
    same = np.ones(2)
    got = motion_features(
        np.array([0.0, 0.1]), same, same, 0.3 * same, 0.8 * same, np.array([200.0, 300.0]),
        np.array([np.nan, 150.0]),
    )  # fmt: skip
    assert got["mask_change"][1] == pytest.approx((50 + 150) / 200)
    assert got["mask_motion"][1] == pytest.approx(1 - 150 / 350)
