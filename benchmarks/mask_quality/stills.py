"""Part 3: unrelated pictures with a person's keypoints, each segmented on its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.mask_quality.contenders import Contender
from benchmarks.mask_quality.recordings import (
    KEYPOINTS,
    Recording,
    click,
    innermost_point,
    read_picture,
    write_lossless,
)
from benchmarks.mask_quality.report import Bar, Figure, Progress
from benchmarks.mask_quality.scores import points_inside
from benchmarks.mask_quality.sheets import Shot
from tailor_assets.compute.background.background_segmenter import segment_stills
from tailor_assets.compute.mask_file import MaskReader

_SHOWN = 12
_FPS = 30


@dataclass(frozen=True)
class Stills:
    """Picture files, keypoints float64 [S, P, 2] (x, y), the background model's masks of them
    (bool [H, W] each, empty where it finds nothing) and one lossless video of all."""

    pictures: Sequence[Path]
    keypoints: np.ndarray
    background: Sequence[np.ndarray]
    video: Path


def prepare(pictures: Sequence[Path], keypoints: np.ndarray, folder: Path) -> Stills:
    """Segment the pictures with the background model, and put them into a video."""
    video = folder / "stills.mkv"
    write_lossless(video, pictures)
    found = [masks[0].mask for masks in segment_stills(pictures)]
    return Stills(pictures, keypoints, found, video)


def measure(
    contender: Contender, stills: Stills, folder: Path, progress: Progress
) -> tuple[list[Figure], list[Shot]]:
    """The background model needs no point; a network is given its point, then a person's."""
    if contender.engine is None:
        return _judge("without a point", stills, stills.background)
    middles = [tuple(points.mean(axis=0)) for points in stills.keypoints]
    found = [innermost_point(mask) if mask.any() else None for mask in stills.background]
    figures, shots = [], []
    for how, points in (("background's point", found), ("person's middle point", middles)):
        masks = []
        for number, point in enumerate(points):
            progress.begin(f"{contender.label}: still {number + 1} of {len(points)}, {how}")
            masks.append(_segment_one(contender, stills, number, point, folder, progress))
        more, worst = _judge(how, stills, masks)
        figures += more
        shots += worst[: _SHOWN // 2]
    return figures, shots


def _segment_one(
    contender: Contender,
    stills: Stills,
    number: int,
    point: tuple[float, float] | None,
    folder: Path,
    progress: Progress,
) -> np.ndarray:
    height, width = stills.background[number].shape
    if point is None:
        return np.zeros((height, width), bool)
    masks_path = folder / "still.npz"
    recording = Recording(
        stills.video,
        np.array([number]),
        np.arange(len(stills.pictures)) / _FPS,
        height,
        width,
        (("mouse", "animal"),),
        (click(*point, number),),
    )
    contender.segment(recording, masks_path, progress)
    with MaskReader(masks_path) as masks:
        return masks.mask("mouse", 0)


def _judge(
    how: str, stills: Stills, masks: Sequence[np.ndarray]
) -> tuple[list[Figure], list[Shot]]:
    inside = np.array(
        [points_inside(mask, own) for mask, own in zip(masks, stills.keypoints, strict=True)]
    )
    areas = np.array([np.count_nonzero(mask) for mask in masks])
    each = ", ".join(
        f"{part} {share:.1%}" for part, share in zip(KEYPOINTS, inside.mean(axis=0), strict=True)
    )
    share, area = float(100 * inside.mean()), float(np.median(areas))
    figures = [
        Figure(f"{how}: % of {inside.size} human points in the mask grown by 5 px", share, Bar(98),
               2, note=each),
        Figure(f"{how}: median area, px", area, Bar(4000, 6500), 0),
    ]  # fmt: skip
    # Fewest points inside first, then the area least like the others'.
    oddness = np.abs(np.log(np.maximum(areas, 1) / max(area, 1.0)))
    order = np.lexsort([-oddness, inside.sum(axis=1)])
    return figures, [
        Shot(
            partial(read_picture, stills.pictures[i]),
            masks[i],
            (f"{stills.pictures[i].name}, {how}",
             f"{inside[i].sum()} of {inside.shape[1]} points inside, {areas[i]:,} px"),
            points=stills.keypoints[i],
        )
        for i in order[:_SHOWN]
    ]  # fmt: skip
