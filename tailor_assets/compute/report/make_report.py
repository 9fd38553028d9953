"""From a video's results to ``report.html`` and the PNGs that are in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bout_table import (
    bout_statistics,
    bout_table,
    bouts_per_bin,
    time_budget,
)
from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.features.motion_features import mean_over_steps
from tailor_assets.compute.report.budget_figure import draw_time_budget
from tailor_assets.compute.report.ethogram_figure import draw_ethogram
from tailor_assets.compute.report.figure_style import house_style
from tailor_assets.compute.report.flag_figure import draw_flags, make_thumbnails
from tailor_assets.compute.report.floor_plan import still_picture
from tailor_assets.compute.report.html_page import Cell, Page
from tailor_assets.compute.report.mask_figure import draw_masks
from tailor_assets.compute.report.nest_figure import draw_nest
from tailor_assets.compute.report.occupancy_figure import draw_occupancy
from tailor_assets.compute.report.report_input import PRIORITY, Drawing, ReportInput
from tailor_assets.compute.report.speed_figure import draw_speed
from tailor_assets.compute.report.time_columns import clock_time
from tailor_assets.compute.report.track_figure import draw_track

REPORT_VERSION = "2"
# What a person reads on a page; all of it can be saved as CSV from the page, up to the second number.
BOUTS_SHOWN, BOUTS_SAVED = 50, 20_000
MOST_BINS_OF_ITSELF = 20
_BIN_WIDTHS_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


@dataclass(frozen=True)
class Report:
    """What was written: the figures by name (PNG bytes), and the numbers of the first lines."""

    figures: dict[str, bytes]
    key_figures: list[tuple[str, str]]
    bin_s: float


def chosen_bin_s(length_s: float) -> float:
    """A round width of time bins, at most 20 of which make up the recording."""
    for width in _BIN_WIDTHS_S:
        if length_s <= MOST_BINS_OF_ITSELF * width:
            return width
    return 3600.0 * int(np.ceil(length_s / (3600.0 * MOST_BINS_OF_ITSELF)))


def make_report(
    data: ReportInput,
    folder: Path,
    progress: Callable[[int, int | None], None] | None = None,
) -> Report:
    """Write ``report.html`` and ``report_figures/<name>.png`` into ``folder``.

    The same input gives the same bytes. Drawing takes columns of a picture and not rows of a table,
    so that twelve hours take as many bytes as twelve minutes.

    Raises PermanentProblem when the tables cannot be read as what they should be.
    """
    bouts = bout_table(data.flags)
    length_s = float(bouts["stop_s"][-1] - bouts["start_s"][0]) if bouts.height else 0.0
    bin_s = data.bin_s or chosen_bin_s(length_s)
    per_bin = bouts_per_bin(data.flags, bin_s, data.labels)
    still = still_picture(data)
    steps: Sequence[Callable[[], Drawing]] = (
        lambda: draw_ethogram(data),
        lambda: draw_time_budget(data, per_bin),
        lambda: draw_track(data, still),
        lambda: draw_occupancy(data, still),
        lambda: draw_speed(data),
        lambda: draw_nest(data),
        lambda: draw_masks(data),
        lambda: draw_flags(data),
    )
    drawings: dict[str, Drawing] = {}
    with house_style():
        for done, step in enumerate(steps, 1):
            drawing = step()
            drawings[drawing.name] = drawing
            if progress is not None:
                progress(done, len(steps))
    figures = {name: one.png for name, one in drawings.items() if one.png is not None}
    pictures = folder / "report_figures"
    pictures.mkdir()
    for name, png in figures.items():
        (pictures / f"{name}.png").write_bytes(png)
    key = _key_figures(data, bouts)
    page = _page(data, drawings, key, bouts, per_bin, bin_s)
    (folder / "report.html").write_text(page.html(), encoding="utf-8")
    return Report(figures, key, bin_s)


def _page(
    data: ReportInput,
    drawings: dict[str, Drawing],
    key: list[tuple[str, str]],
    bouts: pl.DataFrame,
    per_bin: pl.DataFrame,
    bin_s: float,
) -> Page:
    page = Page(data.name, "Report by tailor. What each figure shows is said beneath it.")
    page.key_figures(key)
    page.section("behaviour", "What it did")
    page.drawing(drawings["ethogram"])
    _statistics(page, data, bouts)
    page.heading(drawings["time_budget"].title)
    page.drawing(drawings["time_budget"])
    page.section("places", "Where it was")
    page.drawing(drawings["track"])
    page.heading(drawings["occupancy"].title)
    page.drawing(drawings["occupancy"])
    page.section("movement", drawings["speed"].title)
    page.drawing(drawings["speed"])
    page.section("nest", drawings["nest"].title)
    page.drawing(drawings["nest"])
    page.section("masks", drawings["masks"].title)
    page.drawing(drawings["masks"])
    page.section("flags", drawings["flags"].title)
    page.drawing(drawings["flags"])
    thumbnails = make_thumbnails(data) if drawings["flags"].png is not None else []
    if thumbnails:
        windows = int(data.flags["flag_window"].max() or 0)  # type: ignore[arg-type]
        chosen = "of the greatest priority" if PRIORITY in data.flags.columns else "spread evenly"
        which = (
            "each window"
            if len(thumbnails) == windows
            else f"{len(thumbnails)} of the {windows:,} windows, {chosen}"
        )
        page.sentence(
            f"The first change of {which} (its middle, where nothing changes), with the outlines of "
            "the masks."
        )
        page.thumbnails(thumbnails)
    page.section("tables", "Tables")
    _bins(page, data, per_bin, bin_s)
    _bouts(page, data, bouts)
    page.section("provenance", "Where this comes from")
    for title, facts in data.provenance.items():
        page.facts(title, facts)
    return page


def _key_figures(data: ReportInput, bouts: pl.DataFrame) -> list[tuple[str, str]]:
    budget = time_budget(bouts)
    unit = data.length_unit
    figures = [
        ("recorded", clock_time(budget.recorded_s)),
        ("frames analysed", f"{data.flags.height:,}"),
    ]
    quality = data.feature("mask_quality")
    if quality.size:
        found = float((np.nan_to_num(quality) > 0).mean())
        figures.append((f"frames with the {data.subject}", f"{found:.1%}"))
    walked, speed = data.length("path_length"), data.length("speed", "_s")
    if np.isfinite(walked).any():
        most = float(np.nanmax(walked))
        far = f"{most / 100:.2f} m" if unit == "cm" and most > 200 else f"{most:,.0f} {unit}"
        figures.append(("distance walked", far))
    mean = mean_over_steps(data.times_s, speed)
    if mean is not None:
        figures.append(("mean speed", f"{mean:.2f} {unit}/s"))
    known = bouts.filter(pl.col("behavior") != NO_DATA)
    figures.append(("bouts of behaviour", f"{known.height:,}"))
    windows = int(data.flags["flag_window"].max() or 0)  # type: ignore[arg-type]
    figures.append(("windows to look at", f"{windows:,}"))
    return figures


def _statistics(page: Page, data: ReportInput, bouts: pl.DataFrame) -> None:
    rows: list[list[Cell]] = []
    for row in bout_statistics(bouts, data.labels).iter_rows(named=True):
        share = row["share"]
        rows.append(
            [
                row["behavior"], row["bouts"], row["total_s"],
                None if share is None else f"{share:.1%}", row["mean_s"], row["std_s"],
                row["latency_s"], row["interval_s"],
            ]
        )  # fmt: skip
    header = [
        "behaviour", "bouts", "total (s)", "share of known time", "mean bout (s)", "std (s)",
        "latency to first (s)", "mean interval between bouts (s)",
    ]  # fmt: skip
    if not rows:
        page.sentence("No behaviour is known in any frame.")
        return
    page.table("Bouts per behaviour", header, rows, data.styles)
    budget = time_budget(bouts)
    if budget.no_data_bouts:
        page.sentence(
            f"“{NO_DATA}”: {budget.no_data_s:,.2f} s in {budget.no_data_bouts:,} "
            f"{'stretch' if budget.no_data_bouts == 1 else 'stretches'}, "
            f"{budget.no_data_s / budget.recorded_s if budget.recorded_s else 1:.1%} of the time "
            "recorded. It is in no share, and intervals that it interrupts are left out."
        )
    else:
        page.sentence(f"No time is without data: “{NO_DATA}” never came up.")


def _bins(page: Page, data: ReportInput, per_bin: pl.DataFrame, bin_s: float) -> None:
    page.heading("Per stretch of time")
    if per_bin.is_empty():
        page.sentence("No behaviour is known, so there is nothing to split.")
        return
    header = ["from (s)", "to (s)", "recorded (s)", "known (s)"]
    header += [f"{label} {what}" for label in data.labels for what in ("(s)", "(bouts)")]
    rows: list[list[Cell]] = []
    for _, part in per_bin.group_by("bin", maintain_order=True):
        first = part.row(0, named=True)
        row: list[Cell] = [first[n] for n in ("start_s", "stop_s", "recorded_s", "known_s")]
        for one in part.iter_rows(named=True):
            row += [one["total_s"], one["bouts"]]
        rows.append(row)
    shown = rows[:200]
    page.table(
        f"Seconds and bouts in each {bin_s:g} s. A bout that crosses a border is split: each side gets "
        "its seconds and its fraction of one bout.",
        header,
        shown,
        data.styles,
    )
    if len(shown) < len(rows):
        page.sentence(f"The first {len(shown)} of {len(rows):,} stretches are shown.")
    page.download("Save this table as CSV", "time_bins.csv", header, rows)


def _bouts(page: Page, data: ReportInput, bouts: pl.DataFrame) -> None:
    page.heading("Every bout")
    if bouts.is_empty():
        page.sentence("There is no frame, so there is no bout.")
        return
    rows: list[list[Cell]] = [list(row) for row in bouts.head(BOUTS_SAVED).iter_rows()]
    page.table(
        "In the order of time; “no data” is listed too.",
        [
            "behaviour", "from (s)", "to (s)", "lasts (s)", "first frame", "last frame",
            "mean probability",
        ],
        rows[:BOUTS_SHOWN],
        data.styles,
    )  # fmt: skip
    if len(rows) > BOUTS_SHOWN:
        page.sentence(f"The first {BOUTS_SHOWN} of {bouts.height:,} bouts are shown.")
    if bouts.height > BOUTS_SAVED:
        page.sentence(
            f"There are too many bouts for a page; the CSV has the first {BOUTS_SAVED:,}, and the "
            "predictions have them all."
        )
    page.download("Save the bouts as CSV", "bouts.csv", bouts.columns, rows)
