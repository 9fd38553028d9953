"""Where the animal was for how long: seconds per square of the floor."""

from __future__ import annotations

import math

import numpy as np

from tailor_assets.compute.report.figure_style import png_of
from tailor_assets.compute.report.floor_plan import draw_floor_plan, map_figure
from tailor_assets.compute.report.report_input import Drawing, ReportInput

NAME, TITLE = "occupancy", "Occupancy"
SQUARES_ALONG = 40


def occupancy(
    x: np.ndarray, y: np.ndarray, durations_s: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, float]:
    """Seconds that the centroid was in each square: float64 [rows, columns], and its side in pixels.

    x, y: float64 [n] pixels, NaN where it is not known. durations_s: float64 [n]. There are 40
    squares along the longer side. They add up to the seconds in which the position is known.
    """
    side = max(width, height) / SQUARES_ALONG
    columns, rows = (max(1, math.ceil(length / side - 1e-9)) for length in (width, height))
    known = np.isfinite(x) & np.isfinite(y)
    # The first pixel's centre is 0, so the picture begins half a pixel before it.
    column = ((x[known] + 0.5) / side).astype(np.int64).clip(0, columns - 1)
    row = ((y[known] + 0.5) / side).astype(np.int64).clip(0, rows - 1)
    seconds = np.bincount(
        row * columns + column, weights=durations_s[known], minlength=rows * columns
    )
    return seconds.reshape(rows, columns), side


def draw_occupancy(data: ReportInput, still: np.ndarray | None) -> Drawing:
    """The heat map over the still picture; squares never entered are left clear."""
    x, y = data.feature("centroid_x"), data.feature("centroid_y")
    if not (np.isfinite(x) & np.isfinite(y)).any():
        return Drawing.nothing(NAME, TITLE, f"The {data.subject} was found in no frame.")
    if data.times_s.size < 2:
        return Drawing.nothing(
            NAME, TITLE, "There are fewer than two frames, so no place was held for any time."
        )
    seconds, side = occupancy(x, y, data.columns.durations_s, data.width, data.height)
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    scale = data.px_per_unit
    rows, columns = seconds.shape
    entered = seconds[seconds > 0]
    figure, panel, beside = map_figure(data)
    draw_floor_plan(panel, data, still)
    # Decades rather than a line: an animal that rests for minutes would leave the rest of the map
    # in one colour.
    low, high = float(entered.min()), float(entered.max())
    mesh = panel.pcolormesh(
        (np.arange(columns + 1) * side - 0.5) / scale,
        (np.arange(rows + 1) * side - 0.5) / scale,
        np.ma.masked_equal(seconds, 0.0),
        cmap="viridis_r",
        norm=LogNorm(low, max(high, 1.01 * low)),
        alpha=0.85,
        linewidth=0,
    )
    panel.set_ylabel(f"y ({data.length_unit})")
    bar = figure.colorbar(mesh, cax=beside, label="seconds in the square")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    row, column = np.unravel_index(int(seconds.argmax()), seconds.shape)
    at = ((column + 0.5) * side / scale, (row + 0.5) * side / scale)
    unit = data.length_unit
    return Drawing(
        NAME,
        TITLE,
        f"Seconds that the centroid was in each square of {side / scale:.3g} {unit}, {SQUARES_ALONG} "
        "along the longer side; every frame counts for the time it stands for, so a variable frame "
        "rate is right. The colours are logarithmic; clear squares were never entered.",
        alt=f"Heat map of the arena. {entered.size:,} of {seconds.size:,} squares were entered; the "
        f"longest time in one was {high:.1f} s, at x {at[0]:.1f} {unit}, y {at[1]:.1f} {unit}.",
        png=png_of(figure),
    )
