"""How good the masks of any registered segmenter are, side by side with the background model.

    python -m benchmarks.mask_quality --segmenters background,NAME
    python -m benchmarks.mask_quality --weights FILE --config YAML --only simulated

Five parts: simulated clips with exact truth, kept from all training; the real open-field clip; 116
stills with a person's keypoints; an empty chamber; speed. Prints tables in markdown with the bars,
and with --sheets draws the worst frames. With --weights a checkpoint that is in no registry is
judged, in one process of the SAM2 environment, without the background model beside it.

A SAM2 model has two columns: "network alone" is without the background model's help for an animal
that was lost, "shipped" is what production does. The background model is what others are compared
with: the bars it misses are printed, and do not decide the exit status.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.mask_quality import empty_chamber, open_field, recordings, simulated, speed, stills
from benchmarks.mask_quality.contenders import (
    ENGINES,
    Contender,
    of_checkpoint,
    one_per_segmenter,
    registered,
)
from benchmarks.mask_quality.report import Figure, Progress, figures_table
from benchmarks.mask_quality.scores import ObjectScore
from benchmarks.mask_quality.sheets import Shot, write_sheet
from sam2_worker.request import ModelSpec
from tailor_assets.compute.errors import PermanentProblem

PARTS = ("simulated", "real", "stills", "empty", "speed")
_REFERENCE = "background"


def main() -> int:
    """Judge what is asked for; exit with 1 where a bar is missed, with 2 where nothing could run."""
    options = _options()
    if options.weights and find_spec("torch") is None:
        return _in_the_sam2_environment()
    try:
        contenders = _contenders(options)
        with tempfile.TemporaryDirectory(prefix="tailor-mask-quality-") as folder:
            bench = Bench(contenders, options, Path(folder))
            for part in PARTS if options.only is None else (options.only,):
                getattr(bench, part)()
    except PermanentProblem as problem:
        print(problem, file=sys.stderr)
        return 2
    print(f"\nBars missed, {_REFERENCE} apart: " + ("; ".join(bench.missed) or "none"))
    return 1 if bench.missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mask_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--segmenters", help=f"names of models.toml, with commas; default {_REFERENCE}"
    )
    parser.add_argument("--weights", type=Path, help="a checkpoint that is in no registry")
    parser.add_argument("--config", help="its YAML, or a file of the sam2 package (configs/...)")
    parser.add_argument(
        "--follow", action="store_true", help="with --weights: a view that follows each object"
    )
    parser.add_argument(
        "--refine", action="store_true", help="with --weights: edges moved to the picture's own"
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), help="one of the columns of SAM2 models"
    )
    parser.add_argument("--count", type=int, default=24, help="simulated clips; default 24")
    parser.add_argument(
        "--clips",
        type=Path,
        help="keep simulated clips here for the next run, while the simulator stays as it is",
    )
    parser.add_argument("--sheets", type=Path, help="draw the worst frames into this folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N, for --weights")
    parser.add_argument("--data", type=Path, default=recordings.REAL_DATA, help="real recordings")
    options = parser.parse_args()
    if bool(options.weights) != bool(options.config):
        parser.error("--weights and --config go together")
    if options.weights and options.segmenters:
        parser.error("--weights judges one checkpoint alone: leave --segmenters out")
    if options.weights and options.only == "speed":
        parser.error("speed is measured of registered segmenters only")
    if options.count < 1:
        parser.error("--count must be at least 1")
    return options


def _in_the_sam2_environment() -> int:
    from resources.settings import load_settings
    from resources.worker_process import worker_environment

    python = load_settings().sam2_python
    if not python.exists():
        print(
            f"--weights needs the SAM2 environment at {python}: run `make sam2`.", file=sys.stderr
        )
        return 2
    command = [str(python), "-m", "benchmarks.mask_quality", *sys.argv[1:]]
    return subprocess.run(command, env=worker_environment(), check=False).returncode


def _contenders(options: argparse.Namespace) -> list[Contender]:
    engines = [options.engine] if options.engine else list(ENGINES)
    if options.weights:
        config = options.config
        if not config.startswith("configs/"):
            config = str(Path(config).resolve())
        spec = ModelSpec(
            options.weights.name,
            config,
            str(options.weights.resolve()),
            follow=options.follow,
            refine=options.refine,
        )
        return of_checkpoint(spec, engines, options.device)
    names = (options.segmenters or _REFERENCE).split(",")
    return [contender for name in names for contender in registered(name.strip(), engines)]


class Bench:
    """The parts of one run, what they share, and the bars that were missed."""

    def __init__(
        self, contenders: Sequence[Contender], options: argparse.Namespace, folder: Path
    ) -> None:
        """Nothing is made yet."""
        self.missed: list[str] = []
        self._contenders = contenders
        self._options = options
        self._folder = folder
        self._clips = options.clips or folder / "clips"
        self._progress = Progress()

    def simulated(self) -> None:
        """Part 1."""
        all_clips = simulated.clips(self._clips, self._options.count, self._progress)
        scores: dict[str, Mapping[str, Sequence[ObjectScore]]] = {}

        def measure(contender: Contender) -> tuple[list[Figure], list[Shot]]:
            by_clip, shots = simulated.measure(contender, all_clips, self._folder, self._progress)
            scores[contender.label] = by_clip
            return simulated.figures([s for own in by_clip.values() for s in own]), shots

        self._part(
            f"{len(all_clips)} simulated clips of {simulated.FRAMES} frames",
            self._contenders,
            measure,
        )
        print("\n" + simulated.clips_table(all_clips, scores))

    def real(self) -> None:
        """Part 2."""
        truth = recordings.open_field(self._options.data)
        if truth is None:
            return self._skipped("open field")

        def measure(contender: Contender) -> tuple[list[Figure], list[Shot]]:
            return open_field.measure(contender, truth, self._folder, self._progress)

        self._part(
            f"open field, {len(truth.centroids):,} real frames",
            self._contenders,
            measure,
            "The trimaps were made from dark pixels: they show gross errors, not fine edges, and who "
            "segments by tone agrees with them best.",
        )

    def stills(self) -> None:
        """Part 3."""
        found = recordings.stills_with_keypoints(self._options.data)
        if found is None:
            return self._skipped("stills")
        self._progress.begin("stills: background model")
        prepared = stills.prepare(*found, self._folder)

        def measure(contender: Contender) -> tuple[list[Figure], list[Shot]]:
            return stills.measure(contender, prepared, self._folder, self._progress)

        self._part(f"{len(found[0])} stills", one_per_segmenter(self._contenders), measure)

    def empty(self) -> None:
        """Part 4."""
        video = recordings.empty_chamber(self._options.data)
        if video is None:
            return self._skipped("empty chamber")

        def measure(contender: Contender) -> tuple[list[Figure], list[Shot]]:
            return empty_chamber.measure(contender, video, self._folder, self._progress)

        self._part("empty chamber", self._contenders, measure)

    def speed(self) -> None:
        """Part 5."""
        if self._options.weights:
            print("\nSpeed skipped: it is measured of registered segmenters only.")
            return

        def measure(contender: Contender) -> tuple[list[Figure], list[Shot]]:
            figures = speed.measure(
                contender.segmenter, self._options.device, self._clips, self._folder, self._progress
            )
            return figures, []

        self._part(
            "speed",
            one_per_segmenter(self._contenders),
            measure,
            f"{os.cpu_count()} processors; load average at the start {os.getloadavg()[0]:.1f}: other "
            "work on the machine makes all of it slower, and not all the same.",
        )

    def _part(
        self,
        title: str,
        contenders: Sequence[Contender],
        measure: Callable[[Contender], tuple[list[Figure], list[Shot]]],
        remark: str = "",
    ) -> None:
        figures, seconds = {}, []
        for contender in contenders:
            started = time.monotonic()
            figures[contender.label], shots = measure(contender)
            seconds.append(f"{contender.label} {time.monotonic() - started:.0f} s")
            if contender.segmenter != _REFERENCE:
                self.missed += [
                    f"{contender.label}: {f.what}" for f in figures[contender.label] if f.missed
                ]
            if self._options.sheets and shots:
                heading = f"{title}: {contender.label}"
                name = "-".join("".join(c if c.isalnum() else " " for c in heading).split())
                write_sheet(self._options.sheets / f"{name}.png", heading, shots)
        taken = f"{remark} Taken: {', '.join(seconds)}.".strip()
        print(f"\n## {title}\n\n{figures_table(figures)}\n\n{taken}", flush=True)

    def _skipped(self, what: str) -> None:
        print(
            f"\n{what.capitalize()} SKIPPED: there are no real recordings at {self._options.data}."
        )


if __name__ == "__main__":
    sys.exit(main())
