"""In which frames a nest is looked at; in the others its last mask is held.

A nest lies still for minutes and costs as much to track as an animal. It is looked at in every
``k_frames``-th frame; in frames in which an animal stirs on it; and once it has moved, and after
each click, until it has been still again for a while; then at most some twenty times a second:
between two frames of a fast camera neither animal nor nest gets far. Nests of one video share the
grid of frames, so that they are tracked as one batch and a resumed run looks at the same frames.

Plain Python: imported by both environments.
"""

from collections.abc import Collection, Mapping
from typing import Any

# At 30 frames per second every other frame, at 15 each.
_LEAST_BETWEEN_LOOKS_S = 0.05


class NestSchedule:
    """One nest. Ask ``wants`` for each step in order; after tracking it, tell ``refreshed``."""

    def __init__(
        self,
        k_frames: int = 30,
        *,
        seconds_per_step: float,
        clicked: Collection[float] = (),
        moved_iou: float = 0.9,
        still_s: float = 2.0,
    ) -> None:
        """``k_frames`` 30 is every 3 s at 10 frames/s and every second at 30; 1 tracks the nest in
        every frame. ``clicked``: steps that have a click on the nest. ``moved_iou``: below this IoU
        with the held mask the nest has moved; on SAM2's grid of a quarter of the input's side the
        outline of a still nest wavers by about half a cell, which for a nest 16 cells wide is an
        IoU of 0.93. ``still_s``: seconds without such a move after which it is looked at every
        ``k_frames`` again.

        Measured on the true masks of twelve simulated recordings of 60 s at 15 frames/s (mean IoU
        of the mask in use with the true one, the worst hundredth, share of frames looked at):
        k 30: 0.995, 0.94, 16%; k 10: 0.998, 0.97, 21%; k 30 without ``disturbed``: 0.987, 0.82, 19%.
        """
        if k_frames < 1 or not seconds_per_step > 0:
            raise ValueError(f"k_frames {k_frames} must be >= 1, seconds {seconds_per_step} > 0")
        self._k = k_frames
        self._dt = seconds_per_step
        self._clicked = frozenset(clicked)
        self._moved_iou = moved_iou
        self._still_s = still_s
        self._moved_at: float | None = None
        self._looked_at: float | None = None

    def wants(self, step: float, *, disturbed: bool = False) -> bool:
        """Whether the nest is to be tracked in this frame. Changes nothing.

        ``disturbed``: an animal touches the held nest and stirs (its mask and the one before have
        an IoU below 0.9). Nothing else moves a nest, or hides a part of it; an animal that sleeps
        in it does neither.
        """
        if self._looked_at is None or step in self._clicked or step % self._k == 0:
            return True
        since_s = abs(step - self._looked_at) * self._dt
        restless = disturbed or self._moved_at is not None
        return restless and since_s >= _LEAST_BETWEEN_LOOKS_S

    def refreshed(self, step: float, iou_with_held: float | None) -> bool:
        """The nest was tracked in this frame; ``iou_with_held`` of its mask with the held one.

        None where no mask is held yet; two empty masks are alike (1.0). Returns whether to compare
        with *this* mask from now on. While the nest is watched after a move that is False until it
        moves again, so that a slow slide adds up instead of passing frame by frame; the mask that
        is written is always the newest.
        """
        moved = (
            self._looked_at is None
            or step in self._clicked
            or iou_with_held is None
            # Written so that an IoU that is not a number counts as a move.
            or not iou_with_held >= self._moved_iou
        )
        self._looked_at = step
        if moved:
            self._moved_at = step
            return True
        if self._moved_at is None:
            return True
        if abs(step - self._moved_at) * self._dt >= self._still_s:
            self._moved_at = None
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """All that later answers depend on, as plain values. Settings are not part of it."""
        return {"looked_at": self._looked_at, "moved_at": self._moved_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self._looked_at, self._moved_at = state["looked_at"], state["moved_at"]
