"""Statistics over windows of time, against a loop that does what the words say."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailor_assets.compute.features.rolling_features import (
    ROLLING_STATISTICS,
    STATISTIC_FORMULAS,
    rolling_column,
    rolling_features,
)
from tailor_assets.compute.features.rolling_median import rolling_median


def by_the_book(time: np.ndarray, values: np.ndarray, window_s: float) -> dict[str, np.ndarray]:
    out = {name: np.full(time.shape, np.nan) for name in ROLLING_STATISTICS}
    for i, t in enumerate(time):
        inside = values[np.abs(time - t) <= window_s / 2 + 1e-6]
        inside = inside[~np.isnan(inside)]
        if inside.size:
            out["mean"][i], out["min"][i] = inside.mean(), inside.min()
            out["max"][i], out["median"][i] = inside.max(), np.median(inside)
        if inside.size > 1:
            out["std"][i] = inside.std(ddof=1)
        if np.ptp(inside) > 1e-12 * np.abs(inside).max() if inside.size else False:
            if inside.size > 2:
                out["skew"][i] = stats.skew(inside, bias=True)
            if inside.size > 3:
                out["kurtosis"][i] = stats.kurtosis(inside, bias=True)
    return out


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 80),
    lost=st.floats(0, 1),
    window_s=st.sampled_from([0.05, 0.5, 1.0, 2.5, 1000.0]),
)
def test_windows_are_right_at_any_frame_rate_and_with_any_gaps(
    seed: int, n: int, lost: float, window_s: float
) -> None:
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.choice([1 / 30, 0.1, 0.1333, 2.0], n))
    columns = {f"c{k}": rng.normal(50, 20, n) for k in range(10)}
    for values in columns.values():
        values[rng.random(n) < lost] = np.nan
    got = rolling_features(time, columns, [0.3, window_s])
    assert len(got) == 10 * 2 * len(ROLLING_STATISTICS)
    for name, values in columns.items():
        for statistic, expected in by_the_book(time, values, window_s).items():
            np.testing.assert_allclose(
                got[rolling_column(name, statistic, window_s)], expected, rtol=1e-9, atol=1e-9
            )


def test_a_still_hour_has_no_spread_even_after_a_wild_one() -> None:
    time = np.arange(4000) * 0.1
    values = np.where(time < 200, 1e6 * np.sin(time * 40), 0.1)
    got = rolling_features(time, {"v": values}, [5.0])
    assert (got["v_std_5s"][time > 203] == 0).all()
    assert (got["v_mean_5s"][time > 203] == 0.1).all()
    assert (got["v_median_5s"][time > 203] == 0.1).all()
    assert np.isnan(got["v_skew_5s"][time > 203]).all(), "equal values lean nowhere"
    assert np.isnan(got["v_kurtosis_5s"][time > 203]).all()


def test_windows_are_centred_and_hold_the_rows_at_their_edges() -> None:
    time = np.arange(7) / 3
    got = rolling_features(time, {"v": np.arange(7.0)}, [2.0])
    assert got["v_min_2s"][3] == 0
    assert got["v_max_2s"][3] == 6
    assert got["v_mean_2s"][0] == pytest.approx(1.5)


def test_names_say_the_column_the_statistic_and_the_seconds() -> None:
    assert rolling_column("speed_px_s", "mean", 1.0) == "speed_px_s_mean_1s"
    assert rolling_column("area", "std", 0.5) == "area_std_0.5s"


def test_two_values_have_no_skewness_and_three_no_kurtosis() -> None:
    time = np.array([0.0, 0.1, 10.0, 10.1, 10.2, 20.0])
    got = rolling_features(time, {"v": np.array([1.0, 5, 1, 2, 9, 4])}, [1.0])
    assert np.isnan(got["v_skew_1s"]).tolist() == [True, True, False, False, False, True]
    assert np.isnan(got["v_kurtosis_1s"]).all()
    assert np.isnan(got["v_std_1s"]).tolist() == [False] * 5 + [True]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.just(float("nan")), st.integers(-4, 4).map(float)), max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_median_is_the_middle_of_any_rows_with_ties_and_gaps(
    values: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = len(values)
    array = np.array(values)
    first = rng.integers(0, n + 1, n)
    stop = first + rng.integers(0, n + 1, n) % np.maximum(n + 1 - first, 1)
    (got,) = rolling_median(array, [(first, stop)])
    for i in range(n):
        inside = array[first[i] : stop[i]]
        inside = inside[~np.isnan(inside)]
        expected = np.median(inside) if inside.size else np.nan
        np.testing.assert_equal(got[i], expected)


def test_the_number_of_threads_and_of_columns_makes_no_difference() -> None:
    rng = np.random.default_rng(3)
    time = np.cumsum(rng.choice([0.1, 0.1, 0.13, 1.7], 9000))
    columns = {f"c{k}": rng.normal(size=9000) for k in range(7)}
    columns["c3"][rng.random(9000) < 0.4] = np.nan
    one = rolling_features(time, columns, [1.0, 5.0], workers=1)
    many = rolling_features(time, columns, [1.0, 5.0], workers=5)
    alone = rolling_features(time, {"c3": columns["c3"]}, [5.0])
    assert list(one) == list(many)
    for name, values in one.items():
        np.testing.assert_array_equal(values, many[name])
    for name, values in alone.items():
        np.testing.assert_array_equal(values, one[name])


def test_every_statistic_is_explained_and_nothing_warns() -> None:
    assert set(STATISTIC_FORMULAS) == set(ROLLING_STATISTICS)
    nothing, nowhere = np.empty(0), np.full(5, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rolling_features(nothing, {"v": nothing}, [1.0])["v_median_1s"].shape == (0,)
        got = rolling_features(np.arange(5.0), {"v": nowhere}, [1.0, 3.0])
        rolling_features(np.arange(5.0), {"v": np.full(5, 1e150)}, [1.0, 3.0])
    assert all(np.isnan(values).all() for values in got.values())
