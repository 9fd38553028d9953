"""Days side by side: every animal a thin line, over them the means of its group."""

from __future__ import annotations

import polars as pl

from tailor_assets.compute.cohort.group_figures import (
    FIGURES,
    begin_at_zero,
    keys_of_figure,
    label_panel,
    of_key,
    panel_grid,
)
from tailor_assets.compute.cohort.summary import CohortSummary
from tailor_assets.compute.palette import label_styles
from tailor_assets.compute.report.figure_style import png_of, short
from tailor_assets.compute.report.report_input import Drawing

# What says nothing of the animal has no trend to look at.
TRENDS = tuple(name for name in FIGURES if name != "recording")


def draw_trends(summary: CohortSummary, name: str) -> Drawing:
    """One panel per measure of ``FIGURES[name]`` over days. The cohort has days."""
    title = f"{FIGURES[name]} over days"
    keys = keys_of_figure(summary.tables["measures"], name)
    numbers = summary.tables["days"]["day_number"].unique().sort().to_list()
    # The file has days, but those of videos without results are no data.
    if not keys or not numbers:
        return Drawing.nothing(f"{name}_trend", title, "There is no data for this in any video.")
    groups = summary.cohort.groups
    styles = label_styles(groups)
    figure, panels = panel_grid(len(keys))
    # Groups of one day stand beside each other, so that their whiskers can be told apart.
    apart = 0.05 * (numbers[-1] - numbers[0]) / max(1, len(groups))
    for key, panel in zip(keys, panels, strict=True):
        points = of_key(summary.subject_days, key).filter(
            pl.col("value").is_not_null(), pl.col("day_number").is_not_null()
        )
        means = of_key(summary.tables["days"], key)
        for place, group in enumerate(groups):
            style, moved = styles[group], (place - (len(groups) - 1) / 2) * apart
            of_group = points.filter(pl.col("group") == group)
            for _, line in of_group.group_by("subject", maintain_order=True):
                ordered = line.sort("day_number")
                panel.plot(
                    ordered["day_number"].to_numpy() + moved,
                    ordered["value"].to_numpy(),
                    color=style.unit_colour,
                    linewidth=0.7,
                    alpha=0.45,
                    marker=style.marker,
                    markersize=2.5,
                )
            mean = means.filter(pl.col("group") == group, pl.col("mean").is_not_null())
            x, y = mean["day_number"].to_numpy() + moved, mean["mean"].to_numpy()
            panel.plot(
                x,
                y,
                color=style.unit_colour,
                linewidth=2.2,
                marker=style.marker,
                markersize=6,
                markeredgecolor="white",
                label=short(group, 24),
                zorder=4,
            )
            told = mean.filter(pl.col("ci_low").is_not_null())
            panel.vlines(
                told["day_number"].to_numpy() + moved,
                told["ci_low"].to_numpy(),
                told["ci_high"].to_numpy(),
                color=style.unit_colour,
                linewidth=1.4,
                zorder=4,
            )
        label_panel(panel, key)
        panel.set_xlabel("day")
        if len(numbers) <= 8:
            panel.set_xticks(numbers, [f"{number:g}" for number in numbers])
        begin_at_zero(panel, points["value"])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=6)
    return Drawing(
        f"{name}_trend",
        title,
        "A thin line is an animal, the thick one the mean of its group on each day, with its 95% "
        "interval (t distribution) from 3 animals on. Animals that come or leave change the mean.",
        alt=f"{title}, each animal and the mean of each group; the numbers are in the table of days.",
        png=png_of(figure),
    )
