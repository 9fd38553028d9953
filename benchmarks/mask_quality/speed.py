"""Part 5: frames per second with two objects, beside the official predictor with the same weights."""

from pathlib import Path
from statistics import median

from benchmarks.mask_quality.report import Bar, Figure, Progress
from benchmarks.mask_quality.simulated import EVALUATION_SEEDS, make_clip
from tailor_assets.commands.bench_segment import bench_segment, open_clip, run_contender

_ROUNDS = 3
# The last one, so that it is none of the clips that masks are judged on.
_SEED = EVALUATION_SEEDS[-1]


def measure(
    name: str, device: str, clips_folder: Path, folder: Path, progress: Progress
) -> list[Figure]:
    """Segment a simulated animal and its nest, from the video file to the NPZ, model loaded.

    ``name``: a registered segmenter. SAM2 runs in a process of its own; the order changes from round
    to round and medians are compared, because machines are noisy.
    """
    from resources.segmenter import Segmenter
    from resources.settings import load_settings
    from sam2_worker.request import Click

    recording = make_clip(clips_folder, _SEED, progress, variety="everyday").recording
    frames = len(recording.source_frames)
    objects, points = recording.objects[:2], recording.prompts[:2]
    registry = Segmenter().registry()
    entry = registry.get(name)
    progress.begin(f"{name}: speed")
    if entry.kind == "background":
        rows = bench_segment(
            recording.video, segmenter=name, points={p.name: (p.x, p.y) for p in points},
            frames=frames, device=device, precision=None, contenders=(),
        )  # fmt: skip
        return [_rate(rows[0]["frames_per_second"])]
    fields = {
        "objects": objects,
        "clicks": tuple(Click(p.name, p.x, p.y, p.source_frame) for p in points),
        "model": registry.spec(entry),
        "device": device,
    }
    seconds: dict[str, list[float]] = {"official": [], "tailor": []}
    clip = open_clip(recording.video, frames)
    for number in range(_ROUNDS):
        order = list(seconds) if number % 2 == 0 else list(reversed(seconds))
        for contender in order:
            progress.begin(f"{name}: speed, round {number + 1} of {_ROUNDS}, {contender}")
            row = run_contender(
                contender, clip, fields, load_settings().sam2_python, folder / f"{contender}.npz"
            )
            seconds[contender].append(row["seconds"])
    ours, official = median(seconds["tailor"]), median(seconds["official"])
    return [
        _rate(frames / ours),
        Figure("the official predictor's frames/s", frames / official, None, 1),
        Figure("times as fast as the official predictor", official / ours, Bar(2.0), 2),
    ]


def _rate(value: float) -> Figure:
    return Figure("frames/s, two objects", value, Bar(20), 1)
