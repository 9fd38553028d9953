"""From measures of videos to all tables of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from tailor_assets.compute.cohort.cohort_file import Cohort
from tailor_assets.compute.cohort.day_tables import day_table, per_day, slope_table
from tailor_assets.compute.cohort.group_tables import comparison_table, group_table
from tailor_assets.compute.cohort.measures import VideoMeasures
from tailor_assets.compute.cohort.sample_statistics import LEAST_ANIMALS
from tailor_assets.compute.cohort.tidy_table import (
    keys_of,
    subject_days,
    subject_values,
    tidy_table,
)

COHORT_VERSION = "1"


@dataclass(frozen=True)
class CohortSummary:
    """Tables by the name of their file, and what a reader must know beside them.

    measures: one row per video and measure. subjects: per animal. groups, comparisons: statistics over
    animals. Where the cohort has days: days (per day and group), slopes (per animal), trends and
    trend_comparisons (statistics of slopes).
    """

    cohort: Cohort
    tables: Mapping[str, pl.DataFrame]
    subject_days: pl.DataFrame
    warnings: Sequence[str]


def summarise(
    cohort: Cohort, measured: Mapping[str, VideoMeasures], *, seed: int = 0
) -> CohortSummary:
    """All tables of the cohort. The same input and seed give the same numbers.

    measured: measures by the video's name in the cohort file. Videos that are not there are left out of
    everything and said in the warnings.
    """
    tidy = tidy_table(cohort, measured)
    keys, groups = keys_of(tidy), cohort.groups
    days = subject_days(tidy)
    subjects = subject_values(days)
    tables = {
        "measures": tidy,
        "subjects": subjects,
        "groups": group_table(subjects, groups, keys, seed),
        "comparisons": comparison_table(subjects, groups, keys, seed),
    }
    if cohort.has_days:
        slopes = slope_table(days)
        daily = [(measure, behavior, per_day(unit)) for measure, behavior, unit in keys]
        tables |= {
            "days": day_table(days, groups, keys, seed),
            "slopes": slopes,
            "trends": group_table(slopes, groups, daily, seed),
            "trend_comparisons": comparison_table(slopes, groups, daily, seed),
        }
    return CohortSummary(cohort, tables, days, _warnings(cohort, measured, tidy))


def _warnings(
    cohort: Cohort, measured: Mapping[str, VideoMeasures], tidy: pl.DataFrame
) -> list[str]:
    warnings = []
    missing = [one.video for one in cohort.videos if one.video not in measured]
    if missing:
        warnings.append(
            f"{len(missing)} of {len(cohort.videos)} videos have no results and are left out of "
            f"everything: {', '.join(missing)}."
        )
    models = sorted({one.model for one in measured.values()} - {""})
    if len(models) > 1:
        warnings.append(
            f"The behaviour was scored by {len(models)} models ({'; '.join(models)}): a difference "
            "between groups may be one between models, so score all videos with one."
        )
    units = tidy.filter(pl.col("measure") == "distance_travelled")["unit"].unique().to_list()
    if "px" in units:
        warnings.append(
            "Some videos have no px_per_cm: their lengths are in pixels and stand apart."
            if len(units) > 1
            else "Lengths are in pixels, which can be compared only between recordings of one camera "
            "at one place: give px_per_cm."
        )
    for group in cohort.groups:
        animals = {
            one.subject for one in cohort.videos if one.group == group and one.video in measured
        }
        if len(animals) < LEAST_ANIMALS:
            warnings.append(
                f"The group {group} has {len(animals)} animal{'' if len(animals) == 1 else 's'}: "
                f"with fewer than {LEAST_ANIMALS} there are numbers, but no interval and no test."
            )
    undated = [one.video for one in cohort.videos if one.day_number is None]
    if cohort.has_days and undated:
        warnings.append(
            f"{len(undated)} videos have no day: in each animal they count together as one day, and "
            "in no trend."
        )
    return warnings
