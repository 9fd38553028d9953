"""The sensor that sees uploads: new videos become partitions and runs, new points wake waiting ones.

Thin on purpose: what a listing means is in ``inbox_changes.py``. Here are the clock, the Drive and the
registry. A listing that fails changes nothing for its tenant and nobody else. What is to be made
becomes a job (run_queue/job_ledger.py); when that starts is for others to say.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256

import dagster as dg

from jobs.processing import process_video, rescore_video
from resources.artifact_store import ArtifactStore
from resources.configured_drive import DriveResource
from resources.drive import Drive, DriveUnavailable
from resources.settings import load_settings
from resources.video_registry import VideoRegistry, VideoRow
from run_queue.job_ledger import JobRequest, accept, unfinished_job_of
from run_queue.job_requests import tags_of
from sensors.inbox_changes import InboxChange, find_changes
from sensors.tenant_looks import TenantLooks
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos
from tailor_assets.templates import load_templates, sampling_of
from tailor_assets.video_settings import parse_settings

logger = logging.getLogger("tailor.queue")

# How many jobs, and so new partitions, one tick asks for; the next tick finds what is left over.
JOBS_PER_TICK = 200
# A tick is stopped by Dagster after 60 s; checksums of large files stop well before.
# What is not read by then goes on in the next tick.
SECONDS_PER_TICK = 30.0
INTERVAL_S = 2


# A run key's last word -> the assets to make, where it is not the whole job. The wider comes first.
_SCOPES = {
    "frames": (
        "frames", "prompts", "masks", "features", "predictions", "flags", "report",
        "published_results",
    ),
    "prompts": (
        "prompts", "masks", "features", "predictions", "flags", "report", "published_results",
    ),
}  # fmt: skip


@dg.sensor(
    name="drive_inbox",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Finds videos and tailor.json files in every tenant's Drive and has them processed.",
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
    accepted = accept_wanted(registry, store, tenants)
    if not accepted:
        return dg.SkipReason(" ".join(messages) or "Nothing new in any Drive.")
    # Only here, as a tick that logs leaves a file behind, and there are 40,000 ticks a day.
    for message in messages:
        context.log.warning(message)
    return dg.SensorResult(dynamic_partitions_requests=[videos.build_add_request(accepted)])


@cache
def _looks_into(kind: str, configuration: str) -> TenantLooks:
    """The looks that go on from tick to tick, for one Drive."""
    return TenantLooks()


def look_at_tenant(
    source: Drive, registry: VideoRegistry, tenant: str, seconds: float
) -> list[str]:
    """Bring a tenant's rows up to date; returns sentences about what a person has to mend.

    A row that wants a job is saved with its run key and without ``admitted_at``, so that a tick that
    dies here loses nothing: the next one asks for it again. ``seconds`` bounds the reading of
    files for checksums, after the listing, which may itself be slow; the next tick goes on with it.
    Something of one file is read even in no time at all: whoever is looked at last must get on too.

    Raises DriveUnavailable when the listing fails; then nothing was changed.
    """
    listed = source.video_folders(tenant)
    known = registry.of_tenant(tenant)
    until = time.monotonic() + seconds
    messages = [f"{tenant}, {one.name}: {one.problem}" for one in listed if one.problem]
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
                # A row that cannot be saved at all, as its key is another's, is only told of.
                with suppress(PermanentProblem):
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
    templates = load_templates(load_settings().templates_file)
    before = parse_settings(row.sidecar_text)
    resampled = sampling_of(settings, templates) != sampling_of(before, templates)
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


def accept_wanted(
    registry: VideoRegistry, store: ArtifactStore, tenants: Sequence[str]
) -> list[str]:
    """Make jobs of rows that want one; their partition keys.

    A video that is being processed is asked for when that has ended: two runs of one video would take
    each other's artifacts away. One whose job has not come to the run queue yet keeps that job, which
    then makes what either of them was to make. Videos of tenants whose Drive cannot be reached wait
    until it can.
    """
    url = registry.database_url
    accepted: list[str] = []
    for row in registry.without_run():
        if len(accepted) == JOBS_PER_TICK:
            break
        if row.tenant not in tenants:
            continue
        job = unfinished_job_of(url, row.partition_key, _PROCESSING)
        if job is not None and job.state != "pending" and job.request_key != row.run_key:
            continue
        try:
            request = _request(row, store)
        except OSError as error:
            # Its artifacts cannot be read just now; those of the others can.
            logger.warning("%s is not asked for in this tick: %s", row.partition_key, error)
            continue
        accept(url, request)
        registry.save([replace(row, admitted_at=datetime.now(UTC))])
        accepted.append(row.partition_key)
    return accepted


_PROCESSING = (process_video.name, rescore_video.name)


def _request(row: VideoRow, store: ArtifactStore) -> JobRequest:
    return JobRequest(
        request_key=row.run_key or "",
        job_name=process_video.name,
        partition_key=row.partition_key,
        tenant=row.tenant,
        queue="gpu",
        assets=_SCOPES.get(_scope_that_is_possible(row, store)),
        tags=tags_of(row),
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
