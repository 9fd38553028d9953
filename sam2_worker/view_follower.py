"""Which part of the picture to show the network: a view that follows one object.

The network's masks have a quarter of its input's side. An animal that fills a hundredth of the
picture is a few of their cells; in a view of its surroundings it is a hundred.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sam2_worker.view import View
from tailor_assets.compute.prompts import ObjectKind

Box = tuple[float, float, float, float]

# Side of an animal's view in square roots of its area, which changes less with its posture than its
# length does: some 2.6 body lengths, so that it may go half of one before the next look at it.
_ROOTS_OF_AREA = 4.7
# Side of the view in lengths of the object, at least. A nest stays where it is.
_LENGTHS: dict[ObjectKind, float] = {"animal": 1.7, "nest": 1.8}
# The view is moved only when the object comes this near to its edge (share of the side), because
# what is remembered is remembered where it was in the view...
_MARGIN = 0.2
# ... and is made larger or smaller only when it is off by such a factor.
_MISFIT = 1.45
# Frames without a mask after which the view is widened, to look for the object around where it was.
_WIDEN_AFTER = 10
_WIDEN_BY = 1.6


@dataclass(frozen=True)
class Extent:
    """``box`` x0, y0, x1, y1 in fractions of the picture; ``area``: share of it."""

    box: Box
    area: float


class ViewFollower:
    """Fed with the object's extent once per frame in which it is looked at."""

    def __init__(self, kind: ObjectKind, picture: tuple[int, int], least_side: int) -> None:
        """``picture``: (width, height) in pixels; ``least_side``: a smaller view is only a blur."""
        self._kind: ObjectKind = kind
        self._picture = picture
        self._least_side = least_side
        self._view: View | None = None
        self._unseen = 0

    @property
    def kind(self) -> ObjectKind:
        """What it follows."""
        return self._kind

    @property
    def view(self) -> View | None:
        """Where to look in the next frame; None is the whole picture."""
        return self._view

    def views_about(self, points: Sequence[tuple[float, float]]) -> list[View | None]:
        """Where to look at what clicks (x, y in fractions) are on, whatever its size.

        The whole picture, then squares about the clicks, each half as large as the one before.
        """
        width, height = self._picture
        x = sum(point[0] for point in points) / len(points) * width
        y = sum(point[1] for point in points) / len(points) * height
        views: list[View | None] = [None]
        side = max(width, height) / 2
        while side > self._least_side / math.sqrt(2):
            view = self._clipped(x, y, max(side, self._least_side))
            if view is not None:
                views.append(view)
            side /= 2
        return views

    def misfit(self, extent: Extent, view: View | None) -> float:
        """How far ``view`` is from the size that shows the object best: |ln| of the ratio."""
        side = max(self._picture if view is None else (view.width, view.height))
        return abs(math.log(self._side(extent) / side))

    def begin(self, extent: Extent | None) -> View | None:
        """Forget all views before; look at ``extent``, if there is one."""
        self.begin_with(None if extent is None else self._around(extent))
        return self._view

    def begin_with(self, view: View | None) -> None:
        """Forget all views before; look in this one."""
        self._unseen = 0
        self._view = view

    def seen(self, extent: Extent | None) -> None:
        """The object in this frame, None where it was not found."""
        if extent is None:
            self._unseen += 1
            if self._unseen % _WIDEN_AFTER == 0:
                self._widen()
            return
        self._unseen = 0
        if self._view is None or self._is_off(extent, self._view):
            self._view = self._around(extent)

    def _pixels(self, box: Box) -> Box:
        width, height = self._picture
        return box[0] * width, box[1] * height, box[2] * width, box[3] * height

    def _is_off(self, extent: Extent, view: View) -> bool:
        if self.misfit(extent, view) > math.log(_MISFIT):
            # The whole picture, or what the least side allows, is not to be looked at anew.
            return self._around(extent) != view
        box = self._pixels(extent.box)
        width, height = self._picture
        near_x, near_y = _MARGIN * view.width, _MARGIN * view.height
        return (
            (box[0] < view.left + near_x and view.left > 0)
            or (box[2] > view.left + view.width - near_x and view.left + view.width < width)
            or (box[1] < view.top + near_y and view.top > 0)
            or (box[3] > view.top + view.height - near_y and view.top + view.height < height)
        ) and self._around(extent) != view

    def _side(self, extent: Extent) -> float:
        box = self._pixels(extent.box)
        side = _LENGTHS[self._kind] * max(box[2] - box[0], box[3] - box[1])
        if self._kind == "animal":
            width, height = self._picture
            side = max(side, _ROOTS_OF_AREA * math.sqrt(extent.area * width * height))
        return max(side, self._least_side)

    def _around(self, extent: Extent) -> View | None:
        box = self._pixels(extent.box)
        return self._clipped((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, self._side(extent))

    def _clipped(self, x: float, y: float, side: float) -> View | None:
        width, height = self._picture
        # Sides in steps, so that a breathing animal does not change the scale.
        side = round(2 ** (round(4 * math.log2(side)) / 4))
        across, down = min(side, width), min(side, height)
        if (across, down) == (width, height):
            return None
        left = min(max(round(x - across / 2), 0), width - across)
        top = min(max(round(y - down / 2), 0), height - down)
        return View(left, top, across, down)

    def _widen(self) -> None:
        view = self._view
        if view is not None:
            x, y = view.left + view.width / 2, view.top + view.height / 2
            self._view = self._clipped(x, y, max(view.width, view.height) * _WIDEN_BY)

    def state(self) -> dict[str, Any]:
        """Plain values."""
        view = self._view
        place = None if view is None else (view.left, view.top, view.width, view.height)
        return {"view": place, "unseen": self._unseen}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self._view = None if state["view"] is None else View(*state["view"])
        self._unseen = state["unseen"]
