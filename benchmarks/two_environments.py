"""The same videos in two environments, with one thread and with many: are the tables the same bytes?

    python -m benchmarks.two_environments ONE/.venv OTHER/.venv [--videos 3 --seconds 12 --seed 41]

ONE and OTHER are two clones, installed by ``make demo`` or by hand from ``constraints.txt``. The first
works on one core with one thread each in NumPy's, Torch's and Polars' pools, the other with four. Both
simulate the videos, run them with two segmenters, train a model from what the animal really did, and
run the first video again with that model. Every CSV and the model's file are compared by sha256. Ends
with 1 where one differs.
"""

import argparse
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.behavior_simulated import labels_of
from benchmarks.queue_parts import progress, verdict

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
_SEGMENTERS = ("background", "tailor-nano")


def main() -> int:
    """Do the same twice and print what was compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=41)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailor-two-") as folder:
        made = []
        for number, (environment, threads) in enumerate(((asked.one, 1), (asked.other, 4))):
            home = Path(folder) / str(number)
            _make(home, environment.absolute(), threads, asked)
            made.append({name: _hash(home / name) for name in _compared(home)})
    one, other = made
    different = sorted(
        name for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    )
    kinds = ("truth", "features", "prediction", "flags_predonly", "frames", "model.skops")
    print("| | one thread and four: files | differ |\n|---|---:|---:|")
    for kind in kinds:
        count, wrong = (
            sum(kind in Path(name).name for name in names) for names in (one, different)
        )
        print(f"| {kind} | {count} | {wrong} |")
    print(f"| all | {len(one)} | **{len(different)}** |")
    return verdict(different)


def _make(home: Path, environment: Path, threads: int, asked: argparse.Namespace) -> None:
    home.mkdir()
    env = os.environ | dict.fromkeys(_POOLS, str(threads)) | {"TAILOR_HOME": str(home / "home")}
    cores = sorted(os.sched_getaffinity(0))[: 1 if threads == 1 else None]

    def tailor(*words: str) -> None:
        progress(f"{environment.parent.name}, {threads} thread(s): {' '.join(words)}")
        subprocess.run(
            [str(environment / "bin" / "tailor"), *words],
            cwd=home,
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    tailor(
        "simulate", "videos", "--videos", str(asked.videos), "--seconds", str(asked.seconds),
        "--seed", str(asked.seed),
    )  # fmt: skip
    videos = sorted((home / "videos").glob("*.mp4"))
    (home / "labels").mkdir()
    for video in videos:
        labels = labels_of(video.with_name(f"{video.stem}_truth.csv"))
        labels.write_csv(home / "labels" / f"{video.stem}.csv")
        for segmenter in _SEGMENTERS:
            tailor("run", str(video), "--segmenter", segmenter, "--out", segmenter)
    tailor(
        "train", "--name", "again", "--labels", "labels", "--features", _SEGMENTERS[0],
        "--smoothing", "viterbi", "--no-learning-curve",
    )  # fmt: skip
    tailor(
        "run", str(videos[0]), "--segmenter", _SEGMENTERS[0], "--model", "again@1", "--out", "again"
    )


def _compared(home: Path) -> list[str]:
    """Paths below the home of what tailor has made and has to be the same."""
    paths = [
        path.relative_to(home) for path in home.rglob("*") if path.suffix in (".csv", ".skops")
    ]
    return [str(path) for path in paths if path.parts[0] != "labels"]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
