"""How soon work goes on after a kill: of a run worker, of everything, of the GPU worker alone.

    python -m benchmarks.queue_recovery [--kills 5 --reboots 3 --gpu-kills 3]

The real services on the toy pipeline. A run worker gets SIGKILL while it holds the GPU, and the time
counts until its retry is started; then everything does, the database included, while one video is on
the GPU, one waits for it in its process and three wait in line, and everything is started again. Last
the SAM2 worker of `tailor-nano` on a drawn clip, where `make sam2` was run: the time counts until the
next progress of the step, from the checkpoint. Bars: 30 s; 60 s from start-up; 10 s.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.queue_parts import median_and_worst, progress, verdict

if TYPE_CHECKING:
    from tailor_assets.services.start import RunningServices

_SERVICES = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[2])
from toy_services import drop_toy, toy_services
home = pathlib.Path(sys.argv[1])
with toy_services(home):
    for number, seconds in enumerate((20, 1, 1, 1, 1)):
        drop_toy(home, f"slow-{seconds}-cut-{number}")
    time.sleep(600)
"""
_CLIP_FRAMES = 400


@dataclass(frozen=True)
class Row:
    """One kind of recovery: seconds of each repetition; ``bar`` in seconds."""

    what: str
    seconds: list[float]
    bar: float | None = None


def main() -> int:
    """Kill, wait, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--reboots", type=int, default=3)
    parser.add_argument("--gpu-kills", type=int, default=3)
    asked = parser.parse_args()
    rows = _of_run_workers(asked.kills) if asked.kills else []
    rows += _of_everything(asked.reboots) if asked.reboots else []
    rows += _of_gpu_workers(asked.gpu_kills) if asked.gpu_kills else []
    print("| seconds, median (worst) | times | | bar |")
    print("|---|---|---|---|")
    for row in rows:
        bar = f"{row.bar:.0f}" if row.bar else ""
        print(f"| {row.what} | {len(row.seconds)} | {median_and_worst(row.seconds)} | {bar} |")
    return verdict(
        [
            f"{row.what}: {max(row.seconds):.1f} s of {row.bar:.0f} s"
            for row in rows
            if row.bar and max(row.seconds) > row.bar
        ]
    )


def _of_run_workers(times: int) -> list[Row]:
    from toy_services import new_home, toy_services

    with new_home() as home, toy_services(home) as services:
        found = [_kill_a_run_worker(services, number) for number in range(times)]
    return [
        Row("run worker killed: noticed after", [noticed for noticed, _ in found]),
        Row("run worker killed: its retry started after", [again for _, again in found], 30.0),
    ]


def _kill_a_run_worker(services: "RunningServices", number: int) -> tuple[float, float]:
    """Seconds until its run counted as failed, and until its retry was started."""
    from toy_services import done, drop_toy, finished_runs_of

    name = f"slow-3-killed-{number}"
    drop_toy(services.home, name)
    pids = _wait(lambda: [pid for what, pid in done(services, name) if what == "segmenting"])
    os.kill(pids[-1], signal.SIGKILL)
    killed = time.time()
    runs = finished_runs_of(services, name)
    if len(runs) != 2:
        raise SystemExit(f"{name} was to have two runs, not {len(runs)}.")
    first, retry = (services.instance.get_run_record_by_id(run.run_id) for run in runs)
    noticed, again = first.end_time - killed, retry.start_time - killed
    progress(f"run worker {number + 1}: noticed after {noticed:.1f} s, again after {again:.1f} s")
    return noticed, again


def _of_everything(times: int) -> list[Row]:
    found = [_reboot(number) for number in range(times)]
    up, moves = [one.up for one in found], [one.moves for one in found]
    less = [one.moves - one.up for one in found]
    return [
        Row("everything killed: services up, after the beginning of the start", up),
        Row("everything killed: the next run is started, counted from there", moves, 60.0),
        Row("the same, counted from when the services were up", less),
        Row(
            "what was on the GPU is started again, from the beginning", [one.again for one in found]
        ),
    ]


@dataclass(frozen=True)
class Reboot:
    """Seconds since the beginning of the start: services up, a run started, the cut one again."""

    up: float
    moves: float
    again: float


def _reboot(number: int) -> Reboot:
    from toy_services import finished_runs_of, new_home, toy_services

    with new_home() as home:
        _cut_the_power(home)
        began = time.time()
        with toy_services(home) as services:
            up = time.time() - began
            runs = finished_runs_of(services, "slow-20-cut-0")
            records = services.instance.get_run_records()
    starts = {record.dagster_run.run_id: record.start_time or 0.0 for record in records}
    moves = min(start for start in starts.values() if start > began) - began
    progress(f"reboot {number + 1}: up after {up:.1f} s, the queue moves after {moves:.1f} s")
    return Reboot(up, moves, starts[runs[-1].run_id] - began)


def _cut_the_power(home: Path) -> None:
    """Services on this home, and once a video is on the GPU everything is killed."""
    import psutil

    tests = str(Path(__file__).parents[1] / "tests")
    starter = subprocess.Popen([sys.executable, "-c", _SERVICES, str(home), tests])
    notes = home / "done.txt"
    # The second one's process waits for the GPU by then.
    _wait(lambda: notes.exists() and notes.read_text().count("decoded") == 2)
    parents = [
        psutil.Process(starter.pid),
        psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])),
    ]
    everything = [*parents, *(child for one in parents for child in one.children(recursive=True))]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended because another had
            process.kill()
    starter.wait()
    psutil.wait_procs(everything, timeout=10)


def _of_gpu_workers(times: int) -> list[Row]:
    from toy_services import new_home

    from resources.settings import load_settings

    python = load_settings().sam2_python
    if not python.exists():
        progress(f"There is no SAM2 environment ({python}): its worker is left out.")
        return []
    with new_home() as folder:
        from benchmarks.segmentation_clip import write_clip

        clip = folder / "clip.mp4"
        write_clip(clip, _CLIP_FRAMES)
        seconds = [_kill_a_gpu_worker(folder, clip, python, number) for number in range(times)]
    return [Row("GPU worker killed: the same step's next progress after", seconds, 10.0)]


def _kill_a_gpu_worker(folder: Path, clip: Path, python: Path, number: int) -> float:
    import dagster as dg
    import numpy as np

    from benchmarks.segmentation_clip import first_points
    from resources.segmenter import SegmentationRequest, Segmenter
    from tailor_assets.compute.prompts import ObjectPrompt

    frames = np.arange(_CLIP_FRAMES)
    request = SegmentationRequest(
        video_path=clip,
        masks_path=folder / f"masks{number}.npz",
        source_frames=frames,
        timestamps_s=frames / 30,
        height=480,
        width=640,
        objects=[("mouse", "animal"), ("nest", "nest")],
        prompts=[ObjectPrompt("mouse", "animal", *first_points()["mouse"], 0, "run config")],
    )
    killed: list[tuple[int, float]] = []
    went_on: list[float] = []

    def kill_once(done: int, total: int) -> None:
        worker = _sam2_worker()
        if not killed and total / 2 < done < total:
            killed.append((worker, time.monotonic()))
            os.kill(worker, signal.SIGKILL)
        # Of the dead one's, some words may still be on their way.
        elif killed and not went_on and worker not in (0, killed[0][0]):
            went_on.append(time.monotonic())

    @dg.asset
    def masks(
        context: dg.AssetExecutionContext, segmenter: Segmenter
    ) -> dg.MaterializeResult[None]:
        report = segmenter.segment(context, "tailor-nano", request, kill_once)
        assert report["worker_restarts"] == 1
        assert report["resumed"]
        return dg.MaterializeResult()

    segmenter = Segmenter(home=str(folder), sam2_python=str(python), linger_s=0.0)
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    dg.materialize([masks], resources={"segmenter": segmenter}, run_config=quiet)
    seconds = went_on[0] - killed[0][1]
    progress(f"GPU worker {number + 1}: went on after {seconds:.1f} s")
    return seconds


def _sam2_worker() -> int:
    """Its process number; 0 where there is none."""
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "sam2_worker" in child.cmdline():
                return child.pid
    return 0


def _wait(what: Callable[[], Any]) -> Any:
    from toy_services import wait_for

    return wait_for(what, seconds=180)


if __name__ == "__main__":
    raise SystemExit(main())
