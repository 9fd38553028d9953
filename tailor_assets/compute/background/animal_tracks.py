"""Which candidate is which animal: followed from the clicked frame to both ends of the recording.

Frame by frame, animals and candidates are matched at the least total cost (Hungarian algorithm,
Kuhn 1955). The cost of distance is capped, so that an animal that was lost, or mistaken, is found
again wherever it comes back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Below this quality a candidate is not an animal but a remainder of one, or of something else.
WORST_QUALITY = 0.1
_LOST_COST = 2.5


@dataclass
class _Place:
    x: float
    y: float
    area: float
    row: int


def follow(
    records: np.ndarray,
    first: np.ndarray,
    starts: Sequence[tuple[int, float, float]],
    *,
    body_length: float,
    frames_per_row: float = 1.0,
) -> np.ndarray:
    """Candidate number of each animal in each row; -1 where it is lost.

    ``records``: structured array of all candidates (see ``CandidateStore``), ``first`` int64
    [rows + 1] the first candidate of each row. ``starts``: (row, x, y) of each animal's click.
    ``body_length`` px. ``frames_per_row``: how much time lies between rows, in video frames; an
    animal may move further between rows that are further apart. Returns int64 [animals, rows].

    Two animals that touch share one candidate; the caller divides it.
    """
    rows = len(first) - 1
    tracks = np.full((len(starts), rows), -1, np.int64)
    if not rows or not len(starts):
        return tracks
    reach = body_length * (0.5 + 0.15 * frames_per_row)
    anchor = int(np.median([row for row, _, _ in starts]))
    places = [_Place(x, y, float("nan"), anchor) for _, x, y in starts]
    _step(records, first, anchor, places, tracks, reach)
    origin = [_Place(p.x, p.y, p.area, p.row) for p in places]
    for row in range(anchor + 1, rows):
        _step(records, first, row, places, tracks, reach)
    places = origin
    for row in range(anchor - 1, -1, -1):
        _step(records, first, row, places, tracks, reach)
    return tracks


def _cheapest_pairs(cost: np.ndarray) -> list[tuple[int, int]]:
    """(animal, candidate) of the assignment that costs least in all; ``cost`` float64 [n, m]."""
    if len(cost) == 1:
        return [(0, int(cost[0].argmin()))]
    # Here, because the import costs half a second and most videos have one animal.
    from scipy.optimize import linear_sum_assignment

    animals, picks = linear_sum_assignment(cost)
    return list(zip(animals.tolist(), picks.tolist(), strict=True))


def _step(
    records: np.ndarray,
    first: np.ndarray,
    row: int,
    places: list[_Place],
    tracks: np.ndarray,
    reach: float,
) -> None:
    """Match the candidates of one row to the animals, in place."""
    numbers = np.arange(first[row], first[row + 1])
    numbers = numbers[records["quality"][numbers] >= WORST_QUALITY]
    if not len(numbers):
        return
    own = records[numbers]
    cost = np.empty((len(places), len(numbers)))
    for i, place in enumerate(places):
        away = np.hypot(own["x"] - place.x, own["y"] - place.y)
        allowed = reach * (1 + 0.5 * min(abs(row - place.row), 20))
        cost[i] = np.minimum(away / allowed, 1.0) + 1.5 * (1 - own["quality"])
        if np.isfinite(place.area):
            cost[i] += 0.5 * np.minimum(np.abs(np.log(own["area"] / place.area)), 1.0)
    for i, j in _cheapest_pairs(cost):
        if cost[i, j] < _LOST_COST:
            tracks[i, row] = numbers[j]
    # More animals than candidates: those that touch share the large one they were last seen at.
    alone = [i for i in range(len(places)) if tracks[i, row] < 0]
    for i in alone:
        place = places[i]
        for j, number in enumerate(numbers):
            r0, c0, r1, c1 = own["box"][j]
            inside = r0 <= place.y <= r1 and c0 <= place.x <= c1
            large = not np.isfinite(place.area) or own["area"][j] > 1.3 * place.area
            if inside and large and abs(row - place.row) <= 20:
                tracks[i, row] = number
                break
    for i, place in enumerate(places):
        number = tracks[i, row]
        if number < 0:
            continue
        shared = np.count_nonzero(tracks[:, row] == number) > 1
        place.row = row
        if not shared:
            place.x, place.y = float(records["x"][number]), float(records["y"][number])
            old = place.area if np.isfinite(place.area) else float(records["area"][number])
            place.area = 0.9 * old + 0.1 * float(records["area"][number])


def divide(
    mask: np.ndarray, seeds: Sequence[tuple[float, float]], rounds: int = 10
) -> list[np.ndarray]:
    """Divide a mask (bool [h, w]) among animals last seen at ``seeds`` (x, y): k-means on pixels."""
    ys, xs = np.nonzero(mask)
    points = np.stack([xs, ys], axis=1).astype(float)
    centres = np.array(seeds, float)
    owner = np.zeros(len(points), np.int64)
    for _ in range(rounds):
        owner = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1)
        moved = np.array(
            [
                points[owner == k].mean(axis=0) if (owner == k).any() else c
                for k, c in enumerate(centres)
            ]
        )
        if np.allclose(moved, centres, atol=0.1):
            break
        centres = moved
    parts = []
    for k in range(len(centres)):
        part = np.zeros_like(mask)
        part[ys[owner == k], xs[owner == k]] = True
        parts.append(part)
    return parts
