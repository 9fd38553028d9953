"""A new model over everything: predictions and flags of a thousand videos, from the web page.

    python -m benchmarks.backfill [--videos 1000 --rows 9000 --model rules]

The whole of tailor, as ``tailor up`` runs it. One drawn video is processed; its artifacts are copied
to as many partitions (the pictures as one folder), and of one of these the features are cut off. Then
the two assets are selected and launched for all partitions, with the call that the web page makes, and
the time counts until the backfill is over. ``--model trained``: a gradient boosting that is trained on
the drawn video's own behaviour. Bars: 360 s for 1,000 videos of 9,000 rows; all but the damaged one
scored. Needs 20 MB a video on the disk.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus

from benchmarks.behavior_simulated import labels_of
from benchmarks.queue_parts import progress, verdict
from resources.artifact_store import ArtifactStore
from tailor_assets.compute.simulation.simulate import SimulationTruth, simulate_video

if TYPE_CHECKING:
    from crash_lab import CrashLab

BAR_S = 360.0
ASSETS = ("predictions", "flags")
_NEEDED = ("frames", "prompts", "features")
_FPS = 30
_UNDER_WAY = (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING, BulkActionStatus.CANCELING)


def main() -> int:
    """Process one video, multiply it, score all, print the table."""
    from crash_lab import crash_lab, wait_until
    from toy_services import launch_backfill

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=9000)
    parser.add_argument("--model", choices=("rules", "trained"), default="rules")
    asked = parser.parse_args()
    with crash_lab() as lab:
        clip = lab.home / "drawn" / "clip.mp4"
        clip.parent.mkdir()
        truth = simulate_video(clip, seed=77, duration_s=asked.rows / _FPS, fps=_FPS)
        lab.up()
        settings = {"px_per_cm": truth.px_per_cm, "stride": 1}
        folder = lab.drop(clip, "lab", "drawn", settings)
        progress("one video is processed")
        wait_until((folder / "manifest.json").exists, 1800, "results of the drawn video")
        store = ArtifactStore(root=str(lab.home / "artifacts"))
        with lab.instance() as instance:
            [first] = instance.get_dynamic_partitions("videos")
            rows = store.read_table(first, "features").height
            progress(f"its {rows} rows go to {asked.videos} videos")
            keys = [f"lab--copy-{number:04d}--{number:08x}" for number in range(asked.videos)]
            for key in keys:
                _copy(store, first, key)
            damaged = keys[asked.videos // 2]
            table = Path(str(store.path(damaged, "features.parquet")))
            table.write_bytes(table.read_bytes()[:1000])
            instance.add_dynamic_partitions("videos", keys)
            config: dict[str, Any] = {}
            if asked.model == "trained":
                progress("a model is trained")
                name = _train(lab, truth, folder.parent)
                config = {"ops": {"predictions_and_flags": {"config": {"model": name}}}}
            progress("the backfill begins")
            began = time.monotonic()
            backfill = launch_backfill(f"http://127.0.0.1:{lab.port}", ASSETS, keys, config)
            while (status := instance.get_backfill(backfill).status) in _UNDER_WAY:
                runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
                progress(
                    f"{time.monotonic() - began:4.0f} s: {status.value}, "
                    f"{sum(store.record(key, ASSETS[-1]) is not None for key in keys)} scored, "
                    f"runs {', '.join(run.status.value for run in runs)}"
                )
                time.sleep(2 if asked.videos < 100 else 10)
            seconds = time.monotonic() - began
            runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
        scored = {
            name: [key for key in keys if store.record(key, name) is not None] for name in ASSETS
        }
    missed = []
    print(
        f"| backfill of {asked.videos} videos of {rows} rows, {asked.model} | | bar |\n|---|---:|---:|"
    )
    print(f"| launched to over, s | **{seconds:.0f}** | {BAR_S:.0f} for 1,000 |")
    for name in ASSETS:
        print(f"| {name} made | {len(scored[name])} | {asked.videos - 1} |")
    states = [run.status.value for run in runs]
    print(
        f"| runs: succeeded, failed | {states.count('SUCCESS')}, {states.count('FAILURE')} | "
        "one failed |"
    )
    if seconds > BAR_S * asked.videos / 1000:
        missed.append(f"{seconds:.0f} s")
    if any(set(keys) - set(found) != {damaged} for found in scored.values()):
        missed.append("exactly the damaged video is without predictions and flags")
    if states.count("FAILURE") != 1:
        missed.append(f"{states.count('FAILURE')} failed runs")
    return verdict(missed)


def _copy(store: ArtifactStore, source: str, target: str) -> None:
    """The artifacts that scoring reads, as files of their own; the pictures by name alone."""
    there, here = (Path(str(store.folder(key))) for key in (source, target))
    here.mkdir(parents=True)
    for name in _NEEDED:
        for file in store.require(source, name).files:
            if (there / file).is_dir():
                os.symlink(there / file, here / file)
            else:
                shutil.copyfile(there / file, here / file)
        shutil.copyfile(there / f"{name}.json", here / f"{name}.json")


def _train(lab: "CrashLab", truth: SimulationTruth, results: Path) -> str:
    """A model of what the animal really does in the drawn video; its name and version."""
    labels = lab.home / "labels"
    labels.mkdir()
    labels_of(truth.behaviors_path).write_csv(labels / "drawn.csv")
    subprocess.run(
        [sys.executable, "-m", "tailor_assets.cli", "train", "--name", "drawn",
         "--labels", str(labels), "--features", str(results),
         # Both are for the time it takes; a calibration would cost the backfill nothing.
         "--calibration", "none", "--no-learning-curve"],
        env={**os.environ, "TAILOR_HOME": str(lab.home)}, check=True, stdout=sys.stderr,
    )  # fmt: skip
    return "drawn@1"


if __name__ == "__main__":
    raise SystemExit(main())
