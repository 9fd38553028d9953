"""How large an object usually is, learnt from the areas of its believed masks, in bounded memory.

Plain Python: imported by both environments.
"""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self

# Kept areas lie so far apart in time. Posture changes within a second or two, so more of them would
# say the same again; 61 of them are the half minute below.
_EVERY_S = 0.5
_WINDOW = 61
# A nest is looked at every few seconds: a longer pause says nothing about the time in between.
_LONGEST_PAUSE_S = 5.0
# An animal that hides under its nest but for its back keeps its full size: it comes out whole, and
# that is no explosion. Nor does a mask that grows bit by bit take its object's idea of itself along.
# But it is forgotten at last, or one wrong size would be doubted for ever.
_FORGET_S = 600.0


@dataclass
class UsualArea:
    """Areas are shares of the frame, 0..1; ``seconds_per_step`` is the time from frame to frame.

    ``full`` is the size that the object is believed to have when all of it is seen. It follows the
    median of the last half minute, the slower the longer the object is known: what was learnt in
    half a minute is unlearnt in half a minute (a first click that took in the bedding), what was
    learnt over an hour takes ten minutes to move half-way.
    """

    seconds_per_step: float
    full: float = 0.0
    since: float = 0
    """Step of the first area since the last ``restart``."""
    seen_s: float = 0.0
    """Time over which areas were believed since then."""
    kept_at: float | None = None
    areas: list[float] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether any area has been believed yet."""
        return bool(self.areas)

    def restart(self, step: float, area: float) -> None:
        """Forget everything: from now on the object is of this size."""
        self.full, self.since, self.seen_s, self.kept_at, self.areas = area, step, 0.0, step, [area]

    def believe(self, step: float, area: float, *, slowly: bool = False) -> None:
        """Take in the area of a mask; ``slowly`` if it may be of a part of the object only."""
        if self.kept_at is None:
            self.restart(step, area)
            return
        pause = abs(step - self.kept_at) * self.seconds_per_step
        if pause < _EVERY_S:
            return
        pause = min(pause, _LONGEST_PAUSE_S)
        self.kept_at = step
        self.areas = [*self.areas[-(_WINDOW - 1) :], area]
        usual = median(self.areas)
        half_life = _FORGET_S if slowly else min(_FORGET_S, _WINDOW * _EVERY_S + self.seen_s)
        self.full = usual + (self.full - usual) * 0.5 ** (pause / half_life)
        self.seen_s = min(self.seen_s + pause, _FORGET_S)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Self:
        """The inverse of ``state_dict``."""
        return cls(**{**state, "areas": list(state["areas"])})
