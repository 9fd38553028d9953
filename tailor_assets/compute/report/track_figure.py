"""Where the animal went, coloured by time, and where it did what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailor_assets.compute.behavior.bouts import NO_DATA, after_hole, bout_edges
from tailor_assets.compute.report.figure_style import INK, png_of, short
from tailor_assets.compute.report.floor_plan import draw_floor_plan, two_maps
from tailor_assets.compute.report.report_input import Drawing, ReportInput
from tailor_assets.compute.report.time_columns import time_unit
from tailor_assets.compute.report.way import Way, way_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME, TITLE = "track", "Track"
MOST_MARKERS = 40


def draw_track(data: ReportInput, still: np.ndarray | None) -> Drawing:
    """The centroid's way twice: by time, and by behaviour with a marker for each longer bout."""
    x, y = data.feature("centroid_x"), data.feature("centroid_y")
    found = np.isfinite(x) & np.isfinite(y)
    if not found.any():
        return Drawing.nothing(NAME, TITLE, f"The {data.subject} was found in no frame.")
    if data.times_s.size < 2:
        return Drawing.nothing(
            NAME, TITLE, "There are fewer than two frames, so there is no way to draw."
        )
    way = way_of(data)
    figure, (left, right), below = two_maps(data)
    for panel, title in ((left, "by time"), (right, "by behaviour")):
        draw_floor_plan(panel, data, still)
        panel.set_title(title)
    left.set_ylabel(f"y ({data.length_unit})")
    right.tick_params(labelleft=False)
    _by_time(figure, left, below, data, way)
    first, last = np.flatnonzero(found)[[0, -1]]
    scale = data.px_per_unit
    for row, marker, word in ((first, "o", "first seen"), (last, "s", "last seen")):
        left.plot(
            x[row] / scale, y[row] / scale, marker, color="white", markeredgecolor=INK,
            markersize=7, label=word, linestyle="none",
        )  # fmt: skip
    left.legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2, handletextpad=0.1, borderaxespad=0.0
    )
    _by_behaviour(figure, right, data, way)
    missing = float(1 - found.mean())
    painted = " Where it went over its own way the latest is seen." if way.is_painted else ""
    over = "" if still is None else ", over the median of nine frames"
    nest = " A dashed outline is the nest." if data.nest_outlines else ""
    return Drawing(
        NAME,
        TITLE,
        f"The centroid of the mask{over}. Right: the same way in the colour "
        f"of the behaviour; a marker at the middle of each bout (the {MOST_MARKERS} longest of each "
        f"behaviour), its area as the bout's length.{nest} The way is "
        f"interrupted where the {data.subject} was not found ({missing:.1%} of frames).{painted}",
        alt=f"Two maps of the arena with the way of the {data.subject}, left coloured by time, right "
        f"by behaviour. First seen at {_place(data, x, y, first)}, last seen at "
        f"{_place(data, x, y, last)}.",
        png=png_of(figure),
    )


def _by_time(figure: Figure, panel: Axes, scale: Axes, data: ReportInput, way: Way) -> None:
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    # The light end of viridis is lost on paper.
    dark = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, 256))
    unit, seconds = time_unit(data.columns.end_s - float(data.times_s[0]))
    colours = ScalarMappable(
        Normalize(data.times_s[0] / seconds, data.columns.end_s / seconds),
        LinearSegmentedColormap.from_list("time", dark),
    )
    way.draw(panel, colours.to_rgba(data.times_s[way.rows] / seconds)[:, :3])
    figure.colorbar(colours, cax=scale, orientation="horizontal").set_label(f"time ({unit})")


def _by_behaviour(figure: Figure, panel: Axes, data: ReportInput, way: Way) -> None:
    # "no data" is last, so its code, -1, finds it.
    palette = np.array([data.styles[label].unit_colour for label in (*data.labels, NO_DATA)])
    way.draw(panel, palette[data.codes[way.rows]])
    x, y = data.feature("centroid_x"), data.feature("centroid_y")
    starts, stops = bout_edges(data.codes, after_hole(data.times_s))
    elapsed = np.concatenate([[0.0], np.cumsum(data.columns.durations_s)])
    lengths = elapsed[stops] - elapsed[starts]
    longest = float(lengths.max())
    for place, label in enumerate(data.labels):
        style = data.styles[label]
        bouts = np.flatnonzero(data.codes[starts] == place)
        shown = [
            (np.nanmean(x[rows]), np.nanmean(y[rows]), 18 + 160 * lengths[bout] / longest)
            for bout in bouts[np.argsort(-lengths[bouts], kind="stable")[:MOST_MARKERS]]
            if np.isfinite(x[(rows := slice(starts[bout], stops[bout]))]).any()
        ]
        if not shown:
            continue
        at = np.array(shown)
        panel.scatter(
            at[:, 0] / data.px_per_unit,
            at[:, 1] / data.px_per_unit,
            s=at[:, 2],
            marker=style.marker,
            color=[style.unit_colour],
            edgecolors="white",
            linewidths=0.7,
            alpha=0.9,
            zorder=3,
        )
        # For the legend, where the largest bout must not set the size.
        panel.scatter(
            [], [], s=40, marker=style.marker, color=[style.unit_colour], label=short(label)
        )
    if panel.get_legend_handles_labels()[0]:
        place_of, high = panel.get_position(original=True), figure.get_figheight()
        panel.legend(
            loc="upper left",
            bbox_to_anchor=(place_of.x0, place_of.y0 - 0.46 / high),
            bbox_transform=figure.transFigure,
            ncols=4,
            handletextpad=0.1,
            columnspacing=1.0,
            borderaxespad=0.0,
        )


def _place(data: ReportInput, x: np.ndarray, y: np.ndarray, row: int) -> str:
    scale, unit = data.px_per_unit, data.length_unit
    return f"x {x[row] / scale:.1f} {unit}, y {y[row] / scale:.1f} {unit}"
