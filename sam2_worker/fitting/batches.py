"""The batch of every step, made by helper processes ahead of the training."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sam2_worker.fitting.clip_shelf import ClipShelf
from sam2_worker.fitting.recipe import Recipe
from sam2_worker.fitting.views import View, make_view


@dataclass(frozen=True)
class Batch:
    """V views of T frames with B objects in all.

    ``pictures`` uint8 ``[T, V, S, S, 3]``; ``truth`` float32 ``[T, B, S/4, S/4]``; ``clicks``
    float32 ``[T, B, 2]``, NaN where there is nothing to click on; ``view_of`` int64 ``[B]``, the
    view an object is in; ``is_nest`` bool ``[B]``; ``scene`` float32 ``[T, V, 2, S/4, S/4]``, all
    animals and the nest.
    """

    pictures: torch.Tensor
    truth: torch.Tensor
    clicks: torch.Tensor
    view_of: torch.Tensor
    is_nest: torch.Tensor
    scene: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self._parts()))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU copies from while the processor goes on."""
        return Batch(*(part.pin_memory() for part in self._parts()))

    def _parts(self) -> list[torch.Tensor]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


class _Steps(torch.utils.data.Dataset):
    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder, self._recipe = folder, recipe
        self._shelf: ClipShelf | None = None

    def __getitem__(self, step: int) -> Batch:
        if self._shelf is None:
            import cv2

            cv2.setNumThreads(1)  # the processes are the parallelism here
            self._shelf = ClipShelf(self._folder, self._recipe)
        stage, _ = self._recipe.stage_of(step)
        first = self._recipe.views_before(step)
        views = []
        for index in range(stage.clips):
            rng = np.random.default_rng([self._recipe.seed, step, index])
            number = int(rng.choice(self._shelf.numbers(first + index)))
            views.append(make_view(rng, self._shelf.clip(number), stage))
        return _together(views)


def _together(views: list[View]) -> Batch:
    return Batch(
        pictures=torch.from_numpy(np.stack([view.pictures for view in views], axis=1)),
        truth=torch.from_numpy(np.concatenate([view.truth for view in views], axis=1)),
        clicks=torch.from_numpy(np.concatenate([view.clicks for view in views], axis=1)),
        view_of=torch.tensor([i for i, view in enumerate(views) for _ in view.is_nest]),
        is_nest=torch.from_numpy(np.concatenate([view.is_nest for view in views])),
        scene=torch.from_numpy(np.stack([view.scene for view in views], axis=1)),
    )


def batches(
    folder: Path, recipe: Recipe, steps: range, workers: int, *, pinned: bool = False
) -> Iterator[Batch]:
    """The batches of ``steps``, in order, each the same however often and by whom it is made."""
    return iter(
        torch.utils.data.DataLoader(
            _Steps(folder, recipe),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            pin_memory=pinned,
            prefetch_factor=4 if workers else None,
            # A forked process would inherit torch's threads in an unknown state.
            multiprocessing_context="spawn" if workers else None,
        )
    )
