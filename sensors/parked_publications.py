"""Publications that could not be are tried again when they can: there is room, or access again."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.processing import process_video, publish_frames
from resources.configured_drive import DriveResource
from resources.drive import Drive, DriveUnavailable
from resources.publications import ParkedPublication, parked_publications
from resources.video_registry import VideoRegistry, VideoRow
from run_queue.fairness import LOW, NORMAL
from run_queue.job_ledger import TENANT_TAG, JobRequest, accept
from sensors.drive_inbox import VIDEO_TAG
from tailor_assets.compute.errors import PermanentProblem

# So long where nobody can tell whether there is room.
_PATIENCE = timedelta(hours=1)
_JOBS = {"results": process_video.name, "frames": publish_frames.name}
_ASSETS = {"results": "published_results", "frames": "published_frames"}


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
    parked = parked_publications(registry.database_url)
    if not parked:
        return dg.SkipReason("Nothing waits to be published.")
    source = drive.open()
    connected = set(source.tenants())
    room: dict[str, bool | None] = {}
    wanted, waiting = [], []
    for one in parked:
        try:
            row = registry.get(one.partition_key)
        except PermanentProblem:
            continue  # its tenant has been forgotten
        due = one.not_before <= datetime.now(UTC)
        if due and row.tenant in connected and _may_be(source, row, one, room):
            wanted.append((row, one))
        else:
            waiting.append(f"{row.tenant}, {row.folder_name}: {one.problem}")
    for row, one in wanted:
        accept(registry.database_url, _request(row, one))
    said = [f"{row.tenant}, {row.folder_name}: tried again." for row, _ in wanted]
    return dg.SkipReason(" ".join([*said, *waiting]) or "Nothing waits to be published.")


def _may_be(
    source: Drive, row: VideoRow, one: ParkedPublication, room: dict[str, bool | None]
) -> bool:
    # One question per tenant and tick: what is published next leaves less.
    if row.tenant not in room:
        try:
            room[row.tenant] = source.has_room(row.tenant, one.wanted_bytes)
        except (DriveUnavailable, PermanentProblem):
            room[row.tenant] = False
    found = room[row.tenant]
    if found is None:
        return datetime.now(UTC) - one.parked_at > _PATIENCE
    return found


def _request(row: VideoRow, one: ParkedPublication) -> JobRequest:
    return JobRequest(
        request_key=f"parked:{one.partition_key}:{one.what}:{one.run_id}",
        job_name=_JOBS[one.what],
        partition_key=one.partition_key,
        tenant=row.tenant,
        queue="cpu",
        priority=LOW if one.what == "frames" else NORMAL,
        assets=(_ASSETS[one.what],),
        tags={TENANT_TAG: row.tenant, VIDEO_TAG: row.folder_name},
    )
