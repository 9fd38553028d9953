"""Why a job has not started, which place it has, and when it is likely to start: for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for
from run_queue.admission import NO_LIMITS, Situation, admit, situation
from run_queue.job_ledger import JobRow
from run_queue.job_tables import JOB_STATES, job_runs_table, jobs_table
from run_queue.line import Place
from run_queue.shares import Expectations


@dataclass(frozen=True)
class Explanation:
    """``reasons``: sentences without a full stop, the decisive one first; ``position``: from 1."""

    job: JobRow
    position: int | None
    of: int
    estimated_start: datetime | None
    reasons: tuple[str, ...]

    def lines(self) -> list[str]:
        """What `tailor queue why` prints."""
        job = self.job
        what = f"{job.job_name} of {job.partition_key or 'no single video'}"
        lines = [
            f"{job.job_id[:8]}: {what}, tenant {job.tenant or '(none)'}, priority {job.priority}, "
            f"queue {job.queue}, {job.state} ({JOB_STATES[job.state]})",
        ]
        if self.position is not None:
            lines.append(f"position {self.position} of {self.of} in the {job.queue} queue")
        lines += [f"- {reason}." for reason in self.reasons]
        if self.position is not None:
            lines.append(
                "estimated start: "
                + (
                    self.estimated_start.astimezone().strftime("%Y-%m-%d %H:%M")
                    if self.estimated_start is not None
                    else "not known, as no job of this kind has been finished yet"
                )
            )
        return lines


def explain(
    url: str, job: JobRow, expectations: Expectations, *, places: Mapping[str, int]
) -> Explanation:
    """What ``job`` waits for; ``places``: how many jobs of each queue run at a time."""
    if job.state not in ("pending", "queued"):
        return Explanation(job, None, 0, None, tuple(_not_in_line(url, job)))
    now = situation(url, expectations)
    line = now.line.get(job.queue, ())
    place = next((one for one in line if one.job_id == job.job_id), None)
    if place is None:
        return Explanation(job, None, 0, None, ("it has started just now",))
    held = waits_for(url, now, place, places)
    start = estimated_start(url, place, expectations, places)
    return Explanation(job, place.position, len(line), start, tuple(held))


def waits_for(url: str, now: Situation, place: Place, places: Mapping[str, int]) -> list[str]:
    """Reasons why one in line does not start at once, the decisive one first."""
    reasons = []
    if place.state == "pending":
        _, why = admit(now)
        reasons.append(
            f"not yet in Dagster's queue: {why.get(place.job_id, 'it comes there within seconds')}"
        )
    else:
        held = now.pauses.get("operator")
        if held is not None and place.queue != "operator":
            reasons.append(f"{held.who} has paused the queue: {held.why}")
        failures = now.pauses.get("failures")
        if failures is not None and place.queue != "operator":
            reasons.append(f"the queue is paused: {failures.why}")
        heat = now.pauses.get("heat")
        if heat is not None and place.queue == "gpu":
            reasons.append(f"the GPU takes no video: {heat.why}")
        reasons += _what_runs(url, now, place, places)
    if place.position > 1:
        before = [one for one in now.line[place.queue] if one.position < place.position]
        own = sum(one.tenant == place.tenant for one in before)
        more_urgent = sum(one.priority < place.priority for one in before)
        reasons.append(
            f"{len(before)} before it: {own} of its own tenant, {len(before) - own} of others; "
            f"{more_urgent} of a more urgent priority; tenants take turns"
        )
    if place.is_retry:
        reasons.append("it is a retry, and first in its priority")
    return reasons


def _what_runs(url: str, now: Situation, place: Place, places: Mapping[str, int]) -> list[str]:
    jobs = jobs_table
    with engine_for(url).begin() as connection:
        running = connection.execute(
            sa.select(jobs.c.job_id, jobs.c.tenant, jobs.c.partition_key, jobs.c.queue).where(
                jobs.c.state == "running"
            )
        ).all()
    reasons = []
    for one in running:
        if place.partition_key is not None and one.partition_key == place.partition_key:
            reasons.append(f"job {one.job_id[:8]} of the same video is under way")
    own = sum(one.tenant == place.tenant and one.queue == "gpu" for one in running)
    limit = now.quotas.get(place.tenant, NO_LIMITS).concurrent
    if place.queue == "gpu" and limit is not None and own >= limit:
        reasons.append(f"{place.tenant} may have {limit} jobs under way at a time, and has {own}")
    there = sum(one.queue == place.queue for one in running)
    all_places = places.get(place.queue, 1)
    if there >= all_places:
        reasons.append(f"all {all_places} places of the {place.queue} queue are taken")
    elif not reasons and place.position == 1:
        reasons.append("it starts within seconds")
    return reasons


def estimated_start(
    url: str, place: Place, expectations: Expectations, places: Mapping[str, int]
) -> datetime | None:
    """From how long jobs have taken so far; None where none has been finished."""
    if expectations.measured(place.job_name) is None:
        return None
    at_a_time = max(places.get(place.queue, 1), 1)
    seconds = (place.seconds_ahead + _left_of_running(url, place.queue, expectations)) / at_a_time
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _left_of_running(url: str, queue: str, expectations: Expectations) -> float:
    jobs, runs = jobs_table, job_runs_table
    with engine_for(url).begin() as connection:
        running: Sequence[sa.Row] = connection.execute(
            sa.select(jobs.c.job_name, runs.c.dequeued_at)
            .join(runs, runs.c.run_id == jobs.c.run_id)
            .where(jobs.c.state == "running", jobs.c.queue == queue)
        ).all()
    now = datetime.now(UTC)
    return sum(
        max(
            expectations.of(one.job_name, None)
            - ((now - one.dequeued_at).total_seconds() if one.dequeued_at else 0.0),
            0.0,
        )
        for one in running
    )


def _not_in_line(url: str, job: JobRow) -> list[str]:
    if job.state == "running":
        return [f"run {(job.run_id or '')[:8]} is at work on it (attempt {job.attempts})"]
    if job.state == "retrying":
        when = f"{job.retry_at.astimezone():%H:%M:%S}" if job.retry_at else "once"
        return [f"attempt {job.attempts} failed: {job.cause}", f"the next is due at {when}"]
    if job.state == "parked":
        return [f"it failed: {job.cause}", f"to bring it back: {job.action}"]
    return [job.cause] if job.cause else []
