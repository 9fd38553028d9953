"""Segmentation beside the official SAM2 predictor: speed, agreement, memory, resuming.

    python -m benchmarks.segmentation                 # on the CPU
    python -m benchmarks.segmentation --device cuda   # on an NVIDIA GPU, with its own bars

Each contender runs in a process of its own, from the video file to the NPZ, on the same clip, with
the same weights and clicks. The order is changed from round to round and medians are compared,
because machines are noisy. Weights: fitted_weights.py says which and why; with --weights the
official checkpoints are used.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.segmentation_clip import first_points, write_clip
from resources.settings import PROJECT_ROOT, load_settings
from resources.worker_process import worker_environment
from sam2_worker.request import Click, EngineSettings, ModelSpec, WorkerRequest, write_frame_table
from tailor_assets.commands.bench_segment import mask_iou, open_clip, run_contender, show

_OBJECTS = (("mouse", "animal"), ("nest", "nest"))
_CHECKPOINT_FRAMES = 100


@dataclass(frozen=True)
class Subject:
    """A model to measure: its configuration, input size, and how long a clip it is given."""

    name: str
    config: str
    image_size: int
    frames: int
    height: int = 480


CPU_SUBJECTS = (
    Subject("small configuration, 256 px", "small.yaml", 256, 300),
    Subject("SAM 2.1 tiny, 512 px", "configs/sam2.1/sam2.1_hiera_t.yaml", 512, 40),
)
GPU_SUBJECTS = (
    Subject("SAM 2.1 tiny, 1024 px", "configs/sam2.1/sam2.1_hiera_t.yaml", 1024, 2000, 1080),
    Subject("SAM 2.1 base+, 1024 px", "configs/sam2.1/sam2.1_hiera_b+.yaml", 1024, 2000, 1080),
)


def main() -> int:
    """Run what is asked for; exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "memory", "kill"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailor-segmentation-") as folder:
        bench = Bench(Path(folder), options.device, options.rounds)
        missed = []
        if options.only in (None, "speed"):
            missed += bench.speed_on_gpu() if options.device == "cuda" else bench.speed_on_cpu()
        if options.device == "cpu" and options.only in (None, "memory"):
            missed += bench.memory()
        if options.device == "cpu" and options.only in (None, "kill"):
            missed += bench.kills()
    print("\nBars missed: " + ("; ".join(missed) or "none"))
    return 1 if missed else 0


class Bench:
    """Clips and weights of one run of the benchmark."""

    def __init__(self, folder: Path, device: str, rounds: int) -> None:
        """Nothing is made yet."""
        self._folder = folder
        self._device = device
        self._rounds = rounds
        self._python = load_settings().sam2_python

    def speed_on_cpu(self) -> list[str]:
        """The bars of two objects on the CPU."""
        missed = []
        for subject in CPU_SUBJECTS:
            rows = self._compare(subject, ("official", "exact", "tailor"), tuple(_OBJECTS))
            exact, default = rows[1], rows[2]
            ratio = rows[0]["seconds"] / exact["seconds"]
            missed += _bar(f"{subject.name}: exact, fp32", ratio, 1.1)
            missed += _bar(f"{subject.name}: default", rows[0]["seconds"] / default["seconds"], 1.8)
            for name, iou in default["iou"].items():
                missed += _bar(f"{subject.name}: IoU of the {name}", iou, 0.99)
        return missed

    def speed_on_gpu(self) -> list[str]:
        """The bars of one and two objects on a GPU."""
        missed = []
        for subject in GPU_SUBJECTS:
            alone = {}
            for objects in (_OBJECTS[:1], _OBJECTS):
                rows = self._compare(
                    subject, ("official", "official-compiled", "exact", "tailor"), objects
                )
                label = f"{subject.name}, {len(objects)} object(s)"
                ours = rows[2]["seconds"]
                missed += _bar(f"{label}: to eager", rows[0]["seconds"] / ours, 2.0)
                missed += _bar(f"{label}: to compiled", rows[1]["seconds"] / ours, 1.2)
                alone[len(objects)] = ours
            cost = alone[2] / alone[1] - 1
            print(f"\nThe second object costs {cost:.0%}")
            missed += _bar(f"{subject.name}: 1.3 - cost of the second object", 1.3 - cost, 1.0)
        return missed

    def _compare(
        self, subject: Subject, contenders: tuple[str, ...], objects: tuple[Any, ...]
    ) -> list[dict[str, Any]]:
        clip = open_clip(self._clip(subject.frames, subject.height), subject.frames)
        fields = self._fields(subject, objects)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
        for number in range(self._rounds):
            order = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
            for name in order:
                path = self._folder / f"{name}.npz"
                runs[name].append(run_contender(name, clip, fields, self._python, path))
                print(
                    f"round {number + 1}: {name} {runs[name][-1]['seconds']:.1f} s",
                    file=sys.stderr,
                )
        rows = []
        for name in contenders:
            middle = median(run["seconds"] for run in runs[name])
            row = min(runs[name], key=lambda run: abs(run["seconds"] - middle))
            if not name.startswith("official"):
                row["iou"] = mask_iou(self._folder / f"{name}.npz", self._folder / "official.npz")
            rows.append(row)
        print(
            f"\n### {subject.name}: {subject.frames} frames of {subject.height}p, "
            f"{len(objects)} object(s), {rows[0]['device']}, median of {self._rounds}\n"
        )
        print(show(rows))
        return rows

    def memory(self) -> list[str]:
        """Peak resident memory does not depend on the video's length."""
        peaks = {}
        for frames in (1_000, 20_000):
            subject = Subject("small configuration, 256 px", "small.yaml", 256, frames)
            clip = open_clip(self._clip(frames, 480), frames)
            row = run_contender(
                "tailor", clip, self._fields(subject, _OBJECTS), self._python,
                self._folder / "memory.npz",
            )  # fmt: skip
            peaks[frames] = row["peak_memory_mb"]
            print(f"\n{frames:,} frames: peak resident memory {peaks[frames]:,.0f} MB "
                  f"({row['frames_per_second']:.1f} frames/s)")  # fmt: skip
        growth = peaks[20_000] - peaks[1_000]
        print(f"growth {growth:.0f} MB (bar: 50)")
        return [] if growth <= 50 else [f"memory grows by {growth:.0f} MB"]

    def kills(self, count: int = 20, frames: int = 3_000) -> list[str]:
        """Killed at random moments, a segmentation ends with the same bytes."""
        subject = Subject("small configuration, 256 px", "small.yaml", 256, frames)
        clip = self._clip(frames, 480)
        started = time.monotonic()
        whole = self._folder / "whole.npz"
        self._start(subject, clip, whole, self._folder / "kept-whole").wait()
        seconds = time.monotonic() - started
        broken, kept = self._folder / "broken.npz", self._folder / "kept-broken"
        random.seed(1)
        done_again, killed, written = [], 0, 0
        while True:
            log = self._folder / "log"
            process = self._start(subject, clip, broken, kept, log)
            try:
                limit = random.uniform(1.0, 2 * seconds / count + 3) if killed < count else None
                process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            begun = _numbers(log, r"going on forward from step (\d+)")
            if killed and (begun or _numbers(log, r"written (\d+)")):
                # One that was killed before it began to track has done nothing again.
                done_again.append(written - (begun[0] if begun else 0))
            if process.returncode != -signal.SIGKILL:
                break
            killed += 1
            written = max([written, *_numbers(log, r"written (\d+)")])
        same = whole.read_bytes() == broken.read_bytes()
        most = max(done_again, default=0)
        print(
            f"\n{frames:,} frames in {seconds:.0f} s; killed {killed} times; the NPZ is "
            f"{'identical' if same else 'DIFFERENT'}; most frames done again after a kill: {most} "
            f"(bar: {_CHECKPOINT_FRAMES})"
        )
        missed = [] if same else ["the NPZ differs after kills"]
        return missed + ([] if most <= _CHECKPOINT_FRAMES else [f"{most} frames done again"])

    def _start(
        self, subject: Subject, clip: Path, masks: Path, kept: Path, log: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        table = self._folder / "table.npz"
        frames = np.arange(subject.frames)
        write_frame_table(table, frames, frames / 30)
        request = WorkerRequest(
            video_path=str(clip),
            identity="clip",
            masks_path=str(masks),
            frame_table=str(table),
            height=480,
            width=640,
            locks_folder=str(self._folder / "locks"),
            checkpoint_folder=str(kept),
            settings=EngineSettings(checkpoint_frames=_CHECKPOINT_FRAMES),
            **self._fields(subject, _OBJECTS),
        )
        job = self._folder / "job.json"
        job.write_text(json.dumps({"contender": "tailor", "request": request.to_extras()}))
        with (log or self._folder / "log.whole").open("w") as out:
            return subprocess.Popen(
                [self._python, "-m", "sam2_worker.contender", str(job)],
                env=worker_environment(),
                stdout=out,
                stderr=out,
            )

    def _clip(self, frames: int, height: int) -> Path:
        path = self._folder / f"clip-{frames}-{height}.mp4"
        if not path.exists():
            write_clip(path, frames, height, {480: 640, 1080: 1920}[height])
        return path

    def _fields(self, subject: Subject, objects: tuple[Any, ...]) -> dict[str, Any]:
        points = first_points(subject.height)
        config = subject.config
        if not config.startswith("configs/"):
            config = str(PROJECT_ROOT / "benchmarks" / config)
        return {
            "objects": objects,
            "clicks": tuple(Click(name, *points[name], 0) for name, _ in objects),
            "model": ModelSpec(
                subject.name, config, str(self._weights(subject, config)), None, subject.image_size
            ),
            "device": self._device,
        }

    def _weights(self, subject: Subject, config: str) -> Path:
        path = self._folder / f"{Path(config).stem}-{subject.image_size}.pt"
        if not path.exists():
            job = self._folder / "fit.json"
            job.write_text(
                json.dumps(
                    {
                        "seed": 3,
                        "config": config,
                        "image_size": subject.image_size,
                        "checkpoint": str(path),
                    }
                )
            )
            command = [self._python, "-m", "benchmarks.fitted_weights", str(job)]
            subprocess.run(command, env=worker_environment(), check=True, stdout=sys.stderr)
        return path


def _numbers(log: Path, pattern: str) -> list[int]:
    return [int(found) for found in re.findall(pattern, log.read_text())]


def _bar(what: str, reached: float, bar: float) -> list[str]:
    print(f"- {what}: {reached:.3f} (bar: {bar})")
    return [] if reached >= bar else [f"{what}: {reached:.3f} of {bar}"]


if __name__ == "__main__":
    sys.exit(main())
