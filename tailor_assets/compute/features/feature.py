"""What is said of a feature beside the code that computes it: the one place where a column is named.

A module of features declares its columns in a tuple of ``Feature``; the table (feature_columns.py)
and the page for people (features_page.py, docs/features.md) both follow from the declarations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import polars as pl

# Where definitions come from, as they are cited in docs/features.md.
REGIONPROPS = "scikit-image 0.26, `skimage.measure.regionprops`"
JABS = (
    "JABS (Jackson Laboratory), shape descriptors; Yang, Kpalma and Ronsin 2008, doi:10.5772/6237"
)
TAILOR = "tailor"

# No object is called so: names have no space.
ANIMAL, NEST, OTHER = "the animal", "the nest", "other {other}"
LOST = "the animal is lost"
NEST_LOST = "the nest is not found"
EITHER_LOST = "the animal or the nest is not found"
OTHER_LOST = "this animal or the other is lost"


@dataclass(frozen=True)
class Feature:
    """One column of the features table, or one per other animal.

    ``name``: the column; ``{other}`` in it stands for the name of another animal. ``unit``, and
    ``formula``, ``source``, ``missing`` ("empty where ..."): Markdown for people. ``kind``: its type.
    ``needs``: of ANIMAL, NEST, OTHER those without which a row has no statistics over time.
    ``length_power``: of a length in it; 1 and 2 give a second column in centimetres where the scale
    is known. ``windows``: it has statistics over windows of time; ``windows_cm``: so has the column in
    centimetres. ``bands``: it has powers in frequency bands.
    """

    name: str
    unit: str
    formula: str
    source: str = TAILOR
    missing: str = LOST
    kind: type[pl.DataType] = pl.Float64
    needs: tuple[str, ...] = (ANIMAL,)
    length_power: int = 0
    windows: bool = False
    windows_cm: bool = False
    bands: bool = False

    @property
    def name_cm(self) -> str:
        """Name of the column in centimetres: ``speed_px_s`` -> ``speed_cm_s``."""
        before, px, after = self.name.rpartition("_px")
        if px:  # the last one: what comes before may be an animal's name
            return f"{before}_cm{after}"
        return f"{self.name}_cm{self.length_power if self.length_power > 1 else ''}"

    def in_cm(self) -> Feature:
        """The same in centimetres."""
        unit = self.unit.replace("px", "cm")
        scale = "px_per_cm" if self.length_power == 1 else f"px_per_cm^{self.length_power}"
        return dataclasses.replace(
            self,
            name=self.name_cm,
            unit=unit,
            formula=f"`{self.name}` / {scale}",
            missing="as the column in pixels",
            length_power=0,
            windows=self.windows_cm,
            windows_cm=False,
            bands=False,
        )

    def of_other(self, other: str) -> Feature:
        """The column for one other animal."""
        return dataclasses.replace(
            self,
            name=self.name.replace("{other}", other),
            needs=tuple(needed.replace("{other}", other) for needed in self.needs),
        )
