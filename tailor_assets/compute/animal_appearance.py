"""Learns from a recording's own sampled frames what its animals look like: tone, size, contrast.

What differs from the background in each sampled frame is collected; the clicked thing (or, without
a click, what is there in most frames) says which of it is the animal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tailor_assets.compute.background_model import NOISE_GATE, BackgroundModel
from tailor_assets.compute.body_mask import (
    LARGEST_SHARE,
    SMALLEST_SHARE,
    Appearance,
    BodyFinder,
    blur_for,
    without_tail,
)
from tailor_assets.compute.region_growing import grow_by_contrast

# Some light from elsewhere falls on a shadow; what is darker than this share of the floor is fur.
_DEEPEST_SHADOW = 0.45
_DARK_LEVELS = np.arange(0.45, 0.91, 0.05)
_LIGHT_LEVELS = np.arange(0.25, 0.81, 0.05)
_WAY_BINS = np.linspace(0.0, 1.3, 53)
_SQUARE = np.ones((3, 3), np.uint8)


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
    chosen = _the_animals(things, clicked, max(len(clicks), 1))
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


def _resting_animal(
    model: BackgroundModel, even: np.ndarray, click: Click
) -> np.ndarray | None:
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
    things: Sequence[Sequence[_Thing]], clicked: Sequence[_Thing], count: int
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
    return chosen


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
        fur = dark_tone < _DEEPEST_SHADOW * its_floor or _lies_along_the_body(chosen, least)
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


def _levels_by_edges(
    model: BackgroundModel, crops: Sequence["_Crop"], appearance: Appearance
) -> tuple[float, ...]:
    """Where the body begins between floor (0) and each tone (1): where its outline is sharpest.

    That is half-way for a soft edge against bare floor. A contact shadow fades out slowly, so an
    outline drawn through it is weak, and a level nearer to the animal's tone wins; the flanks of a
    light animal are shaded, and a level nearer to the floor wins.
    """
    edges = [_edge_strength(even) for even, _, _ in crops]
    floor = appearance.floor
    levels = list(appearance.levels)
    for i, tone in enumerate(appearance.tones):
        best, best_strength = 0.5, _outline_strength(model, crops, edges, appearance)
        best_strength *= 1.03  # noise moves the maximum a little; half-way unless clearly sharper
        for level in _DARK_LEVELS if tone < floor else _LIGHT_LEVELS:
            levels[i] = float(level)
            strength = _outline_strength(
                model, crops, edges, replace(appearance, levels=tuple(levels))
            )
            if strength > best_strength:
                best, best_strength = float(level), strength
        levels[i] = best
        appearance = replace(appearance, levels=tuple(levels))
    return tuple(levels)


def _outline_strength(
    model: BackgroundModel,
    crops: Sequence["_Crop"],
    edges: Sequence[np.ndarray],
    appearance: Appearance,
) -> float:
    """Mean edge along the outline plus that of its weak quarter, in the median over crops."""
    finder = BodyFinder(model, appearance)
    strengths = []
    for (even, near, crop), edge in zip(crops, edges, strict=True):
        mask = finder.body_pixels(even, model.image[crop], near)
        body = without_tail(mask, near, 0.0).astype(np.uint8)
        if not body.any():
            strengths.append(0.0)
            continue
        outline = cv2.dilate(body, _SQUARE) != cv2.erode(body, _SQUARE, borderValue=0)
        strengths.append(float(edge[outline].mean() + np.percentile(edge[outline], 25)))
    return float(np.median(strengths))


def _edge_strength(even: np.ndarray) -> np.ndarray:
    return cv2.magnitude(
        cv2.Sobel(even, cv2.CV_32F, 1, 0, scale=0.125),
        cv2.Sobel(even, cv2.CV_32F, 0, 1, scale=0.125),
    )


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
    others = chosen[len(clicked) :]
    picked += [others[i] for i in range(0, len(others), max(1, len(others) // 40))]
    crops = [_full_crop(model, frames[t.sample], t, appearance, stills) for t in picked]
    appearance = replace(appearance, tones=_core_tones(model, crops, appearance))
    by_edges = _levels_by_edges(model, crops, appearance)
    by_tones = _level_by_tones(model, crops, appearance)
    floor = appearance.floor
    appearance = replace(
        appearance,
        levels=tuple(
            max(level, by_tones) if tone < floor else level
            for level, tone in zip(by_edges, appearance.tones, strict=True)
        ),
    )
    rough = BodyFinder(model, appearance)
    widths, areas = [], []
    for even, near, crop in crops:
        mask = rough.body_pixels(even, model.image[crop], near)
        body = without_tail(mask, near, 0.0).astype(np.uint8)
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
    return replace(
        appearance, half_width=float(np.median(widths)), area=float(np.median(areas))
    )


_Crop = tuple[np.ndarray, np.ndarray, tuple[slice, slice]]


def _full_crop(
    model: BackgroundModel,
    frame: np.ndarray,
    thing: _Thing,
    appearance: Appearance,
    stills: bool,
) -> _Crop:
    """A thing at full scale: signal in the background's light, its pixels (uint8), its place."""
    rows, cols = model.scale
    height, width = model.shape
    number = None if stills else int(model.sample_frames[thing.sample])
    light = model.lighting(model.shrink(frame), number)
    r, c = thing.corner
    box = (
        max(0, int((r - 2) * rows)),
        max(0, int((c - 2) * cols)),
        min(height, int((r + thing.mask.shape[0] + 2) * rows)),
        min(width, int((c + thing.mask.shape[1] + 2) * cols)),
    )
    even = model.usual_light_crop(frame, light, box)
    blur = blur_for(model.noise, appearance.contrast)
    if blur > 0:
        even = cv2.GaussianBlur(even, (0, 0), blur)
    near = np.zeros(model.small.shape, np.uint8)
    near[r : r + thing.mask.shape[0], c : c + thing.mask.shape[1]] = thing.mask
    crop = (slice(box[0], box[2]), slice(box[1], box[3]))
    at_r = np.minimum((np.arange(box[0], box[2]) / rows).astype(int), near.shape[0] - 1)
    at_c = np.minimum((np.arange(box[1], box[3]) / cols).astype(int), near.shape[1] - 1)
    return even, near[at_r][:, at_c], crop


def _core_tones(
    model: BackgroundModel, crops: Sequence[_Crop], appearance: Appearance
) -> tuple[float, ...]:
    """The tones again, at full scale, from pixels far from the outline."""
    contrast, usual_floor = appearance.contrast, appearance.floor
    cores = []
    for even, near, crop in crops:
        depth = cv2.distanceTransform(np.pad(near, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        core = depth > 0.3 * depth.max()
        plain = core & (np.abs(model.image[crop] - usual_floor) < 0.3 * contrast)
        cores.append((even, model.image[crop], plain if plain.sum() > 0.5 * core.sum() else core))
    values = np.concatenate([even[core] for even, _, core in cores])
    floor = np.concatenate([own[core] for _, own, core in cores])
    out = []
    for tone in appearance.tones:
        gap = tone - usual_floor
        # Of this tone's own side of the floor, and most of the way to it.
        own = values[((values - floor) / gap > 0.5) & ((values - floor) / gap < 2.0)]
        out.append(float(np.median(own)) if len(own) > 50 else float(tone))
    return tuple(out)


def _level_by_tones(
    model: BackgroundModel, crops: Sequence[_Crop], appearance: Appearance
) -> float:
    """Where the body begins, by the tones of the surfaces the things are made of.

    A shadow or reflection of one even tone makes a hump between floor (0) and animal (1) in the
    histogram of all pixels that are not on an edge; the level is the valley between the last such
    hump and the body's. Without a hump, or for a light animal, whose shadow lies beyond the floor,
    it is half-way.
    """
    floor = appearance.floor
    darkest = min(appearance.tones)
    way = _flat_way(model, crops, appearance)
    if darkest >= floor or len(way) < 200:
        return 0.5
    counts, edges = np.histogram(way, bins=_WAY_BINS)
    density = np.convolve(counts / counts.sum(), np.ones(3) / 3, mode="same")
    middle = 0.5 * (edges[1:] + edges[:-1])
    body = density[middle > 0.85].max()
    # No hump beyond this counts: nothing but fur is so dark.
    limit = (1 - _DEEPEST_SHADOW) * floor / (floor - darkest)
    for i in np.flatnonzero((middle >= 0.5) & (middle <= 0.9))[::-1]:
        lower = np.flatnonzero((middle > 0.3) & (middle < min(middle[i], limit)))
        if not len(lower):
            continue
        top = lower[int(density[lower].argmax())]
        hump, beyond = density[top], density[middle > middle[i]].max()
        before = density[(middle > 0.2) & (middle <= middle[top])].min()
        bottom = max(density[i], before) + 0.005 * body
        parted = hump > 1.4 * bottom and hump > 0.03 * body and beyond > 1.4 * bottom
        if parted and density[i] <= min(density[i - 1], density[i + 1]):
            return float(middle[i])
    return 0.5


def _flat_way(
    model: BackgroundModel, crops: Sequence[_Crop], appearance: Appearance
) -> np.ndarray:
    """How far from floor (0) to animal (1) the pixels of the things are, edges left out.

    On an edge every value between floor and animal occurs; away from edges only those of surfaces:
    body, shadow, tail.
    """
    tones = np.array(appearance.tones, np.float32)
    ways = []
    for even, near, crop in crops:
        floor = model.image[crop]
        tone = tones[np.abs(even[..., None] - tones).argmin(axis=-1)]
        gap = tone - floor
        clear = np.abs(gap) > 0.4 * np.abs(tones - float(np.median(floor))).max()
        steep = cv2.dilate(even, _SQUARE) - cv2.erode(even, _SQUARE)
        flat = (near > 0) & clear & (steep < 0.15 * np.abs(gap) + 3 * model.noise)
        ways.append(((even - floor)[flat]) / gap[flat])
    return np.clip(np.concatenate(ways), 0.0, 1.29)
