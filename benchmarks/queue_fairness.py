"""One tenant submits 500 videos, nine others 5 each afterwards: how long the nine have to wait.

    python -m benchmarks.queue_fairness [--flood 500 --each 5 --gpu-seconds 1 --peer-flood 50]

First in virtual time, for several kinds of load (virtual_queue.py); then with the real services on
the toy pipeline, once without the big tenant and once with it, of whose videos only those run that
come to their turn before the nine are done. The peer is the same with Dagster's own coordinator and
daemon under the same limits, which is first come, first served: there the whole flood runs first, so
it is given a small one. ``--peer-flood 0`` leaves it out, ``--virtual`` the real services. Bar: each
of the nine is finished within 1.5 times the time without the big tenant plus one running job's.
"""

import argparse
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.queue_parts import progress, verdict
from benchmarks.virtual_queue import FLOOD, Load, fair, first_come, worst_of

if TYPE_CHECKING:
    from tailor_assets.services.start import RunningServices

BAR = 1.5
NINE = tuple(f"lab-{number}" for number in range(1, 10))
PATIENCE_S = 1800.0
LOADS = (
    Load("equal videos", 500, 9, 5, 60, 60),
    Load("equal videos, 10,000 of them flood", 10_000, 9, 5, 60, 60),
    Load("equal videos, 99 tenants wait", 500, 99, 5, 60, 60),
    Load("equal videos, 1 tenant waits", 500, 1, 5, 60, 60),
    Load("short videos flood, long ones wait", 500, 9, 5, 60, 600),
    Load("long videos (10 min) flood, short ones wait", 500, 9, 5, 600, 60),
    Load("long videos (1 h) flood, short ones wait", 500, 9, 5, 3600, 60),
    Load("4 GPUs, lengths expected wrongly by up to 3 times", 500, 9, 20, 60, 60, 3.0, 4),
)


def main() -> int:
    """Simulate, run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flood", type=int, default=500)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--gpu-seconds", type=float, default=1.0)
    parser.add_argument("--peer-flood", type=int, default=50)
    parser.add_argument("--virtual", action="store_true")
    asked = parser.parse_args()
    missed = _in_virtual_time()
    if not asked.virtual:
        alone = _run(asked, flood=0)
        flooded = _run(asked, flood=asked.flood)
        missed += _print("tailor", alone, flooded, asked.flood)
        if asked.peer_flood:
            alone = _run(asked, flood=0, stock=True)
            flooded = _run(asked, flood=asked.peer_flood, stock=True)
            _print("Dagster's own order", alone, flooded, asked.peer_flood)
    return verdict(missed)


def _in_virtual_time() -> list[str]:
    print(
        "| virtual time | without the flood, min | with it, min | worst ratio, less one job | "
        "equal shares would be | bar | first come, first served: worst ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    missed = []
    for load in LOADS:
        ours, theirs = worst_of(load, fair), worst_of(load, first_come)
        # Where only one waits, half of the GPU is the flood's by right.
        bar = BAR if load.others >= len(NINE) else None
        print(
            f"| {load.name} | {ours.alone_s / 60:.0f} | {ours.with_flood_s / 60:.0f} | "
            f"**{ours.ratio:.2f}** | {1 + 1 / load.others:.2f} | {bar or ''} | {theirs.ratio:.1f} |"
        )
        if bar is not None and ours.ratio > bar:
            missed.append(f"{load.name}: {ours.ratio:.2f} of {bar}")
    return missed


@dataclass(frozen=True)
class Finished:
    """Of each of the nine, how many seconds and how many jobs of anybody's until it was finished.

    ``one_job_s``: how long a job of theirs ran.
    """

    seconds: dict[str, float]
    jobs: dict[str, int]
    one_job_s: float


def _run(asked: argparse.Namespace, *, flood: int, stock: bool = False) -> Finished:
    import pytest
    from toy_services import TOY_CODE, drop_toy, new_home, toy_services

    what = f"{'Dagster' if stock else 'tailor'}, flood of {flood}"
    code = TOY_CODE
    with new_home() as home, pytest.MonkeyPatch.context() as patch:
        if stock:
            settings = home / "stock"
            settings.mkdir()
            (settings / "dagster.yaml").write_text(_stock_settings())
            patch.setattr("tailor_assets.services.start.PROJECT_ROOT", settings)
            code = ("--python-file", str(Path(__file__).with_name("first_come_toys.py")))
        progress(f"{what}: starting")
        with toy_services(home, code=code) as services:
            for number in range(flood):
                drop_toy(home, f"slow-{asked.gpu_seconds}-{number:03d}-{FLOOD}", FLOOD)
            if flood:
                _until_under_way(services, flood, stock=stock)
            came = time.time()
            for number in range(asked.each):
                for tenant in NINE:
                    drop_toy(home, f"slow-{asked.gpu_seconds}-{number:03d}-{tenant}", tenant)
            return _finished(services, what, came, asked.each)


def _stock_settings() -> str:
    """Dagster's own coordinator, and so its daemons, under the limits of dagster.yaml."""
    import yaml

    from resources.settings import PROJECT_ROOT

    settings = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())
    coordinator = settings["run_coordinator"]
    coordinator |= {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}
    del coordinator["config"]["sensor_loop_seconds"]  # ours
    # Where the class is Dagster's own, it wants its limits here.
    settings["concurrency"]["runs"] = {
        name: coordinator["config"].pop(name)
        for name in ("max_concurrent_runs", "tag_concurrency_limits")
    }
    return yaml.safe_dump(settings)


def _until_under_way(services: "RunningServices", flood: int, *, stock: bool) -> None:
    """All of the flood is there, and the first of it runs."""
    import dagster as dg

    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        services.check()
        there = services.instance.get_runs_count() if stock else _accepted(services.postgres_url)
        if there >= flood and services.instance.get_runs(started):
            return
        time.sleep(0.5)
    raise SystemExit("The flood did not come; see the logs.")


def _accepted(url: str) -> int:
    import sqlalchemy as sa

    from resources.database import engine_for
    from run_queue.job_tables import jobs_table

    with engine_for(url).begin() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(jobs_table)).scalar() or 0


def _finished(services: "RunningServices", what: str, came: float, each: int) -> Finished:
    """Once all jobs of the nine are done."""
    import dagster as dg

    from run_queue.job_ledger import TENANT_TAG

    done = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
    deadline = time.monotonic() + PATIENCE_S
    counted = -1
    while time.monotonic() < deadline:
        services.check()
        of: dict[str, list[Any]] = defaultdict(list)
        for record in services.instance.get_run_records(done):
            of[record.dagster_run.tags[TENANT_TAG]].append(record)
        count = sum(len(of[tenant]) for tenant in NINE)
        if count == each * len(NINE):
            break
        if count != counted:
            progress(f"{what}: {count} of {each * len(NINE)} after {time.time() - came:.0f} s")
        counted = count
        time.sleep(1)
    else:
        raise SystemExit(f"{what}: not finished after {PATIENCE_S:.0f} s; see the logs.")
    took = [one.end_time - one.start_time for tenant in NINE for one in of[tenant]]
    last = {tenant: max(one.end_time for one in of[tenant]) for tenant in NINE}
    ends = [one.end_time for records in of.values() for one in records if one.end_time > came]
    return Finished(
        {tenant: end - came for tenant, end in last.items()},
        {tenant: sum(one <= end for one in ends) for tenant, end in last.items()},
        statistics.median(took),
    )


def _print(name: str, alone: Finished, flooded: Finished, flood: int) -> list[str]:
    print(
        f"\n| {name}: last video done after s (jobs of anybody's) | without the big tenant | "
        f"{flood} of its before | ratio of the times, less one job's {alone.one_job_s:.1f} s |"
    )
    print("|---|---|---|---|")
    ratios = {}
    for tenant in NINE:
        ratios[tenant] = (flooded.seconds[tenant] - alone.one_job_s) / alone.seconds[tenant]
        cells = [f"{one.seconds[tenant]:.0f} ({one.jobs[tenant]})" for one in (alone, flooded)]
        print(f"| {tenant} | {' | '.join(cells)} | {ratios[tenant]:.2f} |")
    worst = max(ratios.values())
    print(f"| worst | | | **{worst:.2f}** (bar {BAR}) |")
    return [f"{name}: {worst:.2f} of {BAR}"] if worst > BAR else []


if __name__ == "__main__":
    raise SystemExit(main())
