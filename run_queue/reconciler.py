"""Finds what the event handlers missed, and mends it.

Each finding is a function of one look; it compares what ought to be with what is, mends the
difference, and returns what it mended as sentences. Nothing depends on what an earlier look saw, so
looking twice, or at once, or while everything works, changes nothing more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEventType
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, RUN_KEY_TAG
from dagster_shared.error import SerializableErrorInfo

from resources.artifact_store import ArtifactRecord, ArtifactStore, version_of
from resources.database import engine_for
from resources.drive import Drive, DriveMustWait, DriveUnavailable
from resources.local_drive import LocalDriveFolder
from resources.publications import publications_table
from resources.sam2_client import remove_old_checkpoints
from resources.stray_files import (
    remove_dead_sockets,
    remove_strays_of_artifacts,
    remove_strays_of_results,
)
from resources.video_registry import VideoRegistry, VideoRow, videos_table
from run_queue.busy_videos import BusyVideos, busy_videos
from run_queue.coordinator import queue_of
from run_queue.fairness import LOW
from run_queue.job_ledger import (
    TENANT_TAG,
    JobRequest,
    JobRow,
    accept,
    bring_back,
    register_run,
    to_job,
)
from run_queue.job_tables import UNFINISHED_STATES, job_runs_table, jobs_table
from run_queue.one_at_a_time import RECONCILER_LOCK, only_one
from tailor_assets.compute.errors import PermanentProblem

# What is younger may be on its way.
SETTLED = timedelta(minutes=2)
_OVERDUE = timedelta(seconds=60)
# Of the Drive's upload sessions, which last a week; then nothing can be continued.
_SESSION_LIFETIME = timedelta(days=8)
# An upload that nobody has finished by then has been begun anew or given up.
_PUBLICATION_LIFETIME = timedelta(days=8)
_AT_A_TIME = 500

_PROCESS_VIDEO = "process_video"
_PUBLISHING_JOBS = (_PROCESS_VIDEO, "rescore_video")
_PUBLISH_FRAMES = "publish_frames"
_RESULTS = "published_results"
_UPSTREAM = ("video", "frames", "prompts", "masks", "features", "predictions", "flags")
_VIDEO_TAG = "tailor/video"

# Where Google's days turn.
_GOOGLE_DAYS = ZoneInfo("America/Los_Angeles")
_AFTER_MIDNIGHT = time(0, 15)


@dataclass(frozen=True)
class Look:
    """What a look has to look at.

    ``memory``: for how long jobs that are over are still listed. What happened earlier cannot be
    told from what never happened, and is left alone. ``home`` is TAILOR_HOME.
    """

    instance: dg.DagsterInstance
    registry: VideoRegistry
    store: ArtifactStore
    drive: Drive
    home: Path
    memory: timedelta

    @property
    def url(self) -> str:
        """Of the database."""
        return self.registry.database_url


def mend(look: Look, *, sweep: bool, stray_age: timedelta = timedelta(hours=1)) -> list[str] | None:
    """Mend all that can be; sentences of what was, or could not be. None: another look is under way.

    ``sweep``: also look for files that were left behind, which takes longer. Those that are younger
    than ``stray_age`` are left alone. What was mended is in the audit log.
    """
    findings: list[Callable[[Look], list[str]]] = [
        lost_videos,
        vanished_runs,
        overdue_retries,
        limits_of_the_day,
        unpublished_results,
        frames_that_did_not_follow,
        orphan_uploads,
    ]
    if sweep:
        findings.append(lambda look: stray_files(look, stray_age))
    said = []
    with only_one(look.url, RECONCILER_LOCK) as alone:
        if not alone:
            return None
        for finding in findings:
            try:
                mended = finding(look)
            except (OSError, sa.exc.SQLAlchemyError, DriveUnavailable, PermanentProblem) as error:
                # One that cannot be looked at must not hide the others.
                said.append(f"Not all could be looked at: {str(error).strip().splitlines()[0]}")
                continue
            _audit(look.url, mended)
            said += mended
    return said


def _audit(url: str, mended: Sequence[str]) -> None:
    from resources.audit.log import record

    if mended:
        record(
            url,
            actor="reconciler",
            action="reconciler.mend",
            subject="what was missed",
            details={"mended": list(mended)},
        )


# ------------------------------------------------------------------ videos and runs


def lost_videos(look: Look) -> list[str]:
    """Admitted videos that have neither a job nor a run, and do not wait: asked for again."""
    videos, now = videos_table, datetime.now(UTC)
    query = (
        sa.select(videos.c.partition_key, videos.c.run_key, videos.c.tenant, videos.c.folder_name)
        .where(
            videos.c.state == "admitted",
            videos.c.waiting_for.is_(None),
            videos.c.run_key.is_not(None),
            videos.c.admitted_at.between(now - look.memory, now - SETTLED),
            ~sa.exists().where(jobs_table.c.request_key == videos.c.run_key),
            # Asked for twice in a row, it is made once, under the later key.
            ~sa.exists().where(
                jobs_table.c.partition_key == videos.c.partition_key,
                jobs_table.c.accepted_at >= videos.c.admitted_at - SETTLED,
            ),
        )
        .limit(_AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        rows = connection.execute(query).all()
    mended = []
    for row in rows:
        filters = dg.RunsFilter(tags={RUN_KEY_TAG: row.run_key})
        if look.instance.get_runs(filters, limit=1):
            continue
        with engine_for(look.url).begin() as connection:
            changed = connection.execute(
                sa.update(videos)
                # Whatever the Drive's sensor has learned since counts.
                .where(
                    videos.c.partition_key == row.partition_key,
                    videos.c.run_key == row.run_key,
                    videos.c.admitted_at < now - SETTLED,
                )
                .values(admitted_at=None)
            )
        if changed.rowcount:
            mended.append(
                f"{row.tenant}, {row.folder_name}: its job was lost; it is asked for again."
            )
    return mended


def vanished_runs(look: Look) -> list[str]:
    """Unfinished jobs whose run somebody has deleted: parked, to be begun anew when wanted."""
    jobs, runs, before = jobs_table, job_runs_table, datetime.now(UTC) - _OVERDUE
    query = (
        sa.select(jobs)
        .where(
            jobs.c.state.in_(UNFINISHED_STATES),
            jobs.c.run_id.is_not(None),
            ~sa.exists().where(runs.c.run_id == jobs.c.run_id, runs.c.queued_at > before),
        )
        .limit(_AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        unfinished = [to_job(row) for row in connection.execute(query).mappings()]
    ids = [job.run_id for job in unfinished if job.run_id is not None]
    there = look.instance.get_runs(dg.RunsFilter(run_ids=ids)) if ids else []
    present = {run.run_id for run in there}
    return [
        f"{_name(job)}: its run was deleted; the job is parked."
        for job in unfinished
        if job.run_id not in present and _park_without_run(look.url, job)
    ]


def _park_without_run(url: str, job: JobRow) -> bool:
    jobs, runs, now = jobs_table, job_runs_table, datetime.now(UTC)
    cause = "Its run was deleted before it was over."
    with engine_for(url).begin() as connection:
        parked = connection.execute(
            sa.update(jobs)
            .where(
                jobs.c.job_id == job.job_id,
                jobs.c.run_id == job.run_id,
                jobs.c.state.in_(UNFINISHED_STATES),
            )
            .values(
                state="parked",
                # Without one it becomes pending again when it is brought back.
                run_id=None,
                retry_at=None,
                finished_at=now,
                cause=cause,
                action="Launch it anew in the web page."
                if job.request_key is None
                else f"To have it made after all: tailor queue retry {job.job_id[:8]}",
            )
        )
        if parked.rowcount:
            connection.execute(
                sa.update(runs)
                .where(runs.c.run_id == job.run_id, runs.c.finished_at.is_(None))
                .values(finished_at=now, cause=cause)
            )
    return parked.rowcount > 0


def overdue_retries(look: Look) -> list[str]:
    """Retries that were made, and that the job did not hear of; now it has.

    One that was not made is made by the retry daemon, as long as there is one.
    """
    query = sa.select(jobs_table).where(
        jobs_table.c.state == "retrying", jobs_table.c.retry_at < datetime.now(UTC) - _OVERDUE
    ).limit(_AT_A_TIME)  # fmt: skip
    with engine_for(look.url).begin() as connection:
        overdue = [to_job(row) for row in connection.execute(query).mappings()]
    mended = []
    for job in overdue:
        failed = look.instance.get_run_by_id(job.run_id) if job.run_id is not None else None
        successor_id = failed.tags.get(AUTO_RETRY_RUN_ID_TAG) if failed is not None else None
        retry = look.instance.get_run_by_id(successor_id) if successor_id is not None else None
        if retry is None or retry.status == dg.DagsterRunStatus.NOT_STARTED:
            continue
        register_run(look.url, retry, queue_of(retry))
        mended.append(f"{_name(job)}: its retry {retry.run_id[:8]} had not been noted.")
    return mended


def limits_of_the_day(look: Look) -> list[str]:
    """Jobs that ended because a Drive gave no more that day: tried again when the day has turned."""
    jobs = jobs_table
    later = jobs.alias("later")
    query = (
        sa.select(jobs)
        .where(
            jobs.c.state == "parked",
            jobs.c.run_id.is_not(None),
            jobs.c.partition_key.is_not(None),
            ~sa.exists().where(
                later.c.partition_key == jobs.c.partition_key,
                later.c.job_name == jobs.c.job_name,
                later.c.accepted_at > jobs.c.accepted_at,
            ),
        )
        .limit(_AT_A_TIME)
    )
    with engine_for(look.url).begin() as connection:
        parked = [to_job(row) for row in connection.execute(query).mappings()]
    now = datetime.now(UTC)
    return [
        f"{_name(job)}: the Drive's day has turned; it is tried again."
        for job in parked
        if job.finished_at is not None
        and turn_of_the_day(job.finished_at) <= now
        and not _is_parked_publication(look.url, job)
        and _failed_with(look.instance, job.run_id or "", DriveMustWait.__name__)
        and bring_back(look.url, job.job_id)
    ]


def turn_of_the_day(after: datetime) -> datetime:
    """When Google's limits of the day are new again: a little after midnight, Pacific time."""
    local = after.astimezone(_GOOGLE_DAYS)
    turn = datetime.combine(local.date(), _AFTER_MIDNIGHT, _GOOGLE_DAYS)
    if turn <= local:
        turn = datetime.combine(local.date() + timedelta(days=1), _AFTER_MIDNIGHT, _GOOGLE_DAYS)
    return turn


def _failed_with(instance: dg.DagsterInstance, run_id: str, error_class: str) -> bool:
    """Whether a step of the run failed by this error, or by one that it led to."""
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        error = event.step_failure_data.error if event is not None else None
        if error is not None and _is_or_follows(error, error_class):
            return True
    return False


def _is_or_follows(error: SerializableErrorInfo, error_class: str) -> bool:
    before = (error.cause, error.context)
    return error.cls_name == error_class or any(
        _is_or_follows(earlier, error_class) for earlier in before if earlier is not None
    )


def _is_parked_publication(url: str, job: JobRow) -> bool:
    """Whether the publication itself is parked: then another sensor has it tried again, and sooner."""
    return bool(_parked_publications(url, [job.partition_key or ""]))


# ------------------------------------------------------------------ publications


def unpublished_results(look: Look) -> list[str]:
    """Jobs that were to publish what they made, ended well, and did not: it is published."""
    jobs = [
        job
        for job in _completed(look, _PUBLISHING_JOBS)
        if job.assets is None or _RESULTS in job.assets
    ]
    later = _later_than(look, "flags", _RESULTS, jobs)
    suspects = [job for job in jobs if job.partition_key in later]
    waits = _parked_publications(look.url, [job.partition_key or "" for job in suspects], "results")
    mended = []
    for job in suspects:
        key = job.partition_key or ""
        row = _row_of(look, key)
        if row is None or row.waiting_for or key in waits or _is_busy(look, key):
            continue
        upstream = _upstream_of_results(look.store, key)
        # What somebody else made by hand, and did not publish, is left as it is.
        if upstream is None or upstream["flags"].run_id not in _runs_of(look.url, job):
            continue
        published = look.store.record(key, _RESULTS)
        versions = {name: record.version for name, record in upstream.items()}
        if published is not None and published.made_from == versions:
            continue
        request = JobRequest(
            request_key=f"unpublished:{key}:{version_of(versions)}",
            job_name=_PROCESS_VIDEO,
            partition_key=key,
            tenant=row.tenant,
            queue="cpu",
            assets=(_RESULTS,),
            tags=_tags(row),
            priority=job.priority,
        )
        if accept(look.url, request):
            mended.append(f"{_name(job)}: its results were made and not published; they will be.")
    return mended


def frames_that_did_not_follow(look: Look) -> list[str]:
    """Videos whose results are in the Drive, and whose frames nobody has asked for: now it is done."""
    jobs = [
        job
        for job in _completed(look, _PUBLISHING_JOBS)
        if job.assets is None or _RESULTS in job.assets
    ]
    later = _later_than(look, _RESULTS, "published_frames", jobs)
    suspects = [job for job in jobs if job.partition_key in later]
    waits = _parked_publications(look.url, [job.partition_key or "" for job in suspects], "frames")
    mended = []
    for job in suspects:
        key = job.partition_key or ""
        row = _row_of(look, key)
        if row is None or key in waits or _is_busy(look, key):
            continue
        if not look.registry.publishes_frames(row.tenant):
            continue
        try:
            frames = look.store.require(key, "frames")
            results = look.store.require(key, _RESULTS)
        except PermanentProblem:
            continue
        published = look.store.record(key, "published_frames")
        if published is not None and published.made_from == {"frames": frames.version}:
            continue
        # The key under which sensors/run_outcomes.py asks.
        request_key = f"frames:{results.run_id}"
        asked = dg.RunsFilter(tags={RUN_KEY_TAG: request_key})
        if look.instance.get_runs(asked, limit=1):
            continue
        request = JobRequest(
            request_key=request_key,
            job_name=_PUBLISH_FRAMES,
            partition_key=key,
            tenant=row.tenant,
            queue="cpu",
            tags=_tags(row),
            priority=LOW,
        )
        if accept(look.url, request):
            mended.append(f"{_name(job)}: its frames had not followed its results; they will.")
    return mended


def _completed(look: Look, names: Sequence[str]) -> list[JobRow]:
    """The latest job of each video among those of these names, where it ended well and a while ago."""
    jobs, now = jobs_table, datetime.now(UTC)
    latest = (
        sa.select(
            jobs,
            sa.func.row_number()
            .over(partition_by=jobs.c.partition_key, order_by=jobs.c.accepted_at.desc())
            .label("place"),
        )
        .where(jobs.c.job_name.in_(names), jobs.c.partition_key.is_not(None))
        .subquery()
    )
    query = sa.select(latest).where(
        latest.c.place == 1,
        latest.c.state == "completed",
        latest.c.finished_at.between(now - look.memory, now - SETTLED),
    )
    with engine_for(look.url).begin() as connection:
        return [to_job(row) for row in connection.execute(query).mappings()]


def _later_than(look: Look, made: str, follows: str, jobs: Sequence[JobRow]) -> set[str]:
    """Videos of these jobs of which ``made`` is newer than ``follows``, by Dagster's own record.

    Two queries, where the artifacts' records would be several files for each video.
    """
    keys = {job.partition_key for job in jobs if job.partition_key is not None}
    if not keys:
        return set()
    first, then = (
        look.instance.event_log_storage.get_latest_storage_id_by_partition(
            dg.AssetKey(name), DagsterEventType.ASSET_MATERIALIZATION, keys
        )
        for name in (made, follows)
    )
    return {key for key, number in first.items() if number > then.get(key, 0)}


def _upstream_of_results(store: ArtifactStore, key: str) -> dict[str, ArtifactRecord] | None:
    """What results are published from; None where any is missing, bad or out of date."""
    try:
        return {name: store.require(key, name) for name in _UPSTREAM}
    except PermanentProblem:
        return None


def _runs_of(url: str, job: JobRow) -> set[str]:
    query = sa.select(job_runs_table.c.run_id).where(job_runs_table.c.job_id == job.job_id)
    with engine_for(url).begin() as connection:
        return set(connection.execute(query).scalars())


def _parked_publications(url: str, keys: Sequence[str], what: str | None = None) -> set[str]:
    table = publications_table
    query = sa.select(table.c.partition_key).where(
        table.c.partition_key.in_(list(keys)),
        table.c.parked_at.is_not(None),
        sa.true() if what is None else table.c.what == what,
    )
    with engine_for(url).begin() as connection:
        return set(connection.execute(query).scalars())


def _is_busy(look: Look, key: str) -> bool:
    return key in busy_videos(look.instance, look.url)


# ------------------------------------------------------------------ what was left behind


def orphan_uploads(look: Look) -> list[str]:
    """Uploads into a Drive that were begun more than a week ago and that nobody goes on with."""
    from resources.google_drive.upload_ledger import forget_old_reservations

    before = datetime.now(UTC) - _SESSION_LIFETIME
    count = forget_old_reservations(look.url, before, lambda keys: _wanted(look, keys))
    return [f"{count} uploads that were begun and given up are forgotten."] if count else []


def _wanted(look: Look, keys: Sequence[str]) -> set[str]:
    busy = busy_videos(look.instance, look.url)
    return {key for key in keys if key in busy} | _parked_publications(look.url, keys)


def stray_files(look: Look, age: timedelta) -> list[str]:
    """Temporary files of processes that were killed, where nobody works on the video."""
    age_s = age.total_seconds()
    count = remove_dead_sockets(look.home / "locks")
    remove_old_checkpoints(look.home / "checkpoints")
    busy = busy_videos(look.instance, look.url)
    with engine_for(look.url).begin() as connection:
        keys = list(connection.execute(sa.select(videos_table.c.partition_key)).scalars())
    if look.store.is_local:
        for key in keys:
            if key not in busy:
                folder = Path(str(look.store.folder(key)))
                count += remove_strays_of_artifacts(folder, age_s)
    if isinstance(look.drive, LocalDriveFolder):
        count += _strays_in_local_drive(look, look.drive, busy, age_s)
    return [f"{count} temporary files that were left behind are removed."] if count else []


def _strays_in_local_drive(
    look: Look, drive: LocalDriveFolder, busy: BusyVideos, age_s: float
) -> int:
    videos, table = videos_table, publications_table
    query = (
        sa.select(videos.c.partition_key, videos.c.tenant, videos.c.results_name)
        .distinct()
        .join(table, table.c.partition_key == videos.c.partition_key)
        .where(table.c.claimed_at > datetime.now(UTC) - _PUBLICATION_LIFETIME)
    )
    with engine_for(look.url).begin() as connection:
        rows = connection.execute(query).all()
    count = 0
    for row in rows:
        if row.partition_key in busy:
            continue
        try:
            folder = drive.results_folder(row.tenant, row.results_name)
        except PermanentProblem:
            continue  # somebody has put a link there; nothing is published there either
        count += remove_strays_of_results(folder, age_s)
    return count


# ------------------------------------------------------------------ words


def _row_of(look: Look, key: str) -> VideoRow | None:
    try:
        return look.registry.get(key)
    except PermanentProblem:
        return None  # its tenant has been forgotten


def _tags(row: VideoRow) -> dict[str, str]:
    return {TENANT_TAG: row.tenant, _VIDEO_TAG: row.folder_name}


def _name(job: JobRow) -> str:
    return f"{job.job_name} of {job.partition_key}" if job.partition_key else job.job_name
