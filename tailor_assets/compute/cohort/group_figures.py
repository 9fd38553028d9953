"""Groups side by side: every animal a dot, beside them the mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tailor_assets.compute.cohort.measures import OF_BEHAVIOR, OF_VIDEO
from tailor_assets.compute.cohort.sample_statistics import LEAST_ANIMALS
from tailor_assets.compute.cohort.summary import CohortSummary
from tailor_assets.compute.cohort.tidy_table import KEY, Key, keys_of
from tailor_assets.compute.palette import LabelStyle, label_styles
from tailor_assets.compute.report.figure_style import INK, plain_figure, png_of, short
from tailor_assets.compute.report.report_input import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is drawn together, and its heading. Total time is the share again, in seconds: a table is enough.
FIGURES = {
    "share": "Share of the time",
    "bout_count": "Number of bouts",
    "mean_bout": "Mean length of a bout",
    "latency": "Latency to the first bout",
    "movement": "Movement",
    "nest": "Nest",
    "recording": "Recording",
}
PER_ROW = 4
_KINDS = {measure.name: measure.kind for measure in (*OF_BEHAVIOR.values(), *OF_VIDEO)}


def keys_of_figure(tidy: pl.DataFrame, name: str) -> list[Key]:
    """The measures that a figure shows: those of its kind that any video has."""
    there = tidy.filter(pl.col("value").is_not_null())
    return [key for key in keys_of(there) if _KINDS[key[0]] == name]


def draw_groups(summary: CohortSummary, name: str) -> Drawing:
    """One panel per measure of ``FIGURES[name]``: animals as dots, group mean and its 95% interval."""
    title = FIGURES[name]
    keys = keys_of_figure(summary.tables["measures"], name)
    if not keys:
        return Drawing.nothing(name, title, "There is no data for this in any video.")
    groups = summary.cohort.groups
    styles = label_styles(groups)
    figure, panels = panel_grid(len(keys))
    for key, panel in zip(keys, panels, strict=True):
        animals = of_key(summary.tables["subjects"], key)
        means = of_key(summary.tables["groups"], key)
        for place, group in enumerate(groups):
            values = animals.filter(pl.col("group") == group)["value"].drop_nulls().sort()
            _dots(panel, place, values.to_numpy(), styles[group])
            row = means.filter(pl.col("group") == group).row(0, named=True)
            mean_with_interval(panel, place + 0.27, row)
        panel.set_xticks(range(len(groups)), [short(group, 14) for group in groups])
        if len(groups) * len(panels) > 8:
            panel.tick_params(axis="x", labelrotation=30)
        panel.set_xlim(-0.6, len(groups) - 0.4)
        label_panel(panel, key)
        begin_at_zero(panel, animals["value"])
    return Drawing(
        name,
        title,
        "A dot is an animal, the mean of its videos; the bar is the group's mean with its 95% "
        f"interval (t distribution), from {LEAST_ANIMALS} animals on. An animal without a value has "
        "no dot.",
        alt=f"{title} of each animal by group; the numbers are in the table of groups.",
        png=png_of(figure),
    )


def panel_grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels in rows of at most four, and the panels."""
    rows = -(-count // PER_ROW)
    columns = min(count, PER_ROW)
    figure = plain_figure(0.3 + 2.3 * rows)
    grid = figure.add_gridspec(rows, max(columns, 3))
    panels = [figure.add_subplot(grid[i // PER_ROW, i % PER_ROW]) for i in range(count)]
    return figure, panels


def of_key(table: pl.DataFrame, key: Key) -> pl.DataFrame:
    """The rows of one measure, behaviour and unit."""
    same = [pl.col(name).eq_missing(pl.lit(value)) for name, value in zip(KEY, key, strict=True)]
    return table.filter(*same)


def label_panel(panel: Axes, key: Key) -> None:
    """Title and unit of a panel."""
    measure, behavior, unit = key
    panel.set_title(short(behavior or measure.replace("_", " "), 26))
    panel.set_ylabel({"1": ""}.get(unit, unit))


def begin_at_zero(panel: Axes, values: pl.Series) -> None:
    """Have the axis begin at 0 where no value is negative, with room for what stands on the border."""
    panel.margins(y=0.12)
    if values.drop_nulls().len() and not (values < 0).any():
        panel.set_ylim(bottom=0)


def mean_with_interval(panel: Axes, place: float, row: Mapping[str, Any]) -> None:
    """A bar at the mean, and a whisker over its interval where there is one."""
    if row["mean"] is None:
        return
    panel.plot([place - 0.13, place + 0.13], [row["mean"]] * 2, color=INK, linewidth=2, zorder=4)
    if row["ci_low"] is not None:
        panel.plot([place] * 2, [row["ci_low"], row["ci_high"]], color=INK, linewidth=1.2, zorder=4)


def _dots(panel: Axes, place: float, values: np.ndarray, style: LabelStyle) -> None:
    """Dots beside each other where they would lie upon each other; the same places every time."""
    panel.plot(
        place - 0.08 + _aside(values, 0.16),
        values,
        linestyle="",
        marker=style.marker,
        markersize=5.5,
        markerfacecolor=style.unit_colour,
        markeredgecolor="white",
        markeredgewidth=0.6,
        alpha=0.9,
        zorder=3,
        clip_on=False,
    )


def _aside(values: Sequence[float] | np.ndarray, most: float) -> np.ndarray:
    """How far each of sorted values is moved aside: float64 [n], within ``-most`` and ``most``."""
    count = len(values)
    if count < 2:
        return np.zeros(count)
    # Neighbours in value go to different sides.
    return most * np.array([0.0, 0.75, -0.75, 0.35, -0.35, 1.0, -1.0])[np.arange(count) % 7]
