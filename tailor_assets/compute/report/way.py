"""The way of the centroid as lines or, where there are too many of them, as painted cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tailor_assets.compute.features.motion_features import time_steps
from tailor_assets.compute.report.report_input import ReportInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 6000
# About as many as a map has pixels along its longer side.
_CELLS_ALONG = 520
# A step of a long recording is painted at so many points: it is short beside a cell or two.
_POINTS_PER_STEP = 6


@dataclass(frozen=True)
class Way:
    """Steps float64 [k, 2, 2] of (x, y) in the length unit, and the row that each ends with, [k].

    Unbroken ones alone: between two rows in a row that both have the animal, with no hole in the
    recording between them.
    """

    steps: np.ndarray
    rows: np.ndarray
    width: float
    height: float

    @property
    def is_painted(self) -> bool:
        """Whether there are too many steps to draw each as a line."""
        return len(self.steps) > MOST_LINES

    def draw(self, panel: Axes, colours: np.ndarray) -> None:
        """Draw every step in its colour, float64 [k, 3] of 0 to 1; later ones lie over earlier."""
        if self.is_painted:
            self._paint(panel, colours)
            return
        from matplotlib.collections import LineCollection

        panel.add_collection(
            LineCollection(list(self.steps), colors=colours, linewidths=1.1, capstyle="round")
        )

    def _paint(self, panel: Axes, colours: np.ndarray) -> None:
        cell = max(self.width, self.height) / _CELLS_ALONG
        columns, rows = (max(1, int(np.ceil(side / cell))) for side in (self.width, self.height))
        picture = np.zeros((rows, columns, 4), np.float32)
        along = np.linspace(0, 1, _POINTS_PER_STEP)
        # In pieces: the points of twelve hours at once would be hundreds of megabytes.
        for first in range(0, len(self.steps), 50_000):
            steps = self.steps[first : first + 50_000]
            points = steps[:, :1] + along[:, None] * (steps[:, 1:] - steps[:, :1])
            at = (points.reshape(-1, 2) / cell).astype(np.int64)
            x, y = at[:, 0].clip(0, columns - 1), at[:, 1].clip(0, rows - 1)
            picture[y, x, :3] = np.repeat(colours[first : first + 50_000], len(along), axis=0)
            picture[y, x, 3] = 1.0
        panel.imshow(
            picture,
            extent=(0, columns * cell, rows * cell, 0),
            interpolation="nearest",
            zorder=1.5,
        )


def way_of(data: ReportInput) -> Way:
    """The way that the features tell of."""
    x, y = data.feature("centroid_x"), data.feature("centroid_y")
    points = np.stack([x, y], 1) / data.px_per_unit
    found = np.asarray(np.isfinite(points).all(axis=1))
    _, neighbours = time_steps(data.times_s)
    before = np.flatnonzero(found[:-1] & found[1:] & neighbours[1:])
    return Way(
        np.stack([points[before], points[before + 1]], 1),
        before + 1,
        data.width / data.px_per_unit,
        data.height / data.px_per_unit,
    )
