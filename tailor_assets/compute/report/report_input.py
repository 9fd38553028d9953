"""What a report is made from, and the few arrays that its figures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bout_table import label_probabilities, labels_of, row_codes
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.palette import LabelStyle, label_styles
from tailor_assets.compute.report.time_columns import TimeColumns

# Columns that the report reads, where they are there; a features table has hundreds.
FEATURE_COLUMNS = (
    "frame", "timestamp_s", "mask_quality", "mask_state", "nest_mask_state", "centroid_x",
    "centroid_y", "speed_px_s", "speed_cm_s", "path_length_px", "path_length_cm", "in_nest",
    "distance_to_nest_px", "distance_to_nest_cm",
)  # fmt: skip
FLAG_COLUMNS = (
    "frame", "timestamp_s", "behavior", "mask_state", "change_point", "flag_window",
)  # fmt: skip


# Of how much use it is to look at a row's window; tables of before have none.
PRIORITY = "window_priority"


@dataclass(frozen=True)
class ReportInput:
    """One video's results.

    features: a row per frame with columns of ``FEATURE_COLUMNS``. flags: the same rows, with those
    of ``FLAG_COLUMNS`` and ``probability_<label>``. frames_dir: folder in which the frames' JPEGs
    (``000000.jpg``) are, or as many as there are. nest_outlines, arena: polygons, float64 [k, 2] of
    (x, y) pixels of the upright picture. outlines: per frame number, the polygons of the objects'
    masks, for thumbnails. provenance: tables by title, each a list of (what, value).
    """

    name: str
    features: pl.DataFrame
    flags: pl.DataFrame
    width: int
    height: int
    subject: str = "animal"
    nest: str | None = None
    px_per_cm: float | None = None
    seconds_window: float | None = None
    frames_dir: Path | None = None
    nest_outlines: Sequence[np.ndarray] = ()
    arena: np.ndarray | None = None
    outlines: Mapping[int, Mapping[str, Sequence[np.ndarray]]] = field(default_factory=dict)
    provenance: Mapping[str, Sequence[tuple[str, Any]]] = field(default_factory=dict)
    bin_s: float | None = None

    @cached_property
    def times_s(self) -> np.ndarray:
        """Seconds of each row, float64 [n]."""
        return self.flags["timestamp_s"].cast(pl.Float64).to_numpy()

    @cached_property
    def columns(self) -> TimeColumns:
        """The columns of all time axes. Only where there are two rows or more."""
        return TimeColumns(self.times_s)

    @cached_property
    def labels(self) -> list[str]:
        """The model's labels in its order, then others that came up; never "no data"."""
        return labels_of(self.flags)

    @cached_property
    def styles(self) -> dict[str, LabelStyle]:
        """What each label looks like."""
        return label_styles(self.labels)

    @cached_property
    def codes(self) -> np.ndarray:
        """Place of each row's label in ``labels``, -1 for "no data": int64 [n]."""
        return row_codes(self.flags, self.labels)

    @cached_property
    def probability(self) -> np.ndarray:
        """Probability of each row's own label, float64 [n]; NaN where it has none."""
        return label_probabilities(self.flags)

    @property
    def has_centimetres(self) -> bool:
        """Whether lengths are said in centimetres."""
        return bool(self.px_per_cm)

    @property
    def length_unit(self) -> str:
        """``cm`` where the scale is known, else ``px``."""
        return "cm" if self.has_centimetres else "px"

    @property
    def px_per_unit(self) -> float:
        """Pixels in one ``length_unit``."""
        return float(self.px_per_cm or 1.0)

    def feature(self, name: str) -> np.ndarray:
        """A column of the features as float64 [n], NaN where there is no data or no column."""
        if name not in self.features.columns:
            return np.full(self.features.height, np.nan)
        return self.features[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    def length(self, stem: str, suffix: str = "") -> np.ndarray:
        """``<stem>_cm<suffix>`` where the scale is known, else ``<stem>_px<suffix>``."""
        if self.has_centimetres and f"{stem}_cm{suffix}" in self.features.columns:
            return self.feature(f"{stem}_cm{suffix}")
        return self.feature(f"{stem}_px{suffix}") / self.px_per_unit

    def states(self, column: str) -> np.ndarray:
        """Codes of ``MaskState`` in a column of words, int64 [n]; -1 where it is empty."""
        codes = {state.label: int(state) for state in MaskState}
        if column not in self.features.columns:
            return np.full(self.features.height, -1)
        return np.array([codes.get(str(word), -1) for word in self.features[column]], np.int64)


@dataclass(frozen=True)
class Drawing:
    """One figure of the report, or the sentence that stands in its place.

    name: of the PNG file, without ending. alt: what a person who does not see it is told.
    """

    name: str
    title: str
    caption: str
    alt: str = ""
    png: bytes | None = None

    @classmethod
    def nothing(cls, name: str, title: str, sentence: str) -> Drawing:
        """Where there is nothing to draw, and why."""
        return cls(name, title, sentence)
