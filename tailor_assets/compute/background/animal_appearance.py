"""Learns from a recording's own sampled frames what its animals look like: tone, size, contrast.

What differs from the background in each sampled frame is collected; the clicked thing (or, without
a click, what is there in most frames) says which of it is the animal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tailor_assets.compute.background.background_model import BackgroundModel
from tailor_assets.compute.background.body_level import (
    DEEPEST_SHADOW,
    body_levels,
    core_tones,
    full_crop,
)
from tailor_assets.compute.background.body_mask import (
    LARGEST_SHARE,
    SMALLEST_SHARE,
    Appearance,
    BodyFinder,
)
from tailor_assets.compute.background.body_shape import without_tail
from tailor_assets.compute.background.ghost_removal import NOISE_GATE
from tailor_assets.compute.background.region_growing import grow_by_contrast


@dataclass(frozen=True)
class Click:
    """A point on an animal: sampled frame number ``sample`` and full-scale pixels."""

    sample: int
    x: float
    y: float


@dataclass(frozen=True)
class _Thing:
    """Something that differs from the background in one sampled frame (small scale)."""

    sample: int
    mask: np.ndarray
    corner: tuple[int, int]
    area: int
    energy: float
    tone: float
    values: np.ndarray
    floor: np.ndarray


def learn_appearance(
    model: BackgroundModel,
    frames: Sequence[np.ndarray],
    clicks: Sequence[Click],
    *,
    stills: bool = False,
    trust_clicks: bool = True,
) -> tuple[BackgroundModel, Appearance | None, bool]:
    """What the animals look like, or None where the recording shows none.

    ``frames`` are the sampled frames the model was built from. Returns the model (with the floor
    filled in under an animal that never leaves its place), the appearance, and whether the clicks
    were on an animal that never leaves its place. ``trust_clicks`` False: the points are a
    template's and may be beside the animal.
    """
    evens = []
    for k, frame in enumerate(frames):
        small = model.shrink(frame)
        number = None if stills else int(model.sample_frames[k])
        evens.append(model.usual_light(small, model.lighting(small, number)))
    things = [_things_in(model, k, even) for k, even in enumerate(evens)]
    resting = False
    clicked = []
    for click in clicks:
        thing = _thing_at(model, things[click.sample], click)
        if thing is None and trust_clicks:
            region = _resting_animal(model, evens[click.sample], click)
            if region is not None:
                resting = True
                model = model.with_filled(region)
                things = [_things_in(model, k, even) for k, even in enumerate(evens)]
                thing = _thing_at(model, things[click.sample], click)
        if thing is not None:
            clicked.append(thing)
    chosen = _the_animals(things, clicked, max(len(clicks), 1), model.small.shape)
    if not chosen:
        return model, None, resting
    appearance = _describe(chosen, dark_click=_darker_at(model, evens, clicks))
    if appearance is None:
        return model, None, resting
    return model, _measure(model, frames, chosen, clicked, appearance, stills), resting


def _things_in(model: BackgroundModel, sample: int, even: np.ndarray) -> list[_Thing]:
    """What differs from the background in one frame, strongest first."""
    difference = np.abs(even - model.small)
    mask = (difference > NOISE_GATE * model.small_noise).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    things = []
    for label in range(1, count):
        left, top, wide, high, area = stats[label]
        if not 0.5 * SMALLEST_SHARE * mask.size <= area <= 2 * LARGEST_SHARE * mask.size:
            continue
        box = (slice(top, top + high), slice(left, left + wide))
        inside = labels[box] == label
        size = difference[box][inside]
        strong = size >= 0.6 * np.percentile(size, 95)
        values = even[box][inside]
        things.append(
            _Thing(
                sample=sample,
                mask=inside,
                corner=(int(top), int(left)),
                area=int(area),
                energy=float(size.sum()),
                tone=float(np.median(values[strong])),
                values=values,
                floor=model.small[box][inside],
            )
        )
    return sorted(things, key=lambda t: -t.energy)[:8]


def _thing_at(model: BackgroundModel, things: Sequence[_Thing], click: Click) -> _Thing | None:
    """The thing that was clicked: under the point, or near it for its own size."""
    rows, cols = model.scale
    x, y = click.x / cols, click.y / rows
    best, best_distance = None, np.inf
    for thing in things:
        ys, xs = np.nonzero(thing.mask)
        distance = float(np.hypot(ys + thing.corner[0] - y, xs + thing.corner[1] - x).min())
        if distance < min(best_distance, max(3.0, 0.5 * np.sqrt(thing.area))):
            best, best_distance = thing, distance
    return best


def _resting_animal(model: BackgroundModel, even: np.ndarray, click: Click) -> np.ndarray | None:
    """Region (bool [h, w]) of an animal that is part of the background, or None."""
    rows, cols = model.scale
    point = (click.y / rows, click.x / cols)
    region = grow_by_contrast(
        even,
        point,
        noise=float(np.median(model.small_noise)),
        smallest=SMALLEST_SHARE * even.size,
        largest=0.2 * even.size,
    )
    if region is None:
        return None
    # The outline is taken a little wide: its soft edge must not stay in the background.
    grown = cv2.dilate(region.astype(np.uint8), np.ones((5, 5), np.uint8))
    return grown.astype(bool)


def _the_animals(
    things: Sequence[Sequence[_Thing]],
    clicked: Sequence[_Thing],
    count: int,
    shape: tuple[int, int],
) -> list[_Thing]:
    """The things that are animals: like the clicked ones, or like what is there in most frames."""
    if clicked:
        tones = [t.tone for t in clicked]
        gap = max(abs(float(np.median(t.floor)) - t.tone) for t in clicked)
        area = float(np.median([t.area for t in clicked]))
        chosen = list(clicked)
        for own in things:
            alike = [
                t
                for t in own
                if min(abs(t.tone - tone) for tone in tones) < 0.4 * gap
                and 0.3 * area < t.area < 3 * area
            ]
            chosen += alike[:count]
        return chosen
    strongest = [own[0] for own in things if own]
    # One frame in twenty is too little to say what lives here.
    if len(strongest) < max(1, 0.05 * len(things)):
        return []
    tone = float(np.median([t.tone for t in strongest]))
    gap = float(np.median([abs(np.median(t.floor) - t.tone) for t in strongest]))
    chosen = []
    for own in things:
        chosen += [t for t in own if abs(t.tone - tone) < 0.4 * gap][:count]
    return chosen if _has_moved(chosen, shape) else []


def _has_moved(chosen: Sequence[_Thing], shape: tuple[int, int]) -> bool:
    """Whether things cover clearly more ground over time than any one of them does.

    What always differs from the background at one place is an error of the background.
    """
    visited = np.zeros(shape, bool)
    for thing in chosen:
        r, c = thing.corner
        visited[r : r + thing.mask.shape[0], c : c + thing.mask.shape[1]] |= thing.mask
    usual = float(np.median([t.area for t in chosen])) if chosen else 0.0
    return bool(np.count_nonzero(visited) > 1.7 * usual > 0)


def _darker_at(
    model: BackgroundModel, evens: Sequence[np.ndarray], clicks: Sequence[Click]
) -> bool:
    """Whether any clicked point is darker than the floor there."""
    rows, cols = model.scale
    for click in clicks:
        r, c = int(click.y / rows), int(click.x / cols)
        box = (slice(max(0, r - 2), r + 3), slice(max(0, c - 2), c + 3))
        difference = float(np.median(evens[click.sample][box] - model.small[box]))
        if difference < -NOISE_GATE * float(np.median(model.small_noise[box])):
            return True
    return False


def _describe(chosen: Sequence[_Thing], *, dark_click: bool) -> Appearance | None:
    """The tones of the chosen things: one, or two for a pied animal."""
    tops = [np.percentile(np.abs(t.values - t.floor), 95) for t in chosen]
    top = float(np.median(tops))
    least = 0.12 * top
    values = np.concatenate([t.values for t in chosen])
    floor = np.concatenate([t.floor for t in chosen])
    # On plain floor, where there is enough of it: in a nest everything is darker than something.
    usual_floor = float(np.median([np.median(t.floor) for t in chosen]))
    plain = np.abs(floor - usual_floor) < 0.3 * top
    if np.count_nonzero(plain) > 0.2 * len(plain):
        values, floor = values[plain], floor[plain]
    sides = []
    for sign in (-1, 1):
        difference = sign * (values - floor)
        there = difference > least
        if np.count_nonzero(there) < 0.12 * len(values):
            continue
        strong = difference > 0.7 * np.percentile(difference[there], 97)
        sides.append((float(np.median(values[strong])), float(np.median(floor[strong]))))
    if not sides:
        return None
    if len(sides) == 2:
        dark_tone, its_floor = sides[0]
        fur = dark_tone < DEEPEST_SHADOW * its_floor or _lies_along_the_body(chosen, least)
        if not fur:
            sides = sides[:1] if dark_click else sides[1:]
    return Appearance(
        tones=tuple(tone for tone, _ in sides),
        levels=(0.5,) * len(sides),
        floor=usual_floor,
        half_width=0.0,
        area=0.0,
    )


def _lies_along_the_body(chosen: Sequence[_Thing], least: float) -> bool:
    """Whether the dark part of things that are light and dark is a coat's, not a shadow.

    A hood or saddle lies along the animal's own long axis however it turns; a shadow falls where
    the lamp sends it.
    """
    alignment = []
    for thing in chosen:
        ys, xs = np.nonzero(thing.mask)
        points = np.stack([xs, ys], axis=1).astype(float)
        difference = thing.values - thing.floor
        dark, light = points[difference < -least], points[difference > least]
        if min(len(dark), len(light)) < 0.05 * len(points):
            continue
        offset = dark.mean(axis=0) - light.mean(axis=0)
        larger = dark if len(dark) > len(light) else light
        spread, axes = np.linalg.eigh(np.cov(larger.T))
        if np.hypot(*offset) < 0.1 * np.sqrt(thing.area) or spread[1] < 1.5 * spread[0]:
            continue
        alignment.append(float((axes[:, 1] @ offset) ** 2 / (offset @ offset)))
    return len(alignment) >= 3 and float(np.mean(alignment)) > 0.75


def _measure(
    model: BackgroundModel,
    frames: Sequence[np.ndarray],
    chosen: Sequence[_Thing],
    clicked: Sequence[_Thing],
    appearance: Appearance,
    stills: bool,
) -> Appearance | None:
    """Tones, level, half-width and area at full scale, over frames the chosen things are in."""
    picked = list(chosen[: len(clicked)])
    usual_size = float(np.median([t.area for t in (clicked or chosen)]))
    # Those most of the usual size: not what the animal shares with a nest or a wall.
    others = sorted(chosen[len(clicked) :], key=lambda t: abs(np.log(t.area / usual_size)))
    picked += others[:40]
    crops = []
    for thing in picked:
        number = None if stills else int(model.sample_frames[thing.sample])
        frame = frames[thing.sample]
        crops.append(full_crop(model, frame, number, thing.mask, thing.corner, appearance.contrast))
    appearance = replace(appearance, tones=core_tones(crops, appearance))
    appearance = replace(appearance, levels=body_levels(model, crops, appearance))
    rough = BodyFinder(model, appearance)
    widths, areas = [], []
    for crop in crops:
        mask = rough.body_pixels(crop.even, crop.floor, crop.near)
        body = without_tail(mask, crop.near, 0.0).astype(np.uint8)
        if body.any():
            depth = cv2.distanceTransform(np.pad(body, 1), cv2.DIST_L2, 5)
            widths.append(float(depth.max()))
            areas.append(float(np.count_nonzero(body)))
    if not areas:
        return None
    first = areas[: len(clicked)]
    if first:
        usual = float(np.median(first))
        near_usual = [i for i, a in enumerate(areas) if 0.4 * usual < a < 2.5 * usual]
        widths, areas = [widths[i] for i in near_usual], [areas[i] for i in near_usual]
    return replace(appearance, half_width=float(np.median(widths)), area=float(np.median(areas)))
