"""The part of the picture that the network is shown. Plain Python: imported by both environments."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class View:
    """A rectangle of whole pixels of the picture, inside of it; ``mirrored``: left is right."""

    left: int
    top: int
    width: int
    height: int
    mirrored: bool = False

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )

    def place(self, point: tuple[float, float], picture: tuple[int, int]) -> tuple[float, float]:
        """A point (x, y) in fractions of ``picture`` (width, height), in fractions of the view."""
        x, y = point[0] * picture[0], point[1] * picture[1]
        across = (x - self.left) / self.width
        return 1 - across if self.mirrored else across, (y - self.top) / self.height

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The view of a picture uint8 [H, W, 3]; not a copy."""
        part = picture[self.slices]
        return part[:, ::-1] if self.mirrored else part
