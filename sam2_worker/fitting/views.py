"""Views: what a camera with another lens, light and place would have made of a rendered clip.

A view is a crop that stands still, follows the animal, shakes, or loses it for a while, at the
network's size, with the truth and a click for each of its objects.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sam2_worker.fitting.clip_shelf import ANIMAL_BITS, NEST_BIT
from sam2_worker.fitting.cover import Cover
from sam2_worker.fitting.recipe import Stage
from tailor_assets.compute.mask_geometry import innermost_pixel

MASK_STRIDE = 4  # the network's masks have a quarter of its input's side
_MOST_OBJECTS = 2
# Visible pixels of the clip below which an object of the first frame is not worth a click.
_LEAST_TO_CLICK = 25
# A nest fills more of its view than an animal of its own, by so much.
_NEST_SHARES = 3.0
_SHAKEN = 0.13  # of the views of several frames are of a camera that shakes
_PADDINGS = ("edge", "mirror", "grey")


@dataclass(frozen=True)
class View:
    """T frames of S x S pixels with K objects.

    ``pictures`` uint8 ``[T, S, S, 3]``; ``truth`` float32 ``[T, K, S/4, S/4]``, covered share of
    each mask pixel; ``clicks`` float32 ``[T, K, 2]`` (x, y) in input pixels, one inside each object
    where it can be seen, NaN elsewhere; on frame 0 there is one always (on bare floor, where the
    view is to teach that nothing is there); ``is_nest`` bool ``[K]``. ``scene`` float32
    ``[T, 2, S/4, S/4]``: covered share by any animal's body, and by the nest.
    """

    pictures: np.ndarray
    truth: np.ndarray
    clicks: np.ndarray
    is_nest: np.ndarray
    scene: np.ndarray


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    width: float
    height: float

    def moved(self, dx: float, dy: float) -> "_Box":
        return _Box(self.left + dx, self.top + dy, self.width, self.height)

    def scaled(self, by: float) -> "_Box":
        dx, dy = (1 - by) * self.width / 2, (1 - by) * self.height / 2
        return _Box(self.left + dx, self.top + dy, by * self.width, by * self.height)


def make_view(rng: np.random.Generator, clip: np.ndarray, stage: Stage) -> View:
    """A view of ``clip``, uint8 ``[T, H, W, 4]``, with the frames, size and shares of ``stage``."""
    frames, size = stage.frames, stage.image_size
    times = _choose_times(rng, len(clip), frames)
    labels = np.ascontiguousarray(clip[times, ..., 3])
    objects = _choose_objects(rng, labels, stage)
    path = _crop_path(rng, labels, objects, stage)
    padding = str(rng.choice(_PADDINGS, p=[0.4, 0.2, 0.4]))
    grey = int(rng.integers(0, 200))
    mirror, turn = rng.random() < 0.5, int(rng.integers(4))
    worn = stage.wear >= 1 or rng.random() < stage.wear
    camera = _Camera(rng, size) if worn else None
    pictures = np.empty((frames, size, size, 3), np.uint8)
    coarse = size // MASK_STRIDE
    truth = np.zeros((frames, max(len(objects), 1), coarse, coarse), np.float32)
    scene = np.zeros((frames, 2, coarse, coarse), np.float32)
    clicks = np.full((frames, max(len(objects), 1), 2), np.nan, np.float32)
    cover, covered = None, range(0)
    if objects and frames > 1 and rng.random() < stage.hidden:
        cover, covered = Cover(rng, clip[times[0]], objects[0]), _some_frames(rng, frames)
    turned = _Turn(mirror, turn, size)
    planes = [((1 << ANIMAL_BITS) - 1), 1 << NEST_BIT, *(1 << bit for bit in objects)]
    for t, time in enumerate(times):
        frame = clip[time]
        if cover is not None and t in covered:
            frame = cover.lie_on(frame, objects[0])
        crop = _cut(frame, path[t], padding, grey)
        picture = np.ascontiguousarray(turned.picture(_resized(crop, size)[..., :3]))
        pictures[t] = picture if camera is None else camera.take(picture)
        label = np.ascontiguousarray(crop[..., 3])
        masks = [cv2.threshold(label & bits, 0, 255, cv2.THRESH_BINARY)[1] for bits in planes]
        shares = turned.picture(_shares(cv2.merge(masks), size))
        scene[t] = shares[..., :2].transpose(2, 0, 1)
        for k, mask in enumerate(masks[2:]):
            truth[t, k] = shares[..., 2 + k]
            clicks[t, k] = turned.point(_click(rng, mask, size))
    for k in range(truth.shape[1]):
        if np.isnan(clicks[0, k, 0]):
            # Nothing here to click on (or it went out of the view): the answer to learn is "absent".
            truth[0, k] = 0
            clicks[0, k] = _click_beside(rng, truth[0].sum(axis=0), size)
            truth[:, k] = 0
            clicks[1:, k] = np.nan
    is_nest = np.array([bit == NEST_BIT for bit in objects] or [False])
    return View(pictures, truth, clicks, is_nest, scene)


def _choose_times(rng: np.random.Generator, available: int, frames: int) -> np.ndarray:
    first = int(rng.integers(0, available - frames + 1))
    times = np.arange(first, first + frames)
    return times[::-1] if rng.random() < 0.3 else times


def _choose_objects(rng: np.random.Generator, labels: np.ndarray, stage: Stage) -> list[int]:
    """Bits of up to two objects that can be clicked on in the first frame."""
    if stage.contact and rng.random() < stage.contact:
        touching = pairs_that_touch(labels)
        if touching:
            pair = list(touching[int(rng.integers(len(touching)))])
            return pair if rng.random() < 0.5 else pair[::-1]
    return _any_objects(rng, labels[0])


def pairs_that_touch(labels: np.ndarray) -> list[tuple[int, int]]:
    """Bits of any two objects of ``labels``, uint8 ``[T, H, W]``, that touch in one of its frames,
    and can both be clicked on in the first."""
    bits = [
        bit for bit in range(ANIMAL_BITS + 1)
        if cv2.countNonZero(labels[0] & (1 << bit)) >= _LEAST_TO_CLICK
    ]  # fmt: skip
    found = []
    # Every third pixel is enough to see it, and one of them the distance that counts as touching.
    coarse = [np.ascontiguousarray(label[::3, ::3]) for label in labels]
    for place, one in enumerate(bits):
        around = [cv2.dilate(label & (1 << one), np.ones((3, 3), np.uint8)) for label in coarse]
        for other in bits[place + 1 :]:
            if any(
                (near.astype(bool) & (label & (1 << other)).astype(bool)).any()
                for near, label in zip(around, coarse, strict=True)
            ):
                found.append((one, other))
    return found


def _any_objects(rng: np.random.Generator, label: np.ndarray) -> list[int]:
    """Bits of up to two objects of the first frame, an animal first more often than not."""
    areas = [int(cv2.countNonZero(label & (1 << b))) for b in range(ANIMAL_BITS + 1)]
    animals = [bit for bit in range(ANIMAL_BITS) if areas[bit] >= _LEAST_TO_CLICK]
    rng.shuffle(animals)
    nest = areas[NEST_BIT] >= 4 * _LEAST_TO_CLICK
    chosen = animals[:1]
    if nest and (not chosen or len(animals) == 1 or rng.random() < 0.5):
        chosen.append(NEST_BIT)
    else:
        chosen += animals[1:2]
    if NEST_BIT in chosen and rng.random() < 0.4:
        chosen.reverse()  # the view is the nest's, and the animal is in it or not
    if rng.random() < 0.06:
        chosen = []
    return chosen[:_MOST_OBJECTS]


def _extent(label: np.ndarray, bit: int) -> tuple[float, float, float, int] | None:
    """Centre x, y, longest side and area of an object, in pixels of the clip."""
    mask = label & (1 << bit)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return None
    moments = cv2.moments(mask[top : top + height, left : left + width], binaryImage=True)
    area = round(moments["m00"])
    if area < _LEAST_TO_CLICK:
        return None
    x, y = moments["m10"] / area, moments["m01"] / area
    return left + x, top + y, float(max(width, height)), area


def _crop_path(
    rng: np.random.Generator, labels: np.ndarray, objects: list[int], stage: Stage
) -> list[_Box]:
    """The crop of each frame."""
    frames, height, width = labels.shape
    whole = _Box(0, 0, width, height)
    known = _extent(labels[0], objects[0]) if objects else None
    if known is None:
        side = height * rng.uniform(0.4, 1.0)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        box = _around(x, y, side, side, width, height)
    elif rng.random() < stage.whole:
        box = whole
    else:
        x, y, longest, area = known
        share = math.exp(rng.uniform(math.log(stage.least_share), math.log(stage.most_share)))
        if objects[0] == NEST_BIT:
            share = min(_NEST_SHARES * share, 0.6)
        side = min(max(math.sqrt(area / share), 1.15 * longest, 64.0), 1.3 * height)
        aspect = math.exp(rng.uniform(-0.3, 0.3))
        across, down = side * math.sqrt(aspect), side / math.sqrt(aspect)
        # The object anywhere in the view, but not cut off by its edge more often than not.
        slack_x, slack_y = max(across - longest, 0) / 2, max(down - longest, 0) / 2
        x += rng.uniform(-slack_x, slack_x)
        y += rng.uniform(-slack_y, slack_y)
        box = _around(x, y, across, down, width, height)
    path = [box] * frames
    way = rng.random()
    if frames == 1:
        return path
    if way >= 1 - stage.away:
        # The view looks away for a while: the object is gone, and then there again.
        far = rng.choice([-1, 1], 2) * rng.uniform(0.6, 1.0, 2) * [box.width, box.height]
        gone = _some_frames(rng, frames)
        back = box
        if objects and gone.stop < frames and rng.random() < 0.5:
            back = _elsewhere(rng, labels[gone.stop], objects[0], box)
        return [
            box.moved(*far) if t in gone else (back if t >= gone.stop else box)
            for t in range(frames)
        ]
    if way < stage.following and objects:
        return _following(rng, labels, objects[0], box)
    if way < stage.following + _SHAKEN:
        return [box.moved(*rng.normal(0, 0.01 * box.width, 2)) for _ in range(frames)]
    return path


def _elsewhere(rng: np.random.Generator, label: np.ndarray, bit: int, box: _Box) -> _Box:
    """Where a search finds the object again: somewhere in the view, a little nearer or further."""
    by = math.exp(rng.uniform(-0.3, 0.5))
    aside = rng.uniform(-0.35, 0.35, 2) * by * [box.width, box.height]
    now = _extent(label, bit)
    if now is None:
        return box
    middle = box.moved(now[0] - box.left - box.width / 2, now[1] - box.top - box.height / 2)
    return middle.scaled(by).moved(*aside)


def _some_frames(rng: np.random.Generator, frames: int) -> range:
    """One frame or more in a row, but never frame 0."""
    first = int(rng.integers(1, frames))
    return range(first, int(rng.integers(first + 1, frames + 1)))


def _following(rng: np.random.Generator, labels: np.ndarray, bit: int, box: _Box) -> list[_Box]:
    """A crop that moves when the object has left its middle, as the tracker's own crop does, and
    now and then takes another size."""
    dead = rng.uniform(0.05, 0.3) * box.width
    path = [box]
    resized = int(rng.integers(1, len(labels))) if rng.random() < 0.35 else 0
    for t, label in enumerate(labels[1:], start=1):
        box = path[-1]
        now = _extent(label, bit)
        if t == resized:
            box = box.scaled(math.exp(rng.uniform(-0.4, 0.4)))
        if now is not None:
            off_x = now[0] - (box.left + box.width / 2)
            off_y = now[1] - (box.top + box.height / 2)
            if math.hypot(off_x, off_y) > dead:
                share = rng.uniform(0.5, 1.0)
                box = box.moved(off_x * share, off_y * share)
        path.append(box)
    return path


def _around(x: float, y: float, across: float, down: float, width: int, height: int) -> _Box:
    """A box about a point, pushed back into the picture, but for a tenth of its side."""
    left, top = x - across / 2, y - down / 2
    if across < width:
        left = min(max(left, -0.1 * across), width - 0.9 * across)
    if down < height:
        top = min(max(top, -0.1 * down), height - 0.9 * down)
    return _Box(left, top, across, down)


def _cut(frame: np.ndarray, box: _Box, padding: str, grey: int) -> np.ndarray:
    """``box`` of ``frame`` (uint8 ``[H, W, 4]``), with what lies outside of the picture made up."""
    height, width = frame.shape[:2]
    left, top = round(box.left), round(box.top)
    right, bottom = left + max(round(box.width), 8), top + max(round(box.height), 8)
    rows = slice(min(max(top, 0), height), min(max(bottom, 0), height))
    columns = slice(min(max(left, 0), width), min(max(right, 0), width))
    part = frame[rows, columns]
    if part.size == 0:
        return np.full((bottom - top, right - left, 4), (grey, grey, grey, 0), np.uint8)
    if part.shape[:2] == (bottom - top, right - left):
        return part
    before = (rows.start - top, columns.start - left)
    after = (bottom - rows.stop, right - columns.stop)
    edges = (before[0], after[0], before[1], after[1])
    border = {
        "edge": cv2.BORDER_REPLICATE, "mirror": cv2.BORDER_REFLECT, "grey": cv2.BORDER_CONSTANT
    }[padding]  # fmt: skip
    part = np.ascontiguousarray(part)
    whole = cv2.copyMakeBorder(part, *edges, border, value=(grey, grey, grey, 0))
    if padding == "edge":
        # A mirrored animal is one, and its label is mirrored with it; one smeared out is none.
        label = whole[..., 3]
        label[: before[0]] = label[before[0] + part.shape[0] :] = 0
        label[:, : before[1]] = label[:, before[1] + part.shape[1] :] = 0
    return whole


def _resized(picture: np.ndarray, size: int) -> np.ndarray:
    # Exact means over areas take ten times as long, and show only where much is made small.
    much_smaller = 2.5 * size * size < picture.shape[0] * picture.shape[1]
    kind = cv2.INTER_AREA if much_smaller else cv2.INTER_LINEAR
    return cv2.resize(picture, (size, size), interpolation=kind)


def _shares(masks: np.ndarray, size: int) -> np.ndarray:
    """What masks uint8 ``[h, w, N]`` of 0 and 255 cover of the mask pixels of a view of ``size``."""
    whole = cv2.resize(masks, (size, size), interpolation=cv2.INTER_LINEAR)
    coarse = size // MASK_STRIDE
    covered = cv2.resize(whole, (coarse, coarse), interpolation=cv2.INTER_AREA)
    return covered.astype(np.float32) / 255


def _click(rng: np.random.Generator, mask: np.ndarray, size: int) -> tuple[float, float]:
    """A point (x, y) of a mask uint8 ``[h, w]``, scaled to ``size``; NaN where it is too small."""
    area = cv2.countNonZero(mask)
    if area < _LEAST_TO_CLICK / 2:
        return math.nan, math.nan
    if rng.random() < 0.4:  # where a person would click
        row, column = innermost_pixel(mask)
    else:
        place = int(np.flatnonzero(mask)[int(rng.integers(area))])
        row, column = divmod(place, mask.shape[1])
    return (column + 0.5) * size / mask.shape[1], (row + 0.5) * size / mask.shape[0]


def _click_beside(rng: np.random.Generator, taken: np.ndarray, size: int) -> tuple[float, float]:
    """A point of the view where none of the objects is."""
    free = np.flatnonzero(taken < 0.05)
    place = int(rng.choice(free)) if len(free) else 0
    row, column = divmod(place, taken.shape[1])
    return (column + 0.5) * MASK_STRIDE, (row + 0.5) * MASK_STRIDE


class _Turn:
    """A square mirrored or not, then turned by quarters against the clock."""

    def __init__(self, mirror: bool, quarters: int, size: int) -> None:
        self._mirror, self._quarters, self._size = mirror, quarters, size

    def picture(self, square: np.ndarray) -> np.ndarray:
        return np.rot90(square[:, ::-1] if self._mirror else square, self._quarters)

    def point(self, at: tuple[float, float]) -> tuple[float, float]:
        x, y = at
        if self._mirror:
            x = self._size - x
        for _ in range(self._quarters):
            x, y = y, self._size - x
        return x, y


class _Camera:
    """Light, colour, focus and noise, the same for all frames of a view but for the noise itself."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._rng = rng
        self._grey = rng.random() < 0.3
        gamma = math.exp(rng.normal(0, 0.2))
        contrast, brightness = rng.uniform(0.75, 1.3), rng.normal(0, 0.06)
        levels = np.linspace(0, 1, 256)
        curve = ((levels**gamma - 0.5) * contrast + 0.5 + brightness)[:, None]
        tint = np.exp(rng.normal(0, 0.06, 3))
        table = curve * tint
        if rng.random() < 0.05:
            table = 1 - table  # no film has such animals; shapes are to count, and not shades alone
        self._table = np.clip(np.rint(table * 255), 0, 255).astype(np.uint8)[None]
        self._blur = rng.uniform(0.4, 1.3) if rng.random() < 0.3 else 0.0
        noisy = rng.random() < 0.35
        self._noise = rng.uniform(1.0, 10.0) if noisy else 0.0
        side = size + 64
        self._grain = rng.standard_normal((side, side, 1), dtype=np.float32) if noisy else None

    def take(self, picture: np.ndarray) -> np.ndarray:
        """The picture, uint8 ``[S, S, 3]``, as this camera sees it."""
        if self._grey:
            picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        picture = cv2.LUT(picture, self._table)
        if self._blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self._blur)
        if self._grain is not None:
            row, column = (int(v) for v in self._rng.integers(0, 64, 2))
            size = picture.shape[0]
            grain = self._grain[row : row + size, column : column + size] * self._noise
            picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
        return picture
