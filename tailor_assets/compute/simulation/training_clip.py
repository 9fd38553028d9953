"""Short clips for fitting models: wide variety, frames and visible masks as arrays, by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.simulation.wide_scene import build_wide_scene


@dataclass(frozen=True)
class TrainingClip:
    """Frames and what is visible in them.

    ``frames`` uint8 ``[T, H, W, 3]`` RGB. ``bodies`` bool ``[T, N, H, W]``: body, head, ears and
    feet of each of the 1 to 4 animals; ``tails`` likewise. An animal that is absent or wholly
    hidden has empty masks; where no animal ever comes, N is 1 and all its masks are empty. ``nest``
    bool ``[T, H, W]``, or None where there is none. No pixel belongs to two masks.
    """

    frames: np.ndarray
    bodies: np.ndarray
    tails: np.ndarray
    nest: np.ndarray | None


def simulate_clip(
    seed: int,
    *,
    frames: int,
    width: int,
    height: int,
    step_s: float,
    animals: int | None = None,
) -> TrainingClip:
    """The clip that ``seed`` decides: ``frames`` pictures, ``step_s`` seconds apart.

    Equal arguments give equal clips. ``width`` and ``height`` in pixels, at least 64. ``animals`` is
    their number, 0 to 4; None leaves it to the seed.
    """
    scene = build_wide_scene(
        seed, width=width, height=height, duration_s=frames * step_s, animals=animals
    )
    labels = scene.labels
    pictures = np.empty((frames, height, width, 3), np.uint8)
    bodies = np.zeros((frames, scene.animals, height, width), bool)
    tails = np.zeros_like(bodies)
    nest = np.zeros((frames, height, width), bool) if scene.has_nest else None
    for row in range(frames):
        time_s = row * step_s
        pictures[row], seen = scene.render(time_s)
        for animal in range(scene.animals):
            np.equal(seen, labels.body(animal), out=bodies[row, animal])
            np.equal(seen, labels.tail(animal), out=tails[row, animal])
        if nest is not None:
            np.equal(seen, labels.nest, out=nest[row])
        scene.advance(time_s, step_s)
    return TrainingClip(pictures, bodies, tails, nest)
