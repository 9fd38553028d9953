"""Part 1: simulated clips with exact truth that no training has seen."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mask_quality.contenders import Contender
from benchmarks.mask_quality.recordings import Recording, click, frame_of, innermost_point
from benchmarks.mask_quality.report import Bar, Figure, Progress, markdown
from benchmarks.mask_quality.scores import ObjectScore, packed_iou, presence, seen_whole, worst_rows
from benchmarks.mask_quality.sheets import Shot
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.prompts import ObjectKind
from tailor_assets.compute.simulation.simulate import SIMULATOR_VERSION, simulate_video
from tailor_assets.compute.simulation.wide_scene import build_wide_scene

# Kept for judging: nothing may be trained or tuned on a video of such a seed.
EVALUATION_SEEDS = range(900_000_000, 1_000_000_000)
FRAMES = 300
WIDTH, HEIGHT = 640, 480
DURATION_S = FRAMES / 30
# Animals in a clip, by its seed: mostly one, as in recordings.
_ANIMALS = (1, 1, 2, 1, 1, 3)
# Seeds are looked at for the animal's size, so many for each that is taken.
_LOOKED_AT = 3
# As a share of the picture, and so of the network's square input: an animal from here on is large.
LARGE = 0.02


@dataclass(frozen=True)
class Clip:
    """One clip: its recording with a click per object, and the masks NPZ that is its truth."""

    name: str
    recording: Recording
    truth: Path
    looks: str


def choose_seeds(count: int) -> list[int]:
    """Evaluation seeds whose animals are spread evenly (in ratio) from the smallest to the largest.

    As they come, seeds would give mostly animals of middling size.
    """
    seeds = list(EVALUATION_SEEDS[: _LOOKED_AT * count])
    scenes = (
        build_wide_scene(
            seed, width=WIDTH, height=HEIGHT, duration_s=DURATION_S, animals=animals_of(seed)
        )
        for seed in seeds
    )
    lengths = np.log([scene.body_length for scene in scenes])
    chosen = []
    for wanted in np.linspace(lengths.min(), lengths.max(), count):
        nearest = int(np.argmin(np.abs(lengths - wanted)))
        chosen.append(seeds[nearest])
        lengths[nearest] = np.inf
    return chosen


def animals_of(seed: int) -> int:
    """How many animals the clip of a seed has."""
    return _ANIMALS[seed % len(_ANIMALS)]


def clips(folder: Path, count: int, progress: Progress) -> list[Clip]:
    """The clips that masks are judged on."""
    progress.begin("choosing simulated animals by size")
    made = []
    for number, seed in enumerate(choose_seeds(count)):
        progress.begin(f"simulating clip {number + 1} of {count}")
        clip = make_clip(folder, seed, progress)
        if clip.recording.objects:
            made.append(clip)
        else:
            print(f"{clip.name} left out: nothing is ever seen in it.")
    return made


def make_clip(folder: Path, seed: int, progress: Progress, *, variety: str = "wide") -> Clip:
    """Make the clip of a seed, or find it in ``folder`` where an earlier run has left it.

    ``variety`` is the simulator's; an everyday clip has one animal, and its nest.
    """
    path = folder / f"simulator-{SIMULATOR_VERSION}-{variety}-seed-{seed}.mp4"
    # The video is written last: where it is, so is its truth.
    if not path.exists():
        simulate_video(
            path,
            seed=seed,
            duration_s=DURATION_S,
            width=WIDTH,
            height=HEIGHT,
            variety=variety,
            animals=animals_of(seed) if variety == "wide" else None,
            progress=progress,
        )
    facts = json.loads(path.with_name(f"{path.stem}_truth.json").read_text())
    return clip_of(path, path.with_name(f"{path.stem}_truth.npz"), facts)


def clip_of(video: Path, truth_path: Path, facts: Mapping[str, Any]) -> Clip:
    """All objects of the truth but tails, each with a click; ``facts`` are the truth's JSON."""
    objects: list[tuple[str, ObjectKind]] = []
    clicks = []
    with MaskReader(truth_path) as truth:
        for name in truth.objects:
            # The animal is wanted without its tail, so nobody is asked for tails.
            if name.startswith("tail") or not truth.area(name).any():
                continue
            kind: ObjectKind = "nest" if name.startswith("nest") else "animal"
            row = first_well_visible(truth.area(name))
            objects.append((name, kind))
            x, y = innermost_point(truth.mask(name, row))
            clicks.append(click(x, y, int(truth.source_frame[row]), name, kind))
        recording = Recording(
            video,
            truth.source_frame,
            truth.timestamp_s,
            truth.height,
            truth.width,
            tuple(objects),
            tuple(clicks),
        )
    fields = ("species", "coat", "lighting", "arena", "floor")
    looks = ", ".join(str(facts[field]) for field in fields if field in facts)
    return Clip(f"seed {facts['seed']}", recording, truth_path, looks)


def first_well_visible(area: np.ndarray) -> int:
    """The row to click in: the first, or where that shows less than half of the object the first
    that shows as much. ``area`` int64 [N] is the true one, not 0 everywhere."""
    usual = np.median(area[area > 0])
    return int(np.argmax(area >= 0.5 * usual))


def score_clip(clip: Clip, masks_path: Path) -> list[ObjectScore]:
    """Judge the masks of one clip, object by object."""
    scores = []
    with MaskReader(clip.truth) as truth, MaskReader(masks_path) as masks:
        for name, kind in clip.recording.objects:
            pairs = zip(masks.iter_chunks(name), truth.iter_chunks(name), strict=True)
            area = truth.area(name)
            visible, absent = presence(area)
            scores.append(
                ObjectScore(
                    name=name,
                    is_nest=kind == "nest",
                    share=float(np.median(area[area > 0])) / (truth.height * truth.width),
                    iou=np.concatenate([packed_iou(ours, true) for (_, ours), (_, true) in pairs]),
                    visible=visible,
                    absent=absent,
                    whole=seen_whole(area),
                    empty=masks.area(name) == 0,
                )
            )
    return scores


def measure(
    contender: Contender, all_clips: Sequence[Clip], folder: Path, progress: Progress
) -> tuple[dict[str, list[ObjectScore]], list[Shot]]:
    """Segment every clip; return the scores by clip name, and the worst frames."""
    scores, files = {}, {}
    for number, clip in enumerate(all_clips):
        progress.begin(f"{contender.label}: simulated clip {number + 1} of {len(all_clips)}")
        files[clip.name] = folder / f"simulated-{number}.npz"
        contender.segment(clip.recording, files[clip.name], progress)
        scores[clip.name] = score_clip(clip, files[clip.name])
    return scores, list(_worst(all_clips, scores, files))


def _worst(
    all_clips: Sequence[Clip],
    scores: Mapping[str, Sequence[ObjectScore]],
    files: Mapping[str, Path],
) -> Iterator[Shot]:
    by_name = {
        f"{clip.name} {score.name}": (clip, score)
        for clip in all_clips
        for score in scores[clip.name]
    }
    goodness = {key: score.goodness for key, (_, score) in by_name.items()}
    for key, row in worst_rows(goodness, per_group=3):
        clip, score = by_name[key]
        with MaskReader(clip.truth) as truth, MaskReader(files[clip.name]) as masks:
            said = f"IoU {score.iou[row]:.2f}" if score.visible[row] else "not there, but found"
            yield Shot(
                partial(frame_of, clip.recording, int(truth.source_frame[row])),
                masks.mask(score.name, row),
                (f"{key} #{row}: {said}", f"{clip.looks}, {score.share:.1%} of the picture"),
                truth=truth.mask(score.name, row),
            )


def figures(scores: Sequence[ObjectScore]) -> list[Figure]:
    """In all. Every object counts the same, however long it is seen."""
    animals = [s for s in scores if not s.is_nest]
    large = [s.mean_iou for s in animals if s.share >= LARGE]
    small = [s.mean_iou for s in animals if s.share < LARGE]
    nests = [s.mean_iou for s in scores if s.is_nest]
    absent = np.sum([s.absent_called_absent for s in animals], axis=0)
    after = np.sum([s.found_after_return for s in animals], axis=0)
    return [
        Figure(
            f"mean IoU of bodies of >= {LARGE:.0%} of the picture", _mean(large), Bar(0.90),
            note=_count(large, "animals"),
        ),
        Figure("mean IoU of smaller bodies", _mean(small), Bar(0.80), note=_count(small, "animals")),
        Figure("mean IoU of nests", _mean(nests), Bar(0.85), note=_count(nests, "nests")),
        Figure(
            "fall of the bodies' IoU, frames 1-50 to 150-300",
            _mean([s.fall for s in animals]), Bar(high=0.03),
        ),
        Figure(
            "mean IoU of bodies where they are seen whole", _mean([s.mean_iou_whole for s in animals])
        ),
        Figure(
            "fall of the bodies' IoU where they are seen whole", _mean([s.fall_whole for s in animals])
        ),
        Figure(
            "frames without the animal called so, %", _percent(*absent), Bar(95), 1,
            note=f"of {absent[1]:,}",
        ),
        Figure(
            "frames in which it is found again, after its return, %", _percent(*after), None, 1,
            note=f"of {after[1]:,}",
        ),
    ]  # fmt: skip


def clips_table(
    all_clips: Sequence[Clip], scores: Mapping[str, Mapping[str, Sequence[ObjectScore]]]
) -> str:
    """Markdown: a row per object of each clip, a column per contender."""
    rows = []
    for clip in all_clips:
        for number, (name, _) in enumerate(clip.recording.objects):
            own = [by_clip[clip.name][number] for by_clip in scores.values()]
            rows.append(
                [clip.name, clip.looks, name, f"{own[0].share:.1%}", *(_describe(s) for s in own)]
            )
    return markdown(["clip", "looks", "object", "of the picture", *scores], rows)


def _describe(score: ObjectScore) -> str:
    text = f"{score.mean_iou:.3f}"
    if not np.isnan(score.fall):
        text += f", fall {score.fall:.3f}"
    if not np.isnan(score.fall_whole):
        text += f" (whole {score.fall_whole:.3f})"
    right, absent = score.absent_called_absent
    if absent and not score.is_nest:
        found, back = score.found_after_return
        text += f", absent {right} of {absent}, then found {found} of {back}"
    return text


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _percent(part: int, whole: int) -> float:
    return 100 * float(part) / float(whole) if whole else float("nan")


def _count(values: Sequence[float], what: str) -> str:
    return f"{sum(not np.isnan(value) for value in values)} {what}"
