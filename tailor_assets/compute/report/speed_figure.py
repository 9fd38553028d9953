"""How fast the animal was, and how far it has gone."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.features.motion_features import mean_over_steps
from tailor_assets.compute.palette import BLUE
from tailor_assets.compute.report.figure_style import (
    draw_band,
    png_of,
    set_time_axis,
    time_figure,
)
from tailor_assets.compute.report.report_input import Drawing, ReportInput

NAME, TITLE = "speed", "Speed and distance"


def draw_speed(data: ReportInput) -> Drawing:
    """Speed (mean and range of each column) over the distance walked so far."""
    speed, walked = data.length("speed", "_s"), data.length("path_length")
    mean = mean_over_steps(data.times_s, speed)
    if mean is None:
        return Drawing.nothing(
            NAME,
            TITLE,
            f"The {data.subject} was found in no two frames in a row, so it has no speed.",
        )
    from matplotlib.ticker import FuncFormatter

    columns, unit = data.columns, data.length_unit
    figure, panels = time_figure([1.25, 1.0])
    seconds = set_time_axis(panels, columns)
    blue = tuple(v / 255 for v in BLUE)
    draw_band(
        panels[0],
        columns,
        columns.mean(speed),
        seconds,
        colour=blue,
        low=columns.lowest(speed),
        high=columns.highest(speed),
    )
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(f"speed\n({unit}/s)")
    # What was walked does not shrink where the animal is lost: the line stands still there.
    shown, divisor = (unit, 1.0)
    most = float(np.nanmax(walked)) if np.isfinite(walked).any() else 0.0
    if unit == "cm" and most > 200:
        shown, divisor = "m", 100.0
    draw_band(panels[1], columns, columns.highest(walked) / divisor, seconds, colour=blue)
    panels[1].set_ylim(bottom=0)
    panels[1].set_ylabel(f"distance\n({shown})")
    for panel in panels:
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    peak = float(np.nanmax(speed))
    return Drawing(
        NAME,
        TITLE,
        "Above: speed of the centroid, mean (line) and range (grey) of each column. Below: the "
        "distance walked so far; what was walked unseen is not in it. The centroid trembles a little "
        "with the outline, which adds to the distance of an animal at rest.",
        alt=f"Speed over time, {mean:.2f} {unit}/s on average and {peak:.2f} {unit}/s at most, and "
        f"the distance walked, {most / divisor:.2f} {shown} in the end.",
        png=png_of(figure),
    )
