"""``cohort.html``: the cohort on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from tailor_assets.compute.cohort.group_figures import FIGURES, draw_groups
from tailor_assets.compute.cohort.sample_statistics import RESAMPLES
from tailor_assets.compute.cohort.summary import CohortSummary
from tailor_assets.compute.cohort.trend_figures import TRENDS, draw_trends
from tailor_assets.compute.report.figure_style import house_style
from tailor_assets.compute.report.html_page import Cell, Page
from tailor_assets.compute.report.report_input import Drawing

EXPLORATORY = (
    "These comparisons are exploratory: they were not chosen before the data were seen, many measures "
    "depend on each other, and a small p value is a reason to look again in new animals, not a "
    "finding. Holm's correction counts every measure and every pair of groups in the table."
)
UNIT_OF_ANALYSIS = (
    "The animal is the unit of analysis: its videos are averaged, first within a day, then over days, "
    "before groups are described or compared. n counts animals, never videos."
)
# A page of so many rows is still read; the CSV files have all.
ROWS_SHOWN = 400


def draw_all(summary: CohortSummary) -> dict[str, Drawing]:
    """All figures by name: of groups, and over days where the cohort has days."""
    steps: list[tuple[Callable[[CohortSummary, str], Drawing], str]] = [
        (draw_groups, name) for name in FIGURES
    ]
    if summary.cohort.has_days:
        steps += [(draw_trends, name) for name in TRENDS]
    drawings = {}
    with house_style():
        for draw, name in steps:
            drawing = draw(summary, name)
            drawings[drawing.name] = drawing
    return drawings


def cohort_page(
    name: str,
    summary: CohortSummary,
    drawings: dict[str, Drawing],
    provenance: dict[str, Sequence[tuple[str, object]]],
    notes: Sequence[str] = (),
) -> str:
    """HTML of the page. notes: what else a reader must know, as of NWB files that were not written."""
    cohort = summary.cohort
    page = Page(name, "Cohort summary by tailor. Formulas and sources are in docs/cohort.md.")
    page.key_figures(
        [
            ("videos", f"{summary.tables['measures']['video'].n_unique():,}"),
            *((group, _animals(summary, group)) for group in cohort.groups),
        ]
    )
    page.sentence(UNIT_OF_ANALYSIS)
    for warning in [*summary.warnings, *notes]:
        page.sentence(warning)
    page.section("groups", "Groups")
    for figure, title in FIGURES.items():
        page.heading(title)
        page.drawing(drawings[figure])
    page.heading("Groups in numbers")
    _table(
        page,
        "Over animals; intervals are 95%: t distribution, and bootstrap (BCa, "
        f"{RESAMPLES:,} resamples).",
        summary.tables["groups"],
        _GROUP_COLUMNS,
        cohort.groups,
    )
    if len(cohort.groups) > 1:
        page.section("comparisons", "Between groups")
        page.sentence(EXPLORATORY)
        _table(page, "The second group less the first. g is Hedges' g.",
               summary.tables["comparisons"], _PAIR_COLUMNS, ())  # fmt: skip
    if cohort.has_days:
        page.section("days", "Over days")
        for figure in TRENDS:
            drawing = drawings[f"{figure}_trend"]
            page.heading(drawing.title)
            page.drawing(drawing)
        page.heading("Slopes")
        page.sentence(
            "Each animal's slope over its days, then the mean of the slopes of its group: change per "
            "day."
        )
        _table(page, "Slopes per group.", summary.tables["trends"], _GROUP_COLUMNS, cohort.groups)
        if len(cohort.groups) > 1:
            page.sentence(EXPLORATORY)
            _table(page, "Slopes, the second group less the first.",
                   summary.tables["trend_comparisons"], _PAIR_COLUMNS, ())  # fmt: skip
    page.section("provenance", "Where this comes from")
    for title, facts in provenance.items():
        page.facts(title, facts)
    return page.html()


_GROUP_COLUMNS = {
    "group": "group", "measure": "measure", "behavior": "behaviour", "unit": "unit", "n": "n",
    "without_value": "without value", "mean": "mean", "sd": "sd", "ci": "95% CI (t)",
    "boot": "95% CI (bootstrap)", "median": "median", "quartiles": "quartiles", "note": "note",
}  # fmt: skip
_PAIR_COLUMNS = {
    "pair": "groups", "measure": "measure", "behavior": "behaviour", "unit": "unit", "n": "n",
    "difference": "difference", "boot": "95% CI (bootstrap)", "hedges_g": "g", "g": "95% CI of g",
    "welch_p": "p (Welch)", "welch_p_holm": "p (Welch, Holm)", "mann_whitney_p": "p (Mann-Whitney)",
    "mann_whitney_p_holm": "p (Mann-Whitney, Holm)", "note": "note",
}  # fmt: skip
_INTERVALS = {"ci": ("ci_low", "ci_high"), "boot": ("boot_low", "boot_high"), "g": ("g_low", "g_high"),
              "quartiles": ("q1", "q3")}  # fmt: skip


def _table(
    page: Page, caption: str, table: pl.DataFrame, columns: dict[str, str], groups: Sequence[str]
) -> None:
    from tailor_assets.compute.palette import label_styles

    rows: list[list[Cell]] = []
    for row in table.head(ROWS_SHOWN).iter_rows(named=True):
        if row.get("n", 1) == 0 and row.get("without_value") == 0:
            continue
        rows.append([_cell(row, name) for name in columns])
    page.table(caption, list(columns.values()), rows, label_styles(list(groups)))
    if table.height > ROWS_SHOWN:
        page.sentence(
            f"The first {ROWS_SHOWN} of {table.height:,} rows; the CSV file has them all."
        )


def _cell(row: dict[str, object], name: str) -> Cell:
    if name in _INTERVALS:
        low, high = (row[one] for one in _INTERVALS[name])
        return None if low is None else f"{_number(low)} to {_number(high)}"
    if name == "pair":
        return f"{row['group_2']} - {row['group_1']}"
    if name == "n" and "n_1" in row:
        return f"{row['n_2']}, {row['n_1']}"
    value = row[name]
    if value is None:
        return None
    if name == "unit":
        return "" if value == "1" else str(value)
    if "_p" in name:
        return f"{value:.3f}" if float(value) >= 0.001 else "< 0.001"  # type: ignore[arg-type]
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, int) else str(value)


def _number(value: object) -> str:
    return f"{value:,.3g}" if abs(float(value)) < 1000 else f"{value:,.0f}"  # type: ignore[arg-type]


def _animals(summary: CohortSummary, group: str) -> str:
    count = summary.tables["measures"].filter(pl.col("group") == group)["subject"].n_unique()
    return f"{count} animal{'' if count == 1 else 's'}"
