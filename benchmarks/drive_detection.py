"""A thousand videos that appear at once in a hundred Drives, with 5% of all requests failing.

    python -m benchmarks.drive_detection [--tenants 100 --videos 1000]

The Drive sensor itself is ticked, as Dagster's daemon does it, against PostgreSQL and the test server
as a process of its own. Bars: every video is admitted exactly once; a tick in which nothing has
changed costs one request per tenant; no tick takes longer than 30 s.
"""

import argparse
import base64
import sys
import time
from collections import Counter

import dagster as dg
import sqlalchemy as sa

from benchmarks.drive_lab import DriveLab, drive_lab
from resources.artifact_store import ArtifactStore
from resources.database import engine_for
from resources.google_drive.drive import GoogleDriveResource
from resources.video_registry import VideoRegistry
from run_queue.job_tables import jobs_table
from sensors.drive_inbox import drive_inbox

FAULTS = 0.05
BAR_TICK_S, BAR_CALLS = 30.0, 1.0
_MOST_TICKS = 400


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--videos", type=int, default=1000)
    asked = parser.parse_args()
    with drive_lab() as lab, dg.DagsterInstance.ephemeral() as instance:
        trees = {f"lab-{n:03d}": lab.connect(f"lab-{n:03d}") for n in range(asked.tenants)}
        for number in range(asked.videos):
            tenant = f"lab-{number % asked.tenants:03d}"
            day = lab.people.make_folder(parent=trees[tenant].videos, name=f"day {number}")
            content = base64.b64encode(f"video {number}".encode()).decode()
            lab.people.put(parent=day, name="v.mp4", content=content)
        lab.people.chaos(rate=FAULTS, seed=1)
        keys: Counter[str] = Counter()
        ticks: list[float] = []
        start = time.monotonic()
        while sum(keys.values()) < asked.videos and len(ticks) < _MOST_TICKS:
            began = time.monotonic()
            requests = _tick(lab, instance)
            ticks.append(time.monotonic() - began)
            keys.update(requests)
            print(
                f"tick {len(ticks)}: {ticks[-1]:.1f} s, {sum(keys.values()):,} admitted",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(max(0.0, 2.0 - ticks[-1]))  # the sensor's interval
        seconds = time.monotonic() - start
        failed = lab.people.faults_done()
        for _ in range(5):
            keys.update(_tick(lab, instance))  # nothing is asked for a second time
        lab.people.behave()
        _tick(lab, instance)
        idle: list[str] = []
        idle_s, calls = [], []
        for _ in range(12):
            before, began = lab.people.last_request(), time.monotonic()
            idle += _tick(lab, instance)
            idle_s.append(time.monotonic() - began)
            calls.append(len(lab.people.requests(since=before)))
            time.sleep(max(0.0, 2.0 - idle_s[-1]))
    once = len(keys) == asked.videos and set(keys.values()) == {1} and not idle
    print(f"| {asked.videos:,} videos, {asked.tenants} tenants | found | bar |")
    print("|---|---|---|")
    print(f"| admitted exactly once | {'all' if once else f'NO: {keys.most_common(3)}'} | all |")
    print(f"| requests that failed on purpose | {failed:,} | 5% of all |")
    print(f"| ticks until all were admitted | {len(ticks)} in {seconds:.0f} s | |")
    print(f"| longest tick, s | {max(ticks):.1f} | {BAR_TICK_S:.0f} |")
    most, mean = max(calls) / asked.tenants, sum(calls) / len(calls) / asked.tenants
    print(
        f"| idle tick: requests per tenant, most (mean) | {most:.2f} ({mean:.2f}) | {BAR_CALLS:.0f} |"
    )
    print(f"| idle tick, longest, s | {max(idle_s):.2f} | |")


def _tick(lab: DriveLab, instance: dg.DagsterInstance) -> list[str]:
    """One tick, and what the daemon makes of it; partition keys of runs that were asked for anew."""
    context = dg.build_sensor_context(
        instance=instance,
        resources={
            "drive": GoogleDriveResource(postgres_url=lab.url),
            "registry": VideoRegistry(url=lab.url),
            "store": ArtifactStore(root=str(lab.folder / "artifacts")),
        },
    )
    answer = drive_inbox(context)
    if not isinstance(answer, dg.SensorResult):
        return []
    (added,) = answer.dynamic_partitions_requests or ()
    with engine_for(lab.url).begin() as connection:
        # Made at once, as far as the queue is concerned.
        connection.execute(
            sa.update(jobs_table).where(jobs_table.c.state == "pending").values(state="completed")
        )
    return list(added.partition_keys)


if __name__ == "__main__":
    main()
