"""A small code location for tests of the queue: what the assets do is in the partition's name."""

import os
import time
from pathlib import Path

import dagster as dg

from jobs.queue_operations import QUEUE_JOBS
from resources.video_registry import VideoRegistry
from run_queue.executor import leased_executor
from run_queue.failure import permanent_failure
from run_queue.job_ledger import TENANT_TAG, JobRequest, accept
from run_queue.pool_polling import poll_pools_every_second
from sensors.admission import build_admission

poll_pools_every_second()

toys = dg.DynamicPartitionsDefinition(name="toys")


def _note(context: dg.AssetExecutionContext, what: str) -> None:
    """One line per thing done, in a file that the test reads."""
    with (Path(os.environ["TAILOR_HOME"]) / "done.txt").open("a") as file:
        file.write(f"{context.partition_key} {what} {os.getpid()} {context.run_id}\n")


def _attempt(key: str) -> int:
    """How many times this has been called for a toy, in whichever process."""
    file = Path(os.environ["TAILOR_HOME"]) / f"{key}.attempts"
    attempt = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(attempt))
    return attempt


@dg.asset(partitions_def=toys)
def decoded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Needs no pool."""
    _note(context, "decoded")
    return dg.MaterializeResult()


@dg.asset(partitions_def=toys, deps=[decoded], pool="gpu")
def segmented(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Holds the GPU. ``slow-<seconds>-...`` takes that long, ``bad-...`` fails for good.

    ``unlucky-...`` fails each time; ``mended-...`` fails for good, then in passing, then works.
    """
    kind, *rest = context.partition_key.split("-")
    _note(context, "segmenting")
    attempt = _attempt(context.partition_key)
    if kind == "bad" or (kind == "mended" and attempt == 1):
        permanent_failure(context, "The toy is bad and has to be replaced.")
    if kind == "unlucky" or (kind == "mended" and attempt == 2):
        raise RuntimeError("a passing trouble")
    if kind == "slow":
        time.sleep(float(rest[0]))
    _note(context, "segmented")
    return dg.MaterializeResult()


@dg.asset(partitions_def=toys, deps=[segmented])
def scored(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Needs no pool. ``stumble-...`` fails the first time."""
    if context.partition_key.startswith("stumble") and _attempt(context.partition_key) == 2:
        raise RuntimeError("a passing trouble")
    _note(context, "scored")
    return dg.MaterializeResult()


@dg.sensor(minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def toy_inbox(
    context: dg.SensorEvaluationContext, registry: VideoRegistry
) -> dg.SensorResult | dg.SkipReason:
    """Accepts a job for each name in the folder ``inbox`` of TAILOR_HOME; a file names its tenant."""
    inbox = Path(os.environ["TAILOR_HOME"]) / "inbox"
    new = sorted(inbox.iterdir()) if inbox.is_dir() else []
    for path in new:
        accept(
            registry.database_url,
            JobRequest(
                request_key=path.name,
                job_name=process_toy.name,
                partition_key=path.name,
                tenant=path.read_text(),
                queue="gpu",
                tags={TENANT_TAG: path.read_text()},
            ),
        )
        path.unlink()
    if not new:
        return dg.SkipReason("no toys")
    names = [path.name for path in new]
    return dg.SensorResult(dynamic_partitions_requests=[toys.build_add_request(names)])


process_toy = dg.define_asset_job("process_toy", [decoded, segmented, scored])

defs = dg.Definitions(
    assets=[decoded, segmented, scored],
    jobs=[process_toy, *QUEUE_JOBS],
    sensors=[toy_inbox, build_admission([process_toy], toys)],
    resources={"registry": VideoRegistry()},
    executor=leased_executor,
)
