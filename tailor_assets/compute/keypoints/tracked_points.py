"""Body parts of one animal, tracked over time: what every reader of tracking files gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tailor_assets.compute.errors import PermanentProblem


@dataclass(frozen=True)
class TrackedPoints:
    """Positions of ``parts`` in pixels, a row per frame of the video.

    x, y: float64 [rows, parts], NaN where a part was not found; y points down. likelihood:
    float64 [rows, parts], 0..1 as the tracker gave it, NaN where it gave none. source_frame:
    int64 [rows], frame of the video, increasing. timestamp_s: float64 [rows], seconds, increasing.
    """

    parts: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    likelihood: np.ndarray
    source_frame: np.ndarray
    timestamp_s: np.ndarray

    def __post_init__(self) -> None:
        rows = self.timestamp_s.size
        if not self.parts:
            raise PermanentProblem("No body part was tracked; give a file with at least one.")
        twice = next((part for part in self.parts if self.parts.count(part) > 1), None)
        if twice is not None:
            raise PermanentProblem(
                f"The body part {twice} is there twice, so its place is not known; give every part "
                "a name of its own."
            )
        for name in ("x", "y", "likelihood"):
            if getattr(self, name).shape != (rows, len(self.parts)):
                raise PermanentProblem(
                    f"The tracked points hold {rows} rows of {len(self.parts)} parts and {name} is "
                    f"{getattr(self, name).shape}; give one value a row and part."
                )
        if self.source_frame.shape != (rows,):
            raise PermanentProblem("The tracked points need one source_frame and time a row.")
        for name, what in (("source_frame", "frame numbers"), ("timestamp_s", "times")):
            values = getattr(self, name)
            if not np.all(np.isfinite(values)) or np.any(np.diff(values) <= 0):
                raise PermanentProblem(
                    f"The {what} of the tracked points do not increase from row to row; sort the "
                    "file by frame and keep one row for each."
                )

    @property
    def rows(self) -> int:
        return int(self.timestamp_s.size)

    def position(self, part: str) -> np.ndarray:
        """float64 [rows, 2], x and y of one part."""
        k = self.parts.index(part)
        return np.column_stack([self.x[:, k], self.y[:, k]])

    def with_positions(self, x: np.ndarray, y: np.ndarray) -> TrackedPoints:
        return replace(self, x=x, y=y)


def checked_rate(fps: float) -> float:
    """Frames per second, as given by a person; PermanentProblem when it cannot be that."""
    if not math.isfinite(fps) or fps <= 0:
        raise PermanentProblem(
            f"The frame rate {fps:g} is no number of frames per second; give the video's, e.g. 30."
        )
    return float(fps)


def checked_scale(px_per_cm: float) -> float:
    """Pixels per centimetre, as given by a person; PermanentProblem when it cannot be that."""
    if not math.isfinite(px_per_cm) or px_per_cm <= 0:
        raise PermanentProblem(
            f"The scale {px_per_cm:g} is no number of pixels per centimetre; measure a known length "
            "in the picture, e.g. the arena's side, and divide its pixels by its centimetres."
        )
    return float(px_per_cm)
