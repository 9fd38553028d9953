"""How objects are looked at in a frame: at their clicks, and all of them side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sam2_worker.first_look import FirstLook, Look, Prompted, as_prompts
from sam2_worker.mask_heads import Prediction
from sam2_worker.mask_measurement import NO_LOGIT, FrameMasks, on_picture
from sam2_worker.object_memory import ObjectMemory, TrackingHead
from sam2_worker.view import View
from sam2_worker.view_follower import ViewFollower


@dataclass(frozen=True)
class ObjectLook:
    """What the model sees of the objects of one memory in one frame, in ``view`` (None: all of it)."""

    memory: ObjectMemory
    prediction: Prediction
    view: View | None
    clicked: bool

    def split(self, name: str) -> tuple["ObjectLook", "ObjectLook"]:
        """One object, which from now on has a memory of its own, and the others."""
        names = self.memory.names
        rest = [i for i, other in enumerate(names) if other != name]
        alone = self.memory.split(name)
        return self._rows(alone, [names.index(name)]), self._rows(self.memory, rest)

    def _rows(self, memory: ObjectMemory, rows: list[int]) -> "ObjectLook":
        seen = self.prediction
        part = Prediction(
            seen.logits[rows], seen.score_logits[rows], seen.pointer[rows], seen.quality[rows]
        )
        return ObjectLook(memory, part, self.view, self.clicked)


class Looker:
    """Looks at objects, some of which are followed: these in views of their own."""

    def __init__(
        self,
        head: TrackingHead,
        followers: Mapping[str, ViewFollower],
        *,
        image_size: int,
        picture: tuple[int, int],
    ) -> None:
        """``picture``: (width, height) in pixels."""
        self._head = head
        self._followers = followers
        self._image_size = image_size
        self._picture = picture

    def at_clicks(
        self, memory: ObjectMemory, step: float, look: Look, prompted: Sequence[Prompted]
    ) -> ObjectLook:
        """See what the clicks are on; where it is followed, in a view of the object's own size.

        So the view, like the memory, follows from the click and from nothing before it.
        """
        follower = self._followers.get(memory.names[0])
        if follower is None:
            prompts = as_prompts(
                [one.points for one in prompted],
                None,
                self._picture,
                self._image_size,
                device=self._head.no_memory.device,
            )
            seen = memory.predict(step, look(None), None, prompts)
            return ObjectLook(memory, seen, None, clicked=True)
        first = FirstLook(
            memory,
            follower,
            look,
            prompted[0],
            step=step,
            image_size=self._image_size,
            picture=self._picture,
        )
        view, prediction = first.see()
        return ObjectLook(memory, prediction, view, clicked=True)

    def at_nothing(self, memory: ObjectMemory) -> ObjectLook:
        """What is seen of objects of which nothing is known."""
        count, side = len(memory.names), self._image_size // 4
        known = self._head.no_memory
        prediction = Prediction(
            known.new_full((count, side, side), NO_LOGIT),
            known.new_full((count, 1), NO_LOGIT),
            known.new_zeros((count, known.shape[-1])),
            known.new_zeros(count),
        )
        return ObjectLook(memory, prediction, None, clicked=False)

    def together(self, looks: Sequence[ObjectLook]) -> FrameMasks:
        """The masks of all objects that were looked at in a frame."""
        if not looks:
            return FrameMasks((), torch.empty((0, 0, 0)), torch.empty((0, 0, 0)), (), ())
        scores = torch.cat([look.prediction.score_logits[:, 0] for look in looks])
        in_views = torch.cat([look.prediction.logits for look in looks])
        logits = in_views
        if self._followers:
            # Finer than a view's own grid, or a small animal would be judged by a few cells.
            side = 2 * in_views.shape[-1]
            logits = torch.cat(
                [on_picture(x.prediction.logits, x.view, self._picture, side) for x in looks]
            )
        return FrameMasks(
            names=tuple(name for look in looks for name in look.memory.names),
            logits=logits,
            in_views=in_views,
            views=tuple(look.view for look in looks for _ in look.memory.names),
            scores=tuple(torch.sigmoid(scores).tolist()),
        )
