"""When an animal is there, put in, lifted out, or never there; and when a hand comes."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.simulation.overhead import Visit
from tailor_assets.compute.simulation.wide_ground import Ground

_GONE_FOR_A_WHILE = 0.12
_HAND_OVER_THE_SCENE = 0.06
_LONGEST_REACH_S, _LONGEST_REST_S = 1.5, 5.0  # a hand's, however long the recording is
_BY_HAND = 0.55  # of the departures and returns; the others happen between two frames


class Presence:
    """Intervals in which animals are absent, decided for a recording of ``duration_s`` seconds.

    In about one recording of eight an animal is away for a part of the time; often a hand takes it
    and brings it back. In some a hand only reaches in. With ``empty`` nobody ever comes.
    ``visits`` are the hand's; the one that takes an animal is aimed when it begins (``aim``).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        animals: int,
        duration_s: float,
        ground: Ground,
        *,
        empty: bool,
    ) -> None:
        self._away: list[list[tuple[float, float]]] = [[] for _ in range(animals)]
        self.visits: list[Visit] = []
        if empty:
            self._away = [[(-1.0, float("inf"))] for _ in range(animals)]
        elif rng.random() < _GONE_FOR_A_WHILE:
            self._send_away(rng, duration_s, ground)
        if not self.visits and rng.random() < _HAND_OVER_THE_SCENE:
            self.visits.append(
                Visit(
                    middle_s=rng.uniform(0.1, 0.9) * duration_s,
                    coming_s=min(rng.uniform(0.1, 0.3) * duration_s, _LONGEST_REACH_S),
                    resting_s=min(rng.uniform(0.0, 0.4) * duration_s, _LONGEST_REST_S),
                    target=ground.random_point(rng, 0.1 * ground.arena.half_width),
                )
            )

    def _send_away(self, rng: np.random.Generator, duration_s: float, ground: Ground) -> None:
        animals = len(self._away)
        length = rng.uniform(0.15, 0.5) * duration_s
        begin = rng.uniform(0.1, 0.95) * (duration_s - length)
        if rng.random() < 0.2:
            begin = -1.0  # not there yet
        by_hand = rng.random() < _BY_HAND
        everyone = not by_hand and rng.random() < 0.4
        chosen = range(animals) if everyone else [int(rng.integers(animals))]
        for animal in chosen:
            self._away[animal].append((begin, begin + length))
        if not by_hand:
            return
        coming = min(rng.uniform(0.08, 0.2) * duration_s, _LONGEST_REACH_S)
        for takes, moment in ((True, begin), (False, begin + length)):
            if moment < 0:
                continue
            self.visits.append(
                Visit(
                    # It is away once the hand has left with it, and back before the hand brings it.
                    middle_s=moment - coming if takes else moment + coming,
                    coming_s=coming,
                    resting_s=0.0,
                    target=ground.arena_of(chosen[0]).random_point(
                        rng, 0.15 * ground.arena.half_width
                    ),
                    carries=chosen[0],
                    takes=takes,
                )
            )

    def is_there(self, animal: int, time_s: float) -> bool:
        """Whether the animal is in the arena, or in the hand, at this time."""
        return not any(begin <= time_s < end for begin, end in self._away[animal])

    def hand(self, time_s: float) -> Visit | None:
        """The visit that is under way."""
        return next((v for v in self.visits if v.away(time_s) is not None), None)

    def returns(self, animal: int, before_s: float, after_s: float) -> tuple[float, float] | None:
        """Where the animal is put back between two moments, floor units; None where it is not.

        A place of NaN means anywhere.
        """
        if self.is_there(animal, before_s) or not self.is_there(animal, after_s):
            return None
        for visit in self.visits:
            if visit.carries == animal and not visit.takes:
                return visit.target
        return float("nan"), float("nan")
