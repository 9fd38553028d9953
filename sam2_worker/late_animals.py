"""Animals that were clicked late, before their first click, beside those that were tracked meanwhile.

The pass backwards knows only the animals that were clicked late. Before one of them had come into
the picture, it may take another, that looks like it, for it. That shows when the other's mask is
there: of two masks on one animal the one is right whose click is nearer in time.

Plain Python: imported by both environments.
"""

from collections.abc import Collection, Mapping

import numpy as np

from sam2_worker.drift_guard import GuardSettings
from sam2_worker.tracking_plan import KnownMasks, TrackingPlan


class LateAnimals:
    """Asked once per row of the forward pass."""

    def __init__(self, animals: Collection[str], plan: TrackingPlan, known: KnownMasks) -> None:
        """``plan`` is the forward pass's; ``known`` has the masks of the pass backwards."""
        self._animals = tuple(animals)
        self._known = known
        self._clicks = {name: np.array(sorted(steps)) for name, steps in plan.clicks.items()}

    def strays(self, row: int, packed: Mapping[str, np.ndarray]) -> list[str]:
        """Whose masks in this row are another's; ``packed`` uint8 [ceil(H * W / 8)] by name."""
        return [
            name for name in self._animals if name in packed and self._strays(name, row, packed)
        ]

    def _strays(self, name: str, row: int, packed: Mapping[str, np.ndarray]) -> bool:
        left = self._known.rows_to_first_click(name, row)
        if left is None:
            return False
        return any(
            self._rows_since_click(other, row) <= left and _are_one(packed[name], packed[other])
            for other in self._animals
            if other != name
            and other in packed
            # Masks of the same pass backwards were judged beside each other there.
            and self._known.rows_to_first_click(other, row) is None
        )

    def _rows_since_click(self, name: str, row: int) -> float:
        past = self._clicks[name][self._clicks[name] <= row]
        return float(row - past[-1]) if past.size else np.inf


def _are_one(mask: np.ndarray, other: np.ndarray) -> bool:
    either = int(np.bitwise_count(mask | other).sum())
    both = int(np.bitwise_count(mask & other).sum())
    return both > 0 and both >= GuardSettings.same * either
