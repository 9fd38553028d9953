"""Mending timestamps, and telling a variable frame rate from rounding."""

import numpy as np
import pytest

from tailor_assets.compute.recording.frame_timing import (
    frames_per_second,
    is_variable_frame_rate,
    mend_timestamps,
)

TICK = 1e-3


def test_times_start_at_zero_and_good_ones_are_kept() -> None:
    times, repaired = mend_timestamps(np.array([5.0, 5.1, 5.35]), TICK, None)
    np.testing.assert_allclose(times, [0, 0.1, 0.35])
    assert repaired == 0


def test_a_time_that_jumps_back_becomes_the_previous_plus_the_median_step() -> None:
    raw = np.arange(200) / 10
    raw[100] = 1.0
    times, repaired = mend_timestamps(raw, TICK, None)
    np.testing.assert_allclose(times, np.arange(200) / 10)
    assert repaired == 1


@pytest.mark.parametrize("where", [1, 50, 190, 198])
def test_a_time_that_jumps_ahead_moves_no_other_frame(where: int) -> None:
    raw = np.arange(200) / 10
    raw[where] = 5000.0
    times, repaired = mend_timestamps(raw, TICK, None)
    np.testing.assert_allclose(times, np.arange(200) / 10)
    assert repaired == 1


def test_times_in_the_order_of_decoding_are_put_in_order_even_where_frames_are_missing() -> None:
    shown = np.delete(np.arange(200), [31, 32, 90]) / 10
    raw = shown.copy()
    for first in range(1, 190, 4):  # I, then P before the two frames between
        raw[first : first + 3] = shown[[first + 2, first, first + 1]]
    times, _ = mend_timestamps(raw, TICK, None)
    np.testing.assert_allclose(times, shown)


def test_a_pause_of_the_camera_is_a_pause() -> None:
    raw = np.concatenate([np.arange(100) / 10, 3600 + np.arange(100) / 10])
    raw[150] = raw[10]
    times, repaired = mend_timestamps(raw, TICK, None)
    assert times[100] == 3600.0
    np.testing.assert_allclose(times[101:], 3600 + np.arange(1, 100) / 10)
    assert repaired == 1


def test_missing_and_repeated_times_are_mended() -> None:
    raw = np.arange(20) / 10
    raw[[0, 1, 7, 8, 19]] = np.nan
    raw[12] = raw[11]
    times, repaired = mend_timestamps(raw, TICK, None)
    np.testing.assert_allclose(times, np.arange(20) / 10)
    assert repaired == 6


def test_a_clock_that_starts_again_keeps_increasing() -> None:
    raw = np.concatenate([np.arange(50) / 10, np.arange(50) / 10 + 0.05])
    times, repaired = mend_timestamps(raw, TICK, None)
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(times[:50], raw[:50])
    assert repaired == 50


def test_no_times_at_all_follow_the_stated_rate() -> None:
    times, repaired = mend_timestamps(np.full(4, np.nan), TICK, 20.0)
    np.testing.assert_allclose(times, [0, 0.05, 0.1, 0.15])
    assert repaired == 4


def test_one_frame_has_no_rate_and_no_variation() -> None:
    times, repaired = mend_timestamps(np.array([3.0]), TICK, None)
    assert times.tolist() == [0.0]
    assert repaired == 0
    assert frames_per_second(times, TICK) is None
    assert is_variable_frame_rate(times, TICK) is False
    assert mend_timestamps(np.array([]), TICK, None)[0].size == 0


@pytest.mark.parametrize("fps", [15, 24, 25, 29.97, 30, 50, 59.94, 60, 120, 240])
def test_rounding_to_milliseconds_is_no_variation(fps: float) -> None:
    times = np.round(np.arange(2000) / fps, 3)
    assert not is_variable_frame_rate(times, TICK)
    assert frames_per_second(times, TICK) == pytest.approx(fps, rel=1e-3)


def test_a_slow_change_of_rate_is_a_variation() -> None:
    steps = np.concatenate([np.full(900, 1 / 30), np.full(900, 1 / 27)])
    assert is_variable_frame_rate(np.concatenate([[0], np.cumsum(steps)]), TICK)


def test_the_rate_of_a_variable_video_is_that_of_its_median_step() -> None:
    kept = np.flatnonzero(np.random.default_rng(1).random(1000) > 0.25)
    assert frames_per_second(kept / 30, 1e-5) == pytest.approx(30)
