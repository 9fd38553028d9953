"""Ten thousand waiting jobs of a hundred tenants: taking one more, choosing the next, memory.

    python -m benchmarks.queue_scale [--jobs 10000 --tenants 100 --repeats 20 --looks 200]

Twice: first all of them wait to be admitted, then all are runs in Dagster's queue, brought there
through the coordinator (which takes minutes: some 40 ms each). One video is on the GPU meanwhile
and one place is free. The peer is Dagster's own queue daemon, on the same queue, alternately. Then the
daemon's looks are repeated in a process of their own, which takes runs from the queue and launches
nothing, while its memory is watched; this process plays the workers. Bars: 200 ms, 1 s, and memory
that does not grow.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.queue_parts import median_and_worst, progress, timed, verdict

if TYPE_CHECKING:
    import dagster as dg
    from queue_lab import QueueLab

BAR_ACCEPT_S, BAR_CHOOSE_S = 0.2, 1.0
# What a process has after its first looks it keeps: what it imports, its caches, its database pool.
WARM_LOOKS = 40
BAR_GROWTH_MB = 3.0


@dataclass(frozen=True)
class Timings:
    """Seconds of each repetition, at one depth of the queue."""

    accept: list[float]
    admission: list[float]
    tick: list[float]
    choose: list[float]
    look: list[float]
    dagster_submit: list[float]
    dagster_choose: list[float]
    """The last two are Dagster's own; empty where nothing is in its queue."""


@dataclass(frozen=True)
class Look:
    """One of the daemon: seconds, the process's resident memory after it, runs that it started."""

    seconds: float
    memory_mb: float
    started: int


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--looks", type=int, default=200)
    parser.add_argument("--only", choices=("pending", "queued"))
    asked = parser.parse_args()
    if asked.looks < WARM_LOOKS + 40:
        parser.error(
            f"memory is watched after {WARM_LOOKS} looks: --looks {WARM_LOOKS + 40} or more"
        )

    import pytest
    from queue_lab import queue_lab
    from toy_services import new_home

    from tailor_assets.services.postgres import embedded_postgres

    measured: dict[str, tuple[Timings, list[Look]]] = {}
    with (
        new_home() as folder,
        embedded_postgres(folder / "postgres", folder / "postgres.log") as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for state in ("pending", "queued"):
            if asked.only in (None, state):
                with queue_lab(server.url, patch) as lab:
                    measured[state] = _measure(lab, state, asked)
    _print_times(asked, {state: timings for state, (timings, _) in measured.items()})
    _print_memory({state: looks for state, (_, looks) in measured.items()})
    return verdict(_missed(measured))


def _measure(lab: "QueueLab", state: str, asked: argparse.Namespace) -> tuple[Timings, list[Look]]:
    from run_queue.gpu_pool import set_gpus

    set_gpus(lab.instance, 1, paused=False)
    _know_the_videos(lab, asked)
    began = time.monotonic()
    lab.say(_submit(lab, -1, asked.tenants), "starting", "started")
    if state == "pending":
        for number in range(asked.jobs):
            lab.accept(**_request(number, asked.tenants))
    else:
        _fill(lab, asked)
    _settle(lab)
    progress(f"{asked.jobs:,} {state} after {time.monotonic() - began:.0f} s")
    timings = _time(lab, state, asked)
    progress(f"{state}: {asked.looks} looks")
    return timings, _watch(lab, asked.looks)


def _request(number: int, tenants: int) -> dict[str, Any]:
    tenant = f"lab-{number % tenants:03d}"
    name = f"{tenant}--video {number}"
    return {"key": name, "tenant": tenant, "partition_key": name, "job_name": "process_toy"}


def _know_the_videos(lab: "QueueLab", asked: argparse.Namespace) -> None:
    """Their sizes are part of what each look reads."""
    from resources.video_registry import VideoRegistry, VideoRow

    rows = []
    for number in range(-1, asked.jobs):
        wanted = _request(number, asked.tenants)
        name = wanted["key"]
        rows.append(
            VideoRow(name, wanted["tenant"], name, name, name, "admitted", size=10_000_000 + number)
        )
    VideoRegistry(url=lab.url).save(rows)


def _submit(lab: "QueueLab", number: int, tenants: int, job_id: str | None = None) -> Any:
    """A run of the toy pipeline that came to the queue through the coordinator."""
    return lab.come(_make(lab, number, tenants, job_id))


def _make(lab: "QueueLab", number: int, tenants: int, job_id: str | None = None) -> Any:
    import toy_definitions
    from queue_lab import _FROM

    wanted = _request(number, tenants)
    tags = {"tailor/tenant": wanted["tenant"], "dagster/partition": wanted["partition_key"]}
    if job_id is not None:
        tags["tailor/job"] = job_id
    job = toy_definitions.defs.resolve_job_def("process_toy")
    return lab.instance.create_run_for_job(job, tags=tags, **_FROM)


def _fill(lab: "QueueLab", asked: argparse.Namespace) -> None:
    """By two processes, as most of it is their own work and not the database's."""
    context = multiprocessing.get_context("spawn")
    home = lab.instance.root_directory
    halves = [range(start, asked.jobs, 2) for start in (0, 1)]
    fillers = [
        context.Process(target=_fill_some, args=(lab.url, home, half, asked.tenants))
        for half in halves
    ]
    for filler in fillers:
        filler.start()
    for filler in fillers:
        filler.join()
        if filler.exitcode:
            raise SystemExit("The queue could not be filled; the error is above.")


def _fill_some(url: str, home: str, numbers: range, tenants: int) -> None:
    import sqlalchemy.pool

    # Dagster connects anew for each of some twenty statements a run, which is most of the time.
    sqlalchemy.pool.NullPool = sqlalchemy.pool.QueuePool
    with _opened(url, home) as lab:
        for done, number in enumerate(numbers, 1):
            _submit(lab, number, tenants)
            if done % 500 == 0:
                progress(f"process {os.getpid()}: {done:,} runs of {len(numbers):,} submitted")


def _settle(lab: "QueueLab") -> None:
    """What PostgreSQL's own maintenance does within a minute, so that no plan is a stranger's."""
    import sqlalchemy as sa

    from resources.database import engine_for

    with engine_for(lab.url).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text("VACUUM ANALYZE"))


def _time(lab: "QueueLab", state: str, asked: argparse.Namespace) -> Timings:
    from dagster._core.run_coordinator.base import SubmitRunContext
    from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
        QueuedRunCoordinatorDaemon,
    )

    from run_queue.queue_daemon import TailorQueueDaemon
    from sensors.admission import admit_some
    from tailor_assets.partitions import videos

    ours, theirs = TailorQueueDaemon(1), QueuedRunCoordinatorDaemon(1)
    config = lab.instance.get_concurrency_config()
    timings = Timings([], [], [], [], [], [], [])
    nowhere = Nowhere(lab.instance)
    _launch_nothing()
    for number in range(asked.jobs, asked.jobs + asked.repeats):
        timings.accept.append(_accept_one(lab, state, number, asked.tenants))
        seconds, _ = timed(_choose_for_admission, lab)
        timings.admission.append(seconds)
        seconds, _ = timed(admit_some, lab.instance, lab.url, videos)
        timings.tick.append(seconds)
        seconds, chosen = timed(ours._get_runs_to_dequeue, lab.instance, config, None)
        timings.choose.append(seconds)
        if state == "queued":
            run = _make(lab, number + 1_000_000, asked.tenants)
            context = SubmitRunContext(run, None)  # type: ignore[arg-type]
            seconds, _ = timed(
                QueuedRunCoordinator.submit_run, lab.instance.run_coordinator, context
            )
            timings.dagster_submit.append(seconds)
            lab.instance.report_run_canceled(lab.run(run))
            seconds, others = timed(theirs._get_runs_to_dequeue, lab.instance, config, None)
            timings.dagster_choose.append(seconds)
            if (len(chosen), len(others)) != (1, 1):
                raise SystemExit(f"Each was to choose one run, not {len(chosen)}, {len(others)}.")
    for _ in range(asked.repeats):
        seconds, _ = timed(lambda: list(ours.run_iteration(nowhere)))
        timings.look.append(seconds)
        _work(lab)
    return timings


def _choose_for_admission(lab: "QueueLab") -> None:
    from run_queue.admission import admit, situation

    admit(situation(lab.url, lab.expectations))


def _accept_one(lab: "QueueLab", state: str, number: int, tenants: int) -> float:
    """Seconds for a sensor's request and, in a full queue, for its run to come there."""
    took, job_id = timed(lambda: lab.accept(**_request(number, tenants)))
    if state == "queued":
        run = _make(lab, number, tenants, job_id)
        more, _ = timed(lab.come, run)
        took += more
    return took


class Nowhere:
    """A workspace without a code server."""

    def __init__(self, instance: "dg.DagsterInstance") -> None:
        """``instance`` is what the daemon asks of it."""
        self.instance = instance

    def create_request_context(self) -> None:
        """There is nothing to ask."""


def _launch_nothing() -> None:
    from run_queue.launcher import TailorRunLauncher

    TailorRunLauncher.launch_run = lambda self, context: None  # type: ignore[method-assign]


def _work(lab: "QueueLab") -> None:
    """As the workers would: what is there to be started starts, and what has started is done."""
    import dagster as dg
    from dagster import DagsterEvent, DagsterEventType

    for status, event in (
        (dg.DagsterRunStatus.STARTED, DagsterEventType.PIPELINE_SUCCESS),
        (dg.DagsterRunStatus.STARTING, DagsterEventType.PIPELINE_START),
    ):
        for run in lab.instance.get_runs(dg.RunsFilter(statuses=[status])):
            lab.instance.report_dagster_event(
                DagsterEvent(event.value, run.job_name), run_id=run.run_id
            )


def _watch(lab: "QueueLab", looks: int) -> list[Look]:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    arguments = (lab.url, lab.instance.root_directory, looks, answers)
    daemon = context.Process(target=_look, args=arguments)
    daemon.start()
    seen = []
    while len(seen) < looks:
        seen.append(answers.get(timeout=120))
        _work(lab)
    daemon.join()
    return seen


def _look(url: str, home: str, looks: int, answers: Any) -> None:
    import psutil

    from run_queue.queue_daemon import TailorQueueDaemon
    from sensors.admission import admit_some
    from tailor_assets.partitions import videos

    with _opened(url, home) as lab:
        _launch_nothing()
        daemon, nowhere, process = TailorQueueDaemon(1), Nowhere(lab.instance), psutil.Process()
        for _ in range(looks):
            began = time.monotonic()
            started = len(list(daemon.run_iteration(nowhere))) - 2  # type: ignore[arg-type]
            seconds = time.monotonic() - began
            admit_some(lab.instance, url, videos)
            answers.put(Look(seconds, process.memory_info().rss / 1e6, started))


def _opened(url: str, home: str) -> Any:
    """The laboratory, from another process."""
    from contextlib import contextmanager

    from queue_lab import QueueLab

    from run_queue.shares import Expectations
    from tailor_assets.services.health import open_instance

    os.environ["TAILOR_POSTGRES_URL"] = url

    @contextmanager
    def opened() -> Any:
        with open_instance(Path(home), url) as instance:
            yield QueueLab(url, instance, Expectations(url))

    return opened()


def _print_times(asked: argparse.Namespace, of: dict[str, Timings]) -> None:
    print(
        f"| {asked.jobs:,} jobs, {asked.tenants} tenants; ms, median (worst of {asked.repeats}) | "
        "pending | queued | Dagster's own, queued | bar |"
    )
    print("|---|---|---|---|---|")
    names = {
        "accept": ("accepting one more", "dagster_submit", BAR_ACCEPT_S),
        "admission": ("admission: which come to the queue next", "", BAR_CHOOSE_S),
        "tick": ("admission: its whole tick, up to 25 requests", "", None),
        "choose": ("daemon: which run starts next", "dagster_choose", BAR_CHOOSE_S),
        "look": ("daemon: a whole look", "", BAR_CHOOSE_S),
    }
    for field, (name, peer, bar) in names.items():
        cells = [_cell(of.get(state), field) for state in ("pending", "queued")]
        cells += [_cell(of.get("queued"), peer), f"{bar * 1000:,.0f}" if bar else ""]
        print(f"| {name} | {' | '.join(cells)} |")


def _cell(timings: Timings | None, field: str) -> str:
    seconds = getattr(timings, field) if timings is not None and field else []
    return median_and_worst(seconds, unit="ms") if seconds else ""


def _print_memory(of: dict[str, list[Look]]) -> None:
    print("\n| daemon and admission in one process | pending | queued | bar |")
    print("|---|---|---|---|")
    rows = {
        "looks, and runs that they started": lambda looks: (
            f"{len(looks)}, {sum(look.started for look in looks)}"
        ),
        "a look, s, median (worst)": lambda looks: median_and_worst([one.seconds for one in looks]),
        f"memory after {WARM_LOOKS} looks, MB": lambda looks: f"{_memory(looks)[0]:.1f}",
        "memory at the end, MB": lambda looks: f"{_memory(looks)[1]:.1f}",
        "slope, kB a look": lambda looks: f"{_memory(looks)[2]:.1f}",
    }
    bars = ["", "", "", f"{BAR_GROWTH_MB:.0f} more", ""]
    for (name, figure), bar in zip(rows.items(), bars, strict=True):
        cells = [figure(of[state]) if state in of else "" for state in ("pending", "queued")]
        print(f"| {name} | {' | '.join(cells)} | {bar} |")


def _memory(looks: list[Look]) -> tuple[float, float, float]:
    """MB at the beginning and the end, as medians of twenty looks, and kB per look in between."""
    warm = [look.memory_mb for look in looks][WARM_LOOKS:]
    slope = statistics.linear_regression(range(len(warm)), warm).slope
    return statistics.median(warm[:20]), statistics.median(warm[-20:]), slope * 1000


def _missed(measured: dict[str, tuple[Timings, list[Look]]]) -> list[str]:
    missed = []
    for state, (timings, looks) in measured.items():
        bars = {
            "accepting": (timings.accept, BAR_ACCEPT_S),
            "admission": (timings.admission, BAR_CHOOSE_S),
            "choosing": (timings.choose, BAR_CHOOSE_S),
            "a look": (timings.look + [look.seconds for look in looks], BAR_CHOOSE_S),
        }
        for name, (seconds, bar) in bars.items():
            if statistics.median(seconds) > bar:
                missed.append(f"{state}: {name} {statistics.median(seconds):.2f} s of {bar} s")
        first, last, _ = _memory(looks)
        if last - first > BAR_GROWTH_MB:
            missed.append(f"{state}: memory grew by {last - first:.1f} MB")
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
