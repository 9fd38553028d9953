"""Publications that could not be are tried again when they can: there is room, or access again."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate

import dagster as dg

from jobs.processing import process_video, publish_frames
from resources.configured_drive import DriveResource
from resources.drive import Drive, DriveUnavailable
from resources.publications import ParkedPublication, parked_publications
from resources.video_registry import VideoRegistry, VideoRow
from run_queue.fairness import LOW, NORMAL
from run_queue.job_ledger import JobRequest, accept, bring_back, job_of_request
from run_queue.job_requests import tags_of
from sensors.drive_inbox import SECONDS_PER_TICK
from sensors.tenant_looks import TenantLooks
from tailor_assets.compute.errors import PermanentProblem

# So long where nobody can tell whether there is room.
_PATIENCE = timedelta(hours=1)
_JOBS = {
    "results": process_video.name,
    "frames": publish_frames.name,
    "overlay": publish_frames.name,
}
_ASSETS = {
    # The report too: results that were parked by an earlier tailor have none.
    "results": ("report", "published_results"),
    "frames": ("published_frames",),
    "overlay": ("published_overlay",),
}


@dg.sensor(
    name="parked_publications",
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Publishes results that were kept because a Drive was full or not accessible.",
)
def parked_publications_again(
    context: dg.SensorEvaluationContext, drive: DriveResource, registry: VideoRegistry
) -> dg.SkipReason:
    """One job per publication that can be by now; without one it says what waits, and for what."""
    url = registry.database_url
    by_tenant: dict[str, list[tuple[VideoRow, ParkedPublication]]] = defaultdict(list)
    for one in parked_publications(url):
        try:
            row = registry.get(one.partition_key)
        except PermanentProblem:
            continue  # its tenant has been forgotten
        by_tenant[row.tenant].append((row, one))
    if not by_tenant:
        return dg.SkipReason("Nothing waits to be published.")
    source = drive.open()
    try:
        connected = set(source.tenants())
    except DriveUnavailable as error:
        return dg.SkipReason(f"The Drive cannot be listed, nothing is changed: {error}")
    said = _looks_into(type(drive).__name__, drive.model_dump_json()).look(
        [tenant for tenant in by_tenant if tenant in connected],
        lambda tenant, _: _publish_again(url, source, tenant, by_tenant[tenant]),
        SECONDS_PER_TICK,
    )
    for tenant, waiting in by_tenant.items():
        if tenant not in connected:
            said += [_waits(row, one.problem) for row, one in waiting]
    return dg.SkipReason(" ".join(said) or "The Drives are being asked.")


@cache
def _looks_into(kind: str, configuration: str) -> TenantLooks:
    """A Drive that does not answer keeps its own tenant's question, and no tick."""
    return TenantLooks(threads=4)


def _publish_again(
    url: str, source: Drive, tenant: str, parked: Sequence[tuple[VideoRow, ParkedPublication]]
) -> list[str]:
    """Ask for those of a tenant's publications that can be by now; sentences about all of them."""
    now = datetime.now(UTC)
    said, due = [], []
    for row, one in parked:
        if one.not_before <= now:
            due.append((row, one))
        else:
            said.append(_waits(row, one.problem))
    if not due:
        return said
    # The small ones first: what is large must not keep from the Drive what there is room for.
    due.sort(key=lambda pair: pair[1].wanted_bytes)
    fits = _how_many_fit(source, tenant, [one.wanted_bytes for _, one in due])
    for number, (row, one) in enumerate(due):
        can_be = now - one.parked_at > _PATIENCE if fits is None else number < fits
        said.append(_asked_for(url, row, one, now) if can_be else _waits(row, one.problem))
    return said


def _how_many_fit(source: Drive, tenant: str, sizes: Sequence[int]) -> int | None:
    """How many of ``sizes``, from the first on, there is room for; None where nobody can tell.

    Each question goes to the Drive, so few are asked: about all of them, then by halves.
    """
    totals = list(accumulate(sizes))
    try:
        if (room := source.has_room(tenant, totals[-1])) is not False:
            return None if room is None else len(sizes)
        full = len(totals) - 1  # all of them do not fit
        return bisect_left(
            totals, True, hi=full, key=lambda total: not source.has_room(tenant, total)
        )
    except (DriveUnavailable, PermanentProblem):
        return 0


def _asked_for(url: str, row: VideoRow, one: ParkedPublication, now: datetime) -> str:
    request = _request(row, one)
    if accept(url, request):
        return f"{row.tenant}, {row.folder_name}: tried again."
    job = job_of_request(url, request.request_key)
    if job is None or job.state != "parked" or job.finished_at is None:
        return f"{row.tenant}, {row.folder_name}: being tried again."
    # It failed before it could take the publication over, as where its worker was killed.
    if now - job.finished_at > _PATIENCE and bring_back(url, job.job_id):
        return f"{row.tenant}, {row.folder_name}: tried again."
    return _waits(row, f"job {job.job_id[:8]} is parked: {job.cause}")


def _waits(row: VideoRow, why: str | None) -> str:
    return f"{row.tenant}, {row.folder_name}: {why}"


def _request(row: VideoRow, one: ParkedPublication) -> JobRequest:
    return JobRequest(
        request_key=f"parked:{one.partition_key}:{one.what}:{one.run_id}",
        job_name=_JOBS[one.what],
        partition_key=one.partition_key,
        tenant=row.tenant,
        queue="cpu",
        priority=NORMAL if one.what == "results" else LOW,
        assets=_ASSETS[one.what],
        tags=tags_of(row),
    )
