"""Results that were made and did not get into the Drive, and frames that did not follow them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEventType
from dagster._core.storage.tags import RUN_KEY_TAG

from resources.artifact_store import ArtifactRecord, ArtifactStore, version_of
from resources.database import engine_for
from resources.publications import RESULTS_ARE_MADE_FROM
from resources.video_registry import VideoRow
from run_queue.busy_videos import busy_videos
from run_queue.job_ledger import JobRequest, JobRow, accept, to_job
from run_queue.job_requests import frames_request, tags_of
from run_queue.job_tables import job_runs_table, jobs_table
from run_queue.reconciling.look import SETTLED, Look, name_of, parked_publications
from tailor_assets.compute.errors import PermanentProblem

_PROCESS_VIDEO = "process_video"
_PUBLISHING_JOBS = (_PROCESS_VIDEO, "rescore_video")
_RESULTS = "published_results"


def unpublished_results(look: Look) -> list[str]:
    """Jobs that were to publish what they made, ended well, and did not: it is published."""
    mended = []
    for job, row in _suspects(look, "flags", _RESULTS, "results"):
        key = row.partition_key
        if row.waiting_for:
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
            tags=tags_of(row),
            priority=job.priority,
        )
        if accept(look.url, request):
            mended.append(f"{name_of(job)}: its results were made and not published; they will be.")
    return mended


def frames_that_did_not_follow(look: Look) -> list[str]:
    """Videos whose results are in the Drive, and whose frames nobody has asked for: now it is done."""
    mended = []
    for job, row in _suspects(look, _RESULTS, "published_frames", "frames"):
        key = row.partition_key
        if not look.registry.publishes_frames(row.tenant):
            continue
        try:
            frames, flags = look.store.require(key, "frames"), look.store.require(key, "flags")
            results = look.store.require(key, _RESULTS)
        except PermanentProblem:
            continue
        published = look.store.record(key, "published_frames")
        overlay = look.store.record(key, "published_overlay")
        if (
            published is not None
            and published.made_from == {"frames": frames.version}
            and overlay is not None
            and overlay.made_from.get("flags") == flags.version
        ):
            continue
        request = frames_request(row, results.run_id)
        asked = dg.RunsFilter(tags={RUN_KEY_TAG: request.request_key})
        if look.instance.get_runs(asked, limit=1):
            continue
        if accept(look.url, request):
            mended.append(f"{name_of(job)}: its frames had not followed its results; they will.")
    return mended


def _suspects(look: Look, made: str, follows: str, what: str) -> Iterator[tuple[JobRow, VideoRow]]:
    """Finished jobs of videos of which ``made`` is newer than ``follows``, and nobody is at it.

    ``what``: the publication that may be parked, and is then somebody else's.
    """
    jobs = [
        job
        for job in _completed(look, _PUBLISHING_JOBS)
        if job.assets is None or _RESULTS in job.assets
    ]
    later = _later_than(look, made, follows, jobs)
    suspects = [job for job in jobs if job.partition_key in later]
    if not suspects:
        return
    waits = parked_publications(look.url, [job.partition_key or "" for job in suspects], what)
    # One that becomes busy from here on gets a job that waits for it, and finds everything there.
    busy = busy_videos(look.instance, look.url)
    for job in suspects:
        key = job.partition_key or ""
        row = _row_of(look, key)
        if row is not None and key not in waits and key not in busy:
            yield job, row


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
        return {name: store.require(key, name) for name in RESULTS_ARE_MADE_FROM}
    except PermanentProblem:
        return None


def _runs_of(url: str, job: JobRow) -> set[str]:
    query = sa.select(job_runs_table.c.run_id).where(job_runs_table.c.job_id == job.job_id)
    with engine_for(url).begin() as connection:
        return set(connection.execute(query).scalars())


def _row_of(look: Look, key: str) -> VideoRow | None:
    try:
        return look.registry.get(key)
    except PermanentProblem:
        return None  # its tenant has been forgotten
