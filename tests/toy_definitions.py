"""A small code location for tests of the queue: what the assets do is in the partition's name."""

import os
import time
from pathlib import Path

import dagster as dg

from run_queue.failure import permanent_failure
from run_queue.pool_polling import poll_pools_every_second
from sensors.lost_retries import lost_retries

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


@dg.sensor(
    target=[decoded, segmented, scored],
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def toy_inbox(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Requests a run for each name in the folder ``inbox`` of TAILOR_HOME."""
    inbox = Path(os.environ["TAILOR_HOME"]) / "inbox"
    names = sorted(path.name for path in inbox.iterdir()) if inbox.is_dir() else []
    known = set(context.instance.get_dynamic_partitions("toys"))
    new = [name for name in names if name not in known]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=name, partition_key=name) for name in new],
        dynamic_partitions_requests=[toys.build_add_request(new)] if new else [],
    )


defs = dg.Definitions(
    assets=[decoded, segmented, scored],
    jobs=[dg.define_asset_job("process_toy", [decoded, segmented, scored])],
    sensors=[toy_inbox, lost_retries],
    executor=dg.in_process_executor,
)
