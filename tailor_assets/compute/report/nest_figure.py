"""When the animal was in its nest, for how long in all, and how far away it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.palette import BLUE, ORANGE
from tailor_assets.compute.report.figure_style import (
    draw_band,
    draw_rows,
    png_of,
    set_time_axis,
    time_figure,
)
from tailor_assets.compute.report.report_input import Drawing, ReportInput
from tailor_assets.compute.report.time_columns import clock_time

NAME, TITLE = "nest", "Nest use"


@dataclass(frozen=True)
class NestUse:
    """seconds in the nest; share of the seconds in which it is known whether the animal was there;
    entries seen (a known row outside, then one inside); time of the first row inside, from the
    first row of the recording, or None."""

    seconds: float
    share: float | None
    entries: int
    latency_s: float | None


def nest_use(in_nest: np.ndarray, times_s: np.ndarray, durations_s: np.ndarray) -> NestUse:
    """in_nest: float64 [n], 1, 0 or NaN (not known). times_s, durations_s: float64 [n]."""
    known = np.isfinite(in_nest)
    inside = in_nest == 1
    known_s, inside_s = float(durations_s[known].sum()), float(durations_s[inside].sum())
    seen = in_nest[known]
    entries = int(((seen[1:] == 1) & (seen[:-1] == 0)).sum())
    first = np.flatnonzero(inside)
    return NestUse(
        inside_s,
        inside_s / known_s if known_s > 0 else None,
        entries,
        float(times_s[first[0]] - times_s[0]) if first.size else None,
    )


def draw_nest(data: ReportInput) -> Drawing:
    """In the nest or not, the seconds in it so far, and the distance to it."""
    inside = data.feature("in_nest")
    if data.nest is None:
        return Drawing.nothing(NAME, TITLE, "The template of this video has no nest.")
    if data.times_s.size < 2 or not np.isfinite(inside).any():
        return Drawing.nothing(
            NAME, TITLE, f"The {data.subject} and its nest were not found in the same frame."
        )
    columns = data.columns
    use = nest_use(inside, data.times_s, columns.durations_s)
    distance = data.length("distance_to_nest")
    figure, panels = time_figure([0.42, 0.9, 1.0])
    seconds = set_time_axis(panels, columns)
    draw_rows(panels[0], columns, [("in nest", columns.share(inside == 1), ORANGE)], seconds)
    so_far = np.cumsum(columns.seconds(inside == 1))
    divisor, unit = (60.0, "min") if use.seconds > 180 else (1.0, "s")
    blue = tuple(v / 255 for v in BLUE)
    draw_band(panels[1], columns, so_far / divisor, seconds, colour=blue)
    panels[1].set_ylim(bottom=0)
    panels[1].set_ylabel(f"in nest\nso far ({unit})")
    draw_band(
        panels[2],
        columns,
        columns.mean(distance),
        seconds,
        colour=blue,
        low=columns.lowest(distance),
        high=columns.highest(distance),
    )
    panels[2].set_ylim(bottom=0)
    panels[2].set_ylabel(f"distance to\nnest ({data.length_unit})")
    share = "unknown" if use.share is None else f"{use.share:.1%}"
    first = "never" if use.latency_s is None else f"after {clock_time(use.latency_s)}"
    sentence = (
        f"In the nest for {clock_time(use.seconds)} ({share} of the time in which that is known), "
        f"entered {use.entries:,} {'time' if use.entries == 1 else 'times'}, first inside {first}."
    )
    return Drawing(
        NAME,
        TITLE,
        f"{sentence} In the nest: the pixel under the centroid is the nest's, or more than half of "
        "the animal lies on it. Distance: from the centroid to the nearest pixel of the nest, mean "
        "(line) and range (grey).",
        alt=f"Nest use over time. {sentence}",
        png=png_of(figure),
    )
