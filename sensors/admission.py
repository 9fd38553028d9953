"""Brings pending jobs to Dagster's queue, a few at a time (run_queue/admission.py says which)."""

from collections.abc import Callable, Sequence
from functools import cache

import dagster as dg
from dagster import JobDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import RUN_KEY_TAG

from jobs.processing import process_video, publish_frames, rescore_video
from resources.video_registry import VideoRegistry
from run_queue.admission import admit, pause_for_depth, situation
from run_queue.coordinator import queue_of
from run_queue.job_ledger import JOB_TAG, JobRow, jobs_by_id, park_unknown, register_run
from run_queue.pauses import pauses
from run_queue.shares import Expectations
from tailor_assets.partitions import videos


def build_admission(
    jobs: Sequence[JobDefinition | UnresolvedAssetJobDefinition],
    partitions: dg.DynamicPartitionsDefinition,
) -> dg.SensorDefinition:
    """The sensor ``admission`` for a code location with these jobs."""

    names = {job.name for job in jobs}

    @dg.sensor(
        name="admission",
        jobs=jobs,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Brings jobs that wait to be admitted to the run queue, in their turn.",
    )
    def admission(
        context: dg.SensorEvaluationContext, registry: VideoRegistry
    ) -> dg.SensorResult | dg.SkipReason:
        assets = (
            context.repository_def.asset_graph.get_all_asset_keys()
            if context.repository_def
            else None
        )
        return admit_some(
            context.instance,
            registry.database_url,
            partitions,
            can_be_made=lambda job: (
                job.job_name in names
                and (
                    assets is None or all(dg.AssetKey(name) in assets for name in job.assets or ())
                )
            ),
        )

    return admission


def admit_some(
    instance: dg.DagsterInstance,
    url: str,
    partitions: dg.DynamicPartitionsDefinition,
    can_be_made: Callable[[JobRow], bool] = lambda job: True,
) -> dg.SensorResult | dg.SkipReason:
    """The next few; without one it says what holds the others back."""
    now = situation(url, _expectations(url))
    changed = pause_for_depth(url, now.depth, "depth" in now.pauses)
    if changed is not None:
        _say(url, now.depth, paused=changed)
        now = situation(url, _expectations(url))
    admitted, reasons = admit(now)
    requests, keys = [], []
    jobs = jobs_by_id(url, [place.job_id for place in admitted])
    for place in admitted:
        job = jobs.get(place.job_id)
        if job is None:
            continue  # forgotten in this moment
        if not can_be_made(job):
            # One request that Dagster does not know fails the whole tick, and every one after it.
            park_unknown(url, job)
            continue
        key = _unused_key(instance, url, job)
        if key is None:
            continue
        requests.append(request_for(job, key))
        if job.partition_key is not None:
            keys.append(job.partition_key)
    if not requests:
        said = sorted(set(reasons.values()))
        return dg.SkipReason(
            f"{len(reasons)} pending: {'; '.join(said[:5])}." if reasons else "Nothing is pending."
        )
    return dg.SensorResult(
        run_requests=requests,
        # Once more, should the tick that made them have died: adding is idempotent.
        dynamic_partitions_requests=[partitions.build_add_request(keys)] if keys else [],
    )


admission = build_admission([process_video, publish_frames, rescore_video], videos)


@cache
def _expectations(url: str) -> Expectations:
    return Expectations(url)


def request_for(job: JobRow, key: str) -> dg.RunRequest:
    """The run of a job's first attempt, under this run key."""
    return dg.RunRequest(
        run_key=key,
        job_name=job.job_name,
        partition_key=job.partition_key,
        asset_selection=[dg.AssetKey(name) for name in job.assets] if job.assets else None,
        tags={**job.tags, JOB_TAG: job.job_id},
    )


def _unused_key(instance: dg.DagsterInstance, url: str, job: JobRow) -> str | None:
    """The run key to ask with; None where the run is there, of which the job now hears.

    A tick may have died after making the run. If it had not been submitted either, Dagster submits
    it when its key is asked for again; otherwise that key never fires again.
    """
    for key in job.run_keys:
        records = instance.get_run_records(dg.RunsFilter(tags={RUN_KEY_TAG: key}), limit=1)
        if not records:
            return key
        if records[0].create_timestamp >= job.accepted_at:
            run = records[0].dagster_run
            if run.status == dg.DagsterRunStatus.NOT_STARTED:
                return key
            register_run(url, run, queue_of(run))
            return None
    return None


def _say(url: str, depth: int, *, paused: bool) -> None:
    from resources.audit.log import record
    from resources.notifications.outbox import alert

    action = "admission.paused" if paused else "admission.resumed"
    record(url, actor="queue", action=action, subject="depth", details={"depth": depth})
    if paused:
        since = pauses(url)["depth"].since
        alert(
            url,
            key=f"queue-depth:{since.isoformat()}",
            subject="New jobs wait to be admitted",
            text=f"{depth} jobs wait in the run queue; new ones are kept until it is shorter.",
        )
