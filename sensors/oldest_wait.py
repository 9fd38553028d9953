"""Tells operators when somebody waits longer than they are to: once, until it is over."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for
from resources.notifications.episodes import begin_episode, end_episode
from resources.notifications.plain_text import one_line
from run_queue.admission import tenants_at_their_limit
from run_queue.job_tables import job_runs_table, jobs_table
from run_queue.pauses import Pause, pauses
from sensors.job_notifications import UNANNOUNCED_JOBS
from tailor_assets.compute.errors import PermanentProblem

VARIABLE = "TAILOR_WAIT_TARGET_MINUTES"
_EPISODE = "oldest_wait"
# It is over when the wait is clearly below the target: a queue about as long as the target would
# otherwise alert with every job.
_OVER = 0.8
# As pauses are called in sentences.
_PAUSED_BY = {
    "operator": "an operator",
    "heat": "the GPU's heat",
    "depth": "the queue's length",
    "failures": "failures in a row",
}


def wait_target() -> timedelta:
    """TAILOR_WAIT_TARGET_MINUTES. Raises PermanentProblem for what is no number above 0."""
    text = os.environ.get(VARIABLE) or "60"
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < 1e6:
        raise PermanentProblem(
            f"{VARIABLE} is {text!r}: give the minutes that a job is to wait at most."
        )
    return timedelta(minutes=minutes)


@dataclass(frozen=True)
class _Waiting:
    job_name: str
    partition_key: str | None
    tenant: str
    queue: str
    since: datetime


def watch_oldest_wait(url: str, now: datetime | None = None) -> str | None:
    """Look once; the alert's subject where one was raised.

    A wait is of what is pending or queued, and of its attempt: it begins when the job was accepted, or
    its last attempt ended. While an operator's pause is younger than the target, it explains the wait.
    """
    now, target = now or datetime.now(UTC), wait_target()
    waiting = _those_that_wait_since_before(url, now - _OVER * target)
    late = [one for one in waiting if now - one.since > target]
    if not waiting:
        end_episode(url, _EPISODE)
    if not late:
        return None
    holding = pauses(url)
    if "operator" in holding and now - holding["operator"].since < target:
        return None
    subject, text = _words(late, list(holding.values()), now, target)
    return subject if begin_episode(url, _EPISODE, subject=subject, text=text) else None


def _those_that_wait_since_before(url: str, time: datetime) -> list[_Waiting]:
    jobs, runs = jobs_table, job_runs_table
    last_end = (
        sa.select(sa.func.max(runs.c.finished_at))
        .where(runs.c.job_id == jobs.c.job_id)
        .scalar_subquery()
    )
    since = sa.func.greatest(jobs.c.accepted_at, last_end).label("since")
    query = sa.select(
        jobs.c.job_name, jobs.c.partition_key, jobs.c.tenant, jobs.c.queue, since
    ).where(
        jobs.c.state.in_(("pending", "queued")),
        jobs.c.job_name.not_in(UNANNOUNCED_JOBS),
        jobs.c.accepted_at < time,
    )
    with engine_for(url).begin() as connection:
        found = [_Waiting(*row) for row in connection.execute(query)]
    # What its quota holds back waits as it was meant to.
    limited = tenants_at_their_limit(url) if found else set()
    waiting = [
        one
        for one in found
        if one.since < time and not (one.queue == "gpu" and one.tenant in limited)
    ]
    return sorted(waiting, key=lambda one: one.since)


def _words(
    late: Sequence[_Waiting], holding: Sequence[Pause], now: datetime, target: timedelta
) -> tuple[str, str]:
    oldest = late[0]
    subject = f"The oldest job has waited {_minutes(now - oldest.since)}"
    what = one_line(oldest.partition_key or oldest.job_name, 200)
    tenants = len({one.tenant for one in late})
    lines = [
        f"{oldest.job_name} of {what} ({one_line(oldest.tenant, 100) or 'nobody'}) waits since "
        f"{oldest.since.isoformat(timespec='seconds')}; at most {_minutes(target)} are meant to pass "
        f"({VARIABLE}).",
        f"So long wait {len(late)} job(s) of {tenants} tenant(s).",
        *(
            f"Paused by {_PAUSED_BY[pause.what]} since {pause.since.isoformat(timespec='seconds')}: "
            f"{one_line(pause.why, 300)} ({one_line(pause.who, 100)})"
            for pause in holding
        ),
        "`tailor queue` shows what waits, `tailor queue why JOB` what for.",
    ]
    return subject, "\n".join(lines) + "\n"


def _minutes(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:.0f} min"
