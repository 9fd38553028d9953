"""Moments of masks up to the third order, exact sums over runs, and what follows from them.

Sums over pixels are integers, in coordinates that begin at the middle of each crop: small numbers,
so that the subtraction in the central moments loses nothing that matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.features.feature import LOST, Feature

# A moment invariant below it is rounding noise around the 0 of a symmetric mask.
_LEAST_HU = 1e-30
_HU_FORMULAS = (
    "η20 + η02",
    "(η20 - η02)² + 4 η11²",
    "p² + q², p = η30 - 3 η12, q = 3 η21 - η03",
    "a² + b², a = η30 + η12, b = η21 + η03",
    "p a (a² - 3 b²) + q b (3 a² - b²), with a, b, p, q as above",
    "(η20 - η02) (a² - b²) + 4 η11 a b",
    "q a (a² - 3 b²) - p b (3 a² - b²), which changes its sign in a mirror",
)
HU_FEATURES = tuple(
    Feature(
        f"hu_moment_{k}",
        "-",
        f"-sign(h) · log10 abs(h), h = {formula}"
        + (
            "; ηpq = μpq / μ00^(1 + (p + q) / 2), μpq the central moment of order p in rows and q in "
            "columns; the same for a mask that is moved, scaled or turned"
            if k == 1
            else ""
        ),
        "Hu 1962, doi:10.1109/TIT.1962.1057692; h as `skimage.measure.moments_hu`",
        missing=f"{LOST}, or abs(h) < 1e-30: the invariant of a symmetric mask is 0",
    )
    for k, formula in enumerate(_HU_FORMULAS, 1)
)
HU_NAMES = tuple(feature.name for feature in HU_FEATURES)


@dataclass(frozen=True)
class CentralMoments:
    """Of n masks, float64 [n] each: area, centroid in the crop (x, y), and sums of dx^p dy^q."""

    area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    xxx: np.ndarray
    xxy: np.ndarray
    xyy: np.ndarray
    yyy: np.ndarray


def central_moments(
    row: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    of_frame: np.ndarray,
    origin_x: np.ndarray,
    origin_y: np.ndarray,
) -> CentralMoments:
    """Moments of n masks from their runs.

    ``row``, ``start``, ``stop`` int64 [k]: line and columns (half-open) of each run in its crop;
    ``of_frame`` int64 [n]: index of each mask's first run; ``origin_x``, ``origin_y`` int64 [n]: a
    point of the crop near its middle. The centroid is given in the crop's coordinates.
    """
    n_runs = np.diff(of_frame, append=row.shape[0])
    left = np.repeat(origin_x, n_runs)
    a, b, y = start - left, stop - left, row - np.repeat(origin_y, n_runs)
    s0, s1, s2, s3 = b - a, _first(b) - _first(a), _second(b) - _second(a), _third(b) - _third(a)
    y0, y1 = y * s0, y * s1
    y2 = y * y0
    n, m10, m01, m20, m11, m02, m30, m21, m12, m03 = (
        np.add.reduceat(v, of_frame).astype(np.float64)
        for v in (s0, s1, y0, s2, y1, y2, s3, y * s2, y * y1, y * y2)
    )
    x, y = m10 / n, m01 / n
    return CentralMoments(
        area=n,
        x=x + origin_x,
        y=y + origin_y,
        xx=np.maximum(m20 - x * m10, 0.0),
        xy=m11 - x * m01,
        yy=np.maximum(m02 - y * m01, 0.0),
        xxx=m30 - 3.0 * x * m20 + 2.0 * x * x * m10,
        xxy=m21 - 2.0 * x * m11 - y * m20 + 2.0 * x * x * m01,
        xyy=m12 - 2.0 * y * m11 - x * m02 + 2.0 * y * y * m10,
        yyy=m03 - 3.0 * y * m02 + 2.0 * y * y * m01,
    )


def _first(n: np.ndarray) -> np.ndarray:
    """Sum of i for 0 <= i < n; the difference of two such is right for negative i too."""
    return n * (n - 1) // 2


def _second(n: np.ndarray) -> np.ndarray:
    return (n - 1) * n * (2 * n - 1) // 6


def _third(n: np.ndarray) -> np.ndarray:
    return _first(n) ** 2


def ellipse(m: CentralMoments) -> dict[str, np.ndarray]:
    """Axes, orientation and eccentricity of the ellipse of equal second moments.

    And ``axis_skewness``: the skewness of the pixels' places along the major axis, positive where
    the longer tail lies on the side of (x, y) = (sin, cos) of the orientation; NaN for one pixel.
    """
    var_x, var_y, cov = m.xx / m.area, m.yy / m.area, m.xy / m.area
    mean, half = (var_x + var_y) / 2.0, np.hypot((var_x - var_y) / 2.0, cov)
    large = mean + half
    small = np.maximum(mean - half, 0.0)
    orientation = np.where(
        var_x == var_y,
        np.where(cov > 0, np.pi / 4.0, -np.pi / 4.0),
        0.5 * np.arctan2(2.0 * cov, var_y - var_x),
    )
    c, s = np.cos(orientation), np.sin(orientation)
    third = c**3 * m.yyy + 3 * c * c * s * m.xyy + 3 * c * s * s * m.xxy + s**3 * m.xxx
    with np.errstate(divide="ignore", invalid="ignore"):
        eccentricity = np.where(large > 0, np.sqrt(1.0 - small / large), 0.0)
        skewness = third / m.area / (large * np.sqrt(large))
    return {
        "axis_major_length": 4.0 * np.sqrt(large),
        "axis_minor_length": 4.0 * np.sqrt(small),
        "orientation": orientation,
        "eccentricity": eccentricity,
        "axis_skewness": skewness,
    }


def hu_moments(m: CentralMoments) -> dict[str, np.ndarray]:
    """Hu's seven invariants h on a logarithmic scale, -sign(h) log10 |h|; see HU_NAMES.

    NaN where |h| < 1e-30: that is the 0 of a symmetric mask, and has no logarithm. As in
    ``skimage.measure.moments_hu``, rows come before columns (which decides the sign of the last).
    """
    second, third = 1.0 / m.area**2, 1.0 / (m.area**2 * np.sqrt(m.area))
    n20, n11, n02 = m.yy * second, m.xy * second, m.xx * second
    n30, n21, n12, n03 = m.yyy * third, m.xyy * third, m.xxy * third, m.xxx * third
    a, b = n30 + n12, n21 + n03
    p, q = n30 - 3.0 * n12, 3.0 * n21 - n03
    aa, bb, diagonal = a * a, b * b, n20 - n02
    invariants = (
        n20 + n02,
        diagonal * diagonal + 4.0 * n11 * n11,
        p * p + q * q,
        aa + bb,
        p * a * (aa - 3.0 * bb) + q * b * (3.0 * aa - bb),
        diagonal * (aa - bb) + 4.0 * n11 * a * b,
        q * a * (aa - 3.0 * bb) - p * b * (3.0 * aa - bb),
    )
    found = {}
    for name, h in zip(HU_NAMES, invariants, strict=True):
        size = np.where(np.abs(h) < _LEAST_HU, np.nan, np.abs(h))
        found[name] = -np.sign(h) * np.log10(size)
    return found
