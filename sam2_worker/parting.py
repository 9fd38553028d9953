"""Animals that have come apart, and whose masks have not.

While two animals touch, the mask of one may take in the other, and it still does when they have gone
their ways: two bodies in one mask, and some crumbs in the other. A body is in one piece. So where as
many bodies lie apart as there are animals in the merger, each is one animal's. Whose, their looks say
where they differ; else the tracker's own logits, which may be on the right side where their sign is
not.

Plain Python: imported by both environments.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import cv2
import numpy as np

from tailor_assets.compute.mask_geometry import innermost_pixel

# Of an animal's full size, what a body by itself has at least and at most.
_LEAST, _MOST = 0.4, 1.9
# A logit says no more than that it is sure.
_SURE = 10.0
# An order of bodies is told by their looks if it is closer to the animals' than the next by this share.
_TOLD_APART = 0.1


@dataclass(frozen=True)
class Bodies:
    """As many as animals in a merger. ``points``: (x, y) inside each, in fractions of the picture;
    ``likely`` float64 [animals, bodies]: the mean of each animal's logits on each body."""

    points: Sequence[tuple[float, float]]
    likely: np.ndarray


def bodies_apart(logits: Mapping[str, np.ndarray], full: Mapping[str, float]) -> Bodies | None:
    """The bodies in some animals' merged masks; None where they are not as many as the animals.

    ``logits`` float [S, S] of the masks, on one grid over the picture; ``full``: the animals' full
    sizes, shares of the picture.
    """
    maps = np.stack([np.clip(own, -_SURE, _SURE) for own in logits.values()])
    anywhere = np.asarray((maps > 0).any(axis=0), dtype=np.uint8)
    _, label, stats, _ = cv2.connectedComponentsWithStats(anywhere, connectivity=8)
    shares = stats[1:, cv2.CC_STAT_AREA] / anywhere.size
    sizes = [full[name] for name in logits]
    bodies = 1 + np.flatnonzero(shares >= _LEAST * min(sizes))
    if len(bodies) != len(maps) or shares[bodies - 1].max() > _MOST * max(sizes):
        return None
    likely = np.array([[own[label == body].mean() for body in bodies] for own in maps])
    return Bodies([_innermost(label == body) for body in bodies], likely)


def whose(bodies: Bodies, known: Sequence[np.ndarray], seen: Sequence[np.ndarray]) -> list[int]:
    """The body of each animal. ``known`` float [C]: how each animal looks; ``seen``: each body."""
    away = np.array([[np.linalg.norm(own - other) for other in seen] for own in known])
    every: list[tuple[int, ...]] = list(permutations(range(len(known))))
    orders = sorted(every, key=lambda order: _sum(away, order))
    best, second = (_sum(away, order) for order in orders[:2])
    if second - best > _TOLD_APART * second:
        return list(orders[0])
    return list(max(every, key=lambda order: _sum(bodies.likely, order)))


def _sum(table: np.ndarray, order: Iterable[int]) -> float:
    return float(sum(table[animal, body] for animal, body in enumerate(order)))


def _innermost(body: np.ndarray) -> tuple[float, float]:
    row, column = innermost_pixel(body)
    return (column + 0.5) / body.shape[1], (row + 0.5) / body.shape[0]
