"""Rendered clips on disk, by number. Views are cut from each many times; rendering costs more.

Which clips are in use at a step follows from the step alone, so that a training that is stopped and
continued sees what an uninterrupted one sees.
"""

import os
import secrets
from pathlib import Path

import numpy as np

from sam2_worker.fitting.recipe import Recipe
from tailor_assets.compute.simulation.training_clip import simulate_clip

# Seeds below this one are for training; the benchmark's held-out clips begin far above it.
_MOST_CLIPS = 100_000_000
ANIMAL_BITS = 4  # bodies of up to four animals, one bit of the label plane each
NEST_BIT = 4


class ClipShelf:
    """A folder of clips as uint8 ``[T, H, W, 4]``: red, green, blue and a plane of label bits."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        """``folder`` is made if it is not there. Several processes may use it at once."""
        self._folder, self._recipe = folder, recipe
        folder.mkdir(parents=True, exist_ok=True)

    def numbers(self, view: int) -> range:
        """Numbers of the clips that are in use at the training's ``view``-th view."""
        first = view // self._recipe.uses
        return range(first, first + self._recipe.shelf)

    def clip(self, number: int) -> np.ndarray:
        """Clip ``number``, read-only, mapped from its file; rendered where it is not there yet."""
        path = self._path(number)
        try:
            return np.load(path, mmap_mode="r")
        except (FileNotFoundError, ValueError, EOFError):
            pass  # not rendered yet, or cut short by a full disk
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with part.open("wb") as stream:
                np.save(stream, self._render(number))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r")

    def forget(self, view: int) -> None:
        """Delete the clips that no view from ``view`` on will use."""
        first = self.numbers(view).start
        for path in self._folder.glob("clip_*.npy"):
            if int(path.stem.removeprefix("clip_")) < first:
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"clip_{number:08d}.npy"

    def _render(self, number: int) -> np.ndarray:
        recipe = self._recipe
        seed = recipe.seed * 1_000_000 + number
        if seed >= _MOST_CLIPS:
            raise ValueError(f"clip {number} of seed {recipe.seed} would be one of the benchmark's")
        chance = np.random.default_rng([seed, 7])
        step_s = float(chance.choice(recipe.steps_s))
        in_company = chance.random() < recipe.company
        clip = simulate_clip(
            seed,
            frames=recipe.clip_frames,
            width=recipe.clip_width,
            height=recipe.clip_height,
            step_s=step_s,
            animals=int(chance.integers(2, ANIMAL_BITS + 1)) if in_company else None,
        )
        count, height, width, _ = clip.frames.shape
        packed = np.zeros((count, height, width, 4), np.uint8)
        packed[..., :3] = clip.frames
        for animal in range(min(clip.bodies.shape[1], ANIMAL_BITS)):
            packed[..., 3] |= clip.bodies[:, animal].astype(np.uint8) << animal
        if clip.nest is not None:
            packed[..., 3] |= clip.nest.astype(np.uint8) << NEST_BIT
        return packed
