"""In which order waiting jobs start: a pure function of what waits and what each tenant has had.

Urgent before normal before low (priorities 1, 5, 10). Within one of these the tenants take turns by
start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queueing", 1996), in which a tenant's
deficit is how far its tag is behind the others': each tenant has a tag, the moment on the queue's own
clock up to which it has been served; the smallest tag is next, and moves on by what the job is
expected to take. So a tenant's next job waits for one job of each other tenant at most, however many
they have; and who was idle is neither punished nor paid for it. Within a tenant the first come is
the first served.

Two things go before that. A retry was started once, so its turn had come: it is first in its
priority. And each tenant's oldest job of a priority counts one priority higher for each half hour in
which nothing of that priority was started, whoever's, so what is low moves too. Not more than the
oldest, or a thousand old uploads would all become urgent; and of all tenants alike, because within a
priority the turns see to it that everybody moves.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PRIORITIES = (1, 5, 10)
URGENT, NORMAL, LOW = PRIORITIES
AGEING_SECONDS = 1800.0


@dataclass(frozen=True)
class WaitingJob:
    """One that waits; times in Unix seconds.

    ``since`` is its place in line, ``cost`` the seconds it is expected to take.
    """

    job_id: str
    tenant: str
    priority: int
    since: float
    cost: float
    is_retry: bool = False


@dataclass(frozen=True)
class QueueShares:
    """What one queue's tenants have had.

    ``now`` is the queue's clock: the tag of the job that was started last. ``finish`` has each
    tenant's tag, ``last_start`` (Unix seconds) when a job of a tenant and priority was last started.
    """

    now: float
    finish: Mapping[str, float]
    last_start: Mapping[tuple[str, int], float]

    def start_of(self, tenant: str) -> float:
        """The tag that the tenant's next job gets."""
        return max(self.now, self.finish.get(tenant, self.now))


def in_order(jobs: Sequence[WaitingJob], shares: QueueShares, now: float) -> list[WaitingJob]:
    """All jobs of one queue in the order in which they would start if nothing else came.

    ``now`` is in Unix seconds. O(n log n).
    """
    by_priority: dict[int, list[WaitingJob]] = defaultdict(list)
    for job, priority in _with_age(jobs, shares, now):
        by_priority[priority].append(job)
    tags = {job.tenant: shares.start_of(job.tenant) for job in jobs}
    # Who are equal go in the order in which they were last served.
    served: dict[str, float] = {}
    for (tenant, _), at in shares.last_start.items():
        served[tenant] = max(at, served.get(tenant, at))
    ordered: list[WaitingJob] = []
    for priority in PRIORITIES:
        retries = [job for job in by_priority[priority] if job.is_retry]
        for job in sorted(retries, key=_place):
            tags[job.tenant] += job.cost
            ordered.append(job)
        others = [job for job in by_priority[priority] if not job.is_retry]
        ordered += _taking_turns(others, tags, served)
    return ordered


def _place(job: WaitingJob) -> tuple[float, str]:
    return job.since, job.job_id


def _with_age(
    jobs: Sequence[WaitingJob], shares: QueueShares, now: float
) -> Iterator[tuple[WaitingJob, int]]:
    oldest: dict[tuple[str, int], WaitingJob] = {}
    for job in jobs:
        key = job.tenant, job.priority
        if key not in oldest or _place(job) < _place(oldest[key]):
            oldest[key] = job
    last_start: dict[int, float] = {}
    for (_, priority), at in shares.last_start.items():
        last_start[priority] = max(at, last_start.get(priority, at))
    for job in jobs:
        priority = job.priority
        if oldest[job.tenant, priority] is job:
            moved = max(job.since, last_start.get(priority, job.since))
            steps = int(max(now - moved, 0.0) // AGEING_SECONDS)
            priority = PRIORITIES[max(PRIORITIES.index(priority) - steps, 0)]
        yield job, priority


def _taking_turns(
    jobs: Sequence[WaitingJob], tags: dict[str, float], served: Mapping[str, float]
) -> list[WaitingJob]:
    waiting: dict[str, list[WaitingJob]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: (job.priority, *_place(job)), reverse=True):
        waiting[job.tenant].append(job)  # the next one last

    def key(tenant: str) -> tuple[float, float, float, str, str]:
        return tags[tenant], served.get(tenant, 0.0), *_place(waiting[tenant][-1]), tenant

    heap = [key(tenant) for tenant in waiting]
    heapq.heapify(heap)
    ordered = []
    while heap:
        *_, tenant = heapq.heappop(heap)
        line = waiting[tenant]
        job = line.pop()
        ordered.append(job)
        tags[tenant] += job.cost
        if line:
            heapq.heappush(heap, key(tenant))
    return ordered
