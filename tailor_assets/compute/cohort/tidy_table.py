"""The tidy table (one row per video and measure), and its averages per animal.

The animal is the unit of analysis. Videos of one animal resemble each other, so to count each of them
as an observation is pseudoreplication (Hurlbert 1984, doi:10.2307/1942661; Lazic 2010,
doi:10.1186/1471-2202-11-5): they are averaged, first within a day, then over days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean as fraction_mean

import polars as pl

from tailor_assets.compute.behavior.behavior_model import label_of_column, probability_column
from tailor_assets.compute.cohort.cohort_file import Cohort
from tailor_assets.compute.cohort.measures import OF_BEHAVIOR, OF_VIDEO, VideoMeasures, never

# What a number is of: measure, behaviour (none for measures of the whole video), unit.
Key = tuple[str, str | None, str]
KEY = ("measure", "behavior", "unit")
KEY_SCHEMA = {"measure": pl.String, "behavior": pl.String, "unit": pl.String}


def tidy_table(cohort: Cohort, measured: Mapping[str, VideoMeasures]) -> pl.DataFrame:
    """One row per video and measure, in the order of the cohort file.

    measured: by the name that the cohort file has for a video; one that is not there is left out.

    Returns ``video``, ``group``, ``subject``, ``day``, ``day_number`` (float64), the covariates (text),
    ``measure``, ``behavior`` (null for the whole video), ``unit``, ``value`` (float64; null is no
    data).
    """
    labels = _labels(list(measured.values()))
    rows = []
    for one in cohort.videos:
        if one.video not in measured:
            continue
        measures = measured[one.video]
        who = {
            "video": one.video,
            "group": one.group,
            "subject": one.subject,
            "day": one.day,
            "day_number": one.day_number,
            **{name: one.covariates.get(name) for name in cohort.covariates},
        }
        for label in labels:
            found = measures.of_behavior.get(label) or never(measures, label)
            for measure in OF_BEHAVIOR.values():
                rows.append({**who, "measure": measure.name, "behavior": label,
                             "unit": measure.unit, "value": found[measure.name]})  # fmt: skip
        for measure in OF_VIDEO:
            unit, value = measures.of_video[measure.name]
            rows.append({**who, "measure": measure.name, "behavior": None, "unit": unit,
                         "value": value})  # fmt: skip
    schema = {
        "video": pl.String,
        "group": pl.String,
        "subject": pl.String,
        "day": pl.String,
        "day_number": pl.Float64,
        **dict.fromkeys(cohort.covariates, pl.String),
        **KEY_SCHEMA,
        "value": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema)


def _labels(measured: Sequence[VideoMeasures]) -> list[str]:
    """All behaviours: in the order of the models, each by the name that it has where it came up."""
    named: dict[str, list[str]] = {}
    for one in measured:
        for label in one.of_behavior:
            names = named.setdefault(probability_column(label), [])
            if label not in names:
                names.append(label)
    labels: list[str] = []
    for one in measured:
        for column in one.model_columns:
            unseen = [label_of_column(column)]
            labels += [name for name in named.get(column, unseen) if name not in labels]
        labels += [name for name in one.of_behavior if name not in labels]
    return labels


def keys_of(tidy: pl.DataFrame) -> list[Key]:
    """Each measure, behaviour and unit, in the order of the table."""
    return [tuple(row) for row in tidy.select(KEY).unique(maintain_order=True).iter_rows()]


def subject_days(tidy: pl.DataFrame) -> pl.DataFrame:
    """Videos of one animal and day averaged: one row per animal, day and measure.

    Returns ``group``, ``subject``, ``day_number`` (null where the file says none), the key, ``videos``
    (how many have a value), ``value`` (null where none has).
    """
    return _averaged(tidy, ("group", "subject", "day_number"), "videos")


def subject_values(days: pl.DataFrame) -> pl.DataFrame:
    """Days of one animal averaged, each counting the same: one row per animal and measure.

    days: what ``subject_days`` returned. Returns ``group``, ``subject``, the key, ``days`` (how many
    have a value), ``value``.
    """
    return _averaged(days, ("group", "subject"), "days")


def _averaged(table: pl.DataFrame, by: tuple[str, ...], count: str) -> pl.DataFrame:
    """Means of ``value`` over rows that agree in ``by`` and the key, empty cells left out."""
    columns = (*by, *KEY)
    found: dict[tuple[object, ...], list[float]] = {}
    for row in table.select(*columns, "value").iter_rows():
        values = found.setdefault(row[:-1], [])
        if row[-1] is not None:
            values.append(row[-1])
    rows = [
        # An exact mean: the order of the videos changes no digit, nor does the number of equal ones.
        (*who, len(values), fraction_mean(values) if values else None)
        for who, values in found.items()
    ]
    schema = {name: table.schema[name] for name in columns}
    return pl.DataFrame(rows, schema={**schema, count: pl.Int64, "value": pl.Float64}, orient="row")
