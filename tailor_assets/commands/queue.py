"""``tailor queue`` and ``tailor quota``: the queue as whoever operates it sees and moves it."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from resources.database import engine_for, insert_for
from resources.settings import load_settings
from tailor_assets.commands.serve import running_registry
from tailor_assets.commands.terminal import whoever_types
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from run_queue.pauses import PauseReason


def list_queue(*, tenant: str | None, finished: bool, as_json: bool) -> Iterator[str]:
    """One line per job: what runs, what waits in its order, what is parked; then what is finished."""
    from run_queue.job_ledger import to_job
    from run_queue.job_tables import FINISHED_STATES, jobs_table
    from run_queue.line import QUEUES, the_line
    from run_queue.pauses import pauses
    from run_queue.shares import Expectations

    url = running_registry().database_url
    places = {
        place.job_id: place
        for queue in QUEUES
        for place in the_line(url, Expectations(url)).get(queue, ())
    }
    query = sa.select(jobs_table)
    if tenant is not None:
        query = query.where(jobs_table.c.tenant == tenant)
    if not finished:
        query = query.where(jobs_table.c.state.not_in(("completed", "cancelled")))
    with engine_for(url).begin() as connection:
        jobs = [to_job(row) for row in connection.execute(query).mappings()]
    order = {
        state: number
        for number, state in enumerate(
            ("running", "retrying", "queued", "pending", *FINISHED_STATES)
        )
    }

    def key(job: Any) -> tuple[Any, ...]:
        place = places.get(job.job_id)
        waits = 2 if place is not None else order[job.state]
        return waits, job.queue, place.position if place else 0, job.accepted_at

    if not as_json:
        for held in pauses(url).values():
            yield f"paused ({held.what}) since {_when(held.since)} by {held.who}: {held.why}"
        yield "\t".join(("job", "state", "place", "prio", "queue", "tenant", "since", "what"))
    for job in sorted(jobs, key=key):
        place = places.get(job.job_id)
        position = place.position if place is not None else None
        if as_json:
            yield json.dumps(
                {
                    "job_id": job.job_id,
                    "run_id": job.run_id,
                    "state": job.state,
                    "position": position,
                    "priority": job.priority,
                    "queue": job.queue,
                    "tenant": job.tenant,
                    "job": job.job_name,
                    "partition": job.partition_key,
                    "accepted_at": job.accepted_at.isoformat(),
                    "attempts": job.attempts,
                    "cause": job.cause,
                    "action": job.action,
                }
            )
            continue
        what = f"{job.job_name} {job.partition_key or ''}"
        if job.cause and job.state in ("parked", "retrying"):
            what += f": {' '.join(job.cause.split())}"
        yield "\t".join(
            (
                job.job_id[:8],
                job.state,
                str(position or ""),
                str(job.priority),
                job.queue,
                job.tenant,
                _when(job.accepted_at),
                what,
            )
        )


def why(name: str) -> list[str]:
    """What a job waits for, in lines for people."""
    from run_queue.explain import explain
    from run_queue.job_ledger import find_job
    from run_queue.places import places_of
    from run_queue.shares import Expectations

    url = running_registry().database_url
    job = find_job(url, name)
    with _instance(url) as instance:
        places = places_of(instance)
    return explain(url, job, Expectations(url), places=places).lines()


def do_to_jobs(doing: str, names: Sequence[str], reason: str, *, priority: int | None) -> int:
    """Cancel, retry or move each of them; 1 where one was not there."""
    from run_queue import operations

    url, who = running_registry().database_url, whoever_types()
    status = 0
    with _instance(url) as instance:
        for name in names:
            try:
                if doing == "cancel":
                    said = operations.cancel(url, instance, name, who=who, why=reason)
                elif doing == "retry":
                    said = operations.retry(url, name, who=who, why=reason)
                else:
                    assert priority is not None
                    said = operations.reprioritise(
                        url, instance, name, priority, who=who, why=reason
                    )
                print(said)
            except PermanentProblem as problem:
                print(f"tailor: {problem}", file=sys.stderr)
                status = 1
    return status


def hold(doing: str, reason: str, what: "PauseReason") -> str:
    """Pause or resume the queue."""
    from run_queue import operations

    url = running_registry().database_url
    if doing == "pause":
        return operations.pause_queue(url, who=whoever_types(), why=reason)
    return operations.resume_queue(url, who=whoever_types(), why=reason, what=what)


def set_quota(tenant: str, changes: Mapping[str, str]) -> None:
    """Limits by name: a number, or ``off``. Raises PermanentProblem for anything else."""
    from resources.audit.log import record
    from run_queue.job_tables import tenant_quotas_table

    values = {name: _limit(name, text) for name, text in changes.items()}
    url = running_registry().database_url
    with engine_for(url).begin() as connection:
        statement = insert_for(connection)(tenant_quotas_table).values(tenant=tenant, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["tenant"], set_=values))
    record(url, actor=whoever_types(), action="quota.changed", subject=tenant, details=values)


def list_quotas(tenant: str | None) -> list[str]:
    """One line per tenant with limits."""
    from run_queue.admission import quotas_of

    with engine_for(running_registry().database_url).begin() as connection:
        quotas = quotas_of(connection)
    lines = []
    for name, quota in sorted(quotas.items()):
        if tenant in (None, name):
            limits = [
                f"{value} {what}"
                for value, what in (
                    (quota.concurrent, "at a time"),
                    (quota.per_day, "a day"),
                    (quota.per_month, "a month"),
                )
                if value is not None
            ]
            lines.append(f"{name}\t{', '.join(limits) or 'no limits'}")
    return lines or ["No limits are set."]


def _limit(name: str, text: str) -> int | None:
    if text == "off":
        return None
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1_000_000_000:
        raise PermanentProblem(
            f"--{name.replace('_', '-')} {text}: give a number of jobs, or `off` for no limit."
        )
    return number


@contextmanager
def _instance(url: str) -> Iterator["DagsterInstance"]:
    from tailor_assets.services.health import open_instance

    with open_instance(load_settings().home / "dagster", url) as instance:
        yield instance


def _when(time: Any) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"
