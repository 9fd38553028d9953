"""The ``background`` segmenter: masks of animals and nests before a static camera, no weights.

Two passes over the video. The first samples frames and learns the empty scene and the animal's
appearance (``background_model``, ``animal_appearance``). The second finds candidates in each frame
(``body_mask``); they wait in a temporary file until all are known, are linked from the clicked
frame to both ends (``animal_tracks``), and are written in order.

A later point of an object corrects it from its frame on. What is learnt of the scene is learnt from
each object's first point, so that the frames before a correction keep their masks to the pixel.

An object's score is 0 where it is lost, else how much the mask looks like the whole animal of this
recording: ``contrast * likeness * size``, each 0..1. Contrast falls where the animal stands out
from the floor by less than a dozen standard deviations of the noise; likeness where its tone is not
the usual one; size where its area is not (a factor of 2 costs half). A mask that two touching
animals share is divided between them and its score is halved; so is that of an animal that never
leaves its place, which only the click tells from the floor. Where nothing is seen outside, an
animal is looked for in the nests by its tone alone; such a mask scores 0.15 to 0.5.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from tailor_assets.compute.background.animal_appearance import Click
from tailor_assets.compute.background.animal_tracks import WORST_QUALITY, divide, follow
from tailor_assets.compute.background.background_model import BackgroundModel
from tailor_assets.compute.background.body_mask import Appearance, BodyFinder, Candidate
from tailor_assets.compute.background.candidate_store import CandidateStore
from tailor_assets.compute.background.frame_samples import sample_frames
from tailor_assets.compute.background.nest_region import grow_nest
from tailor_assets.compute.background.scene_learning import Scene, learn_scene
from tailor_assets.compute.background.scene_memory import take_scene
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.prompts import ObjectPrompt
from tailor_assets.compute.recording.frame_source import read_frames

_T = TypeVar("_T")

SEGMENTER_NAME = "background"
_PROGRESS_EVERY = 16


@dataclass(frozen=True)
class StillMask:
    """The animal in one still: ``mask`` bool [H, W] (empty where there is none), ``score`` 0..1."""

    mask: np.ndarray
    score: float


def segment_with_background(
    video_path: str | Path,
    *,
    source_frames: np.ndarray,
    timestamps_s: np.ndarray,
    height: int,
    width: int,
    prompts: Sequence[ObjectPrompt],
    objects: Sequence[tuple[str, str]],
    writer: MaskWriter,
    video_timestamps_s: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Segment the chosen frames of a video and append them to ``writer``, in order.

    ``source_frames`` int64 [N] (increasing) and ``timestamps_s`` float64 [N] name the frames;
    ``objects`` are (name, kind) of all objects of the template; an object without a prompt gets
    empty masks. ``prompts``: any number per object; those of one object on one frame are together
    one click. ``progress(done, total)`` counts rows. Memory does not grow with the recording
    but for some hundred bytes per frame.

    Raises ``PermanentProblem`` when a prompt lies outside the picture or nothing can be read.
    """
    source_frames = np.asarray(source_frames, np.int64)
    total = len(source_frames)
    for prompt in prompts:
        if not (0 <= prompt.x < width and 0 <= prompt.y < height):
            raise PermanentProblem(
                f"The point of {prompt.name} ({prompt.x:g}, {prompt.y:g}) lies outside the "
                f"{width}x{height} picture; give a point inside it."
            )
    kinds = dict(objects)
    animals = _by_frame([p for p in prompts if kinds.get(p.name, p.kind) == "animal"])
    nests = _by_frame([p for p in prompts if kinds.get(p.name, p.kind) == "nest"])
    empty = np.zeros((height, width), bool)
    if not total:
        return
    clicks = [[_middle(group) for group in groups] for groups in animals.values()]
    scene = _scene(video_path, source_frames, [own[0] for own in clicks], video_timestamps_s)
    model, appearance = scene.model, scene.appearance if animals else None
    fixed = {name: _nest_over_time(model, nests[name], source_frames) for name in nests}
    with CandidateStore() as store:
        if appearance is not None:
            finders = _finders(model, appearance, list(fixed.values()))
            _collect(video_path, source_frames, finders, store, progress)
        tracks = follow(
            store.records,
            store.first_of_rows(total),
            [_clicked_places(own, source_frames) for own in clicks],
            body_length=2 * np.sqrt(appearance.area) if appearance is not None else 1.0,
            frames_per_row=float(np.median(np.diff(source_frames))) if total > 1 else 1.0,
        )
        names, last = list(animals), [(own[0].x, own[0].y) for own in clicks]
        for row in range(total):
            masks = {name: empty for name, _ in objects}
            scores = {name: 0.0 for name, _ in objects}
            for name, nest in fixed.items():
                masks[name], scores[name] = _in_force(nest, row)
            for i, (mask, score, place) in _animals_of_row(store, tracks[:, row], last, empty):
                masks[names[i]] = mask
                scores[names[i]] = score * (0.5 if scene.resting else 1.0)
                last[i] = place
            writer.append(
                source_frame=int(source_frames[row]),
                timestamp_s=float(timestamps_s[row]),
                masks=masks,
                scores=scores,
            )
    if progress is not None:
        progress(total, total)


def _by_frame(prompts: Sequence[ObjectPrompt]) -> dict[str, list[list[ObjectPrompt]]]:
    """Per object, its points in groups of one frame, by frame."""
    groups: dict[str, dict[int, list[ObjectPrompt]]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.name, {}).setdefault(prompt.source_frame, []).append(prompt)
    return {name: [own[frame] for frame in sorted(own)] for name, own in groups.items()}


def _middle(group: Sequence[ObjectPrompt]) -> ObjectPrompt:
    """Of points on one frame, the one nearest to their mean, which may itself be beside the body."""
    x, y = np.mean([(p.x, p.y) for p in group], axis=0)
    return min(group, key=lambda p: (p.x - x) ** 2 + (p.y - y) ** 2)


def _clicked_places(
    clicks: Sequence[ObjectPrompt], source_frames: np.ndarray
) -> list[tuple[int, float, float]]:
    """(row, x, y) of an animal's clicks: the first on the nearest row, corrections never earlier."""
    row = int(np.abs(source_frames - clicks[0].source_frame).argmin())
    places = [(row, clicks[0].x, clicks[0].y)]
    for click in clicks[1:]:
        row = max(row, int(np.searchsorted(source_frames, click.source_frame)))
        if row < len(source_frames):
            places.append((row, click.x, click.y))
    return places


def _nest_over_time(
    model: BackgroundModel, groups: Sequence[Sequence[ObjectPrompt]], source_frames: np.ndarray
) -> list[tuple[int, tuple[np.ndarray, float]]]:
    """(first row, (mask bool [H, W], score)) of a nest for each frame that it was pointed at in."""
    nest: list[tuple[int, tuple[np.ndarray, float]]] = []
    for group in groups:
        grown = [grow_nest(model, p.x, p.y) for p in group]
        mask = np.any([mask for mask, _ in grown], axis=0)
        row = int(np.searchsorted(source_frames, group[0].source_frame)) if nest else 0
        nest.append((row, (mask, max(score for _, score in grown))))
    return nest


def _finders(
    model: BackgroundModel,
    appearance: Appearance,
    nests: Sequence[Sequence[tuple[int, tuple[np.ndarray, float]]]],
) -> list[tuple[int, BodyFinder]]:
    """(first row, finder): another one wherever a nest, which is a hideout, is another."""
    if not nests:
        return [(0, BodyFinder(model, appearance))]
    rows = sorted({row for nest in nests for row, _ in nest})
    hideouts = [np.any([_in_force(nest, row)[0] for nest in nests], axis=0) for row in rows]
    return [
        (row, BodyFinder(model, appearance, hideout=hideout))
        for row, hideout in zip(rows, hideouts, strict=True)
    ]


def _in_force(periods: Sequence[tuple[int, _T]], row: int) -> _T:
    """What holds in a row, of things that each hold from their row on; the first holds from 0."""
    return next(thing for first, thing in reversed(periods) if first <= row)


def _scene(
    video_path: str | Path,
    source_frames: np.ndarray,
    animals: Sequence[ObjectPrompt],
    video_timestamps_s: np.ndarray | None,
) -> Scene:
    """The scene as the clicks explain it or, where all are automatic, as it was when found."""
    if animals and all(p.origin == "automatic" for p in animals):
        scene = take_scene(video_path, source_frames)
        if scene is not None:
            return scene
        # In another process, or tried again: learnt as ``detect_animals`` did, without its points,
        # or the same prompts would give other masks.
        animals = []
    samples = sample_frames(
        video_path,
        source_frames,
        also=[p.source_frame for p in animals],
        timestamps_s=video_timestamps_s,
    )
    clicks = [
        Click(int(np.abs(samples.source_frames - p.source_frame).argmin()), p.x, p.y)
        for p in animals
    ]
    return learn_scene(
        samples.frames,
        samples.source_frames,
        clicks,
        trust_clicks=any(p.origin != "template" for p in animals),
    )


def segment_stills(
    images: Sequence[np.ndarray | str | Path], *, count: int = 1
) -> list[list[StillMask]]:
    """Segment single pictures of one static camera, without any click.

    ``images``: uint8 [H, W] or [H, W, 3] (RGB) arrays of one shape, or paths of picture files. The
    background is learnt from (at most 128 of) the pictures themselves, so they must be of one
    camera and the animal must not lie in one place in all of them. Returns for each picture
    ``count`` masks, best first; empty with score 0 where no animal is found. Memory: all pictures.

    Raises ``PermanentProblem`` for unreadable pictures or pictures of different sizes.
    """
    pictures = [_as_picture(image) for image in images]
    if not pictures:
        return []
    shapes = {p.shape[:2] for p in pictures}
    if len(shapes) > 1:
        raise PermanentProblem(
            f"The pictures have different sizes ({sorted(shapes)}), so they are not of one static "
            "camera; segment each camera's pictures by themselves."
        )
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), 128)).round())
    sampled = [pictures[int(i)] for i in chosen]
    scene = learn_scene(sampled, None)
    finder = None if scene.appearance is None else BodyFinder(scene.model, scene.appearance)
    nothing = StillMask(np.zeros(pictures[0].shape[:2], bool), 0.0)
    found = []
    for picture in pictures:
        candidates = [] if finder is None else finder.find(picture, None)
        best = [c for c in best_first(candidates) if c.quality >= WORST_QUALITY][:count]
        masks = [StillMask(_in_picture(c.mask, c.box, nothing.mask), c.quality) for c in best]
        found.append(masks + [nothing] * (count - len(masks)))
    return found


def best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates by falling quality."""
    return sorted(candidates, key=lambda c: -c.quality)


def _collect(
    video_path: str | Path,
    source_frames: np.ndarray,
    finders: Sequence[tuple[int, BodyFinder]],
    store: CandidateStore,
    progress: Callable[[int, int], None] | None,
) -> None:
    row_of = {int(f): row for row, f in enumerate(source_frames)}
    frames = read_frames(video_path, source_frames, pixels=finders[0][1].model.signal.pixels)
    for number, frame in frames:
        row = row_of[number]
        for candidate in _in_force(finders, row).find(frame, number):
            store.append(row, candidate)
        if progress is not None and row % _PROGRESS_EVERY == 0:
            progress(row, len(source_frames))


def _animals_of_row(
    store: CandidateStore,
    numbers: np.ndarray,
    last: Sequence[tuple[float, float]],
    empty: np.ndarray,
) -> list[tuple[int, tuple[np.ndarray, float, tuple[float, float]]]]:
    """(animal, (mask, score, place)) of the animals that are seen in one row."""
    out = []
    for number in np.unique(numbers[numbers >= 0]):
        owners = np.flatnonzero(numbers == number)
        record = store.records[number]
        box = tuple(int(v) for v in record["box"])
        crop = store.mask(int(number))
        quality = float(record["quality"])
        if len(owners) == 1:
            place = (float(record["x"]), float(record["y"]))
            out.append((int(owners[0]), (_in_picture(crop, box, empty), quality, place)))
            continue
        seeds = [(last[i][0] - box[1], last[i][1] - box[0]) for i in owners.tolist()]
        for i, part in zip(owners, divide(crop, seeds), strict=True):
            ys, xs = np.nonzero(part)
            if not len(ys):
                continue
            place = (box[1] + float(xs.mean()), box[0] + float(ys.mean()))
            out.append((int(i), (_in_picture(part, box, empty), 0.5 * quality, place)))
    return out


def _in_picture(crop: np.ndarray, box: tuple[int, ...], empty: np.ndarray) -> np.ndarray:
    mask = np.zeros_like(empty)
    mask[box[0] : box[2], box[1] : box[3]] = crop
    return mask


def _as_picture(image: np.ndarray | str | Path) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    import cv2

    picture = cv2.imread(str(image), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise PermanentProblem(
            f"{Path(image).name} cannot be read as a picture; it is damaged or of another kind. "
            "Take it out of the folder, or save it again as PNG or JPEG."
        )
    if not np.ptp(picture[::2, ::2].astype(np.int16), axis=-1).any():
        return picture[..., 1].copy()
    return picture
