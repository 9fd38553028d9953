"""Hampel's filter and LOWESS beside slow and plain ways of doing the same."""

import numpy as np
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.cleaning import Cleaning, clean_points
from tailor_assets.compute.keypoints.smoothing import fill_short_gaps, hampel, lowess
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints


def uneven_recording(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Times with jitter and a pause, and two columns of values with gaps and outliers."""
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.uniform(0.01, 0.04, rows))
    times[rows // 2 :] += 3.0
    values = np.column_stack([400 + 30 * np.sin(times), 200 + rng.normal(0, 1, rows)])
    values[rng.random(values.shape) < 0.1] = np.nan
    values[rng.random(values.shape) < 0.05] += 50
    values[40:60, 0] = np.nan
    return times, values


def plain_hampel(
    times: np.ndarray, values: np.ndarray, width_s: float, sigmas: float
) -> np.ndarray:
    result = values.copy()
    for k in range(values.shape[1]):
        for i in range(times.size):
            window = values[np.abs(times - times[i]) <= width_s / 2 + 1e-6, k]
            window = window[~np.isnan(window)]
            if np.isnan(values[i, k]):
                continue
            median = np.median(window)
            if abs(values[i, k] - median) > sigmas * 1.4826 * np.median(np.abs(window - median)):
                result[i, k] = median
    return result


def plain_lowess(times: np.ndarray, values: np.ndarray, width_s: float) -> np.ndarray:
    result = np.full(values.shape, np.nan)
    for k in range(values.shape[1]):
        for i in range(times.size):
            distance = np.abs(times - times[i]) / (width_s / 2)
            near = (distance < 1) & ~np.isnan(values[:, k])
            if np.isnan(values[i, k]):
                continue
            weight = (1 - distance[near] ** 3) ** 3
            if near.sum() == 1:
                result[i, k] = values[near, k][0]
                continue
            line = np.polyfit(times[near] - times[i], values[near, k], 1, w=np.sqrt(weight))
            result[i, k] = line[1]
    return result


@pytest.mark.parametrize("width_s", [0.14, 0.5, 5.0])
def test_hampel_is_what_it_says_row_by_row(width_s: float) -> None:
    times, values = uneven_recording()
    np.testing.assert_array_equal(
        hampel(times, values, width_s, 3.0), plain_hampel(times, values, width_s, 3.0)
    )


@pytest.mark.parametrize("width_s", [0.1, 0.28, 2.0])
def test_lowess_is_a_weighted_line_through_every_window(width_s: float) -> None:
    times, values = uneven_recording()
    ours, plain = lowess(times, values, width_s), plain_lowess(times, values, width_s)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(plain))
    np.testing.assert_allclose(ours, plain, atol=1e-7)


def test_hampel_does_the_same_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times, values = uneven_recording()
    whole = hampel(times, values, 0.3)
    monkeypatch.setattr("tailor_assets.compute.keypoints.smoothing._VALUES_AT_ONCE", 100)
    np.testing.assert_array_equal(hampel(times, values, 0.3), whole)


def test_lowess_leaves_a_straight_walk_and_a_rest_as_they_are() -> None:
    times = np.arange(100) / 50
    values = np.column_stack([3 + 7 * times, np.full(100, 1e4)])
    np.testing.assert_allclose(lowess(times, values, 0.28), values, rtol=1e-12)


def test_lowess_on_even_rows_has_the_weights_of_matlabs_span() -> None:
    """At 50 rows a second 0.28 s are MATLAB's span of 14, which it makes 15: 13 rows with weight."""
    times, values = np.arange(61) / 50, np.zeros((61, 1))
    values[30] = 1
    weight = (1 - (np.abs(np.arange(-6, 7)) / 7) ** 3) ** 3
    response = lowess(times, values, 0.28)[:, 0]
    np.testing.assert_allclose(response[24:37], weight / weight.sum(), atol=1e-12)
    np.testing.assert_allclose(response[:24], 0, atol=1e-12)


def test_a_lone_row_and_no_row_are_left_alone() -> None:
    for rows in (0, 1):
        times, values = np.arange(rows) / 50, np.full((rows, 2), 5.0)
        np.testing.assert_array_equal(hampel(times, values, 0.14), values)
        np.testing.assert_array_equal(lowess(times, values, 0.28), values)


def test_only_short_gaps_are_filled_and_only_between_known_rows() -> None:
    times = np.arange(12) / 10
    values = np.arange(12.0)[:, None] * 2
    values[[0, 3, 6, 7, 8, 11]] = np.nan
    filled = fill_short_gaps(times, values, 0.2)[:, 0]
    assert filled[3] == pytest.approx(6.0), "0.2 s between the rows beside it"
    assert np.isnan(filled[[0, 6, 7, 8, 11]]).all()
    assert fill_short_gaps(times, values, 0.4)[7, 0] == pytest.approx(14.0)


def test_a_gap_of_the_same_rows_is_longer_where_the_rows_are_further_apart() -> None:
    values = np.array([[1.0], [np.nan], [3.0]])
    assert fill_short_gaps(np.arange(3) / 50, values, 0.5)[1, 0] == 2.0
    assert np.isnan(fill_short_gaps(np.arange(3) / 2, values, 0.5)[1, 0])


def test_unlikely_points_are_missing_and_those_without_a_likelihood_are_not() -> None:
    times = np.arange(100) / 10
    x = np.full((100, 2), 5.0)
    likelihood = np.full((100, 2), np.nan)
    likelihood[:, 0] = 0.1
    points = TrackedPoints(("nose", "tail"), x, x, likelihood, np.arange(100), times)
    cleaned = clean_points(points)
    assert np.isnan(cleaned.x[:, 0]).all()
    np.testing.assert_array_equal(cleaned.x[:, 1], 5.0)
    everything = clean_points(points, Cleaning(0, 0, 0, 0, 0))
    np.testing.assert_array_equal(everything.x, x)


def test_a_cleaning_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(PermanentProblem, match="lowess_s"):
        Cleaning(lowess_s=-1)
