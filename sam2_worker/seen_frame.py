"""What counts as seen in one frame: every object's mask, its measures and where it is."""

from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np
import torch

from sam2_worker.drift_guard import Measured, Verdict
from sam2_worker.mask_measurement import FrameMasks, extent_in_view, measure
from sam2_worker.view_follower import Extent


class SeenFrame:
    """Of every object in ``masks``; of one that is looked at again, what was seen then (``take``)."""

    def __init__(
        self, masks: FrameMasks, followed: Collection[str], picture: tuple[int, int]
    ) -> None:
        """``followed``: objects whose extents are needed; ``picture``: (width, height) in pixels."""
        self._masks = masks
        self._followed = followed
        self._picture = picture
        self.logits: dict[str, torch.Tensor] = {}
        self.extents: dict[str, Extent | None] = {}
        self._note(masks, masks.names)

    @property
    def side(self) -> int:
        """Cells across the grid of the picture."""
        return int(self._masks.logits.shape[-1])

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """Measures by object; a GPU is waited for when they are first asked for."""
        return measure(self._masks)

    def take(
        self, names: Collection[str], masks: FrameMasks, measured: Mapping[str, Measured]
    ) -> None:
        """Let what ``masks`` (measured as ``measured``) have of some objects count from now on."""
        for name in names:
            self.measured[name] = measured[name]
        self._note(masks, names)

    def _note(self, masks: FrameMasks, names: Collection[str]) -> None:
        for i, name in enumerate(masks.names):
            if name not in names:
                continue
            self.logits[name] = masks.logits[i]
            if name in self._followed:
                extent = extent_in_view(masks.in_views[i], masks.views[i], self._picture)
                self.extents[name] = extent

    def others(self, name: str, verdicts: Mapping[str, Verdict]) -> dict[str, np.ndarray]:
        """Masks of the other objects that are not lost, bool [h, w] on a grid of the picture."""
        masks = {other: self.own(other, verdicts) for other in self.measured if other != name}
        return {other: mask for other, mask in masks.items() if mask is not None}

    def own(self, name: str, verdicts: Mapping[str, Verdict]) -> np.ndarray | None:
        """Mask of an object, bool [h, w] on a grid of the picture; None where it is lost."""
        if not verdicts[name].keep_mask or self.measured[name].centroid is None:
            return None
        return (self.logits[name] > 0).cpu().numpy()
