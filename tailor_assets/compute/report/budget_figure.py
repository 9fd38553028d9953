"""How the time was spent, stretch by stretch."""

from __future__ import annotations

import numpy as np
import polars as pl

from tailor_assets.compute.report.figure_style import plain_figure, png_of, short
from tailor_assets.compute.report.report_input import Drawing, ReportInput
from tailor_assets.compute.report.time_columns import time_unit

NAME, TITLE = "time_budget", "Time budget"
# A bar is a shape for every label; more of them are minutes of drawing, and none can be told apart.
MOST_BARS = 400


def draw_time_budget(data: ReportInput, per_bin: pl.DataFrame) -> Drawing:
    """Stacked bars, one per time bin, of each behaviour's share of the seconds that are known.

    per_bin: what ``bouts_per_bin`` returned.
    """
    if per_bin.is_empty() or not float(per_bin["known_s"].max() or 0) > 0:  # type: ignore[arg-type]
        return Drawing.nothing(
            NAME,
            TITLE,
            "The behaviour is known in no stretch of time, so there is no budget of it.",
        )
    bins = per_bin.unique("bin", maintain_order=True)
    if bins.height > MOST_BARS:
        return Drawing.nothing(
            NAME,
            TITLE,
            f"{bins.height:,} stretches of time are too many to draw: give a greater width, or save "
            "the table below.",
        )
    unit, seconds = time_unit(float(bins["stop_s"][-1] - bins["start_s"][0]))
    begins, ends = bins["start_s"].to_numpy() / seconds, bins["stop_s"].to_numpy() / seconds
    widths = ends - begins
    figure = plain_figure(2.6)
    panel = figure.add_subplot()
    below = np.zeros(begins.size)
    for label in data.labels:
        share = per_bin.filter(pl.col("behavior") == label)["share"].to_numpy()
        share = np.nan_to_num(share.astype(float)) * 100
        style = data.styles[label]
        panel.bar(
            begins,
            share,
            widths,
            bottom=below,
            align="edge",
            color=style.unit_colour,
            hatch=style.hatch,
            edgecolor="white",
            linewidth=0.6,
            label=short(label, 24),
        )
        below = below + share
    panel.set_xlim(begins[0], ends[-1])
    panel.set_ylim(0, 100)
    panel.set_ylabel("% of known time")
    panel.set_xlabel(f"time ({unit})")
    figure.legend(loc="outside upper left", ncols=5, handlelength=1.6, handleheight=1.1)
    return Drawing(
        NAME,
        TITLE,
        f"Each bar is {_length(data, bins)} of the recording; a bout that crosses a border counts on "
        "both sides for the part that lies there. Without a bar nothing is known of that time.",
        alt="Stacked bars of each behaviour's share of the time in every stretch; the numbers are in "
        "the table “Per stretch of time”.",
        png=png_of(figure),
    )


def _length(data: ReportInput, bins: pl.DataFrame) -> str:
    seconds = data.bin_s or float(bins["stop_s"][0] - bins["start_s"][0])
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
