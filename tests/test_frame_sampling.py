"""Which frames are chosen."""

import numpy as np
import polars as pl
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.frame_sampling import choose_frames, frame_table

THIRTY = np.arange(300) / 30


def test_ten_frames_a_second_without_being_asked() -> None:
    np.testing.assert_array_equal(choose_frames(THIRTY), np.arange(0, 300, 3))


def test_a_stride_takes_every_nth_frame() -> None:
    chosen = choose_frames(THIRTY, stride=7)
    np.testing.assert_array_equal(chosen, np.arange(0, 300, 7))
    assert chosen.dtype == np.int64


@pytest.mark.parametrize("target", [1, 3.0, 7.5, 10, 12.5, 29.9, 30, 60, 1e9])
@pytest.mark.parametrize("rounding", [3, 9])
def test_each_grid_time_takes_its_nearest_frame(target: float, rounding: int) -> None:
    random = np.random.default_rng(3)
    times = np.round(np.cumsum(random.choice([1, 1, 1, 2, 4], 400)) / 30, rounding)
    times -= times[0]
    chosen = choose_frames(times, target_fps=target)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] == 0
    if target > 1000:
        assert chosen.size == times.size
        return
    grid = np.arange(int(np.floor(times[-1] * target + 1e-6)) + 1) / target
    distance = np.abs(grid[:, None] - times[None, chosen]).min(axis=1)
    best = np.abs(grid[:, None] - times[None, :]).min(axis=1)
    np.testing.assert_allclose(distance, best, atol=2e-6 + 10.0**-rounding)
    assert chosen.size <= grid.size


def test_a_variable_frame_rate_is_sampled_evenly_in_time() -> None:
    times = np.concatenate([np.arange(0, 10, 1 / 30), np.arange(10, 20, 1 / 15)])
    chosen = choose_frames(times, target_fps=5)
    np.testing.assert_allclose(np.diff(times[chosen]), 0.2, atol=0.07)
    assert abs(chosen.size - 100) <= 1


def test_rounded_milliseconds_give_the_same_frames_as_exact_times() -> None:
    for target in (1, 2, 3, 5, 6, 10, 15):
        np.testing.assert_array_equal(
            choose_frames(np.round(THIRTY, 3), target_fps=target),
            choose_frames(THIRTY, target_fps=target),
        )


def test_a_video_of_one_frame_gives_it() -> None:
    for how in ({}, {"stride": 5}, {"target_fps": 3.0}):
        assert choose_frames(np.zeros(1), **how).tolist() == [0]


@pytest.mark.parametrize(
    "how",
    [
        {"stride": 0},
        {"stride": -3},
        {"stride": 2.5},
        {"stride": True},
        {"target_fps": 0},
        {"target_fps": -1.0},
        {"target_fps": float("nan")},
        {"target_fps": float("inf")},
        {"target_fps": "10"},
        {"stride": 2, "target_fps": 10},
    ],
)
def test_a_senseless_choice_is_refused(how: dict) -> None:
    with pytest.raises(PermanentProblem):
        choose_frames(THIRTY, **how)


@pytest.mark.parametrize("times", [[], [0.0, 0.0], [0.0, np.nan], [1.0, 0.5]])
def test_senseless_times_are_refused(times: list[float]) -> None:
    with pytest.raises(PermanentProblem):
        choose_frames(np.array(times))


def test_the_frame_table_names_source_and_time() -> None:
    table = frame_table(np.array([0, 3, 6]), THIRTY)
    assert table.schema == {"frame": pl.Int64, "source_frame": pl.Int64, "timestamp_s": pl.Float64}
    assert table["frame"].to_list() == [0, 1, 2]
    assert table["timestamp_s"].to_list() == pytest.approx([0, 0.1, 0.2])
