"""Statistics over windows of time, against a loop that does what the words say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor_assets.compute.features.rolling_features import rolling_column, rolling_features


def by_the_book(time: np.ndarray, values: np.ndarray, window_s: float) -> dict[str, np.ndarray]:
    out = {name: np.full(time.shape, np.nan) for name in ("mean", "std", "min", "max")}
    for i, t in enumerate(time):
        inside = values[np.abs(time - t) <= window_s / 2 + 1e-6]
        inside = inside[~np.isnan(inside)]
        if inside.size:
            out["mean"][i], out["min"][i] = inside.mean(), inside.min()
            out["max"][i] = inside.max()
        if inside.size > 1:
            out["std"][i] = inside.std(ddof=1)
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
    assert len(got) == 80
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


def test_windows_are_centred_and_hold_the_rows_at_their_edges() -> None:
    time = np.arange(7) / 3
    got = rolling_features(time, {"v": np.arange(7.0)}, [2.0])
    assert got["v_min_2s"][3] == 0
    assert got["v_max_2s"][3] == 6
    assert got["v_mean_2s"][0] == pytest.approx(1.5)


def test_names_say_the_column_the_statistic_and_the_seconds() -> None:
    assert rolling_column("speed_px_s", "mean", 1.0) == "speed_px_s_mean_1s"
    assert rolling_column("area", "std", 0.5) == "area_std_0.5s"
