"""What is over and old enough is forgotten: jobs, runs, events, prints, working copies. Never a Drive.

Safe to cut off anywhere and to begin again: each piece is deleted by itself, and what is left is found
the next time.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.tags import PARTITION_NAME_TAG

from resources.artifact_store import ArtifactStore
from resources.database import engine_for
from resources.publications import publications_table
from resources.video_registry import VideoRegistry, videos_table
from run_queue import dagster_history
from run_queue.busy_videos import busy_videos
from run_queue.job_tables import (
    UNFINISHED_STATES,
    job_runs_table,
    jobs_table,
    queue_shares_table,
    tenant_quotas_table,
)
from run_queue.one_at_a_time import RETENTION_LOCK, only_one
from run_queue.retention_policy import RetentionPolicy
from tailor_assets.compute.errors import PermanentProblem

_JOBS_AT_A_TIME = 1000
_RUNS_AT_A_TIME = 100
_EVENTS_AT_A_TIME = 5000


@dataclass
class Forgotten:
    """How much was deleted. ``all_done``: nothing that is old enough is left."""

    jobs: int = 0
    timelines: int = 0
    runs: int = 0
    prints: int = 0
    events: int = 0
    working_copies: int = 0
    all_done: bool = True

    @property
    def anything(self) -> bool:
        """Whether it was anything."""
        return any(self.counts().values())

    def counts(self) -> dict[str, int]:
        """The numbers alone."""
        return {name: count for name, count in asdict(self).items() if name != "all_done"}

    def sentence(self) -> str:
        """For a person."""
        if not self.anything:
            return "Nothing is old enough to be deleted."
        said = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in self.counts().items() if count
        )
        return f"Deleted {said}." + ("" if self.all_done else " The rest goes the next time.")


def forget_what_is_old(
    instance: dg.DagsterInstance,
    registry: VideoRegistry,
    store: ArtifactStore,
    policy: RetentionPolicy,
    *,
    seconds: float,
) -> Forgotten | None:
    """Delete what the policy does not keep, for about so many seconds; None where another does it.

    What was deleted is one record in the audit log.
    """
    from resources.audit.log import record

    url = registry.database_url
    until = time.monotonic() + seconds
    done = Forgotten()
    with only_one(url, RETENTION_LOCK) as alone:
        if not alone:
            return None

        def repeat(name: str, step: Callable[[], int]) -> None:
            while done.all_done and (count := step()):
                setattr(done, name, getattr(done, name) + count)
                done.all_done = time.monotonic() < until

        try:
            repeat("jobs", lambda: _forget_jobs(url, policy))
            # Right after their jobs: a key that was asked for may be asked for again from here on.
            _forget_runs(instance, url, policy, until, done)
            repeat("events", lambda: dagster_history.delete_noise(url, policy, _EVENTS_AT_A_TIME))
            repeat(
                "prints",
                lambda: dagster_history.delete_prints(instance, url, policy, _RUNS_AT_A_TIME),
            )
            repeat("timelines", lambda: _forget_timelines(url, policy))
            if policy.artifacts is not None:
                _forget_working_copies(instance, registry, store, policy, until, done)
        finally:
            # Also of what was done before something failed.
            if done.anything:
                record(
                    url,
                    actor="retention",
                    action="retention.delete",
                    subject="what is over",
                    details=done.counts(),
                )
    return done


def _forget_jobs(url: str, policy: RetentionPolicy) -> int:
    """Jobs leave the list; when their runs did what and what it cost stays."""
    jobs, now = jobs_table, datetime.now(UTC)
    ended = (
        sa.select(
            jobs.c.job_id,
            jobs.c.finished_at,
            sa.func.row_number().over(order_by=jobs.c.finished_at.desc()).label("place"),
        )
        .where(jobs.c.state.in_(("completed", "cancelled")))
        .subquery()
    )
    beyond = sa.select(ended.c.job_id).where(
        ended.c.place > policy.finished_jobs, ended.c.finished_at < now - policy.finished
    )
    too_old = sa.or_(
        jobs.c.job_id.in_(beyond),
        sa.and_(jobs.c.state == "parked", jobs.c.finished_at < now - policy.failed),
    )
    chosen = sa.select(jobs.c.job_id).where(too_old).limit(_JOBS_AT_A_TIME)
    with engine_for(url).begin() as connection:
        return connection.execute(
            # Once more: somebody may have brought a parked one back since.
            sa.delete(jobs).where(jobs.c.job_id.in_(chosen), jobs.c.state.not_in(UNFINISHED_STATES))
        ).rowcount


def _forget_timelines(url: str, policy: RetentionPolicy) -> int:
    runs = job_runs_table
    chosen = (
        sa.select(runs.c.run_id)
        .where(
            sa.func.coalesce(runs.c.finished_at, runs.c.queued_at)
            < datetime.now(UTC) - policy.timeline,
            ~sa.exists().where(jobs_table.c.job_id == runs.c.job_id),
        )
        .limit(_JOBS_AT_A_TIME)
    )
    with engine_for(url).begin() as connection:
        return connection.execute(sa.delete(runs).where(runs.c.run_id.in_(chosen))).rowcount


def _forget_runs(
    instance: dg.DagsterInstance,
    url: str,
    policy: RetentionPolicy,
    until: float,
    done: Forgotten,
) -> None:
    # A run goes before the one that it is a retry of, so it takes as many passes as there are tries.
    count = -1
    while done.all_done and done.runs != count:
        count = done.runs
        before: int | None = None
        while found := dagster_history.runs_of_no_more_use(
            url, policy, before=before, most=_RUNS_AT_A_TIME
        ):
            before = found[-1][0]
            for _, run_id in found:
                dagster_history.delete_run(instance, run_id)
                done.runs += 1
                if time.monotonic() > until:
                    done.all_done = False
                    return


def _forget_working_copies(
    instance: dg.DagsterInstance,
    registry: VideoRegistry,
    store: ArtifactStore,
    policy: RetentionPolicy,
    until: float,
    done: Forgotten,
) -> None:
    """Of videos all of which is in the Drive, and which nobody has worked on for so long."""
    assert policy.artifacts is not None
    since = datetime.now(UTC) - policy.artifacts
    for key in _untouched_since(registry.database_url, since):
        if time.monotonic() > until:
            done.all_done = False
            return
        records = dg.RunsFilter(tags={PARTITION_NAME_TAG: key}, updated_after=since)
        if instance.get_run_records(records, limit=1):
            continue
        if not _all_is_published(registry, store, key):
            continue
        # As late as can be: what begins now finds nothing, and makes everything.
        if key not in busy_videos(instance, registry.database_url):
            store.forget(key)
            done.working_copies += 1


def _untouched_since(url: str, since: datetime) -> list[str]:
    """Keys of videos that wait for nothing; those that were published last come first.

    Of what was published earlier most is gone by now, and looking is a call to the store.
    """
    videos, publications, jobs = videos_table, publications_table, jobs_table
    of_video = publications.c.partition_key == videos.c.partition_key
    other = publications.alias("other")
    query = (
        sa.select(videos.c.partition_key)
        .join(publications, sa.and_(of_video, publications.c.what == "results"))
        .where(
            videos.c.state == "admitted",
            videos.c.waiting_for.is_(None),
            publications.c.claimed_at < since,
            ~sa.exists().where(
                other.c.partition_key == videos.c.partition_key,
                sa.or_(other.c.parked_at.is_not(None), other.c.claimed_at >= since),
            ),
            ~sa.exists().where(
                jobs.c.partition_key == videos.c.partition_key,
                sa.or_(jobs.c.state.not_in(("completed", "cancelled")), jobs.c.finished_at > since),
            ),
        )
        .order_by(publications.c.claimed_at.desc())
    )
    with engine_for(url).begin() as connection:
        return list(connection.execute(query).scalars())


def _all_is_published(registry: VideoRegistry, store: ArtifactStore, key: str) -> bool:
    try:
        store.require(key, "published_results")
        if registry.publishes_frames(registry.get(key).tenant):
            store.require(key, "published_frames")
    except PermanentProblem:
        return False
    return True


def forget_tenant_jobs(url: str, tenant: str, run_ids: Collection[str]) -> None:
    """Delete the tenant's jobs, its timelines and those of ``run_ids``, its share and quota."""
    jobs, runs = jobs_table, job_runs_table
    with engine_for(url).begin() as connection:
        of_tenant = sa.select(jobs.c.job_id).where(jobs.c.tenant == tenant)
        connection.execute(
            sa.delete(runs).where(
                sa.or_(
                    runs.c.tenant == tenant,
                    runs.c.job_id.in_(of_tenant),
                    runs.c.run_id.in_(list(run_ids)),
                )
            )
        )
        for table in (jobs, queue_shares_table, tenant_quotas_table):
            connection.execute(sa.delete(table).where(table.c.tenant == tenant))
