"""The part of the picture that the network is shown. Plain Python: imported by both environments."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class View:
    """A rectangle of whole pixels of the picture, inside of it.

    ``turns``: by so many quarters it is turned against the clock, and then, ``mirrored``, left is
    right.
    """

    left: int
    top: int
    width: int
    height: int
    turns: int = 0
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
        x = (point[0] * picture[0] - self.left) / self.width
        y = (point[1] * picture[1] - self.top) / self.height
        for _ in range(self.turns):
            x, y = y, 1 - x
        return (1 - x if self.mirrored else x), y

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The view of a picture uint8 [H, W, 3]; not a copy."""
        part = np.rot90(picture[self.slices], self.turns)
        return part[:, ::-1] if self.mirrored else part
