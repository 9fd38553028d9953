"""What changes over days: means per day and group, and a slope per animal.

Slopes are summary measures (Matthews, Altman, Campbell and Royston 1990, doi:10.1136/bmj.300.6719.230):
one number per animal, which are then described and compared like any other. With the same days for
every animal this is what a mixed model with random intercepts and slopes estimates, too; animals with
fewer days count the same here, and would count less there.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from tailor_assets.compute.cohort.group_tables import group_table
from tailor_assets.compute.cohort.sample_statistics import slope
from tailor_assets.compute.cohort.tidy_table import KEY, Key


def day_table(
    days: pl.DataFrame, groups: Sequence[str], keys: Sequence[Key], seed: int
) -> pl.DataFrame:
    """``group_table`` of each day: one row per measure, group and ``day_number``, days in order.

    days: what ``subject_days`` returned.
    """
    numbers = sorted(days["day_number"].drop_nulls().unique().to_list())
    tables = [
        group_table(days.filter(pl.col("day_number") == number), groups, keys, seed).with_columns(
            day_number=pl.lit(number, pl.Float64)
        )
        for number in numbers
    ]
    if not tables:
        empty = group_table(days.clear(), [], [], seed)
        return empty.with_columns(day_number=pl.lit(None, pl.Float64))
    return pl.concat(tables).filter((pl.col("n") > 0) | (pl.col("without_value") > 0))


def slope_table(days: pl.DataFrame) -> pl.DataFrame:
    """One row per animal and measure: slope of least squares over its days.

    days: what ``subject_days`` returned. Returns ``group``, ``subject``, the key with the unit per day,
    ``days`` (how many have a value), ``value`` (the slope; null with fewer than two days).
    """
    columns = ("group", "subject", *KEY)
    found: dict[tuple[str | None, ...], list[tuple[float, float]]] = {}
    known = days.filter(pl.col("day_number").is_not_null())
    for *who, number, value in known.select(*columns, "day_number", "value").iter_rows():
        points = found.setdefault(tuple(who), [])
        if value is not None:
            points.append((number, value))
    rows = [
        (*who[:-1], per_day(str(who[-1])), len(points), slope(*zip(*sorted(points), strict=True)))
        if points
        else (*who[:-1], per_day(str(who[-1])), 0, None)
        for who, points in found.items()
    ]
    return pl.DataFrame(
        rows,
        schema={**dict.fromkeys(columns, pl.String), "days": pl.Int64, "value": pl.Float64},
        orient="row",
    )


def per_day(unit: str) -> str:
    """The unit of a slope."""
    return "1/day" if unit == "1" else f"{unit}/day"
