"""The animal's body in one frame: where it is (small scale), then its outline (full scale).

A pixel belongs to the body when its signal is more than half-way from the floor's value *at that
pixel* to the animal's own. A shadow or a reflection lies in between and falls out; the outline sits
at the half-way point of the soft edge. The tail is thin, so an opening scaled to the animal's own
width takes it off (and the snout, which is put back).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tailor_assets.compute.background.background_model import BackgroundModel
from tailor_assets.compute.background.body_shape import within, without_tail
from tailor_assets.compute.background.illumination import Lighting

# Smallest animal looked for, as a share of the picture.
SMALLEST_SHARE = 0.0005
LARGEST_SHARE = 0.35
_MAX_CANDIDATES = 6
# Below this quality, the animal is looked for in its nest by tone.
_POOR = 0.3
# Fur varies by less than this share of the animal's contrast, strands of a nest by more.
_TONE_SHARE = 0.3
_SQUARE = np.ones((3, 3), np.uint8)
# Standard deviations. Less than for what is unknown: tone and size have to fit as well.
_KNOWN_GATE = 3.0


@dataclass(frozen=True)
class Appearance:
    """What the animals of a recording look like, in the background's light.

    ``tones``: one or two signal values (two for a pied animal). ``levels``: for each, the
    share of the way from floor to animal at which the body begins. ``floor``: the usual
    signal of the floor they are on. ``half_width`` px: radius of the largest disc
    inside the body; ``area`` px: usual area; both at full scale.
    """

    tones: tuple[float, ...]
    levels: tuple[float, ...]
    floor: float
    half_width: float
    area: float

    @property
    def contrast(self) -> float:
        """Difference between the animal and the floor it is usually on, in signal units."""
        return max(abs(tone - self.floor) for tone in self.tones)


@dataclass(frozen=True)
class Candidate:
    """One possible animal in one frame.

    ``mask`` bool [r1-r0, c1-c0] at full scale, ``box`` (r0, c0, r1, c1), ``area`` px,
    ``x``/``y`` centroid px, ``quality`` 0..1.
    """

    mask: np.ndarray
    box: tuple[int, int, int, int]
    area: int
    x: float
    y: float
    quality: float

    def innermost_point(self) -> tuple[float, float]:
        """(x, y) px of the pixel farthest from the outline: inside a curled body too."""
        padded = np.pad(self.mask.astype(np.uint8), 1)
        depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]
        row, col = np.unravel_index(int(depth.argmax()), depth.shape)
        return float(self.box[1] + col), float(self.box[0] + row)


class BodyFinder:
    """Finds candidates for one appearance in the frames of one background."""

    def __init__(
        self,
        model: BackgroundModel,
        appearance: Appearance,
        hideout: np.ndarray | None = None,
    ) -> None:
        """``hideout`` bool [H, W]: a nest, whose heap the animal moves about, so that there the
        background says little; where nothing is found elsewhere, the animal is looked for there by
        its tone alone."""
        self.model = model
        self.hideout = None
        if hideout is not None and hideout.any() and len(appearance.tones) == 1:
            rows, cols = np.flatnonzero(hideout.any(axis=1)), np.flatnonzero(hideout.any(axis=0))
            self.hideout = (rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
            self.hideout_mask = hideout
        self.appearance = appearance
        # Half-way at this scale, whatever the level: the shadow falls out at full scale.
        self.below_small, self.above_small = _thresholds(
            model.small, _KNOWN_GATE * model.small_noise, appearance.tones
        )
        self.contrast = appearance.contrast
        self.blur = blur_for(model.noise, self.contrast)
        self.noise = model.noise / max(1.0, 3.54 * self.blur)

    def find(self, frame: np.ndarray, source_frame: int | None) -> list[Candidate]:
        """Candidates in a frame (uint8 [H, W] or [H, W, 3]), largest first."""
        small = self.model.shrink(frame)
        light = self.model.lighting(small, source_frame)
        even = self.model.usual_light(small, light)
        mask: Any = ((even < self.below_small) | (even > self.above_small)).astype(np.uint8)
        if len(self.appearance.tones) > 1:
            mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self._pied_gap(self.model.scale[0]))
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _SQUARE)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if count == 1:
            return []
        rows, cols = self.model.scale
        smallest = max(SMALLEST_SHARE * mask.size, 0.1 * self.appearance.area / (rows * cols), 4)
        order = np.argsort(stats[1:, cv2.CC_STAT_AREA])[::-1][:_MAX_CANDIDATES] + 1
        found = []
        for label in order:
            left, top, wide, high, area = stats[label]
            if area < smallest:
                break
            inside = (labels[top : top + high, left : left + wide] == label).astype(np.uint8)
            candidate = self._outline(frame, light, inside, (top, left))
            if candidate is not None:
                found.append(candidate)
        if self.hideout is not None and all(c.quality < _POOR for c in found):
            hidden = self._by_tone(frame, light, self.hideout)
            if hidden is not None:
                found.append(hidden)
        return found

    def _by_tone(
        self, frame: np.ndarray, light: Lighting, box: tuple[int, int, int, int]
    ) -> Candidate | None:
        """The largest smooth patch of the animal's tone inside the hideout: fur among strands."""
        half_width = self.appearance.half_width
        even = self.model.usual_light_crop(frame, light, box)
        away = np.abs(even - np.float32(self.appearance.tones[0]))
        away = cv2.GaussianBlur(away, (0, 0), max(1.0, 0.15 * half_width))
        crop = (slice(box[0], box[2]), slice(box[1], box[3]))
        mask = (away < _TONE_SHARE * self.appearance.contrast) & self.hideout_mask[crop]
        padded = np.pad(mask.astype(np.uint8), 1)
        depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]
        if float(depth.max()) < 0.35 * half_width:
            return None
        core = (depth > 0.25 * half_width).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
        largest = 1 + int(stats[1:count, cv2.CC_STAT_AREA].argmax())
        body = within((labels == largest).astype(np.uint8), 0.25 * half_width).astype(bool) & mask
        area = int(np.count_nonzero(body))
        share = area / max(self.appearance.area, 1.0)
        if not 0.15 < share < 1.6:
            return None
        ys, xs = np.nonzero(body)
        size = float(np.exp(-0.5 * (np.log(share) / 0.6) ** 2))
        return Candidate(
            mask=body,
            box=box,
            area=area,
            x=box[1] + float(xs.mean()),
            y=box[0] + float(ys.mean()),
            quality=0.15 + 0.35 * size,
        )

    def _outline(
        self,
        frame: np.ndarray,
        light: Lighting,
        blob: np.ndarray,
        corner: tuple[int, int],
    ) -> Candidate | None:
        rows, cols = self.model.scale
        height, width = self.model.shape
        margin = int(np.ceil(self.appearance.half_width * 0.6 + 3 + 2 * self.blur))
        r0 = max(0, int(corner[0] * rows) - margin)
        c0 = max(0, int(corner[1] * cols) - margin)
        r1 = min(height, int(np.ceil((corner[0] + blob.shape[0]) * rows)) + margin)
        c1 = min(width, int(np.ceil((corner[1] + blob.shape[1]) * cols)) + margin)
        box = (r0, c0, r1, c1)
        even = self.model.usual_light_crop(frame, light, box)
        if self.blur > 0:
            even = cv2.GaussianBlur(even, (0, 0), self.blur)
        crop = (slice(r0, r1), slice(c0, c1))
        # Only what hangs together with the small blob; other things in the box are not this one.
        near: Any = np.zeros(even.shape, np.uint8)
        full_blob: Any = cv2.resize(
            blob,
            (round(blob.shape[1] * cols), round(blob.shape[0] * rows)),
            interpolation=cv2.INTER_NEAREST,
        )
        at_r, at_c = round(corner[0] * rows) - r0, round(corner[1] * cols) - c0
        full_blob = full_blob[: near.shape[0] - at_r, : near.shape[1] - at_c]
        near[at_r : at_r + full_blob.shape[0], at_c : at_c + full_blob.shape[1]] = full_blob
        body = self._body(even, self.model.image[crop], near)
        area = int(np.count_nonzero(body))
        if area < max(SMALLEST_SHARE * height * width, 0.1 * self.appearance.area):
            return None
        ys, xs = np.nonzero(body)
        return Candidate(
            mask=body,
            box=box,
            area=area,
            x=c0 + float(xs.mean()),
            y=r0 + float(ys.mean()),
            quality=self._quality(even, crop, body, area),
        )

    def _body(self, even: np.ndarray, floor: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Body mask (bool). Where the lamp lights one flank, a raised level would lose it: when too
        little is left, levels nearer half-way are tried, and the likeliest size wins."""
        body = np.zeros(even.shape, bool)
        best = np.inf
        for ease in (0.0, 0.5, 1.0):
            levels = tuple(v + ease * (0.5 - v) if v > 0.5 else v for v in self.appearance.levels)
            mask = self.body_pixels(even, floor, near, levels)
            found = without_tail(mask, near, self.appearance.half_width)
            share = np.count_nonzero(found) / max(self.appearance.area, 1.0)
            miss = abs(np.log(max(share, 1e-3)))
            if miss < best:
                body, best = found, miss
            if share > 0.8 or (levels == self.appearance.levels and max(levels) <= 0.55):
                break
        return body

    def body_pixels(
        self,
        even: np.ndarray,
        floor: np.ndarray,
        near: np.ndarray,
        levels: tuple[float, ...] | None = None,
    ) -> np.ndarray:
        """Pixels (uint8 [h, w]) of the body's tone, with the outer half of its soft edge.

        ``even`` and ``floor`` float32 [h, w]: signal of the frame and of the background; ``near``
        uint8 [h, w] marks where the animal roughly is; ``levels`` as the appearance's, or others.
        """
        levels = levels or self.appearance.levels
        way, unknown = self._way(even, floor, self._tones_here(even, floor, near), levels)
        mask: Any = (way > 1.0).astype(np.uint8)
        if len(levels) > 1:
            mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self._pied_gap(1.0))
        level = max(levels)
        if level > 0.55:
            # The level was raised over a shadow's; where the body borders on bare floor the outline
            # still belongs half-way: body on one side of such pixels, floor on the other.
            reach = 2 + int(np.ceil(self.blur))
            by_floor: Any = cv2.dilate(
                (way < 0.25 / level).astype(np.uint8), _SQUARE, iterations=reach
            )
            by_body = cv2.dilate(mask, _SQUARE, iterations=max(1, reach // 2))
            mask |= (way > 0.5 / level).astype(np.uint8) & by_floor & by_body
        if unknown.any():
            # Where floor and animal are alike, what lies between parts of the body is body.
            closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self._bridge(1.0))
            mask |= closed & unknown.astype(np.uint8)
        return mask

    def _pied_gap(self, scale: float) -> np.ndarray:
        """Kernel that bridges the line between two tones of a coat, whose pixels look like floor."""
        size = 2 * max(1 if scale > 1 else 2, round(0.15 * self.appearance.half_width / scale)) + 1
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def _bridge(self, scale: float) -> np.ndarray:
        """Kernel that joins parts of a body over floor of the animal's own tone."""
        size = 2 * max(1, round(0.35 * self.appearance.half_width / scale)) + 1
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def _way(
        self,
        even: np.ndarray,
        floor: np.ndarray,
        tones: tuple[float, ...],
        levels: tuple[float, ...],
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far each pixel is from floor (0) to the body's level (1), and where that cannot be
        told."""
        gate = _KNOWN_GATE * self.noise
        difference = even - floor
        way = np.zeros(even.shape, np.float32)
        unknown = np.zeros(even.shape, bool)
        for tone, level in zip(tones, levels, strict=True):
            gap = np.float32(tone) - floor
            alike = np.abs(gap) <= 1.2 * gate
            gap[alike] = np.inf
            np.maximum(way, difference / (np.float32(level) * gap), out=way)
            unknown |= alike & (np.abs(even - np.float32(tone)) <= 2 * gate)
        way[np.abs(difference) <= gate] = 0
        return way, unknown

    def _tones_here(
        self, even: np.ndarray, floor: np.ndarray, near: np.ndarray
    ) -> tuple[float, ...]:
        """The animal's tone in this light: it is brighter under the lamp than in the corner."""
        tones = self.appearance.tones
        if len(tones) > 1:
            return tones
        way, _ = self._way(even, floor, tones, (0.5,))
        rough = ((way > 1.0) & (near > 0)).astype(np.uint8)
        depth = cv2.distanceTransform(rough, cv2.DIST_L2, 3)
        core = depth > max(0.5 * float(depth.max()), 1.0)
        if np.count_nonzero(core) < 10:
            return tones
        slack = 0.3 * self.contrast
        return (float(np.clip(np.median(even[core][::3]), tones[0] - slack, tones[0] + slack)),)

    def _quality(
        self, even: np.ndarray, crop: tuple[slice, slice], body: np.ndarray, area: int
    ) -> float:
        """How much this looks like the whole animal, 0..1: contrast, tone and size together."""
        # A thousand pixels say what all would; medians of all would cost a tenth of the time.
        some = max(1, area // 1000)
        inside = even[body][::some]
        floor = self.model.image[crop][body][::some]
        middle = float(np.median(inside))
        tone = min(self.appearance.tones, key=lambda t: abs(t - middle))
        gap = abs(tone - float(np.median(floor)))
        difference = float(np.median(np.abs(inside - floor)))
        contrast = 1.0 - np.exp(-difference / (4.0 * self.noise))
        if len(self.appearance.tones) > 1:
            nearest = np.abs(inside[:, None] - np.array(self.appearance.tones)).min(axis=1)
            miss, gap = float(np.median(nearest)), self.appearance.contrast
        else:
            miss = abs(middle - tone)
        likeness = np.exp(-0.5 * (max(miss - self.noise, 0) / max(0.5 * gap, 1)) ** 2)
        size = np.exp(-0.5 * (np.log(area / self.appearance.area) / 0.6) ** 2)
        return float(contrast * likeness * size)


def blur_for(noise: float, contrast: float) -> float:
    """Sigma of the Gaussian that makes a pixel's noise small against the contrast; 0 for none."""
    ratio = contrast / max(noise, 1e-6)
    if ratio >= 12:
        return 0.0
    return float(np.clip(12 / ratio / 3.54, 0.7, 2.5))


def _thresholds(
    background: np.ndarray, gate: np.ndarray, tones: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Per-pixel signal below / above which a pixel is the animal's (float32, may be infinite)."""
    below = np.full(background.shape, -np.inf, np.float32)
    above = np.full(background.shape, np.inf, np.float32)
    for tone in tones:
        gap = tone - background
        step = np.maximum(0.5 * np.abs(gap), gate)
        # Where floor and animal are alike, a difference would have to exceed the animal's own.
        told_apart = np.abs(gap) > 1.2 * gate
        darker, lighter = told_apart & (gap < 0), told_apart & (gap > 0)
        below[darker] = np.maximum(below, background - step)[darker]
        above[lighter] = np.minimum(above, background + step)[lighter]
    return below, above
