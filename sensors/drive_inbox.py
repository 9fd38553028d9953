"""The sensor that sees uploads: new videos become partitions and runs, new points wake waiting ones.

Thin on purpose: what a listing means is in ``inbox_changes.py``. Here are the clock, the Drive, the
registry and the caps. A listing that fails changes nothing for its tenant and nobody else.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from jobs.processing import process_video, publish_frames
from resources.artifact_store import ArtifactStore
from resources.configured_drive import DriveResource
from resources.drive import Drive, DriveUnavailable
from resources.video_registry import VideoRegistry, VideoRow
from sensors.inbox_changes import InboxChange, find_changes
from sensors.tenant_looks import TenantLooks
from tailor_assets.asset_helpers import RUN_KEY_TAG
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.video_settings import parse_settings

# How many runs, and so new partitions, one tick asks for; the next tick finds what is left over.
RUNS_PER_TICK = 25
# A tick is stopped by Dagster after 60 s; checksums of large files stop well before.
# What is not read by then goes on in the next tick.
SECONDS_PER_TICK = 30.0
INTERVAL_S = 2

PARTITION_TAG = "dagster/partition"
TENANT_TAG = "tailor/tenant"
VIDEO_TAG = "tailor/video"

_UNFINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]

# A run key's last word -> the assets to make, where it is not the whole job. The wider comes first.
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
    context: dg.SensorEvaluationContext,
    drive: DriveResource,
    registry: VideoRegistry,
    store: ArtifactStore,
) -> dg.SensorResult | dg.SkipReason:
    """One look into every tenant's Drive."""
    source = drive.open()
    try:
        tenants = source.tenants()
    except DriveUnavailable as error:
        return dg.SkipReason(f"The Drive cannot be listed, nothing is changed: {error}")
    messages = _looks_into(type(drive).__name__, drive.model_dump_json()).look(
        tenants,
        lambda tenant, seconds: look_at_tenant(source, registry, tenant, seconds),
        SECONDS_PER_TICK,
    )
    requests = _missing_runs(context.instance, registry, store, tenants)
    if not requests:
        return dg.SkipReason(" ".join(messages) or "Nothing new in any Drive.")
    # Only here, as a tick that logs leaves a file behind, and there are 40,000 ticks a day.
    for message in messages:
        context.log.warning(message)
    keys = [request.partition_key for request in requests if request.partition_key]
    return dg.SensorResult(
        run_requests=requests, dynamic_partitions_requests=[videos.build_add_request(keys)]
    )


@cache
def _looks_into(kind: str, configuration: str) -> TenantLooks:
    """The looks that go on from tick to tick, for one Drive."""
    return TenantLooks()


def look_at_tenant(
    source: Drive, registry: VideoRegistry, tenant: str, seconds: float
) -> list[str]:
    """Bring a tenant's rows up to date; returns sentences about what a person has to mend.

    A row that wants a run is saved with its run key and without ``admitted_at``, so that a tick that
    dies here loses nothing: the next one asks for the run again. ``seconds`` bounds the reading of
    files for checksums, after the listing, which may itself be slow; the next tick goes on with it.
    Something of one file is read even in no time at all: whoever is looked at last must get on too.

    Raises DriveUnavailable when the listing fails; then nothing was changed.
    """
    listed = source.video_folders(tenant)
    known = registry.of_tenant(tenant)
    until = time.monotonic() + seconds
    messages = []
    reading = False
    for change in find_changes(listed, known):
        row: VideoRow | None = change.row
        try:
            if change.kind == "still":
                if reading and time.monotonic() > until:
                    continue
                reading = True
                row = _admitted(source, change, until)
            elif change.kind == "sidecar":
                row = _with_new_sidecar(source, change)
            if row is not None and row != known.get(row.folder_id):
                registry.save([replace(row, observed_at=datetime.now(UTC))])
        except PermanentProblem as problem:
            row = replace(change.row, problem=str(problem))
            if row != known.get(row.folder_id):
                registry.save([replace(row, observed_at=datetime.now(UTC))])
        except DriveUnavailable as error:
            messages.append(f"{tenant}, {change.folder.name}: {error}")
            continue
        if row is not None and row.problem:
            messages.append(f"{tenant}, {change.folder.name}: {row.problem}")
    return messages


def _admitted(source: Drive, change: InboxChange, until: float) -> VideoRow | None:
    """The row of a video that holds still, with the run it needs; None while it is being read.

    Raises PermanentProblem when its tailor.json is not valid: processed without what it says, the
    results would be wrong.
    """
    row = change.row
    text = _sidecar_text(source, change)
    parse_settings(text)
    checksum = source.md5(row.tenant, row.file_id or "", until)
    if checksum is None:
        return None
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
        run_key=_next_run_key(row, checksum, row.fingerprint),
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
    if row.admitted_at is None:
        # A run that nobody has seen yet: what it was to make has to be made by this one.
        unseen = _scope_of(row)
        scope = unseen if unseen in ("", "frames") else scope
    key = _next_run_key(row, row.checksum, f"{fingerprint} {text}")
    return replace(seen, run_key=f"{key}:{scope}" if scope else key, admitted_at=None)


def _next_run_key(row: VideoRow, checksum: str | None, change: str | None) -> str:
    """A key that has not been used: it hashes the key before it, as a file may be put back.

    A key never fires twice, and a file that is put back may have its old times and inode.
    """
    return f"{row.file_id}:{checksum}:{_short(f'{row.run_key} {change}')}"


def _scope_of(row: VideoRow) -> str:
    """The last word of the run key where it is a scope, else nothing: the whole job."""
    word = (row.run_key or "").rsplit(":", 1)[-1]
    return word if word in _SCOPES else ""


def _missing_runs(
    instance: dg.DagsterInstance,
    registry: VideoRegistry,
    store: ArtifactStore,
    tenants: Sequence[str],
) -> list[dg.RunRequest]:
    """Requests for rows whose run is not there yet; rows whose run is there are confirmed.

    A video that is being processed is asked for when that run has ended: two runs of one video
    would take each other's artifacts away. Dagster drops a request whose run key has fired, so
    asking again is harmless. Videos of tenants whose Drive cannot be reached wait until it can.
    """
    requests: list[dg.RunRequest] = []
    for row in registry.without_run():
        if len(requests) == RUNS_PER_TICK:
            break
        if row.tenant not in tenants:
            continue
        filters = dg.RunsFilter(tags={RUN_KEY_TAG: row.run_key or ""})
        if instance.get_runs(filters, limit=1):
            registry.save([replace(row, admitted_at=datetime.now(UTC))])
        elif not _is_being_processed(instance, row.partition_key):
            requests.append(_run_request(row, store))
    return requests


def _is_being_processed(instance: dg.DagsterInstance, partition_key: str) -> bool:
    filters = dg.RunsFilter(tags={PARTITION_TAG: partition_key}, statuses=_UNFINISHED)
    return any(run.job_name != publish_frames.name for run in instance.get_runs(filters))


def _run_request(row: VideoRow, store: ArtifactStore) -> dg.RunRequest:
    selection = _SCOPES.get(_scope_that_is_possible(row, store))
    return dg.RunRequest(
        run_key=row.run_key,
        partition_key=row.partition_key,
        asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
        tags={TENANT_TAG: row.tenant, VIDEO_TAG: row.folder_name},
    )


def _scope_that_is_possible(row: VideoRow, store: ArtifactStore) -> str:
    """The row's scope, or a wider one where what it builds on was never made.

    A first run may have failed before its frames, for the tailor.json that has now been mended.
    """
    scope = _scope_of(row)
    try:
        if scope and store.require(row.partition_key, "video").details["md5"] != row.checksum:
            return ""
    except PermanentProblem:
        return ""
    try:
        if scope == "prompts":
            store.require(row.partition_key, "frames")
    except PermanentProblem:
        return "frames"
    return scope


def _sidecar_text(source: Drive, change: InboxChange) -> str | None:
    sidecar = change.folder.sidecar
    return source.read_sidecar(change.folder.tenant, sidecar.id) if sidecar else None


def _sidecar_fingerprint(change: InboxChange) -> str | None:
    return change.folder.sidecar.fingerprint if change.folder.sidecar else None


def _short(text: str | None) -> str:
    return sha256((text or "").encode()).hexdigest()[:8]
