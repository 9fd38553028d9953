"""Statistics per group, and of each group against those before it, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import combinations

import polars as pl

from tailor_assets.compute.cohort.sample_statistics import (
    Comparison,
    Description,
    compare,
    describe,
    holm,
)
from tailor_assets.compute.cohort.tidy_table import KEY, KEY_SCHEMA, Key


def group_table(
    subjects: pl.DataFrame, groups: Sequence[str], keys: Sequence[Key], seed: int
) -> pl.DataFrame:
    """One row per measure and group: ``Description`` of its animals, and how many have no value.

    subjects: what ``subject_values`` returned, or any table of ``group``, key, ``value`` with a row per
    animal. keys: measures in their order.
    """
    samples = _samples(subjects)
    rows = []
    for key in keys:
        for group in groups:
            values = samples.get((group, *key), [])
            there = [value for value in values if value is not None]
            found = asdict(describe(there, seed, ["group", group, *map(str, key)]))
            rows.append(
                {"group": group, **dict(zip(KEY, key, strict=True)), "n": found.pop("n"),
                 "without_value": len(values) - len(there), **found}
            )  # fmt: skip
    numbers = [one.name for one in fields(Description) if one.name not in ("n", "note")]
    return pl.DataFrame(
        rows,
        schema={
            "group": pl.String,
            **KEY_SCHEMA,
            "n": pl.Int64,
            "without_value": pl.Int64,
            **dict.fromkeys(numbers, pl.Float64),
            "note": pl.String,
        },
    )


def comparison_table(
    subjects: pl.DataFrame, groups: Sequence[str], keys: Sequence[Key], seed: int
) -> pl.DataFrame:
    """One row per measure and pair of groups, ``group_2`` less ``group_1``, with corrected p values.

    All tests of one kind in the table are one family: Holm's correction counts every measure and every
    pair.
    """
    samples = _samples(subjects)
    rows = []
    for key in keys:
        for pair in combinations(groups, 2):
            first, second = (
                [value for value in samples.get((group, *key), []) if value is not None]
                for group in pair
            )
            found = compare(first, second, seed, ["pair", *pair, *map(str, key)])
            rows.append({"group_1": pair[0], "group_2": pair[1],
                         **dict(zip(KEY, key, strict=True)), **asdict(found)})  # fmt: skip
    for name in ("welch_p", "mann_whitney_p"):
        for row, corrected in zip(rows, holm([row[name] for row in rows]), strict=True):
            row[f"{name}_holm"] = corrected
    schema: dict[str, type[pl.DataType]] = {
        "group_1": pl.String,
        "group_2": pl.String,
        **KEY_SCHEMA,
    }
    for one in fields(Comparison):
        if one.name in ("n_1", "n_2"):
            schema[one.name] = pl.Int64
        elif one.name != "note":
            schema[one.name] = pl.Float64
        if one.name in ("welch_p", "mann_whitney_p"):
            schema[f"{one.name}_holm"] = pl.Float64
    return pl.DataFrame(rows, schema={**schema, "note": pl.String})


def _samples(subjects: pl.DataFrame) -> dict[tuple[str | None, ...], list[float | None]]:
    samples: dict[tuple[str | None, ...], list[float | None]] = {}
    for *who, value in subjects.select("group", *KEY, "value").iter_rows():
        samples.setdefault(tuple(who), []).append(value)
    return samples
