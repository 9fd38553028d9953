"""Which pending jobs come to Dagster's queue now: not too many at once, and each tenant's share.

Dagster's queue is kept short, because what is in it costs the daemon at every look, and because the
order there is remade from few. It is never so short that a place stays free.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from resources.database import engine_for
from run_queue.fairness import LOW, URGENT
from run_queue.job_tables import (
    UNFINISHED_STATES,
    job_runs_table,
    jobs_table,
    tenant_quotas_table,
)
from run_queue.line import Place, the_line
from run_queue.pauses import Pause, PauseReason, pause, pauses, resume
from run_queue.shares import Expectations

# With more than so many in Dagster's queue admission pauses, until there are no more than so many.
PAUSE_ABOVE = 50
RESUME_AT = 40
# So many jobs of a tenant may wait in each of Dagster's queues: always enough for the next free place.
AHEAD_PER_TENANT = 8
AT_A_TIME = 25


@dataclass(frozen=True)
class Quota:
    """A tenant's limits; None: no limit. Jobs that use the GPU are what is counted."""

    concurrent: int | None = None
    per_day: int | None = None
    per_month: int | None = None


NO_LIMITS = Quota()


@dataclass(frozen=True)
class Situation:
    """What admission looks at; ``began_today`` and ``began_this_month`` count by tenant."""

    line: Mapping[str, Sequence[Place]]
    pauses: Mapping[PauseReason, Pause]
    quotas: Mapping[str, Quota]
    began_today: Mapping[str, int]
    began_this_month: Mapping[str, int]
    busy_partitions: Mapping[str, int]
    """Videos of which a job has a run under way (0) or in Dagster's queue (its priority)."""
    present: frozenset[tuple[str, str]]
    """(queue, tenant) of what is in Dagster's queue or under way."""

    @property
    def depth(self) -> int:
        """How many wait in Dagster's queue; an operator's own jobs do not count."""
        return sum(
            place.state == "queued"
            for queue, places in self.line.items()
            if queue != "operator"
            for place in places
        )


def admit(situation: Situation) -> tuple[list[Place], dict[str, str]]:
    """Jobs to bring to Dagster's queue, best first, and why each of the others is not among them."""
    admitted: list[Place] = []
    reasons: dict[str, str] = {}
    room = max(PAUSE_ABOVE - situation.depth, 0)
    present = set(situation.present)
    busy = dict(situation.busy_partitions)
    today, month = Counter(situation.began_today), Counter(situation.began_this_month)
    for queue, places in situation.line.items():
        before: Counter[str] = Counter()
        for place in places:
            if place.state == "queued":
                before[place.tenant] += 1
            if place.state != "pending":
                continue
            quota = situation.quotas.get(place.tenant, NO_LIMITS)
            # Who has nothing there gets one in all the same, or a thousand runs of somebody else's
            # would keep others out until nearly all of them are done. What is urgent does not wait.
            is_exempt = (queue, place.tenant) not in present or place.priority == URGENT
            why = _held_by_pause(situation, queue, is_exempt, nothing_to_try=not present)
            # What is less urgent, and has not started, lets it go before.
            if not why and busy.get(place.partition_key or "", LOW + 1) <= place.priority:
                why = "another job of this video has to end first"
            if not why and queue == "gpu" and _reached(quota.per_day, today[place.tenant]):
                why = f"{place.tenant} has begun its {quota.per_day} jobs of today (UTC)"
            if not why and queue == "gpu" and _reached(quota.per_month, month[place.tenant]):
                why = f"{place.tenant} has begun its {quota.per_month} jobs of this month (UTC)"
            if not why and before[place.tenant] >= AHEAD_PER_TENANT:
                why = f"{before[place.tenant]} jobs of {place.tenant} are before it in Dagster's queue"
            if not why and not room and not is_exempt:
                why = "Dagster's queue is full"
            if not why and len(admitted) == AT_A_TIME:
                why = "it comes next"
            if why:
                reasons[place.job_id] = why
                continue
            admitted.append(place)
            room = max(room - 1, 0)
            present.add((queue, place.tenant))
            before[place.tenant] += 1
            if place.partition_key is not None:
                there = busy.get(place.partition_key, place.priority)
                busy[place.partition_key] = min(there, place.priority)
            if queue == "gpu":
                today[place.tenant] += 1
                month[place.tenant] += 1
    return admitted, reasons


def _held_by_pause(
    situation: Situation, queue: str, is_exempt: bool, *, nothing_to_try: bool
) -> str | None:
    held = situation.pauses.get("operator")
    if held is not None:
        return f"{held.who} has paused the queue: {held.why}"
    failures = situation.pauses.get("failures")
    # What is tried now and then is one of those in Dagster's queue: where there is none, the next.
    if failures is not None and not nothing_to_try:
        return failures.why
    heat = situation.pauses.get("heat")
    if heat is not None and queue == "gpu":
        return heat.why
    depth = situation.pauses.get("depth")
    return depth.why if depth is not None and not is_exempt else None


def _reached(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit


def situation(url: str, expectations: Expectations) -> Situation:
    """How things stand now."""
    line = the_line(url, expectations)
    under_way = sa.and_(jobs_table.c.state.in_(UNFINISHED_STATES), jobs_table.c.state != "pending")
    with engine_for(url).begin() as connection:
        quotas = quotas_of(connection)
        today, month = _began_lately(connection, quotas)
        unfinished = connection.execute(
            sa.select(
                jobs_table.c.queue,
                jobs_table.c.tenant,
                jobs_table.c.partition_key,
                sa.case((jobs_table.c.state == "queued", jobs_table.c.priority), else_=0).label(
                    "priority"
                ),
            )
            .where(under_way, jobs_table.c.queue != "operator")
            .distinct()
        ).all()
    busy: dict[str, int] = {}
    for row in unfinished:
        if row.partition_key is not None:
            busy[row.partition_key] = min(busy.get(row.partition_key, LOW), row.priority)
    return Situation(
        line=line,
        pauses=pauses(url),
        quotas=quotas,
        began_today=today,
        began_this_month=month,
        busy_partitions=busy,
        present=frozenset((row.queue, row.tenant) for row in unfinished),
    )


def tenants_at_their_limit(url: str) -> set[str]:
    """Those whose next job of the GPU queue a quota of theirs holds back."""
    with engine_for(url).begin() as connection:
        quotas = quotas_of(connection)
        today, month = _began_lately(connection, quotas)
        running = running_on_gpu(connection)
    return {
        tenant
        for tenant, quota in quotas.items()
        if _reached(quota.concurrent, running[tenant])
        or _reached(quota.per_day, today.get(tenant, 0))
        or _reached(quota.per_month, month.get(tenant, 0))
    }


def pause_for_depth(url: str, depth: int, paused: bool) -> bool | None:
    """Pause admission above 50, resume at 40; True or False where that changed something now."""
    if depth > PAUSE_ABOVE:
        why = (
            f"{depth} jobs wait in Dagster's queue, more than {PAUSE_ABOVE}: new ones are kept in "
            f"their places until {RESUME_AT} are left"
        )
        return True if pause(url, "depth", who="the queue", why=why) else None
    if paused and depth <= RESUME_AT:
        return False if resume(url, "depth") else None
    return None


def quotas_of(connection: sa.Connection) -> dict[str, Quota]:
    """Limits by tenant, of those that have any."""
    rows = connection.execute(sa.select(tenant_quotas_table)).all()
    return {row.tenant: Quota(row.concurrent, row.per_day, row.per_month) for row in rows}


def running_on_gpu(connection: sa.Connection) -> Counter[str]:
    """How many jobs of the GPU queue are under way, by tenant."""
    rows = connection.execute(
        sa.select(jobs_table.c.tenant, sa.func.count().label("running"))
        .where(jobs_table.c.state == "running", jobs_table.c.queue == "gpu")
        .group_by(jobs_table.c.tenant)
    )
    return Counter({row.tenant: row.running for row in rows})


def _began_lately(
    connection: sa.Connection, quotas: Mapping[str, Quota]
) -> tuple[dict[str, int], dict[str, int]]:
    """Of tenants with such a quota, how many jobs of theirs began today, and this month (UTC)."""
    limited = [tenant for tenant, quota in quotas.items() if quota.per_day or quota.per_month]
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if not limited:
        return {}, {}
    return (
        _began(connection, limited, midnight),
        _began(connection, limited, midnight.replace(day=1)),
    )


def _began(connection: sa.Connection, tenants: Sequence[str], since: datetime) -> dict[str, int]:
    """How many jobs of these tenants came to the GPU queue since then."""
    rows = connection.execute(
        sa.select(job_runs_table.c.tenant, sa.func.count().label("begun"))
        .where(
            job_runs_table.c.tenant.in_(tenants),
            job_runs_table.c.queue == "gpu",
            job_runs_table.c.attempt == 1,
            job_runs_table.c.queued_at >= since,
        )
        .group_by(job_runs_table.c.tenant)
    ).all()
    return {row.tenant: row.begun for row in rows}
