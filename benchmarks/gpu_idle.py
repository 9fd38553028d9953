"""How long the GPU pool is idle between the videos of a backlog.

Runs the real services on a pipeline of two assets: one that needs a processor, one that holds the
pool ``gpu`` and sleeps. The sleep has to be a minute or more: Dagster's steps look at their pool
ever less often while they wait, and a shorter sleep hides that.

    python -m benchmarks.gpu_idle [--videos 6] [--gpu-seconds 60] [--cpu-seconds 5]

Prints the gaps, from the event log, and ends with 1 if one is longer than two seconds.
"""

import argparse
import os
import socket
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from run_queue.pool_polling import poll_pools_every_second

if TYPE_CHECKING:
    from tailor_assets.services.start import RunningServices

BAR_SECONDS = 2.0

poll_pools_every_second()

backlog = dg.DynamicPartitionsDefinition(name="backlog")


@dg.asset(partitions_def=backlog)
def decoded(context: dg.AssetExecutionContext) -> None:
    """As long on the processor as decoding would be."""
    time.sleep(float(os.environ["GPU_IDLE_CPU_SECONDS"]))


@dg.asset(partitions_def=backlog, deps=[decoded], pool="gpu")
def segmented(context: dg.AssetExecutionContext) -> None:
    """As long on the GPU as segmentation would be."""
    time.sleep(float(os.environ["GPU_IDLE_GPU_SECONDS"]))


@dg.sensor(
    target=[decoded, segmented],
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def all_at_once(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """The whole backlog in the first tick."""
    names = [f"video-{number}" for number in range(int(os.environ["GPU_IDLE_VIDEOS"]))]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=name, partition_key=name) for name in names],
        dynamic_partitions_requests=[backlog.build_add_request(names)],
    )


defs = dg.Definitions(
    assets=[decoded, segmented], sensors=[all_at_once], executor=dg.in_process_executor
)


class Video(NamedTuple):
    """Unix seconds of one video: ready for the GPU, on it, off it."""

    ready: float
    start: float
    end: float


def timeline(services: "RunningServices", videos: int) -> list[Video]:
    """What the event log says of each video, in the order of the GPU, once all runs are over."""
    while True:
        services.check()
        runs = services.instance.get_runs()
        if len(runs) >= videos and all(run.is_finished for run in runs):
            break
        time.sleep(1)
    found = []
    for run in runs:
        steps = {s.step_key: s for s in services.instance.get_run_step_stats(run.run_id)}
        ready = steps["decoded"].end_time
        start, end = steps["segmented"].start_time, steps["segmented"].end_time
        if ready and start and end:
            found.append(Video(ready, start, end))
    return sorted(found, key=lambda video: video.start)


def main() -> int:
    """Run the backlog and print the gaps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--gpu-seconds", type=float, default=60.0)
    parser.add_argument("--cpu-seconds", type=float, default=5.0)
    options = parser.parse_args()

    from tailor_assets.services.start import start_services

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        tempfile.TemporaryDirectory(prefix="tailor-gpu-idle-") as home,
        start_services(
            Path(home),
            port=port,
            code=("--python-file", str(Path(__file__).resolve())),
            environment={
                "GPU_IDLE_VIDEOS": str(options.videos),
                "GPU_IDLE_GPU_SECONDS": str(options.gpu_seconds),
                "GPU_IDLE_CPU_SECONDS": str(options.cpu_seconds),
            },
        ) as services,
    ):
        seen = timeline(services, options.videos)
    gaps = [after.start - before.end for before, after in pairwise(seen)]
    for number, (gap, (before, after)) in enumerate(zip(gaps, pairwise(seen), strict=True), 1):
        waited = before.end - after.ready
        print(
            f"between video {number} and {number + 1}: {gap:.2f} s (the next was decoded "
            f"{waited:.1f} s before the GPU was free)"
        )
    print(f"longest {max(gaps):.2f} s, allowed {BAR_SECONDS:.1f} s")
    return 0 if len(seen) == options.videos and max(gaps) <= BAR_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
