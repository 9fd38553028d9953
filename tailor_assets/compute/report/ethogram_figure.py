"""The ethogram: what the animal did when, and how sure the model was."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.behavior.bouts import NO_DATA, after_hole, bout_edges
from tailor_assets.compute.report.figure_style import (
    draw_band,
    draw_rows,
    png_of,
    set_time_axis,
    time_figure,
)
from tailor_assets.compute.report.report_input import Drawing, ReportInput

NAME, TITLE = "ethogram", "Ethogram"


def draw_ethogram(data: ReportInput) -> Drawing:
    """A row per label over the probability of the label."""
    if data.times_s.size < 2:
        return Drawing.nothing(
            NAME, TITLE, "There are fewer than two frames, so no behaviour has a length in time."
        )
    columns = data.columns
    durations = columns.durations_s
    rows, notes, said = [], [], []
    begins = data.codes[bout_edges(data.codes, after_hole(data.times_s))[0]]
    known_s = float(durations[data.codes >= 0].sum())
    places = [*range(len(data.labels)), *([-1] if (data.codes < 0).any() else [])]
    for place in places:
        label = NO_DATA if place < 0 else data.labels[place]
        mine = data.codes == place
        seconds, bouts = float(durations[mine].sum()), int((begins == place).sum())
        whole = float(durations.sum()) if place < 0 else known_s
        share = seconds / whole if whole > 0 else 0.0
        rows.append((label, columns.share(mine), data.styles[label].colour))
        notes.append(f"{share:.1%} · {bouts:,}×")
        said.append(f"{label} {share:.1%} in {bouts:,} {'bout' if bouts == 1 else 'bouts'}")
    figure, panels = time_figure([0.34 * len(rows), 1.0])
    seconds_per_unit = set_time_axis(panels, columns)
    draw_rows(panels[0], columns, rows, seconds_per_unit, notes)
    probability = data.probability
    draw_band(
        panels[1],
        columns,
        columns.mean(probability),
        seconds_per_unit,
        low=columns.lowest(probability),
        high=columns.highest(probability),
    )
    panels[1].set_ylim(0, 1.03)
    panels[1].set_ylabel("probability\nof the label")
    finite = probability[np.isfinite(probability)]
    sure = f" The label's median probability is {np.median(finite):.2f}." if finite.size else ""
    return Drawing(
        NAME,
        TITLE,
        "One row per behaviour; at its right the share of the time whose behaviour is known, and the "
        "number of bouts (for “no data”, the share of all time). Where a column of the picture stands "
        "for several frames it is as dark as the behaviour's share of it. Below: the probability of "
        "the label, mean (line) and range (grey).",
        alt=f"Ethogram. {'; '.join(said)}.{sure}",
        png=png_of(figure),
    )
