"""The arena from above, as what maps are drawn on: a pale still picture, or an empty frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailor_assets.compute.report.figure_style import DPI, WIDTH_IN
from tailor_assets.compute.report.report_input import ReportInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STILLS = 9
_WIDEST = 640
_TALLEST_IN, _NARROWEST_IN = 5.2, 1.8


def still_frame_numbers(rows: int) -> list[int]:
    """Frames whose median shows the arena without the animal, as far as it moves: at most 9."""
    return sorted({int(n) for n in np.linspace(0, rows - 1, _STILLS)}) if rows else []


def still_picture(data: ReportInput) -> np.ndarray | None:
    """The arena in grey, uint8 [h, w], at most 640 wide; None where no frame can be read."""
    import cv2

    if data.frames_dir is None:
        return None
    scale = min(1.0, _WIDEST / max(data.width, data.height))
    size = (max(1, round(data.width * scale)), max(1, round(data.height * scale)))
    stills = []
    for number in still_frame_numbers(data.flags.height):
        path = data.frames_dir / f"{number:06d}.jpg"
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
        if picture is not None:
            stills.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    return np.median(stills, axis=0).astype(np.uint8) if stills else None


def draw_floor_plan(panel: Axes, data: ReportInput, still: np.ndarray | None) -> None:
    """Still picture, nest and arena outline, and axes in cm or px; y grows downwards, as in pixels."""
    scale = data.px_per_unit
    right, bottom = data.width / scale, data.height / scale
    if still is not None:
        # Pale, so that what is drawn on it is seen, on paper too.
        pale = 175 + still.astype(float) * (80 / 255)
        half = 0.5 / scale
        panel.imshow(
            pale,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(-half, right - half, bottom - half, -half),
            interpolation="bilinear",
        )
    if data.arena is not None and len(data.arena):
        outline = np.vstack([data.arena, data.arena[:1]]) / scale
        panel.plot(outline[:, 0], outline[:, 1], color="#444444", linewidth=1.0)
    for polygon in data.nest_outlines:
        outline = np.vstack([polygon, polygon[:1]]) / scale
        panel.plot(
            outline[:, 0], outline[:, 1], color="#222222", linewidth=1.2, linestyle=(0, (3, 2))
        )
    panel.set_xlim(0, right)
    panel.set_ylim(bottom, 0)
    panel.set_aspect("equal")
    panel.set_xlabel(f"x ({data.length_unit})")
    panel.spines[["top", "right"]].set_visible(True)


def two_maps(data: ReportInput) -> tuple[Figure, tuple[Axes, Axes], Axes]:
    """A figure with two panels of the picture's shape, and the strip under the left one for a scale.

    Placed by hand: what matplotlib lays out by itself is cut off where panels keep their shape.
    """
    left, between, right, above, below = 0.75, 0.4, 0.2, 0.34, 1.2
    width, height = _map_size(data, (WIDTH_IN - left - between - right) / 2)
    size = (left + 2 * width + between + right, above + height + below)
    figure = _figure(size)
    panels = (
        _place(figure, left, below, width, height),
        _place(figure, left + width + between, below, width, height),
    )
    return figure, panels, _place(figure, left, below - 0.7, width, 0.11)


def map_figure(data: ReportInput) -> tuple[Figure, Axes, Axes]:
    """A figure with one panel of the picture's shape, and the strip at its right for a scale."""
    left, between, bar, right, above, below = 0.75, 0.15, 0.16, 0.85, 0.15, 0.52
    width, height = _map_size(data, WIDTH_IN - left - between - bar - right)
    size = (WIDTH_IN, above + height + below)
    figure = _figure(size)
    # In the middle, where a tall picture leaves room.
    left += (WIDTH_IN - left - width - between - bar - right) / 2
    beside = _place(figure, left + width + between, below, bar, height)
    return figure, _place(figure, left, below, width, height), beside


def _map_size(data: ReportInput, width: float) -> tuple[float, float]:
    height = width * data.height / data.width
    if height > _TALLEST_IN:
        return max(_NARROWEST_IN, width * _TALLEST_IN / height), _TALLEST_IN
    return width, max(height, 0.6)


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _place(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """A panel at a place in inches."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((x / wide, y / high, width / wide, height / high))
