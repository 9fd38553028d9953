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

from tailor_assets.compute.background.ghost_removal import (
    fill_from_rim,
    masked_median,
    noise_of_one,
    noise_over_time,
    without_the_animal,
)
from tailor_assets.compute.background.illumination import Lighting, fit_gain, gain_bins, light_cells
from tailor_assets.compute.background.picture_signal import PictureSignal, choose_signal
from tailor_assets.compute.errors import PermanentProblem

# Detection works on a picture of about this longest side: the smallest animal worth following
# (0.15% of the picture) still covers a hundred pixels there, and noise is averaged down.
SMALL_SIDE = 320


@dataclass(frozen=True)
class BackgroundModel:
    """The empty scene of one camera.

    ``image`` float32 [H, W] and ``small`` float32 [h, w] hold the signal (see ``picture_signal``)
    at full  ``grid`` float32 [N, 6, 8] is the residual lighting at
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
        gain, offset = fit_gain(small, *self._bins)
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
        return replace(self, image=image, small=small, _bins=gain_bins(small))


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
    pictures = np.stack([cv2.resize(f, (cols, rows), interpolation=cv2.INTER_AREA) for f in frames])
    signal = choose_signal(pictures)
    small = np.stack([soften(signal.of(p), softness) for p in pictures])
    del pictures

    gains = np.ones(len(frames))
    offsets = np.zeros(len(frames))
    reference = _median(small)
    for _ in range(2 if len(frames) > 1 else 0):
        bins = gain_bins(reference)
        for k in range(len(frames)):
            gains[k], offsets[k] = fit_gain(small[k], *bins)
        even = _in_usual_light(small, gains, offsets)
        reference = _median(even)
    even = _in_usual_light(small, gains, offsets)
    del small

    background, covered, ghost = without_the_animal(even, reference)
    bins = gain_bins(background)
    seen = ~covered
    small_noise = noise_over_time(even, background, seen)
    grid = np.stack([light_cells(even[k] - background, seen[k]) for k in range(len(frames))])
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


def _median(stack: np.ndarray) -> np.ndarray:
    """Median over the first axis, in strips so that no second copy of the stack is made."""
    out = np.empty(stack.shape[1:], np.float32)
    for row in range(0, stack.shape[1], 32):
        out[row : row + 32] = np.median(stack[:, row : row + 32], axis=0)
    return out


def _in_usual_light(small: np.ndarray, gains: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = small - offsets[:, None, None].astype(np.float32)
    out /= gains[:, None, None].astype(np.float32)
    return out


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
        stack = np.stack(
            [(signal.of(f) - o) / g for f, g, o in zip(frames, gains, offsets, strict=True)]
        )
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
        strip = masked_median(values, valid)
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
        return max(min(noise_of_one(signal.of(f)) for f in frames), 0.25)
    step = max(1, int(np.sqrt(image.size / 4000)))
    usual = image[::step, ::step]
    spread = [
        np.abs((signal.of(np.ascontiguousarray(f[::step, ::step])) - o) / g - usual)
        for f, g, o in zip(frames, gains, offsets, strict=True)
    ]
    return max(float(1.4826 * np.median(np.stack(spread))), 0.25)
