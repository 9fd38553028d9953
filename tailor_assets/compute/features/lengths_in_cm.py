"""Columns in centimetres that can be made of a table of features that has them in pixels.

A table has lengths in both units where the scale is known, and their statistics over windows and
powers in bands in pixels only (docs/features.md), which would double its size. A behaviour model
that is to tell the same thing at every scale is given ``area_cm2_mean_1s``, which is made of
``area_mean_1s`` when it is asked for. The scale of a row is that of its ``area`` and ``area_cm2``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

import polars as pl

from tailor_assets.compute.features.band_power import BANDS_HZ, band_name
from tailor_assets.compute.features.feature_columns import PAIR_GROUP, table_features
from tailor_assets.compute.features.rolling_features import ROLLING_STATISTICS

_SCALE = ("area", "area_cm2")
# The same whatever a length is measured in.
_SHAPES = ("skew", "kurtosis")
_BANDS = tuple(band_name(band) for band in BANDS_HZ)
_OVER_TIME = re.compile(
    rf"(?P<base>.+)_(?P<statistic>{'|'.join(map(re.escape, (*ROLLING_STATISTICS, *_BANDS)))})"
    r"_(?P<width>\d+(?:\.\d+)?s)"
)


@dataclass(frozen=True)
class _Length:
    """A column in both units; ``{other}`` in a name stands for another animal's."""

    in_px: str
    in_cm: str
    power: int


def columns_made_in_cm(there: Iterable[str]) -> list[str]:
    """The columns in centimetres that a table with the columns ``there`` lacks and can be given."""
    there = dict.fromkeys(there)
    if not set(_SCALE) <= set(there):
        return []
    made = (in_centimetres(column) for column in there if _parts(column)[2])
    return [column for column in made if column is not None and column not in there]


def in_centimetres(column: str) -> str | None:
    """What a column in pixels is called in centimetres; None for one that is no length."""
    base, over_time, _ = _parts(column)
    for length in _lengths():
        name = _renamed(base, length.in_px, length.in_cm)
        if name is not None:
            return name + over_time
    return None


def read_from(column: str, there: Collection[str]) -> tuple[str, ...]:
    """The columns of a table with the columns ``there`` that ``column`` comes of: itself where it is
    there, nothing where it cannot be made."""
    if column in there:
        return (column,)
    source = _in_px(column)
    needed = () if source is None else (source[0], *_SCALE)
    return needed if all(name in there for name in needed) else ()


def number_of(column: str, there: Collection[str]) -> pl.Expr:
    """The values of a column that is in a table or can be made, float64; null where missing.

    Raises KeyError for one that cannot.
    """
    if column in there:
        return pl.col(column).cast(pl.Float64)
    if not read_from(column, there):
        raise KeyError(column)
    source = _in_px(column)
    assert source is not None
    name, power = source
    area, area_cm2 = (pl.col(one).cast(pl.Float64) for one in _SCALE)
    return (pl.col(name).cast(pl.Float64) * (area_cm2 / area).pow(power / 2)).alias(column)


def _in_px(column: str) -> tuple[str, int] | None:
    """What a column in centimetres is called in pixels, and the power of the length in it."""
    base, over_time, factor = _parts(column)
    for length in _lengths():
        name = _renamed(base, length.in_cm, length.in_px)
        if name is not None and factor:
            return name + over_time, length.power * factor
    return None


def _parts(column: str) -> tuple[str, str, int]:
    """The feature of a column, what follows it, and by what that multiplies the power of a length."""
    match = _OVER_TIME.fullmatch(column)
    if match is None:
        return column, "", 1
    statistic = match["statistic"]
    factor = 0 if statistic in _SHAPES else 2 if statistic in _BANDS else 1
    return match["base"], column[len(match["base"]) :], factor


def _renamed(name: str, before: str, after: str) -> str | None:
    """``name`` as ``after`` where it is one of ``before``."""
    if "{other}" not in before:
        return after if name == before else None
    start, end = before.split("{other}")
    if not (name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)):
        return None
    return after.replace("{other}", name[len(start) : len(name) - len(end)])


@cache
def _lengths() -> tuple[_Length, ...]:
    declared = [*table_features("mouse", arena=True), *PAIR_GROUP.features]
    found = []
    for feature in declared:
        # A place is no length, and an area always is the square of one.
        power = feature.length_power or (2 if feature.unit == "px²" else 0)
        if power:
            in_cm = dataclasses.replace(feature, length_power=power).name_cm
            found.append(_Length(feature.name, in_cm, power))
    return tuple(found)
