"""The sensor that sees uploads: new videos become partitions and runs, new points wake waiting ones.

Thin on purpose: what a listing means is in ``inbox_changes.py``. Here are the clock, the Drive, the
registry and the caps. A listing that fails changes nothing for its tenant and nobody else.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import dagster as dg

from jobs.processing import process_video
from resources.drive import Drive, DriveUnavailable
from resources.local_drive import LocalDrive
from resources.video_registry import VideoRegistry, VideoRow
from sensors.inbox_changes import InboxChange, find_changes
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.video_settings import parse_settings

# How many runs one tick asks for. What is left over is found again by the next tick.
RUNS_PER_TICK = 25
# A tick is stopped by Dagster after 60 s; checksums of large files stop well before.
SECONDS_PER_TICK = 30.0
INTERVAL_S = 2

RUN_KEY_TAG = "dagster/run_key"
TENANT_TAG = "tailor/tenant"

# A run key's last word -> the assets to make, where it is not the whole job.
_SCOPES = {
    "frames": (
        "frames", "prompts", "masks", "features", "predictions", "flags", "published_results",
    ),
    "prompts": ("prompts", "masks", "features", "predictions", "flags", "published_results"),
}  # fmt: skip


@dg.sensor(
    name="drive_inbox",
    job=process_video,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Finds videos and tailor.json files in every tenant's Drive and starts their runs.",
)
def drive_inbox(
    context: dg.SensorEvaluationContext, drive: LocalDrive, registry: VideoRegistry
) -> dg.SensorResult | dg.SkipReason:
    """One look into every tenant's Drive."""
    source = drive.open()
    until = time.monotonic() + SECONDS_PER_TICK
    messages: list[str] = []
    try:
        tenants = source.tenants()
    except DriveUnavailable as error:
        return dg.SkipReason(f"The Drive cannot be listed, nothing is changed: {error}")
    for tenant in tenants:
        try:
            messages += look_at_tenant(source, registry, tenant, until)
        except (DriveUnavailable, PermanentProblem) as error:
            messages.append(f"{tenant}: not looked at, nothing is changed: {error}")
    for message in messages:
        context.log.warning(message)

    requests = _missing_runs(context.instance, registry)
    if not requests:
        return dg.SkipReason(" ".join(messages) or "Nothing new in any Drive.")
    keys = [request.partition_key for request in requests if request.partition_key]
    return dg.SensorResult(
        run_requests=requests, dynamic_partitions_requests=[videos.build_add_request(keys)]
    )


def look_at_tenant(source: Drive, registry: VideoRegistry, tenant: str, until: float) -> list[str]:
    """Bring a tenant's rows up to date; returns sentences about what a person has to mend.

    A row that wants a run is saved with its run key and without ``admitted_at``, so that a tick that
    dies here loses nothing: the next one asks for the run again. ``until`` (monotonic seconds)
    bounds the checksums of one tick; what is left is done by the next.

    Raises DriveUnavailable when the listing fails; then nothing was changed.
    """
    listed = source.video_folders(tenant)
    known = registry.of_tenant(tenant)
    messages = []
    for change in find_changes(listed, known):
        row: VideoRow | None = change.row
        try:
            if change.kind == "still":
                row = _admitted(source, change) if time.monotonic() < until else None
            elif change.kind == "sidecar":
                row = _with_new_sidecar(source, change)
        except PermanentProblem as problem:
            row = replace(change.row, problem=str(problem))
        except DriveUnavailable as error:
            messages.append(f"{tenant}, {change.folder.name}: {error}")
            continue
        if row is None:
            continue
        if row.problem:
            messages.append(f"{tenant}, {change.folder.name}: {row.problem}")
        if row != known.get(row.folder_id):
            registry.save([replace(row, observed_at=datetime.now(UTC))])
    return messages


def _admitted(source: Drive, change: InboxChange) -> VideoRow:
    """The row of a video that holds still, with the run it needs.

    Raises PermanentProblem when its tailor.json is not valid: processed without what it says, the
    results would be wrong.
    """
    row = change.row
    text = _sidecar_text(source, change)
    parse_settings(text)
    checksum = source.md5(row.tenant, row.file_id or "")
    if checksum == row.checksum:
        # Touched, not changed: the results that are there are right.
        return replace(row, state="admitted", problem=None)
    return replace(
        row,
        state="admitted",
        problem=None,
        checksum=checksum,
        sidecar_text=text,
        sidecar_fingerprint=_sidecar_fingerprint(change),
        # The fingerprint too, because a key never fires twice and a file may be put back.
        run_key=f"{row.file_id}:{checksum}:{_short(row.fingerprint)}",
        admitted_at=None,
    )


def _with_new_sidecar(source: Drive, change: InboxChange) -> VideoRow:
    """The row with what tailor.json says now, and the run that follows from it."""
    row = change.row
    text = _sidecar_text(source, change)
    settings = parse_settings(text)
    fingerprint = _sidecar_fingerprint(change)
    seen = replace(row, problem=None, sidecar_text=text, sidecar_fingerprint=fingerprint)
    if (text or "").strip() == (row.sidecar_text or "").strip():
        return seen
    resampled = settings.sampling() != parse_settings(row.sidecar_text).sampling()
    scope = "frames" if resampled else "prompts"
    key = f"{row.file_id}:{row.checksum}:{_short(fingerprint)}:{_short(text)}:{scope}"
    return replace(seen, run_key=key, admitted_at=None)


def _missing_runs(instance: dg.DagsterInstance, registry: VideoRegistry) -> list[dg.RunRequest]:
    """Requests for rows whose run is not there yet; rows whose run is there are confirmed.

    Dagster drops a request whose run key has fired, so asking again is harmless.
    """
    requests: list[dg.RunRequest] = []
    for row in registry.without_run():
        if len(requests) == RUNS_PER_TICK:
            break
        filters = dg.RunsFilter(tags={RUN_KEY_TAG: row.run_key or ""})
        if instance.get_runs(filters, limit=1):
            registry.save([replace(row, admitted_at=datetime.now(UTC))])
        else:
            requests.append(_run_request(row))
    return requests


def _run_request(row: VideoRow) -> dg.RunRequest:
    selection = _SCOPES.get((row.run_key or "").rsplit(":", 1)[-1])
    return dg.RunRequest(
        run_key=row.run_key,
        partition_key=row.partition_key,
        asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
        tags={TENANT_TAG: row.tenant, "tailor/video": row.folder_name},
    )


def _sidecar_text(source: Drive, change: InboxChange) -> str | None:
    sidecar = change.folder.sidecar
    return source.read_sidecar(change.folder.tenant, sidecar.id) if sidecar else None


def _sidecar_fingerprint(change: InboxChange) -> str | None:
    return change.folder.sidecar.fingerprint if change.folder.sidecar else None


def _short(text: str | None) -> str:
    return sha256((text or "").encode()).hexdigest()[:8]
