"""What tailor adds to the work itself: from a file at rest to its manifest, and `tailor run`.

    python -m benchmarks.overhead

Starts the whole of tailor, drops 10 s videos one after the other, and takes the wall time from the
rename that puts the file in place to the manifest; then `tailor run` on the same file, beside the
segmentation alone in a bare process. Bars: 25 s, and 8 s plus segmentation.
"""

import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tailor_assets.compute.simulation.simulate import simulate_video
from tailor_assets.services.start import start_services

REPEATS = 3
BAR_SERVER_S, BAR_RUN_S = 25.0, 8.0


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory(prefix="tailor-overhead-") as folder:
        work = Path(folder)
        clip = work / "clip.mp4"
        simulate_video(clip, seed=5, duration_s=10)
        served = _through_the_server(work, clip)
        runs = [_tailor_run(work, clip, n) for n in range(REPEATS)]
    print("| | seconds, median (all) | bar |")
    print("|---|---|---|")
    print(f"| 10 s video, file at rest to manifest | {_figures(served)} | {BAR_SERVER_S:.0f} |")
    over = [total - segmenting for total, segmenting in runs]
    print(f"| `tailor run`, whole | {_figures([total for total, _ in runs])} | |")
    print(f"| of which segmentation | {_figures([part for _, part in runs])} | |")
    print(f"| `tailor run` less segmentation | {_figures(over)} | {BAR_RUN_S:.0f} |")


def _figures(values: list[float]) -> str:
    every = ", ".join(f"{value:.1f}" for value in values)
    return f"**{statistics.median(values):.1f}** ({every})"


def _through_the_server(work: Path, clip: Path) -> list[float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    drive = work / "drive"
    drive.mkdir()
    times = []
    with start_services(
        work / "home",
        port=port,
        environment={"TAILOR_DRIVE_ROOT": str(drive), "TAILOR_SEGMENTER": "background"},
    ) as running:
        for number in range(REPEATS):
            folder = drive / "lab" / "tailor" / "videos" / f"clip {number}"
            folder.mkdir(parents=True)
            shutil.copyfile(clip, folder / ".clip.mp4")
            start = time.monotonic()
            (folder / ".clip.mp4").rename(folder / "clip.mp4")
            manifest = drive / "lab" / "tailor" / "results" / folder.name / "manifest.json"
            while not manifest.exists():
                running.check()
                if time.monotonic() - start > 300:
                    raise SystemExit("no manifest after 300 s; see the logs")
                time.sleep(0.05)
            times.append(time.monotonic() - start)
            # Let the frames of this one be published, so that the next is measured alone.
            while not (manifest.parent / "frames").is_dir() or _busy(running):
                time.sleep(0.2)
    return times


def _busy(running: object) -> bool:
    import dagster as dg

    unfinished = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING,
                  dg.DagsterRunStatus.STARTED]  # fmt: skip
    runs = running.instance.get_runs(dg.RunsFilter(statuses=unfinished), limit=1)  # type: ignore[attr-defined]
    return bool(runs)


def _tailor_run(work: Path, clip: Path, number: int) -> tuple[float, float]:
    """Wall seconds of the command, and those of its segmentation as its metadata says."""
    out = work / f"run{number}"
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "tailor_assets.cli", "run", str(clip), "--out", str(out)],
        check=True,
        capture_output=True,
    )
    total = time.monotonic() - start
    manifest = json.loads((out / "clip" / "manifest.json").read_text())
    return total, float(manifest["segmentation_seconds"])


if __name__ == "__main__":
    main()
