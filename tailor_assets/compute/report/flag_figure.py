"""Which moments a person should look at, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tailor_assets.compute.palette import BLACK, VERMILION, object_colours
from tailor_assets.compute.report.figure_style import (
    draw_rows,
    png_of,
    set_time_axis,
    time_figure,
)
from tailor_assets.compute.report.report_input import PRIORITY, Drawing, ReportInput
from tailor_assets.compute.report.time_columns import clock_time

NAME, TITLE = "flags", "Moments to look at"
MOST_THUMBNAILS = 24
_THUMBNAIL_WIDTH, _QUALITY = 224, 72


@dataclass(frozen=True)
class Thumbnail:
    """One picture of a review window. ``before`` is None where no behaviour changes.

    ``priority``: 0 to 1, where it is known. ``jpeg`` is None where the frame is not there.
    """

    frame: int
    time_s: float
    window: int
    before: str | None
    after: str
    mask_state: str
    priority: float | None
    jpeg: bytes | None


def thumbnail_rows(flags: pl.DataFrame) -> list[int]:
    """Rows that get a picture, one of each review window, at most 24: in the order of time.

    A window's first change of behaviour or, where it has none, its middle row. Where there are more
    windows than pictures, those with the greatest ``window_priority``; without that column, every so
    many.
    """
    windows = flags["flag_window"].to_numpy()
    flagged = np.flatnonzero(windows > 0)
    numbers, first, sizes = np.unique(windows[flagged], return_index=True, return_counts=True)
    rows = flagged[first + sizes // 2]
    changes = np.flatnonzero((flags["change_point"].to_numpy() == 1) & (windows > 0))
    of_change, earliest = np.unique(windows[changes], return_index=True)
    rows[np.searchsorted(numbers, of_change)] = changes[earliest]
    if rows.size > MOST_THUMBNAILS:
        if PRIORITY in flags.columns:
            urgent = flags[PRIORITY].fill_null(0.0).to_numpy()[rows]
            rows = rows[np.argsort(-urgent, kind="stable")[:MOST_THUMBNAILS]]
        else:
            rows = rows[np.linspace(0, rows.size - 1, MOST_THUMBNAILS).round().astype(int)]
    return sorted(int(row) for row in rows)


def make_thumbnails(data: ReportInput) -> list[Thumbnail]:
    """Pictures of ``thumbnail_rows``, with the outlines that ``data`` has of them."""
    flags, made = data.flags, []
    for row in thumbnail_rows(flags):
        frame = int(flags["frame"][row])
        changes = row > 0 and int(flags["change_point"][row]) == 1
        priority = flags[PRIORITY][row] if PRIORITY in flags.columns else None
        made.append(
            Thumbnail(
                frame=frame,
                time_s=float(data.times_s[row]),
                window=int(flags["flag_window"][row]),
                before=str(flags["behavior"][row - 1]) if changes else None,
                after=str(flags["behavior"][row]),
                mask_state=str(flags["mask_state"][row]).replace("_", " "),
                priority=None if priority is None else float(priority),
                jpeg=_picture(data, frame),
            )
        )
    return made


def draw_flags(data: ReportInput) -> Drawing:
    """The review windows and the changes in them over time."""
    window = data.flags["flag_window"].to_numpy()
    change = data.flags["change_point"].to_numpy() == 1
    windows = int(window.max()) if window.size else 0
    if data.times_s.size < 2 or not windows:
        return Drawing.nothing(
            NAME, TITLE, "The behaviour never changes, and no moment is flagged for review."
        )
    columns = data.columns
    figure, panels = time_figure([0.62])
    seconds = set_time_axis(panels, columns)
    flagged = window > 0
    rows = [
        ("review windows", columns.share(flagged), VERMILION),
        # A change is a moment; it takes its whole column, or it would not be seen.
        ("changes", (columns.share(change) > 0).astype(float), BLACK),
    ]
    notes = [f"{windows:,} · {flagged.mean():.1%}", f"{int(change.sum()):,}"]
    draw_rows(panels[0], columns, rows, seconds, notes)
    unsure = np.setdiff1d(window[flagged], window[change]).size
    width = "" if data.seconds_window is None else f" {data.seconds_window:g} s wide"
    sentence = (
        f"{int(change.sum()):,} changes of behaviour in {windows:,} review "
        f"{'window' if windows == 1 else 'windows'}; {int(flagged.sum()):,} of {flagged.size:,} "
        f"frames ({flagged.mean():.1%}) lie in them."
    )
    return Drawing(
        NAME,
        TITLE,
        f"{sentence} A window{width} is laid around every change, and windows that meet are one."
        + (" Other windows are where the model is unsure for long." if unsure else ""),
        alt=f"Review windows over time. {sentence}",
        png=png_of(figure),
    )


def thumbnail_alt(one: Thumbnail) -> str:
    """What a person who does not see the picture is told."""
    what = f"{one.after}, unsure" if one.before is None else f"{one.before} becomes {one.after}"
    return f"Frame {one.frame} at {clock_time(one.time_s)}: {what}"


def _picture(data: ReportInput, frame: int) -> bytes | None:
    import cv2

    if data.frames_dir is None:
        return None
    path = Path(data.frames_dir) / f"{frame:06d}.jpg"
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        return None
    scale = _THUMBNAIL_WIDTH / picture.shape[1]
    size = (_THUMBNAIL_WIDTH, max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(
        picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    _draw_outlines(small, data.outlines.get(frame, {}), data, scale * picture.shape[1] / data.width)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _draw_outlines(
    picture: np.ndarray,
    outlines: Mapping[str, Sequence[np.ndarray]],
    data: ReportInput,
    scale: float,
) -> None:
    import cv2

    colours = object_colours(tuple(outlines), data.nest)
    for name, polygons in outlines.items():
        # In sixteenths of a pixel, which is how cv2 draws between pixels.
        points = [
            np.round((polygon + 0.5) * scale * 16 - 8).astype(np.int32) for polygon in polygons
        ]
        cv2.polylines(picture, points, True, colours[name][::-1], 1, cv2.LINE_AA, 4)
