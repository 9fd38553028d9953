"""What is known of one object's mask in one frame, as a code: the words and nothing else."""

from enum import IntEnum


class MaskState(IntEnum):
    """How a mask came about, from best to worst; stored per object and frame in the masks NPZ.

    A score says how sure the model is of a mask; the state says what happened to it. From
    ``MERGED`` on, nobody should measure the mask without looking at it.
    """

    TRACKED = 0
    """Found in this frame, and like the frame before."""
    HELD = 1
    """A nest that was not looked at in this frame: its last mask, which had not moved."""
    REFOUND = 2
    """The object had been lost, and the background model found it; or it had merged with another, and
    the two lie apart. Tracking started again here."""
    UNCERTAIN = 3
    """Found, but the model doubts it, or its area jumped."""
    MERGED = 4
    """Most of it is another object's mask too."""
    SWAPPED = 5
    """It seems to have changed places with another object."""
    EXPLODED = 6
    """It grew beyond belief. The mask is emptied: a whole-frame mask would be a wrong number."""
    LOST = 7
    """Not in the picture, or not found: the mask is empty."""
    NOT_STARTED = 8
    """Before the object's first point, where nothing was looked for: the mask is empty."""

    @property
    def label(self) -> str:
        """The word in tables, e.g. ``tracked``."""
        return self.name.lower()
