"""The toy pipeline as stock Dagster would run it: its sensor requests the runs at once."""

import os
import sys
from pathlib import Path

import dagster as dg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from toy_definitions import decoded, process_toy, scored, segmented, toys

from resources.video_registry import VideoRegistry
from run_queue.coordinator import GPU_QUEUE, QUEUE_TAG
from run_queue.executor import leased_executor
from run_queue.job_ledger import TENANT_TAG


@dg.sensor(
    job=process_toy, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING
)
def toy_inbox(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """A run for each name in the folder ``inbox`` of TAILOR_HOME, of the tenant that its file names."""
    inbox = Path(os.environ["TAILOR_HOME"]) / "inbox"
    new = sorted(inbox.iterdir()) if inbox.is_dir() else []
    if not new:
        return dg.SkipReason("no toys")
    requests = [
        dg.RunRequest(
            run_key=path.name,
            partition_key=path.name,
            # Stock Dagster can count by a tag, but has to be given it.
            tags={TENANT_TAG: path.read_text(), QUEUE_TAG: GPU_QUEUE},
        )
        for path in new
    ]
    for path in new:
        path.unlink()
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[toys.build_add_request([path.name for path in new])],
    )


defs = dg.Definitions(
    assets=[decoded, segmented, scored],
    jobs=[process_toy],
    sensors=[toy_inbox],
    resources={"registry": VideoRegistry()},
    executor=leased_executor,
)
