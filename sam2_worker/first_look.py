"""What a click is on, where nobody has said how large that is.

A click is all that a person gives, and every mask after it is remembered from it, so it is worth two
dozen looks: in views of every size, then closer around what was found there, and there once more in
a mirror and turned. A network sees best what is as large as what it was trained on, and some piece
of an object looks of the right size in the closest view; so its word about its own mask counts more
than size, and a mask that the other views show too more than one that they do not.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.mask_heads import PointPrompts, Prediction
from sam2_worker.mask_measurement import extent_in_view, resampled
from sam2_worker.object_memory import ObjectMemory
from sam2_worker.view import View
from sam2_worker.view_follower import Extent, ViewFollower

# (x, y) in fractions of the picture's width and height.
Place = tuple[float, float]
# The frame as the encoder sees it: a view of it, or (None) all of it.
Look = Callable[[View | None], ImageFeatures]

# What a person's click adds to the logit that something is there. One click in sixteen was on bare
# floor in training, and few are in life: of 199 simulated animals the network denied two that were
# clicked on, one of them by less than a logit; and what is denied at its click is never seen again.
# With this, 9 in 100 clicks on bare floor find something there; without it, 7.
PERSONS_EVIDENCE = 1.0

# The misfits in size (|ln| of a factor) that a better opinion (0..1) of the mask outweighs, and that
# masks like it (IoU) in the other views outweigh.
_OPINION = 3.0
_AGREEMENT = 2.0
# Looks around what was found, as long as each is better than the one before.
_LOOKS_AROUND = 3
# A view of the right size is left for the one before if its mask is thought worse of by so much, or
# shares less than this (IoU) with what was seen before.
_WORSE = 0.1
_SAME = 0.3
# IoU from which on what is seen in a picture held another way is the same object.
_ALIKE = 0.5
# No answer counts for more than this in a mean: a logit of it is as sure as can be.
_SURE = 15.0


@dataclass(frozen=True)
class Prompted:
    """Clicks on one object in one frame. ``points``: on it; ``beside``: on others, which count where
    the mask takes them in; ``evidence``: as of ``PointPrompts``; ``thorough``: all that follows is
    remembered from it, so that no look is too many."""

    points: Sequence[Place]
    beside: Sequence[Place] = ()
    evidence: float = 0.0
    thorough: bool = False


@dataclass(frozen=True)
class _Seen:
    view: View | None
    beside: Sequence[Place]
    prediction: Prediction
    extent: Extent
    worth: float

    @property
    def quality(self) -> float:
        return float(self.prediction.quality[0])


class FirstLook:
    """At the clicks on one object, which is looked at in views of its own, in one frame."""

    def __init__(
        self,
        memory: ObjectMemory,
        follower: ViewFollower,
        look: Look,
        prompted: Prompted,
        *,
        step: float,
        image_size: int,
        picture: tuple[int, int],
    ) -> None:
        """``memory`` is of this object alone; ``picture``: (width, height) in pixels."""
        self._memory = memory
        self._follower = follower
        self._look = look
        self._prompted = prompted
        self._step = step
        self._image_size = image_size
        self._picture = picture

    def see(self) -> tuple[View | None, Prediction]:
        """The view in which the object is seen best, which the follower begins with; and what is
        seen in it. It follows from the clicks and the frame alone, and from nothing before."""
        views = self._follower.views_about(self._prompted.points)
        seen = [one for view in views if (one := self._seen(view)) is not None]
        if not seen:
            view = self._follower.begin(None)
            return view, self._predicted(view)[-1]
        best = max(seen, key=lambda one: one.worth + _AGREEMENT * self._agreement(one, seen))
        closer = self._closer(best)
        if (
            closer is not None
            and closer.quality >= best.quality - _WORSE
            and self._likeness(closer, best) > _SAME
        ):
            best = closer
        self._follower.begin_with(best.view)
        return best.view, self._whichever_way_it_is_held(best)

    def _closer(self, best: _Seen) -> _Seen | None:
        """What is seen around what was found, and around that."""
        found: _Seen | None = None
        extent = best.extent
        for _ in range(_LOOKS_AROUND):
            view = self._follower.begin(extent)
            if found is not None and view == found.view:
                break
            seen = self._seen(view)
            if seen is None or (found is not None and seen.worth < found.worth):
                break
            found, extent = seen, seen.extent
        return found

    def _agreement(self, one: _Seen, every: Sequence[_Seen]) -> float:
        """Mean IoU with the others, by what the network thinks of them; 1 if there are none."""
        others = [other for other in every if other is not one]
        weight = sum(other.quality for other in others)
        if weight <= 0:
            return 1.0
        return sum(other.quality * self._likeness(one, other) for other in others) / weight

    def _likeness(self, one: _Seen, other: _Seen) -> float:
        """IoU of two masks, compared on the grid of the closer view."""
        closer = min(one, other, key=lambda seen: self._cell_area(seen.view))
        unit = self._cell_area(closer.view)
        both = unit * float((self._on_view(one, closer) & self._on_view(other, closer)).sum())
        either = self._area(one) + self._area(other) - both
        return both / either if either > 0 else 0.0

    def _area(self, seen: _Seen) -> float:
        return self._cell_area(seen.view) * float((seen.prediction.logits[0] > 0).sum())

    def _cell_area(self, view: View | None) -> float:
        width, height = self._picture if view is None else (view.width, view.height)
        return float(width * height)

    def _on_view(self, seen: _Seen, closer: _Seen) -> torch.Tensor:
        logits, view = seen.prediction.logits, closer.view
        return resampled(logits, seen.view, view, self._picture, logits.shape[-1])[0] > 0

    def _seen(self, view: View | None) -> _Seen | None:
        """None where nothing is seen at the clicks."""
        beside, prompts, prediction = self._predicted(view)
        logits = prediction.logits[0]
        extent = extent_in_view(logits, view, self._picture)
        if extent is None or not self._holds_clicks(logits, prompts):
            return None
        opinion = _OPINION * float(prediction.quality[0])
        worth = opinion - self._follower.misfit(extent, view)
        return _Seen(view, beside, prediction, extent, worth)

    def _predicted(self, view: View | None) -> tuple[Sequence[Place], PointPrompts, Prediction]:
        """Where the mask takes in clicks on other objects, say that these are not of this one.

        Returns these clicks, the prompts and the answer to them.
        """
        prompts, prediction = self._predicted_beside((), view)
        logits = prediction.logits[0]
        taken_in = [
            point
            for point in self._prompted.beside
            if (cell := self._cell(point, view, len(logits))) and bool(logits[cell] > 0)
        ]
        if taken_in:
            prompts, prediction = self._predicted_beside(taken_in, view)
        return taken_in, prompts, prediction

    def _predicted_beside(
        self, beside: Sequence[Place], view: View | None, mask: torch.Tensor | None = None
    ) -> tuple[PointPrompts, Prediction]:
        prompts = as_prompts(
            [self._prompted.points],
            view,
            self._picture,
            self._image_size,
            device=self._memory.device,
            beside=beside,
            evidence=self._prompted.evidence,
            mask=mask,
        )
        return prompts, self._memory.predict(self._step, self._look(view), None, prompts)

    def _whichever_way_it_is_held(self, seen: _Seen) -> Prediction:
        """The mean of what is seen in the picture as it is, in a mirror, and (of an animal) turned.

        Where there is no up, an animal is the same whichever way the picture is held, and a piece
        that it lacks in one way it has in the next. Then each is looked at once more, told what was
        seen on the whole. An answer that is another object's is none.
        """
        ways = [(0, False), (0, True)]
        if self._prompted.thorough and self._follower.kind == "animal":
            ways = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]
        held = [seen.prediction, *(self._held(seen, *way) for way in ways[1:])]
        once = self._mean(seen.prediction, held)
        if len(ways) == 2:
            return once
        told = [self._held(seen, *way, known=once.logits) for way in ways]
        twice = self._mean(once, told)
        return replace(once, logits=(once.logits + twice.logits) / 2)

    def _held(
        self, seen: _Seen, turns: int, mirrored: bool, known: torch.Tensor | None = None
    ) -> Prediction:
        """What is seen in the view held another way, as if it were not; ``known`` of it beforehand."""
        width, height = self._picture
        view = replace(seen.view or View(0, 0, width, height), turns=turns, mirrored=mirrored)
        mask = None
        if known is not None:
            mask = known.rot90(turns, (-2, -1))
            mask = mask.flip(-1) if mirrored else mask
        _, found = self._predicted_beside(seen.beside, view, mask)
        logits = found.logits.flip(-1) if mirrored else found.logits
        return replace(found, logits=logits.rot90(-turns, (-2, -1)))

    def _mean(self, of: Prediction, every: Sequence[Prediction]) -> Prediction:
        """The mean of the answers that are of the same object as ``of``; that, if there are none."""
        there = of.logits > 0
        same = [
            one
            for one in every
            if bool(one.score_logits[0] > 0)
            and float((there & (one.logits > 0)).sum())
            >= _ALIKE * float((there | (one.logits > 0)).sum())
        ]
        if not same:
            return of
        return Prediction(
            logits=torch.stack([one.logits.clamp(-_SURE, _SURE) for one in same]).mean(0),
            score_logits=torch.stack([one.score_logits for one in same]).mean(0),
            pointer=of.pointer,
            quality=torch.stack([one.quality for one in same]).mean(0),
        )

    def _cell(self, point: Place, view: View | None, side: int) -> tuple[int, int] | None:
        """Row and column of a point on the ``side`` x ``side`` mask of a view, if it is in it."""
        x, y = point if view is None else view.place(point, self._picture)
        row, column = math.floor(y * side), math.floor(x * side)
        return (row, column) if 0 <= row < side and 0 <= column < side else None

    def _holds_clicks(self, logits: torch.Tensor, prompts: PointPrompts) -> bool:
        on_it = prompts.points[0][prompts.labels[0] == 1]
        cells = (on_it * (len(logits) / self._image_size)).long()
        columns, rows = cells.clamp(0, len(logits) - 1).unbind(1)
        return bool((logits[rows, columns] > 0).all())


def as_prompts(
    points: Sequence[Sequence[Place]],
    view: View | None,
    picture: tuple[int, int],
    image_size: int,
    *,
    device: torch.device,
    beside: Sequence[Place] = (),
    evidence: float = 0.0,
    mask: torch.Tensor | None = None,
) -> PointPrompts:
    """``points`` [B][P] on B objects, and ``beside`` on none of them, as the model wants them for a
    ``view`` of a ``picture`` of (width, height) pixels; ``mask`` as of ``PointPrompts``."""
    every = [[*own, *beside] for own in points]
    if view is not None:
        every = [[view.place(point, picture) for point in some] for some in every]
    places = torch.tensor(every, dtype=torch.float32, device=device) * image_size
    labels = torch.ones(places.shape[:2], dtype=torch.int32, device=device)
    if beside:
        labels[:, -len(beside) :] = 0
    return PointPrompts(places, labels, evidence, mask)
