"""Columns of x, y and likelihood gathered by body part: the last step of every reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints


@dataclass
class NamedColumns:
    """What a reader found: frame numbers int64 [rows], times float64 [rows] where the file has
    them, and float64 [rows] per body part and coordinate."""

    file_name: str
    source_frame: np.ndarray
    timestamp_s: np.ndarray | None
    columns: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, part: str, coordinate: str, values: np.ndarray) -> None:
        """coordinate: "x", "y" or "likelihood". Raises PermanentProblem for one that is there."""
        of_part = self.columns.setdefault(part, {})
        if coordinate in of_part:
            raise PermanentProblem(
                f"The tracking file {self.file_name} has two columns for {coordinate} of {part}, so "
                "one of them must be another part's; correct its header."
            )
        of_part[coordinate] = values

    def points(self, fps: float) -> TrackedPoints:
        """Raises PermanentProblem when a part lacks x or y, or the frames do not increase."""
        if not self.columns:
            raise PermanentProblem(
                f"The tracking file {self.file_name} has no body part; export it again from the "
                "tracking program."
            )
        for part, found in self.columns.items():
            missing = [c for c in ("x", "y") if c not in found]
            if missing:
                raise PermanentProblem(
                    f"The tracking file {self.file_name} has no {missing[0]} of {part}; a body part "
                    "needs x and y."
                )
        rows = self.source_frame.size
        unknown = np.full(rows, np.nan)
        columns = self.columns.values()
        x = np.column_stack([found["x"] for found in columns])
        y = np.column_stack([found["y"] for found in columns])
        nowhere = np.isnan(x) | np.isnan(y)
        times = self.source_frame / fps if self.timestamp_s is None else self.timestamp_s
        return TrackedPoints(
            tuple(self.columns),
            np.where(nowhere, np.nan, x),
            np.where(nowhere, np.nan, y),
            np.column_stack([found.get("likelihood", unknown) for found in columns]),
            self.source_frame,
            times.astype(np.float64),
        )


def choose_animal(animals: Sequence[str], wanted: str | None, file_name: str) -> str:
    """The one animal of a file, or the one asked for; "" of a file that names none.

    animals: as the file names them, as often as it does. Raises PermanentProblem when it is not
    clear which is meant.
    """
    names = list(dict.fromkeys(animals)) or [""]
    if wanted is not None and names == [""]:
        raise PermanentProblem(
            f"The tracking file {file_name} names no animal, so there is no animal {wanted!r} to "
            "choose; leave the choice out."
        )
    if wanted is not None and wanted not in names:
        raise PermanentProblem(
            f"The tracking file {file_name} has no animal {wanted!r}; it has {', '.join(names)}."
        )
    if wanted is None and len(names) > 1:
        raise PermanentProblem(
            f"The tracking file {file_name} has {len(names)} animals and none was chosen; choose "
            f"one of {', '.join(names)}."
        )
    return names[0] if wanted is None else wanted
