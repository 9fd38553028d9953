"""Where the animal's body begins between the floor's tone and its own, learnt from sampled frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tailor_assets.compute.background.background_model import BackgroundModel
from tailor_assets.compute.background.body_mask import Appearance, BodyFinder, blur_for
from tailor_assets.compute.background.body_shape import without_tail

# Some light from elsewhere falls on a shadow; what is darker than this share of the floor is fur.
DEEPEST_SHADOW = 0.45
_DARK_LEVELS = np.arange(0.45, 0.91, 0.05)
_LIGHT_LEVELS = np.arange(0.25, 0.81, 0.05)
_WAY_BINS = np.linspace(0.0, 1.3, 53)
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Crop:
    """The surroundings of one animal in one sampled frame, at full scale.

    ``even`` float32 [h, w]: signal in the background's light; ``floor`` float32 [h, w]: the
    background there; ``near`` uint8 [h, w]: roughly the animal, with its shadow and tail.
    """

    even: np.ndarray
    floor: np.ndarray
    near: np.ndarray


def body_levels(
    model: BackgroundModel, crops: Sequence[Crop], appearance: Appearance
) -> tuple[float, ...]:
    """The level of each tone (see ``Appearance``): by edges, and above any shadow of even tone."""
    by_edges = _levels_by_edges(model, crops, appearance)
    by_tones = _level_by_tones(model, crops, appearance)
    return tuple(
        max(level, by_tones) if tone < appearance.floor else level
        for level, tone in zip(by_edges, appearance.tones, strict=True)
    )


def _levels_by_edges(
    model: BackgroundModel, crops: Sequence[Crop], appearance: Appearance
) -> tuple[float, ...]:
    """Where the body begins between floor (0) and each tone (1): where its outline is sharpest.

    That is half-way for a soft edge against bare floor. A contact shadow fades out slowly, so an
    outline drawn through it is weak, and a level nearer to the animal's tone wins; the flanks of a
    light animal are shaded, and a level nearer to the floor wins.
    """
    edges = [_edge_strength(crop.even) for crop in crops]
    floor = appearance.floor
    levels = list(appearance.levels)
    for i, tone in enumerate(appearance.tones):
        choices = [float(v) for v in (_DARK_LEVELS if tone < floor else _LIGHT_LEVELS)]
        strengths = []
        for level in choices:
            levels[i] = level
            strengths.append(
                _outline_strength(model, crops, edges, replace(appearance, levels=tuple(levels)))
            )
        # Noise moves the maximum a little, so of all that are about as sharp, the one nearest to
        # half-way: a level too near the animal's tone loses the flank that the lamp lights.
        enough = 0.97 * max(strengths)
        sharp = [v for v, strength in zip(choices, strengths, strict=True) if strength >= enough]
        best = min(sharp, key=lambda v: abs(v - 0.5))
        levels[i] = best
        appearance = replace(appearance, levels=tuple(levels))
    return tuple(levels)


def _outline_strength(
    model: BackgroundModel,
    crops: Sequence[Crop],
    edges: Sequence[np.ndarray],
    appearance: Appearance,
) -> float:
    """Mean edge along the outline plus that of its weak quarter, in the median over crops."""
    finder = BodyFinder(model, appearance)
    strengths = []
    for crop, edge in zip(crops, edges, strict=True):
        mask = finder.body_pixels(crop.even, crop.floor, crop.near)
        body = without_tail(mask, crop.near, 0.0).astype(np.uint8)
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


def full_crop(
    model: BackgroundModel,
    frame: np.ndarray,
    source_frame: int | None,
    mask: np.ndarray,
    corner: tuple[int, int],
    contrast: float,
) -> Crop:
    """Cut a thing out at full scale: ``mask`` bool [a, b] at ``corner`` (row, col), small scale."""
    rows, cols = model.scale
    height, width = model.shape
    light = model.lighting(model.shrink(frame), source_frame)
    r, c = corner
    box = (
        max(0, int((r - 2) * rows)),
        max(0, int((c - 2) * cols)),
        min(height, int((r + mask.shape[0] + 2) * rows)),
        min(width, int((c + mask.shape[1] + 2) * cols)),
    )
    even = model.usual_light_crop(frame, light, box)
    blur = blur_for(model.noise, contrast)
    if blur > 0:
        even = cv2.GaussianBlur(even, (0, 0), blur)
    near: np.ndarray = np.zeros(model.small.shape, np.uint8)
    near[r : r + mask.shape[0], c : c + mask.shape[1]] = mask
    at_r = np.minimum((np.arange(box[0], box[2]) / rows).astype(int), near.shape[0] - 1)
    at_c = np.minimum((np.arange(box[1], box[3]) / cols).astype(int), near.shape[1] - 1)
    return Crop(even, model.image[box[0] : box[2], box[1] : box[3]], near[at_r][:, at_c])


def core_tones(crops: Sequence[Crop], appearance: Appearance) -> tuple[float, ...]:
    """The tones again, at full scale, from pixels far from the outline."""
    contrast, usual_floor = appearance.contrast, appearance.floor
    cores = []
    for crop in crops:
        depth = np.asarray(cv2.distanceTransform(np.pad(crop.near, 1), cv2.DIST_L2, 5))[1:-1, 1:-1]
        core = depth > 0.3 * depth.max()
        plain = core & (np.abs(crop.floor - usual_floor) < 0.3 * contrast)
        cores.append((crop, plain if plain.sum() > 0.5 * core.sum() else core))
    values = np.concatenate([crop.even[core] for crop, core in cores])
    floor = np.concatenate([crop.floor[core] for crop, core in cores])
    out = []
    for tone in appearance.tones:
        gap = tone - usual_floor
        # Of this tone's own side of the floor, and most of the way to it.
        own = values[((values - floor) / gap > 0.5) & ((values - floor) / gap < 2.0)]
        out.append(float(np.median(own)) if len(own) > 50 else float(tone))
    return tuple(out)


def _level_by_tones(model: BackgroundModel, crops: Sequence[Crop], appearance: Appearance) -> float:
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
    limit = (1 - DEEPEST_SHADOW) * floor / (floor - darkest)
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


def _flat_way(model: BackgroundModel, crops: Sequence[Crop], appearance: Appearance) -> np.ndarray:
    """How far from floor (0) to animal (1) the pixels of the things are, edges left out.

    On an edge every value between floor and animal occurs; away from edges only those of surfaces:
    body, shadow, tail.
    """
    tones = np.array(appearance.tones, np.float32)
    ways = []
    for crop in crops:
        even, floor = crop.even, crop.floor
        tone = tones[np.abs(even[..., None] - tones).argmin(axis=-1)]
        gap = tone - floor
        clear = np.abs(gap) > 0.4 * appearance.contrast
        steep = cv2.dilate(even, _SQUARE) - cv2.erode(even, _SQUARE)
        flat = (crop.near > 0) & clear & (steep < 0.15 * np.abs(gap) + 3 * model.noise)
        ways.append(((even - floor)[flat]) / gap[flat])
    return np.clip(np.concatenate(ways), 0.0, 1.29)
