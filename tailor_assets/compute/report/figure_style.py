"""How every figure of the report is made: size, type, time axis, and the PNG it becomes.

matplotlib's object-oriented interface alone: pyplot keeps figures in a list of its own, and a worker
that lives long would fill its memory with them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tailor_assets.compute.palette import Colour
from tailor_assets.compute.report.time_columns import TimeColumns, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 9.0
DPI = 140
INK = "#222222"
# As wide as the labels left of every time axis may be, so that the axes of all figures line up.
_LEFT, _RIGHT = 0.135, 0.865
_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "hatch.linewidth": 0.6,
    # A label is a label, also where it looks like a formula.
    "text.parse_math": False,
    "path.simplify": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's defaults and ours meanwhile, whatever this machine's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        # A label in a script that the font lacks is shown as boxes; the tables have it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def time_figure(heights_in: list[float]) -> tuple[Figure, list[Axes]]:
    """A figure of panels above each other that share their time axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    above, between, below = 0.32, 0.34, 0.52
    height = above + sum(heights_in) + between * (len(heights_in) - 1) + below
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
    FigureCanvasAgg(figure)
    axes: list[Axes] = []
    top = height - above
    for panel in heights_in:
        place = (_LEFT, (top - panel) / height, _RIGHT - _LEFT, panel / height)
        axes.append(figure.add_axes(place, sharex=axes[0] if axes else None))
        top -= panel + between
    return figure, axes


def plain_figure(height_in: float) -> Figure:
    """A figure that lays out its own panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure; it is of no use afterwards.

    Of at most 254 colours: a third of the size, and no difference to the eye.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    figure.clear()
    return _indexed(picture, 190)


def _indexed(picture: Any, colours: int) -> bytes:
    """PNG of a PIL picture, with 64 greys and at most ``colours`` other colours.

    Greys apart: by any common rule a still picture's greys either take all the colours there are, and
    a small vermilion marker turns orange, or are themselves tinted.
    """
    from PIL import Image

    pixels = np.asarray(picture)
    spread = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    coloured = spread > 8
    levels = np.round(np.linspace(0, 255, 64)).astype(np.uint8)
    indices = (pixels[..., 1].astype(np.uint16) * 63 + 127) // 255
    palette = np.repeat(levels[:, None], 3, axis=1)
    if coloured.any():
        row = Image.fromarray(np.ascontiguousarray(pixels[coloured][None]))
        few = row.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        used = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
        palette = np.vstack([palette, used])
        indices[coloured] = 64 + np.asarray(few)[0].astype(np.uint16)
    made = Image.fromarray(indices.astype(np.uint8), mode="P")
    made.putpalette(palette.tobytes())
    stream = io.BytesIO()
    made.save(stream, format="png", optimize=True)
    return stream.getvalue()


def set_time_axis(axes: list[Axes], columns: TimeColumns) -> float:
    """Label the lowest panel's time axis; returns how many seconds one unit of it has."""
    unit, seconds = time_unit(columns.end_s - float(columns.timestamps_s[0]))
    for panel in axes[:-1]:
        panel.tick_params(labelbottom=False)
    axes[-1].set_xlabel(f"time ({unit})")
    axes[-1].set_xlim(columns.edges_s[0] / seconds, columns.edges_s[-1] / seconds)
    return seconds


def draw_rows(
    panel: Axes,
    columns: TimeColumns,
    rows: list[tuple[str, np.ndarray, Colour]],
    seconds: float,
    notes: list[str] | None = None,
) -> None:
    """One bar per row, as dark in each column as the row's share of it.

    rows: (name, share float64 [columns] of 0 to 1, colour), from the top down. A share that is not 0
    is never paler than a third, or a moment in a long recording would not be seen. notes: a word at
    the right end of each row.
    """
    count = len(rows)
    ends = (columns.edges_s[0] / seconds, columns.edges_s[-1] / seconds)
    for i, (_, share, colour) in enumerate(rows):
        bar = np.ones((1, share.size, 4))
        bar[0, :, :3] = np.array(colour) / 255
        bar[0, :, 3] = np.where(share > 0, np.maximum(share, 0.34), 0.0)
        place = (*ends, i + 0.9, i + 0.1)
        panel.imshow(bar, aspect="auto", interpolation="nearest", extent=place)
        if notes:
            panel.annotate(
                notes[i],
                (1.0, i + 0.5),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                annotation_clip=False,
            )
    panel.set_ylim(count, 0)
    panel.set_yticks([i + 0.5 for i in range(count)], [short(name) for name, _, _ in rows])
    panel.tick_params(axis="y", length=0)
    for i in range(1, count):
        panel.axhline(i, color="#dddddd", linewidth=0.6, zorder=0)


def draw_band(
    panel: Axes,
    columns: TimeColumns,
    values: np.ndarray,
    seconds: float,
    *,
    colour: Any = INK,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
) -> None:
    """A line of each column's mean, and behind it the band between ``low`` and ``high``."""
    x = columns.edges_s / seconds
    if low is not None and high is not None:
        panel.fill_between(
            x,
            np.append(low, low[-1]),
            np.append(high, high[-1]),
            step="post",
            color="#bbbbbb",
            linewidth=0,
        )
    panel.step(x, np.append(values, values[-1]), where="post", color=colour, linewidth=1.1)


def short(text: str, most: int = 18) -> str:
    """A label that fits beside an axis: one line, printable, not too long."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def reduced_png(png: bytes, width: int) -> bytes:
    """A smaller copy, ``width`` pixels wide and of fewer colours, for where many are kept."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        size = (width, max(1, round(picture.height * width / picture.width)))
        return _indexed(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), 64)
