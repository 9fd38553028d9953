"""What a static camera sees when the animal is not there, learnt from frames spread over time.

The animal may rest in one place for most of a recording, so a median alone would take it for floor.
Three things keep it out. Blobs that differ from the background are judged by their outline: where
the outline is an edge in the frame, something lies on the floor; where it is an edge in the
*background*, the background itself is wrong there (a "ghost", Cucchiara et al. 2003) and takes the
frame's pixels instead. Pixels under something are then left out of the median. What is covered in
every frame is filled from its rim.

Every threshold is a multiple of the noise that the recording shows, in the units of its own signal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.picture_signal import PictureSignal, choose_signal

# Detection works on a picture of about this longest side: the smallest animal worth following
# (0.15% of the picture) still covers a hundred pixels there, and noise is averaged down.
SMALL_SIDE = 320
NOISE_GATE = 5.0
# Residual lighting is kept on a grid this coarse, so that it cannot take in an animal.
_LIGHT_GRID = (6, 8)
_ILLUMINATION_BINS = 12


@dataclass(frozen=True)
class Lighting:
    """How one frame's light differs from the background's: ``frame = gain * usual + offset``.

    ``residual`` is float32 [h, w] at the small scale (in background units), or None.
    """

    gain: float
    offset: float
    residual: np.ndarray | None = None


@dataclass(frozen=True)
class BackgroundModel:
    """The empty scene of one camera.

    ``image`` float32 [H, W] and ``small`` float32 [h, w] hold the signal (see ``picture_signal``)
    at full and at reduced scale (the latter blurred by ``softness``); ``noise`` (full scale, one number) and ``small_noise`` float32
    [h, w] its standard deviation over time. ``grid`` float32 [N, 6, 8] is the residual lighting at
    the N sampled frames ``sample_frames`` (int64, sorted), in background units.
    """

    image: np.ndarray
    small: np.ndarray
    noise: float
    small_noise: np.ndarray
    signal: PictureSignal
    sample_frames: np.ndarray
    grid: np.ndarray
    softness: float
    _bins: tuple[np.ndarray, np.ndarray] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the full picture."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def scale(self) -> tuple[float, float]:
        """Full-picture pixels per small pixel, (rows, columns)."""
        return (
            self.image.shape[0] / self.small.shape[0],
            self.image.shape[1] / self.small.shape[1],
        )

    def shrink(self, frame: np.ndarray) -> np.ndarray:
        """The signal of a full frame (uint8 [H, W] or [H, W, 3]) at the small scale, float32."""
        height, width = self.small.shape
        return soften(
            self.signal.of(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)),
            self.softness,
        )

    def lighting(self, small: np.ndarray, source_frame: int | None) -> Lighting:
        """Fit one frame's light from its small signal (float32 [h, w]).

        The global part is fitted to the frame; the local part is interpolated in time between the
        sampled frames, and left out where ``source_frame`` is None (unrelated stills).
        """
        gain, offset = _fit_gain(small, *self._bins)
        residual = None
        if source_frame is not None and len(self.sample_frames) > 1:
            at = np.interp(source_frame, self.sample_frames, np.arange(len(self.sample_frames)))
            low = int(at)
            high = min(low + 1, len(self.grid) - 1)
            cells = (1 - (at - low)) * self.grid[low] + (at - low) * self.grid[high]
            if np.abs(cells).max() > 0.5 * float(np.median(self.small_noise)):
                height, width = self.small.shape
                residual = cv2.resize(
                    cells.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
                )
        return Lighting(gain, offset, residual)

    def usual_light(self, small: np.ndarray, light: Lighting) -> np.ndarray:
        """A small signal as it would look in the background's light."""
        out = (small - np.float32(light.offset)) * np.float32(1 / light.gain)
        if light.residual is not None:
            out -= light.residual
        return out

    def usual_light_crop(
        self, frame: np.ndarray, light: Lighting, box: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Rows r0:r1 and columns c0:c1 of a full frame, signal in the background's light."""
        r0, c0, r1, c1 = box
        out = self.signal.of(frame[r0:r1, c0:c1])
        out = (out - np.float32(light.offset)) * np.float32(1 / light.gain)
        if light.residual is not None:
            rows, cols = self.scale
            part = light.residual[
                int(r0 / rows) : max(int(np.ceil(r1 / rows)), int(r0 / rows) + 1),
                int(c0 / cols) : max(int(np.ceil(c1 / cols)), int(c0 / cols) + 1),
            ]
            out -= cv2.resize(part, (c1 - c0, r1 - r0), interpolation=cv2.INTER_LINEAR)
        return out

    def with_filled(self, region: np.ndarray) -> "BackgroundModel":
        """The same scene with ``region`` (bool [h, w], small scale) filled from its rim.

        For an animal that lies in one place in every frame: what is under it was never seen.
        """
        height, width = self.shape
        small = fill_from_rim(self.small, region)
        full_region = cv2.resize(
            region.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR
        ).astype(bool)
        full_region = cv2.dilate(full_region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        patch = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        image = np.where(full_region, patch, self.image).astype(np.float32)
        return replace(self, image=image, small=small, _bins=_gain_bins(small))


def small_shape(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the small picture for a full one."""
    factor = max(1, round(max(height, width) / SMALL_SIDE))
    return max(1, round(height / factor)), max(1, round(width / factor))


def soften(small: np.ndarray, sigma: float) -> np.ndarray:
    """A small signal blurred by a Gaussian, so that noise does not hide a faint animal."""
    return cv2.GaussianBlur(small, (0, 0), sigma) if sigma > 0 else small


def build_background(
    frames: Sequence[np.ndarray],
    source_frames: Sequence[int] | np.ndarray | None = None,
    *,
    softness: float = 1.0,
) -> BackgroundModel:
    """Learn the empty scene from frames of one static camera.

    ``frames``: uint8 [H, W] or [H, W, 3] (RGB), all of one shape, spread over the recording; 40 to
    100 are enough, one is possible (then nothing can be told from the floor by time). They are held
    in memory by the caller; this adds about ``4 * H * W * len(frames) / 8`` bytes.
    ``source_frames``: their frame numbers, increasing; None for stills in no order. ``softness``:
    sigma of the blur at the small scale, in small pixels.

    Raises ``PermanentProblem`` when there is no frame.
    """
    if not len(frames):
        raise PermanentProblem(
            "There is no frame to learn the background from: the recording is empty. "
            "Check the file, or leave it out."
        )
    height, width = frames[0].shape[:2]
    rows, cols = small_shape(height, width)
    pictures = np.stack(
        [cv2.resize(f, (cols, rows), interpolation=cv2.INTER_AREA) for f in frames]
    )
    signal = choose_signal(pictures)
    small = np.stack([soften(signal.of(p), softness) for p in pictures])
    del pictures

    gains = np.ones(len(frames))
    offsets = np.zeros(len(frames))
    reference = _median(small)
    for _ in range(2 if len(frames) > 1 else 0):
        bins = _gain_bins(reference)
        for k in range(len(frames)):
            gains[k], offsets[k] = _fit_gain(small[k], *bins)
        even = _in_usual_light(small, gains, offsets)
        reference = _median(even)
    even = _in_usual_light(small, gains, offsets)
    del small

    background, covered, ghost = _without_the_animal(even, reference)
    bins = _gain_bins(background)
    seen = ~covered
    small_noise = _noise_over_time(even, background, seen)
    grid = np.stack([_light_cells(even[k] - background, seen[k]) for k in range(len(frames))])
    if source_frames is None:
        grid[:] = 0
    else:
        for k in range(len(frames)):
            even[k] -= cv2.resize(grid[k], (cols, rows), interpolation=cv2.INTER_LINEAR)
    image = _full_background(frames, signal, gains, offsets, grid, covered, ghost, background)
    full_noise = _full_noise(frames, signal, gains, offsets, image)
    return BackgroundModel(
        image=image,
        small=background,
        noise=full_noise,
        small_noise=small_noise,
        signal=signal,
        sample_frames=np.asarray(
            range(len(frames)) if source_frames is None else source_frames, dtype=np.int64
        ),
        grid=grid,
        softness=softness,
        _bins=bins,
    )


def fill_from_rim(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """``image`` (float32 [h, w]) with ``region`` (bool [h, w]) interpolated from around it.

    Solves Laplace's equation inside the region (a soap film on the rim's values), coarse to fine.
    """
    if not region.any() or region.all():
        return image.copy()
    out = image.astype(np.float32).copy()
    known = (~cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)).astype(
        np.float32
    )
    if not known.any():
        known = (~region).astype(np.float32)
    hole = known == 0
    # Start from ever wider averages of what is known, then relax.
    start = np.full_like(out, float(np.median(out[known > 0])))
    sigma = 0.25 * max(out.shape)
    while sigma >= 1.0:
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        value = cv2.GaussianBlur(out * known, (0, 0), sigma)
        good = weight > 0.02
        start[good] = value[good] / weight[good]
        sigma /= 2
    out[hole] = start[hole]
    ys, xs = np.nonzero(hole)
    r0, r1 = max(0, ys.min() - 2), ys.max() + 3
    c0, c1 = max(0, xs.min() - 2), xs.max() + 3
    part, inside = out[r0:r1, c0:c1], hole[r0:r1, c0:c1]
    kernel = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    for _ in range(200):
        part[inside] = cv2.filter2D(part, -1, kernel, borderType=cv2.BORDER_REPLICATE)[inside]
    return out


def _median(stack: np.ndarray) -> np.ndarray:
    """Median over the first axis, in strips so that no second copy of the stack is made."""
    out = np.empty(stack.shape[1:], np.float32)
    for row in range(0, stack.shape[1], 32):
        out[row : row + 32] = np.median(stack[:, row : row + 32], axis=0)
    return out


def _gain_bins(background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel numbers on a sparse lattice, sorted by brightness into equal bins, and their values."""
    rows, cols = background.shape
    step = max(1, int(np.sqrt(rows * cols / 6000)))
    lattice = (
        np.arange(0, rows, step)[:, None] * cols + np.arange(0, cols, step)[None, :]
    ).ravel()
    order = lattice[np.argsort(background.ravel()[lattice], kind="stable")]
    count = max(1, min(_ILLUMINATION_BINS, len(order) // 20))
    order = order[: len(order) // count * count].reshape(count, -1)
    return order, background.ravel()[order]


def _fit_gain(small: np.ndarray, order: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Gain and offset of a frame against the background, unmoved by an animal in it.

    The median residual of each brightness bin, and a Theil-Sen line through them.
    """
    difference = small.ravel()[order] - values
    residual = np.median(difference, axis=1)
    spread = float(np.median(np.abs(difference - residual[:, None])))
    level = np.median(values, axis=1)
    first, second = np.triu_indices(len(level), 1)
    run = level[second] - level[first]
    wide = run > 0.2 * max(float(level[-1] - level[0]), 1e-6)
    # A floor of one brightness says nothing about gain; what it says about offset is enough.
    if len(level) < 4 or level[-1] - level[0] < 10 * spread or not wide.any():
        return 1.0, float(np.median(residual))
    slope = float(np.median((residual[second] - residual[first])[wide] / run[wide]))
    slope = min(max(slope, -0.6), 2.0)
    return 1.0 + slope, float(np.median(residual - slope * level))


def _in_usual_light(small: np.ndarray, gains: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = small - offsets[:, None, None].astype(np.float32)
    out /= gains[:, None, None].astype(np.float32)
    return out


def _without_the_animal(
    even: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Background, and where each frame is covered by something, at the small scale.

    ``even`` float32 [N, h, w]. Returns (background [h, w], covered bool [N, h, w], ghost bool
    [N, h, w]: the frames that show the floor where most do not).
    """
    count = len(even)
    background = reference.copy()
    covered = np.zeros(even.shape, bool)
    ghost = np.zeros(even.shape, bool)
    if count < 3:
        return background, covered, ghost
    for _ in range(3):
        noise = _noise_over_time(even, background, ~covered)
        gate = _contrast_gate(even, background, noise)
        covered[:] = False
        ghost[:] = False
        slope_b = _edge_strength(background)
        for k in range(count):
            _judge_blobs(even[k], background, gate, slope_b, covered[k], ghost[k])
        is_ghost = ghost.sum(axis=0) > covered.sum(axis=0)
        grown = np.ones((5, 5), np.uint8)
        for k in range(count):
            ghost[k] &= is_ghost
            wide = cv2.dilate(covered[k].astype(np.uint8), grown).astype(bool)
            covered[k] = np.where(is_ghost, ~ghost[k], wide)
        updated = _masked_median(even, ~covered)
        never = np.isnan(updated)
        if never.any():
            updated[never] = background[never]
            updated = fill_from_rim(updated, never)
        moved = float(np.abs(updated - background).max())
        background = updated
        if moved < float(np.median(noise)):
            break
    return background, covered, ghost


def _contrast_gate(even: np.ndarray, background: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Per-pixel difference that counts as "something is there": noise, and a share of contrast.

    The share keeps faint shadows from being taken for a part of what casts them.
    """
    tops = []
    for frame in even:
        difference = np.abs(frame - background)
        strong = cv2.morphologyEx(
            (difference > NOISE_GATE * noise).astype(np.uint8),
            cv2.MORPH_OPEN,
            np.ones((3, 3), np.uint8),
        ).astype(bool)
        if np.count_nonzero(strong) > 0.0005 * strong.size:
            tops.append(float(np.percentile(difference[strong], 90)))
    share = 0.3 * float(np.median(tops)) if tops else 0.0
    return np.maximum(NOISE_GATE * noise, share).astype(np.float32)


def _edge_strength(image: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    return cv2.magnitude(
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    )


def _judge_blobs(
    frame: np.ndarray,
    background: np.ndarray,
    gate: np.ndarray,
    slope_background: np.ndarray,
    covered: np.ndarray,
    ghost: np.ndarray,
) -> None:
    """Mark each blob of a frame as covering the floor or as a ghost, in place."""
    difference = frame - background
    slope_frame = None
    square = np.ones((3, 3), np.uint8)
    for sign in (-1, 1):
        mask = cv2.morphologyEx(
            (difference * sign > gate).astype(np.uint8), cv2.MORPH_OPEN, square
        )
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for label in range(1, count):
            left, top, wide, high, area = stats[label]
            if area < 0.0003 * mask.size:
                continue
            if slope_frame is None:
                slope_frame = _edge_strength(frame)
            box = (
                slice(max(0, top - 3), top + high + 3),
                slice(max(0, left - 3), left + wide + 3),
            )
            blob = (labels[box] == label).astype(np.uint8)
            rim = (cv2.dilate(blob, square) - cv2.erode(blob, square)).astype(bool)
            wrong = slope_background[box][rim].mean() > slope_frame[box][rim].mean()
            (ghost if wrong else covered)[box] |= blob.astype(bool)


def _masked_median(stack: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Median over the first axis of the valid entries; NaN where there is none."""
    out = np.empty(stack.shape[1:], np.float32)
    for row in range(0, stack.shape[1], 32):
        good = valid[:, row : row + 32]
        part = np.where(good, stack[:, row : row + 32], np.inf)
        # Sorting along the last axis of a contiguous array is what numpy does fastest.
        part = np.sort(np.ascontiguousarray(np.moveaxis(part, 0, -1)), axis=-1)
        number = good.sum(axis=0)
        high = np.take_along_axis(part, np.minimum(number // 2, len(stack) - 1)[..., None], -1)
        low = np.take_along_axis(part, np.maximum((number - 1) // 2, 0)[..., None], -1)
        middle = (0.5 * (high + low))[..., 0]
        middle[number == 0] = np.nan
        out[row : row + 32] = middle
    return out


def _noise_over_time(even: np.ndarray, background: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Standard deviation over time per pixel, float32 [h, w], from median absolute deviations.

    A single pixel's estimate from a few dozen frames is itself noisy, so it is smoothed over its
    neighbours and kept within a factor of the picture's own level.
    """
    if len(even) < 5:
        level = min(_noise_of_one(frame) for frame in even)
        return np.full(background.shape, max(level, 0.25), np.float32)
    deviation = np.abs(even - background)
    noise = 1.4826 * _masked_median(deviation, seen)
    level = max(float(np.nanmedian(noise)), 0.25)
    noise = np.nan_to_num(noise, nan=level)
    noise = cv2.GaussianBlur(cv2.medianBlur(noise.astype(np.float32), 5), (0, 0), 3.0)
    return np.clip(noise, 0.7 * level, 6.0 * level).astype(np.float32)


def _noise_of_one(image: np.ndarray) -> float:
    """Noise of a single picture (Immerkaer 1996), by a median so that edges do not count."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(image.astype(np.float32), cv2.CV_32F, kernel)
    return float(1.4826 * np.median(np.abs(response)) / 6.0)


def _light_cells(residual: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Median residual of each cell of a coarse grid, float32; hidden cells from their neighbours."""
    cells = np.zeros(_LIGHT_GRID, np.float32)
    known = np.zeros(_LIGHT_GRID, np.float32)
    row_edges = np.linspace(0, residual.shape[0], _LIGHT_GRID[0] + 1).astype(int)
    col_edges = np.linspace(0, residual.shape[1], _LIGHT_GRID[1] + 1).astype(int)
    for i in range(_LIGHT_GRID[0]):
        for j in range(_LIGHT_GRID[1]):
            box = (slice(row_edges[i], row_edges[i + 1]), slice(col_edges[j], col_edges[j + 1]))
            good = seen[box]
            if np.count_nonzero(good) > 0.3 * max(good.size, 1):
                cells[i, j] = np.median(residual[box][good])
                known[i, j] = 1
    if not known.any():
        return cells
    weight = cv2.GaussianBlur(known, (0, 0), 1.0)
    value = cv2.GaussianBlur(cells * known, (0, 0), 1.0)
    return np.where(known > 0, cells, value / np.maximum(weight, 1e-6)).astype(np.float32)


def _full_background(
    frames: Sequence[np.ndarray],
    signal: PictureSignal,
    gains: np.ndarray,
    offsets: np.ndarray,
    grid: np.ndarray,
    covered: np.ndarray,
    ghost: np.ndarray,
    small: np.ndarray,
) -> np.ndarray:
    """The background at full scale, from the decisions taken at the small one; strip by strip."""
    height, width = frames[0].shape[:2]
    rows, _ = small.shape
    image = np.empty((height, width), np.float32)
    upsampled = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if len(frames) < 3:
        stack = np.stack([(signal.of(f) - o) / g for f, g, o in zip(frames, gains, offsets)])
        return np.median(stack, axis=0).astype(np.float32)
    light = [
        cv2.resize(c, (width, rows), interpolation=cv2.INTER_LINEAR) if c.any() else None
        for c in grid
    ]
    step = max(1, round(16 * height / rows))
    for top in range(0, height, step):
        bottom = min(height, top + step)
        own_rows = np.minimum((np.arange(top, bottom) + 0.5) * rows / height, rows - 1).astype(int)
        values = np.empty((len(frames), bottom - top, width), np.float32)
        valid = np.empty(values.shape, bool)
        cols = np.minimum(
            (np.arange(width) + 0.5) * small.shape[1] / width, small.shape[1] - 1
        ).astype(int)
        for k, frame in enumerate(frames):
            values[k] = (signal.of(frame[top:bottom]) - offsets[k]) / gains[k]
            cells = light[k]
            if cells is not None:
                values[k] -= cells[own_rows]
            valid[k] = ~covered[k][own_rows][:, cols]
        strip = _masked_median(values, valid)
        never = np.isnan(strip)
        strip[never] = upsampled[top:bottom][never]
        image[top:bottom] = strip
    return image


def _full_noise(
    frames: Sequence[np.ndarray],
    signal: PictureSignal,
    gains: np.ndarray,
    offsets: np.ndarray,
    image: np.ndarray,
) -> float:
    """Standard deviation over time of one full-scale pixel, from a lattice of pixels."""
    if len(frames) < 5:
        return max(min(_noise_of_one(signal.of(f)) for f in frames), 0.25)
    step = max(1, int(np.sqrt(image.size / 4000)))
    usual = image[::step, ::step]
    spread = [
        np.abs(
            (signal.of(np.ascontiguousarray(f[::step, ::step])) - o) / g - usual
        )
        for f, g, o in zip(frames, gains, offsets)
    ]
    return max(float(1.4826 * np.median(np.stack(spread))), 0.25)
