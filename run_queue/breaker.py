"""Holds the queue back while job after job fails for a cause that is none of theirs.

A full disk, a Drive or a database that is away fails whatever is started; without this a night's
videos would all end parked, and a person would have to bring each back. So after a few such failures
in a row the queue pauses (reason ``failures``), one job is tried now and then, and the first that does
not fail so ends the pause: a circuit breaker (Nygard, "Release It!", 2007). Meanwhile nothing is
parked for such a cause. All is read from ``tailor.job_runs``, so it does not matter who was killed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for
from run_queue.failure_causes import kind_in_sql, kind_of
from run_queue.job_ledger import bring_back
from run_queue.job_tables import ATTEMPTS, job_runs_table, jobs_table, queue_pauses_table
from run_queue.pauses import Pause, pause, pauses, resume

# Kinds of causes (failure_causes.py) that are everybody's -> what is wrong, for people.
EVERYBODYS = {
    "disk_full": "the disk is full",
    "drive": "the Drive does not answer as it should",
    "database": "the database does not answer as it should",
}
# In a row, of two videos at least: one alone has three attempts.
_STREAK = 5
# Older failures say nothing of now; a pause that a person has ended does not begin again by them.
_FRESH = timedelta(minutes=2)
_FIRST_PROBE, _LATEST_PROBE = timedelta(minutes=1), timedelta(minutes=15)
_WHO = "the queue"


@dataclass(frozen=True)
class Attempt:
    """One that is over. ``kind``: of the cause; "" where it did not fail.

    ``is_final``: the asset itself has said that trying again will not help, so it was its own.
    """

    job_id: str
    partition_key: str | None
    tenant: str
    finished_at: datetime
    kind: str
    is_final: bool

    @property
    def is_everybodys(self) -> bool:
        """Whether it failed for a cause that is none of its own."""
        return self.kind in EVERYBODYS and not self.is_final


def streak(attempts: Sequence[Attempt], tenants: int, now: datetime) -> Sequence[Attempt]:
    """The failures in a row that say that nothing can be made, the latest first; empty: none do.

    ``attempts``: the last ones, the latest first; ``tenants``: how many had any within a day. A Drive
    may be one tenant's, so of several tenants two have to have failed.
    """
    failed: list[Attempt] = []
    for attempt in attempts:
        if not attempt.is_everybodys or (failed and attempt.kind != failed[0].kind):
            break
        failed.append(attempt)
    if len(failed) < _STREAK or now - failed[0].finished_at > _FRESH:
        return ()
    least = min(2, tenants) if failed[0].kind == "drive" else 1
    videos = {attempt.partition_key or attempt.job_id for attempt in failed}
    if len(videos) < 2 or len({attempt.tenant for attempt in failed}) < least:
        return ()
    return failed


def next_probe(held: Pause, attempts: Sequence[Attempt]) -> datetime:
    """When the next job is tried: a minute after the pause began, then twice as long, up to 15."""
    since = [one.finished_at for one in attempts if one.finished_at > held.since]
    wait = min(_FIRST_PROBE * 2 ** min(len(since), 8), _LATEST_PROBE)
    return max([held.since, *since]) + wait


def watch_failures(url: str, now: datetime | None = None) -> None:
    """Begin or end the pause by what the last attempts say. Called when attempts have ended."""
    now = now or datetime.now(UTC)
    held = pauses(url).get("failures")
    attempts = last_attempts(url)
    if held is not None:
        if any(one.finished_at > held.since and not one.is_everybodys for one in attempts):
            _end(url, held)
        return
    failed = streak(attempts, _tenants_of_a_day(url, now), now)
    if failed:
        _begin(url, failed)


def spares(connection: sa.Connection, cause: str) -> bool:
    """Whether a job that failed for this cause is to be tried again however often it was."""
    if kind_of(cause) not in EVERYBODYS:
        return False
    query = sa.select(queue_pauses_table.c.what).where(queue_pauses_table.c.what == "failures")
    return connection.execute(query).first() is not None


def may_probe(url: str, held: Pause, now: datetime | None = None) -> bool:
    """Whether one job is to be tried now, nothing being under way."""
    return (now or datetime.now(UTC)) >= next_probe(held, last_attempts(url))


def last_attempts(url: str) -> list[Attempt]:
    """The last ones of videos' jobs that are over, the latest first; enough of them to judge by."""
    runs, jobs = job_runs_table, jobs_table
    kind = sa.case((runs.c.status == "failure", sa.text(kind_in_sql("job_runs.cause"))), else_="")
    is_final = sa.and_(
        jobs.c.state == "parked",
        jobs.c.run_id == runs.c.run_id,
        jobs.c.attempts < ATTEMPTS,
    )
    query = (
        sa.select(
            runs.c.job_id,
            runs.c.partition_key,
            runs.c.tenant,
            runs.c.finished_at,
            kind.label("kind"),
            sa.func.coalesce(is_final, sa.false()).label("is_final"),
        )
        .outerjoin(jobs, jobs.c.job_id == runs.c.job_id)
        .where(
            runs.c.queue != "operator",
            runs.c.finished_at.is_not(None),
            runs.c.status.in_(("success", "failure")),
        )
        .order_by(runs.c.finished_at.desc())
        .limit(12)
    )
    with engine_for(url).begin() as connection:
        return [Attempt(**row) for row in connection.execute(query).mappings()]


def _tenants_of_a_day(url: str, now: datetime) -> int:
    runs = job_runs_table
    query = sa.select(sa.func.count(sa.distinct(runs.c.tenant))).where(
        runs.c.queue != "operator", runs.c.finished_at > now - timedelta(days=1)
    )
    with engine_for(url).begin() as connection:
        return connection.execute(query).scalar_one()


def _begin(url: str, failed: Sequence[Attempt]) -> None:
    from resources.audit.log import record
    from resources.notifications.outbox import alert

    cause = EVERYBODYS[failed[0].kind]
    why = (
        f"{len(failed)} attempts in a row have failed because {cause}: one job is tried now and then, "
        "and all go on when it works; nothing is lost"
    )
    if not pause(url, "failures", who=_WHO, why=why):
        return
    since = pauses(url)["failures"].since
    # Those that are parked by now are so for this cause, too.
    back = [job_id for job_id in {one.job_id for one in failed} if bring_back(url, job_id)]
    details = {"cause": failed[0].kind, "attempts": len(failed), "brought_back": sorted(back)}
    record(url, actor=_WHO, action="queue.paused", subject="failures", details=details)
    alert(
        url,
        key=f"failures:{since.isoformat()}",
        subject=f"The queue is paused: {cause}",
        text=f"{why}. `tailor health` says more; `tailor queue resume --what failures` ends it.",
    )


def _end(url: str, held: Pause) -> None:
    from resources.audit.log import record
    from resources.notifications.outbox import alert

    if not resume(url, "failures"):
        return
    record(url, actor=_WHO, action="queue.resumed", subject="failures", details={"why": held.why})
    since = held.since.astimezone(UTC)  # a session's times are in its own zone
    alert(
        url,
        key=f"failures:{held.since.isoformat()}:end",
        subject="The queue goes on",
        text=f"A job was made again. The pause was since {since:%Y-%m-%d %H:%M} UTC: {held.why}.",
    )
