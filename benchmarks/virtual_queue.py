"""The queue's order in virtual time: what a flood costs others, in seconds instead of days.

The order itself is the real one (run_queue/fairness.py), asked anew for each job that starts. A
tenant is charged as run_queue/shares.py does it: what a job is expected to take when it starts, and
the rest when it ends.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from run_queue.fairness import NORMAL, QueueShares, WaitingJob, in_order

FLOOD = "flood"


@dataclass(frozen=True)
class Load:
    """``flood`` jobs of one tenant, then ``each`` of ``others`` more; lengths in seconds.

    ``error``: by which factor what is expected of a job may be wrong, either way. ``places``: how
    many run at a time.
    """

    name: str
    flood: int
    others: int
    each: int
    flood_s: float
    other_s: float
    error: float = 1.0
    places: int = 1


@dataclass(frozen=True)
class Outcome:
    """Of the tenant that suffers most: its time without the flood, with it, and what is allowed."""

    alone_s: float
    with_flood_s: float
    one_job_s: float

    @property
    def ratio(self) -> float:
        """Of the time with the flood, less one job's, to that without."""
        return (self.with_flood_s - self.one_job_s) / self.alone_s


Choose = Callable[[Sequence[WaitingJob], QueueShares, float], WaitingJob]


def fair(jobs: Sequence[WaitingJob], shares: QueueShares, now: float) -> WaitingJob:
    """tailor's choice."""
    return in_order(jobs, shares, now)[0]


def first_come(jobs: Sequence[WaitingJob], shares: QueueShares, now: float) -> WaitingJob:
    """Dagster's choice among runs of one priority."""
    return min(jobs, key=lambda job: (job.since, job.job_id))


def worst_of(load: Load, choose: Choose) -> Outcome:
    """The tenant with the worst ratio."""
    alone = _finish_times(load, choose, flood=0)
    flooded = _finish_times(load, choose, flood=load.flood)
    outcomes = [Outcome(alone[name], flooded[name], load.flood_s) for name in alone]
    return max(outcomes, key=lambda outcome: outcome.ratio)


def _finish_times(load: Load, choose: Choose, *, flood: int) -> dict[str, float]:
    """When the last job of each of the others is done, counted from their coming.

    They come right after the first of the flood have started, which is the worst moment.
    """
    queue = _Queue(choose, load)
    for number in range(flood):
        queue.come(FLOOD, number, load.flood_s)
    queue.start_what_can()
    for number in range(load.each):
        for other in range(load.others):
            queue.come(f"lab {other}", flood + number, load.other_s)
    queue.start_what_can()
    left = load.others * load.each
    done: dict[str, float] = {}
    while left:
        tenant = queue.end_one()
        if tenant != FLOOD:
            left -= 1
            done[tenant] = queue.now - _BEGINNING
        queue.start_what_can()
    return done


# Unix seconds; all that waits came in the seconds before it.
_BEGINNING = 1_000_000.0


class _Queue:
    def __init__(self, choose: Choose, load: Load) -> None:
        self.now = _BEGINNING
        self._choose, self._error, self._places = choose, load.error, load.places
        self._dice = random.Random(1)
        self._waiting: dict[str, WaitingJob] = {}
        self._takes: dict[str, float] = {}
        self._running: list[tuple[float, str, WaitingJob]] = []
        self._clock = 0.0
        self._finish: dict[str, float] = {}
        self._last_start: dict[tuple[str, int], float] = {}

    def come(self, tenant: str, number: int, seconds: float) -> None:
        expected = seconds * self._error ** self._dice.uniform(-1, 1)
        since = _BEGINNING - 1 + number / 1e6
        job = WaitingJob(f"{number:05d}-{tenant}", tenant, NORMAL, since, expected)
        self._waiting[job.job_id] = job
        self._takes[job.job_id] = seconds

    def start_what_can(self) -> None:
        while self._waiting and len(self._running) < self._places:
            shares = QueueShares(self._clock, self._finish, self._last_start)
            job = self._choose(list(self._waiting.values()), shares, self.now)
            start = shares.start_of(job.tenant)
            self._clock = max(self._clock, start)
            self._finish[job.tenant] = start + job.cost
            self._last_start[job.tenant, job.priority] = self.now
            del self._waiting[job.job_id]
            heapq.heappush(self._running, (self.now + self._takes[job.job_id], job.job_id, job))

    def end_one(self) -> str:
        """The next to end; its tenant."""
        self.now, _, job = heapq.heappop(self._running)
        self._finish[job.tenant] += self._takes[job.job_id] - job.cost
        return job.tenant
