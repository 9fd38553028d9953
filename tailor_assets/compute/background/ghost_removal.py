"""The background under an animal that moves little: covered pixels, and ghosts told from animals.

All arrays are at the small scale, float32 [h, w] or [N, h, w], in the background's light.
"""

import cv2
import numpy as np

# Standard deviations of the noise by which something unknown has to differ from the floor.
NOISE_GATE = 5.0


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


def without_the_animal(
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
    background = _smoothest_start(even, background)
    for _ in range(3):
        noise = noise_over_time(even, background, ~covered)
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
        updated = masked_median(even, ~covered)
        never = np.isnan(updated)
        if never.any():
            updated[never] = background[never]
            updated = fill_from_rim(updated, never)
        moved = float(np.abs(updated - background).max())
        background = updated
        if moved < float(np.median(noise)):
            break
    return background, covered, ghost


def _smoothest_start(even: np.ndarray, median: np.ndarray) -> np.ndarray:
    """The median, or where pixels have two values over time all the lighter or all the darker ones:
    whichever makes the smoothest picture.

    A pixel that the animal covers more often than not has the animal for its median. Its other
    value is the floor's, and a floor goes on smoothly from one pixel to the next, while a picture
    that holds parts of an animal has outlines in it.
    """
    count = len(even)
    if count < 8:
        return median
    lighter, darker = median.copy(), median.copy()
    two_valued = np.zeros(median.shape, bool)
    noise = float(np.median(noise_over_time(even, median, np.ones(even.shape, bool))))
    for row in range(0, even.shape[1], 32):
        part = even[:, row : row + 32]
        part = np.sort(np.ascontiguousarray(np.moveaxis(part, 0, -1)), axis=-1)
        low, high = part[..., 1], part[..., -2]
        middle = 0.5 * (low + high)
        below = (part < middle[..., None]).sum(axis=-1)
        own = high - low > 2 * NOISE_GATE * noise
        upper = np.take_along_axis(part, ((below + count) // 2)[..., None], -1)[..., 0]
        lower = np.take_along_axis(part, (below // 2)[..., None], -1)[..., 0]
        two_valued[row : row + 32] = own
        lighter[row : row + 32][own] = upper[own]
        darker[row : row + 32][own] = lower[own]
    if not two_valued.any():
        return median
    where = cv2.dilate(two_valued.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return min(
        (median, lighter, darker), key=lambda picture: float(_edge_strength(picture)[where].mean())
    )


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
    return cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))


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
        mask = cv2.morphologyEx((difference * sign > gate).astype(np.uint8), cv2.MORPH_OPEN, square)
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


def masked_median(stack: np.ndarray, valid: np.ndarray) -> np.ndarray:
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


def noise_over_time(even: np.ndarray, background: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Standard deviation over time per pixel, float32 [h, w], from median absolute deviations.

    A single pixel's estimate from a few dozen frames is itself noisy, so it is smoothed over its
    neighbours and kept within a factor of the picture's own level.
    """
    if len(even) < 5:
        level = min(noise_of_one(frame) for frame in even)
        return np.full(background.shape, max(level, 0.25), np.float32)
    deviation = np.abs(even - background)
    noise: np.ndarray = 1.4826 * masked_median(deviation, seen)
    level = max(float(np.nanmedian(noise)), 0.25)
    noise = np.nan_to_num(noise, nan=level)
    noise = cv2.GaussianBlur(cv2.medianBlur(noise.astype(np.float32), 5), (0, 0), 3.0)
    return np.clip(noise, 0.7 * level, 6.0 * level).astype(np.float32)


def noise_of_one(image: np.ndarray) -> float:
    """Noise of a single picture (Immerkaer 1996), by a median so that edges do not count."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(image.astype(np.float32), cv2.CV_32F, kernel)
    return float(1.4826 * np.median(np.abs(response)) / 6.0)
