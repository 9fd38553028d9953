"""The statistics of a cohort: plain functions of one or two samples of animals.

Every formula is in docs/cohort.md with its source. Random numbers come from a generator whose seed is
made from the numbers' own names, so a result depends neither on the order of the file nor on which
other measures there are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
# With fewer animals there are numbers, but no interval and no test.
LEAST_ANIMALS = 3
# Up to so many ways to share the animals out, the Mann-Whitney test is exact, ties or not.
MOST_ARRANGEMENTS = 20_000


@dataclass(frozen=True)
class Description:
    """One group. None is "cannot be told"; ``note`` says why."""

    n: int
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    boot_low: float | None = None
    boot_high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two groups: the second less the first. None is "cannot be told"; ``note`` says why."""

    n_1: int
    n_2: int
    difference: float | None = None
    boot_low: float | None = None
    boot_high: float | None = None
    hedges_g: float | None = None
    g_low: float | None = None
    g_high: float | None = None
    welch_t: float | None = None
    welch_df: float | None = None
    welch_p: float | None = None
    mann_whitney_u: float | None = None
    mann_whitney_p: float | None = None
    note: str = ""


def describe(values: Sequence[float], seed: int, words: Sequence[str]) -> Description:
    """Mean, spread and intervals of one group's animals.

    values: one number per animal. seed, words: what the generator of the bootstrap is made from.
    """
    x = np.sort(np.asarray(values, np.float64))
    if not x.size:
        return Description(0, note="no animal has a value")
    median, q1, q3 = (float(np.quantile(x, q)) for q in (0.5, 0.25, 0.75))
    mean = math.fsum(x) / x.size
    if x.size < 2:
        return Description(1, mean, None, median, q1, q3, note="one animal: no spread")
    sd = _sd(x)
    if x.size < LEAST_ANIMALS:
        note = f"fewer than {LEAST_ANIMALS} animals: no interval"
        return Description(x.size, mean, sd, median, q1, q3, note=note)
    if _constant(x):
        note = "all animals have the same value: no interval"
        return Description(x.size, mean, sd, median, q1, q3, note=note)
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, x.size - 1)) * sd / math.sqrt(x.size)
    low, high = _bca((x,), seed, words)
    return Description(x.size, mean, sd, median, q1, q3, mean - half, mean + half, low, high)


def compare(
    first: Sequence[float], second: Sequence[float], seed: int, words: Sequence[str]
) -> Comparison:
    """How far the second group is from the first; p values are not corrected yet (``holm``)."""
    a, b = (np.sort(np.asarray(values, np.float64)) for values in (first, second))
    if not a.size or not b.size:
        return Comparison(a.size, b.size, note="a group has no value: nothing to compare")
    difference = math.fsum(b) / b.size - math.fsum(a) / a.size
    if min(a.size, b.size) < LEAST_ANIMALS:
        note = f"fewer than {LEAST_ANIMALS} animals in a group: no interval, no test"
        return Comparison(a.size, b.size, difference, note=note)
    if _constant(np.concatenate([a, b])):
        note = "all animals have the same value: no interval, no test"
        return Comparison(a.size, b.size, difference, note=note)
    u, u_p = mann_whitney(a, b)
    if _constant(a) and _constant(b):
        note = "no spread within either group: no interval, no effect size, no Welch test"
        return Comparison(
            a.size, b.size, difference, mann_whitney_u=u, mann_whitney_p=u_p, note=note
        )
    low, high = _bca((a, b), seed, words)
    g, g_low, g_high = hedges_g(a, b)
    t, df, p = welch(a, b)
    return Comparison(a.size, b.size, difference, low, high, g, g_low, g_high, t, df, p, u, u_p)


def hedges_g(a: np.ndarray, b: np.ndarray) -> tuple[float, float | None, float | None]:
    """Hedges' g of b over a, and its interval by the noncentral t distribution.

    g = J (mean b - mean a) / s, s pooled, J = Γ(m/2) / (√(m/2) Γ((m-1)/2)), m = n_a + n_b - 2 (Hedges
    1981). The interval is J/√ñ times that of the noncentrality of t = d √ñ, ñ = n_a n_b / (n_a + n_b)
    (Steiger and Fouladi 1997); None where it cannot be found, as for groups that are worlds apart.
    """
    m = a.size + b.size - 2
    pooled = math.sqrt(((a.size - 1) * _sd(a) ** 2 + (b.size - 1) * _sd(b) ** 2) / m)
    d = (math.fsum(b) / b.size - math.fsum(a) / a.size) / pooled
    j = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    root = math.sqrt(a.size * b.size / (a.size + b.size))
    tail = (1 - CONFIDENCE) / 2
    low = _noncentrality(d * root, m, 1 - tail)
    high = _noncentrality(d * root, m, tail)
    if low is None or high is None:
        return j * d, None, None
    return j * d, j * low / root, j * high / root


def _noncentrality(t: float, df: int, probability: float) -> float | None:
    """The noncentrality with which t or less comes up with this probability."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    def off(noncentrality: float) -> float:
        return float(nct.cdf(t, df, noncentrality)) - probability

    # The greater the noncentrality, the smaller the probability; the spread of t grows with t.
    step = 4.0 + 4.0 * abs(t) / math.sqrt(2 * df)
    low, high = t - step, t + step
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for _ in range(6):
            at_low, at_high = off(low), off(high)
            if at_low > 0 > at_high:
                try:
                    return float(brentq(off, low, high, xtol=1e-11, rtol=1e-13))
                except ValueError:
                    return None  # the distribution is NaN in between: t is beyond what it can
            low -= step if not at_low > 0 else 0
            high += step if not at_high < 0 else 0
            step *= 2
    return None


def welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """t, degrees of freedom (Welch-Satterthwaite) and two-sided p of b over a."""
    from scipy.stats import t as student

    va, vb = _sd(a) ** 2 / a.size, _sd(b) ** 2 / b.size
    t = (math.fsum(b) / b.size - math.fsum(a) / a.size) / math.sqrt(va + vb)
    df = (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))
    return t, df, float(2 * student.sf(abs(t), df))


def mann_whitney(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """U of b, and two-sided p: exact given the ranks up to 20,000 arrangements, else asymptotic.

    Exact also with ties, which counts of bouts are full of: the ranks (ties get their mean) are shared
    out in all ways, and p is the part of them in which b's sum is as far from its mean or farther.
    """
    from scipy.stats import mannwhitneyu, rankdata

    ranks = rankdata(np.concatenate([a, b]))
    u = float(ranks[a.size :].sum()) - b.size * (b.size + 1) / 2
    total, few = a.size + b.size, min(a.size, b.size)
    if math.comb(total, few) > MOST_ARRANGEMENTS:
        return u, float(mannwhitneyu(b, a, method="asymptotic").pvalue)
    # Twice the ranks are whole numbers, whose sums are exact.
    doubled = np.rint(2 * ranks).astype(np.int64)
    of_few = doubled[: a.size] if few == a.size else doubled[a.size :]
    places = np.array(list(combinations(range(total), few)), np.int64)
    sums = doubled[places].sum(axis=1)
    middle = few * (total + 1)  # twice the mean of the sum of ranks
    extreme = np.abs(sums - middle) >= abs(int(of_few.sum()) - middle)
    return u, float(extreme.mean())


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number (Holm 1979); None stays, and is not counted."""
    order = sorted((i for i, one in enumerate(p) if one is not None), key=lambda i: p[i])  # type: ignore[arg-type, return-value]
    corrected: list[float | None] = [None] * len(p)
    least = 0.0
    for place, i in enumerate(order):
        least = max(least, min(1.0, float(p[i] or 0.0) * (len(order) - place)))
        corrected[i] = least
    return corrected


def slope(days: Sequence[float], values: Sequence[float]) -> float | None:
    """Slope of the line of least squares; None with fewer than two days."""
    x, y = np.asarray(days, np.float64), np.asarray(values, np.float64)
    if np.unique(x).size < 2:
        return None
    centred = x - math.fsum(x) / x.size
    return math.fsum(centred * (y - math.fsum(y) / y.size)) / math.fsum(centred**2)


def _bca(
    samples: tuple[np.ndarray, ...], seed: int, words: Sequence[str]
) -> tuple[float | None, float | None]:
    """BCa bootstrap interval of the mean, or of the second mean less the first (Efron 1987)."""
    from scipy.stats import bootstrap

    def mean(x: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x, axis=axis)

    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(y, axis=axis) - np.mean(x, axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it cannot be told, it is NaN and said below
        found = bootstrap(
            samples,
            mean if len(samples) == 1 else difference,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            vectorized=True,
            method="BCa",
            # What is drawn takes 16 MB at a time, whatever the number of animals.
            batch=max(1, (2 << 20) // max(sample.size for sample in samples)),
            rng=_generator(seed, words),
        ).confidence_interval
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return None, None
    return float(found.low), float(found.high)


def _generator(seed: int, words: Sequence[str]) -> np.random.Generator:
    name = sha256("\x1f".join(words).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(name[:16], "<u4").tolist()])


def _sd(x: np.ndarray) -> float:
    centred = x - math.fsum(x) / x.size
    return math.sqrt(math.fsum(centred**2) / (x.size - 1))


def _constant(x: np.ndarray) -> bool:
    return bool(np.ptp(x) <= 1e-12 * max(1e-300, float(np.abs(x).max())))
