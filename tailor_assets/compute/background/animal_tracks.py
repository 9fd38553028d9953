"""Which candidate is which animal: followed from its clicks to both ends of the recording.

Frame by frame, animals and candidates are matched at the least total cost (Hungarian algorithm,
Kuhn 1955). The cost of distance is capped, so that an animal that was lost, or mistaken, is found
again wherever it comes back. A later click of an animal is a correction: from its row on the animal
is where the click says, and rows before it stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

# Below this quality a candidate is not an animal but a remainder of one, or of something else.
WORST_QUALITY = 0.1
_LOST_COST = 2.5
# A correction outweighs what speaks for any other candidate, and what another animal would pay.
_CORRECTION_COST = 5.0

# Row and place (px) of one click.
ClickedPlace = tuple[int, float, float]


@dataclass
class _Place:
    x: float
    y: float
    area: float
    row: int


def follow(
    records: np.ndarray,
    first: np.ndarray,
    clicks: Sequence[Sequence[ClickedPlace]],
    *,
    body_length: float,
    frames_per_row: float = 1.0,
) -> np.ndarray:
    """Candidate number of each animal in each row; -1 where it is lost.

    ``records``: structured array of all candidates (see ``CandidateStore``), ``first`` int64
    [rows + 1] the first candidate of each row. ``clicks``: of each animal, at least one, rows
    increasing: it is followed forward and backward from the first; the others correct it, each from
    its row on. ``body_length`` px. ``frames_per_row``: how much time lies between rows, in video
    frames; an animal may move further between rows that are further apart. Returns int64 [animals,
    rows].

    Two animals that touch share one candidate; the caller divides it.
    """
    rows = len(first) - 1
    tracks = np.full((len(clicks), rows), -1, np.int64)
    if not rows or not len(clicks):
        return tracks
    reach = body_length * (0.5 + 0.15 * frames_per_row)
    begins = [own[0][0] for own in clicks]
    clicked = {(i, row): (x, y) for i, own in enumerate(clicks) for row, x, y in own}
    start = min(begins)

    # Those that were clicked later, back to the first click of all: before the others are followed
    # there, so that one of them that is lost does not take a later one's place.
    early: dict[int, _Place] = {}
    for row in range(max(begins) - 1, start - 1, -1):
        for i in range(len(clicks)):
            if begins[i] == row + 1:
                early[i] = _Place(*clicked[i, row + 1], float("nan"), row + 1)
        _step(records, first, row, early, tracks, reach, anywhere=False)

    places: dict[int, _Place] = {}
    for row in range(start, rows):
        now = [i for i in range(len(clicks)) if (i, row) in clicked]
        for i in now:
            places[i] = _Place(*clicked[i, row], float("nan"), row)
        corrected = [i for i in now if begins[i] < row]
        _step(records, first, row, places, tracks, reach, corrected)
        if row == start:
            early |= {i: replace(place) for i, place in places.items()}

    for row in range(start - 1, -1, -1):
        _step(records, first, row, early, tracks, reach)
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
    places: Mapping[int, _Place],
    tracks: np.ndarray,
    reach: float,
    corrected: Sequence[int] = (),
    *,
    anywhere: bool = True,
) -> None:
    """Match the candidates of one row to the animals of ``places``, in place.

    What an animal that is not in ``places`` has in this row stays its own. ``corrected``: animals
    whose place in this row a person has just said. ``anywhere``: also where an animal cannot have
    got to meanwhile, as one that was mistaken may.
    """
    numbers = np.arange(first[row], first[row + 1])
    numbers = numbers[records["quality"][numbers] >= WORST_QUALITY]
    if not len(numbers):
        return
    animals = list(places)
    if not animals:
        return
    free = numbers[~np.isin(numbers, tracks[:, row])]
    if len(free):
        far, cost = _costs(records[free], row, [places[i] for i in animals], reach)
        said = np.array([[_CORRECTION_COST if i in corrected else 0.0] for i in animals])
        for k, j in _cheapest_pairs(cost + said * far):
            if cost[k, j] < _LOST_COST and (anywhere or far[k, j] < 1):
                tracks[animals[k], row] = free[j]
    # More animals than candidates: those that touch share the large one they were last seen at.
    own = records[numbers]
    for i in animals:
        if tracks[i, row] >= 0:
            continue
        place = places[i]
        for j, number in enumerate(numbers):
            r0, c0, r1, c1 = own["box"][j]
            inside = r0 <= place.y <= r1 and c0 <= place.x <= c1
            large = not np.isfinite(place.area) or own["area"][j] > 1.3 * place.area
            if inside and large and abs(row - place.row) <= 20:
                tracks[i, row] = number
                break
    for i, place in places.items():
        number = tracks[i, row]
        if number < 0:
            continue
        shared = np.count_nonzero(tracks[:, row] == number) > 1
        place.row = row
        if not shared:
            place.x, place.y = float(records["x"][number]), float(records["y"][number])
            old = place.area if np.isfinite(place.area) else float(records["area"][number])
            place.area = 0.9 * old + 0.1 * float(records["area"][number])


def _costs(
    candidates: np.ndarray, row: int, places: Sequence[_Place], reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far each candidate (n) is from each animal's (m) last place, 1 for as far as it can have
    got and beyond; and how little it looks like that animal there, distance included: two float64
    [m, n]."""
    far = np.empty((len(places), len(candidates)))
    cost = np.empty_like(far)
    for k, place in enumerate(places):
        away = np.hypot(candidates["x"] - place.x, candidates["y"] - place.y)
        allowed = reach * (1 + 0.5 * min(abs(row - place.row), 20))
        far[k] = np.minimum(away / allowed, 1.0)
        cost[k] = far[k] + 1.5 * (1 - candidates["quality"])
        if np.isfinite(place.area):
            apart = np.abs(np.log(candidates["area"] / place.area))
            cost[k] += 0.5 * np.minimum(apart, 1.0)
    return far, cost


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
