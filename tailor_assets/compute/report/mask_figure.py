"""How far the masks can be trusted, frame by frame."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.palette import BLUE, STATE_COLOURS
from tailor_assets.compute.report.figure_style import (
    draw_band,
    draw_rows,
    png_of,
    set_time_axis,
    time_figure,
)
from tailor_assets.compute.report.report_input import Drawing, ReportInput

NAME, TITLE = "masks", "Mask quality"


def draw_masks(data: ReportInput) -> Drawing:
    """The animal's mask quality over a row for each state its mask, and the nest's, was in."""
    if data.times_s.size < 2:
        return Drawing.nothing(
            NAME, TITLE, "There are fewer than two frames, so there is nothing to draw over time."
        )
    columns = data.columns
    rows, notes, said = [], [], []
    for name, column in ((data.subject, "mask_state"), (data.nest, "nest_mask_state")):
        codes = data.states(column)
        for state in MaskState:
            mine = codes == state
            if name is None or not mine.any():
                continue
            word = state.label.replace("_", " ")
            rows.append((f"{name} {word}", columns.share(mine), STATE_COLOURS[state]))
            notes.append(f"{mine.mean():.1%} · {int(mine.sum()):,}")
            said.append(f"{name} {word} in {int(mine.sum()):,} frames ({mine.mean():.1%})")
    quality = data.feature("mask_quality")
    figure, panels = time_figure([1.0, *([0.27 * len(rows)] if rows else [])])
    seconds = set_time_axis(panels, columns)
    draw_band(
        panels[0],
        columns,
        columns.mean(quality),
        seconds,
        colour=tuple(v / 255 for v in BLUE),
        low=columns.lowest(quality),
        high=columns.highest(quality),
    )
    panels[0].set_ylim(0, 1.03)
    panels[0].set_ylabel("mask quality\n(0 to 1)")
    if rows:
        draw_rows(panels[1], columns, rows, seconds, notes)
    known = quality[np.isfinite(quality)]
    median = f" Median quality {np.median(known):.2f}." if known.size else ""
    return Drawing(
        NAME,
        TITLE,
        "Above: the segmenter's score of the animal's mask, mean (line) and range (grey); 0 where it "
        "is lost. Below: a row for every state that a mask was in, with share and number of frames. "
        "“tracked” and “held” are as usual, “lost” and “not started” have no mask; the others should "
        "be looked at before they are believed.",
        alt=f"Mask quality and states over time. {'; '.join(said) or 'No state is known'}.{median}",
        png=png_of(figure),
    )
