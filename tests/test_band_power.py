"""Powers in bands of frequency, against scipy's periodogram and a loop for irregular times."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from tailor_assets.compute.features.band_power import (
    BANDS_HZ,
    band_frequencies,
    band_name,
    band_powers,
)
from tailor_assets.compute.features.rolling_features import window_bounds


def powers(
    time: np.ndarray, values: np.ndarray, window_s: float, workers: int = 1
) -> dict[str, np.ndarray]:
    bounds = [window_bounds(time, window_s)]
    got = band_powers(time, {"v": values}, [window_s], bounds, workers=workers)
    return {name: column for (_, name, _), column in got.items()}


def by_the_book(
    time: np.ndarray, values: np.ndarray, window_s: float, band: tuple[float, float], row: int
) -> float:
    """What the docstring says, for one row, or NaN."""
    inside = (np.abs(time - time[row]) <= window_s / 2 + 1e-6) & ~np.isnan(values)
    t, x = time[inside], values[inside]
    k = [k for k in range(1, 10_000) if band[0] - 1e-9 <= k / window_s < band[1] - 1e-9]
    if len(k) < 2 or t.size < 2 or np.diff(t).max() > 1.05 / (2 * band[1]):
        return np.nan
    if (t[-1] - t[0]) * t.size / (t.size - 1) < 0.9 * window_s:
        return np.nan
    taper = (1 + np.cos(2 * np.pi * (t - time[row]) / window_s)) / 2
    interval = (t[-1] - t[0]) / (t.size - 1)
    total = 0.0
    for number in k:
        wave = np.exp(-2j * np.pi * number / window_s * t)
        amplitude = abs((taper * (x - x.mean()) * wave).sum())
        total += 2 * amplitude**2 * interval / (taper**2).sum() / window_s
    return total


@pytest.mark.parametrize(("fps", "window_s"), [(30, 5.0), (10, 5.0), (30, 1.0), (50, 2.0)])
def test_on_regular_sampling_it_is_the_periodogram_of_scipy(fps: int, window_s: float) -> None:
    rng = np.random.default_rng(fps)
    time = np.arange(fps * 12) / fps
    values = 40 + rng.normal(size=time.size).cumsum() + 3 * np.sin(2 * np.pi * 2.2 * time)
    got = powers(time, values, window_s)
    row = fps * 6
    reach = round(window_s / 2 * fps)
    part = values[row - reach : row + reach + 1]
    taper = (1 + np.cos(2 * np.pi * np.arange(-reach, reach + 1) / fps / window_s)) / 2
    # Padded with zeros so that the multiples of 1 / width are among its frequencies.
    padding = 8
    frequency, density = signal.periodogram(
        part, fps, window=taper, detrend="constant", nfft=round(window_s * fps) * padding
    )
    for band in BANDS_HZ:
        ours = got[band_name(band)][row]
        at = band_frequencies(band, window_s) * padding
        if band[1] <= fps / 2 and at.size >= 2:
            np.testing.assert_allclose(frequency[at], band_frequencies(band, window_s) / window_s)
            assert ours == pytest.approx(density[at].sum() / window_s, rel=1e-9)
        else:
            assert np.isnan(ours)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    interval=st.sampled_from([0.02, 1 / 30, 0.1, 0.25]),
    jitter=st.floats(0, 0.9),
    lost=st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    window_s=st.sampled_from([1.0, 2.5, 5.0]),
)
def test_irregular_times_and_gaps_give_what_a_loop_gives(
    seed: int, interval: float, jitter: float, lost: float, window_s: float
) -> None:
    rng = np.random.default_rng(seed)
    time = np.cumsum(interval * (1 + jitter * rng.uniform(-1, 1, 160)))
    values = rng.normal(1000, 5, time.size) + 50 * np.sin(9 * time)
    values[rng.random(time.size) < lost] = np.nan
    got = powers(time, values, window_s)
    for band in BANDS_HZ:
        for row in range(0, time.size, 7):
            expected = by_the_book(time, values, window_s, band, row)
            ours = got[band_name(band)][row]
            assert ours == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), (band, row)


def test_a_trembling_animal_has_its_power_in_the_band_of_its_trembling() -> None:
    time = np.arange(0, 30, 1 / 60)
    values = 7 + 2 * np.sin(2 * np.pi * 6.3 * time)
    got = {name: column[900] for name, column in powers(time, values, 5.0).items()}
    assert got["power_5_8hz"] == pytest.approx(2.0, rel=0.03), "the variance of a sine is a^2 / 2"
    assert sum(got.values()) == pytest.approx(2.0, rel=0.03)


def test_an_animal_at_rest_has_no_power_and_no_noise_in_its_place() -> None:
    time = np.arange(0, 30, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = powers(time, np.where(time < 10, 5000 + 300 * np.sin(time), 1234.567), 5.0)
    for name in ("power_0.1_1hz", "power_1_3hz", "power_3_5hz"):
        assert (got[name][(time > 12.7) & (time < 27)] == 0).all()


def test_what_the_sampling_cannot_tell_is_empty() -> None:
    time = np.arange(0, 20, 0.1)
    got = powers(time, np.sin(time), 5.0)
    assert np.isnan(got["power_5_8hz"]).all(), "10 rows a second tell of 5 Hz at most"
    assert np.isnan(got["power_8_15hz"]).all()
    known = ~np.isnan(got["power_3_5hz"])
    assert known[25:175].all()
    assert not known[:19].any(), "the window is cut off at the start of the video"
    values = np.sin(time)
    values[100] = np.nan
    known = ~np.isnan(powers(time, values, 5.0)["power_3_5hz"])
    assert not known[76:125].any(), "one row without a value is a hole in all windows over it"
    assert known[127:170].all()
    # Slow frequencies can be told all the same.
    assert (~np.isnan(powers(time, values, 5.0)["power_0.1_1hz"]))[25:175].all()
    assert np.isnan(powers(time, values, 1.0)["power_0.1_1hz"]).all(), "1 s is too short for it"


def test_rates_that_are_not_quite_whole_count_as_whole() -> None:
    time = np.round(np.arange(600) / 29.97, 3)
    got = powers(time, np.sin(40 * time), 5.0)
    assert (~np.isnan(got["power_8_15hz"]))[100:500].all()


def test_nothing_and_little_gives_nothing_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (0, 1, 2, 5):
            for values in (np.arange(n) * 1.0, np.full(n, np.nan)):
                for column in powers(np.arange(n) / 10, values, 1.0).values():
                    assert column.shape == (n,)
                    assert np.isnan(column).all()


def test_the_number_of_threads_makes_no_difference() -> None:
    rng = np.random.default_rng(1)
    time = np.cumsum(rng.uniform(0.02, 0.04, 9000))
    columns = {f"c{k}": rng.normal(size=9000) for k in range(5)}
    columns["c2"][::500] = np.nan
    bounds = [window_bounds(time, w) for w in (1.0, 5.0)]
    one = band_powers(time, columns, [1.0, 5.0], bounds, workers=1)
    many = band_powers(time, columns, [1.0, 5.0], bounds, workers=4)
    for key, values in one.items():
        np.testing.assert_array_equal(values, many[key])
