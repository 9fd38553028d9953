"""The statistics of cohorts, against scipy, against tables, and where nothing can be told."""

import math

import numpy as np
import pytest
from scipy import stats

from tailor_assets.compute.cohort.sample_statistics import (
    compare,
    describe,
    hedges_g,
    holm,
    mann_whitney,
    slope,
    welch,
)

A = np.sort([3.1, 4.0, 2.2, 5.9, 4.4, 3.7])
B = np.sort([6.2, 5.1, 7.7, 4.9, 8.0])


def test_mean_and_its_interval_are_those_of_the_t_distribution() -> None:
    found = describe(A.tolist(), 0, ["a"])
    interval = stats.ttest_1samp(A, 0).confidence_interval()
    assert found.mean == pytest.approx(A.mean())
    assert found.sd == pytest.approx(A.std(ddof=1))
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    assert (found.q1, found.median, found.q3) == pytest.approx(np.quantile(A, [0.25, 0.5, 0.75]))
    assert found.boot_low is not None
    assert found.boot_high is not None
    assert A.min() < found.boot_low < A.mean() < found.boot_high < A.max()


def test_the_bootstrap_depends_on_names_and_seed_and_not_on_the_order_of_animals() -> None:
    found = describe(A.tolist(), 0, ["a"])
    assert describe(A[::-1].tolist(), 0, ["a"]) == found
    # Of six animals there are so few means that an end may well be the same: not both, for all.
    for seed, name in ((0, "b"), (1, "a")):
        assert describe(A.tolist(), seed, [name]) != found
    # Another stream of random numbers moves the ends by a fraction of the interval.
    other = stats.bootstrap((A,), np.mean, n_resamples=20_000, rng=np.random.default_rng(9))
    assert found.boot_low == pytest.approx(other.confidence_interval.low, abs=0.05)
    assert found.boot_high == pytest.approx(other.confidence_interval.high, abs=0.05)


def test_welch_and_mann_whitney_are_those_of_scipy() -> None:
    expected = stats.ttest_ind(B, A, equal_var=False)
    assert welch(A, B) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    u = stats.mannwhitneyu(B, A, method="exact")
    assert mann_whitney(A, B) == pytest.approx((u.statistic, u.pvalue))
    assert mann_whitney(B, A)[1] == pytest.approx(u.pvalue)
    many = np.random.default_rng(1).normal(size=(2, 30))
    u = stats.mannwhitneyu(many[1], many[0], method="asymptotic")
    assert mann_whitney(*many) == pytest.approx((u.statistic, u.pvalue))


def test_mann_whitney_is_exact_where_animals_are_tied() -> None:
    a, b = np.array([0.0, 0, 0, 1]), np.array([1.0, 2, 2, 3])

    def sum_of_ranks(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        ranks = stats.rankdata(np.concatenate([x, y], axis), axis=axis)
        return np.abs(ranks[..., x.shape[-1] :].sum(axis) - 18)

    exact = stats.permutation_test(
        (a, b), sum_of_ranks, vectorized=True, alternative="greater", n_resamples=np.inf
    )
    assert mann_whitney(a, b)[1] == pytest.approx(exact.pvalue)


def test_hedges_g_is_the_corrected_d_and_its_interval_that_of_the_noncentral_t() -> None:
    g, low, high = hedges_g(A, B)
    m = A.size + B.size - 2
    pooled = math.sqrt((5 * A.var(ddof=1) + 4 * B.var(ddof=1)) / m)
    d = (B.mean() - A.mean()) / pooled
    assert g == pytest.approx(d * (1 - 3 / (4 * m - 1)), rel=1e-3)
    j, root = g / d, math.sqrt(30 / 11)
    assert low is not None
    assert high is not None
    assert stats.nct.sf(d * root, m, low / j * root) == pytest.approx(0.025, abs=1e-8)
    assert stats.nct.cdf(d * root, m, high / j * root) == pytest.approx(0.025, abs=1e-8)
    assert hedges_g(B, A) == pytest.approx((-g, -high, -low))


def test_the_interval_of_g_covers_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(7)
    tries, covered = 300, 0
    for _ in range(tries):
        a, b = chance.normal(0, 1, 6), chance.normal(0.8, 1, 8)
        _, low, high = hedges_g(a, b)
        assert low is not None
        assert high is not None
        covered += low <= 0.8 <= high
    assert 0.91 < covered / tries < 0.985


@pytest.mark.parametrize("apart", [0.0, 1e-9, 5.0, 50.0, 1e4])
def test_g_has_an_interval_around_it_or_none_however_far_groups_are_apart(apart: float) -> None:
    g, low, high = hedges_g(np.array([0.0, 1, 2]), np.array([0.0, 1, 2.5]) + apart)
    assert math.isfinite(g)
    assert low is None or high is None or low < g < high
    if apart < 10:
        assert low is not None


def test_with_fewer_than_three_animals_there_are_numbers_and_no_test() -> None:
    found = compare([1.0, 2.0], [3.0, 4.0, 5.0], 0, ["x"])
    assert found.difference == 2.5
    assert found.welch_p is found.mann_whitney_p is found.hedges_g is found.boot_low is None
    assert "fewer than 3 animals" in found.note
    two = describe([1.0, 2.0], 0, ["x"])
    assert (two.n, two.mean, two.median) == (2, 1.5, 1.5)
    assert two.ci_low is None
    assert "no interval" in two.note
    assert describe([4.0], 0, ["x"]).sd is None
    assert describe([], 0, ["x"]).mean is None
    assert compare([], [1.0, 2.0, 3.0], 0, ["x"]).difference is None


def test_animals_that_are_all_alike_have_no_interval_and_no_test() -> None:
    same = describe([2.0] * 5, 0, ["x"])
    assert (same.sd, same.ci_low, same.boot_low) == (0.0, None, None)
    assert "same value" in same.note
    assert "same value" in compare([2.0] * 3, [2.0] * 4, 0, ["x"]).note
    apart = compare([1.0] * 3, [2.0] * 4, 0, ["x"])
    assert (apart.difference, apart.hedges_g, apart.welch_p) == (1.0, None, None)
    assert apart.mann_whitney_p == pytest.approx(1 / 35)
    one_sided = compare([1.0] * 3, [2.0, 3.0, 4.0], 0, ["x"])
    assert one_sided.welch_p is not None


def test_holm_corrects_what_was_tested_and_nothing_else() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([None]) == [None]


def test_a_slope_needs_two_days() -> None:
    assert slope([1, 2, 4], [3.0, 5.0, 9.0]) == pytest.approx(2.0)
    assert slope([1, 1], [3.0, 5.0]) is None
    days, values = np.arange(6.0), np.array([1.0, 0, 4, 2, 8, 1])
    assert slope(days, values) == pytest.approx(stats.linregress(days, values).slope)
