"""Grows a region from one point of a picture until its outline is as sharp as it gets."""

import cv2
import numpy as np


def grow_by_contrast(
    image: np.ndarray,
    point: tuple[float, float],
    *,
    noise: float,
    smallest: float,
    largest: float,
) -> np.ndarray | None:
    """Region around ``point`` (row, col) of a float32 picture [h, w], or None where none stands out.

    Floods from the point with ever wider tolerance and keeps the flood whose outline has the
    strongest mean edge. ``noise`` is the picture's standard deviation per pixel; ``smallest`` and
    ``largest`` bound the area in pixels. To be something that *lies* there, a region must be
    compact (80% of its convex hull, at most 4 times as long as wide), off the picture's border over
    most of its outline, of one tone against surroundings of one tone, and its outline must be a
    step nearly all the way round, not a line across a slow gradient.
    """
    height, width = image.shape
    row = int(np.clip(round(point[0]), 0, height - 1))
    col = int(np.clip(round(point[1]), 0, width - 1))
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5)
    edge = cv2.magnitude(
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125),
        cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125),
    )
    patch = smooth[max(0, row - 2) : row + 3, max(0, col - 2) : col + 3]
    seed_value = float(np.median(patch))
    seeded = smooth.copy()
    seeded[row, col] = seed_value
    span = float(np.abs(smooth - seed_value).max())
    best, best_edge = None, 0.0
    square = np.ones((3, 3), np.uint8)
    for step in np.geomspace(max(noise, span / 200), max(span, 2 * noise), 40):
        flood = np.zeros((height + 2, width + 2), np.uint8)
        cv2.floodFill(
            seeded,
            flood,
            (col, row),
            0,
            float(step),
            float(step),
            flags=4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (1 << 8),
        )
        region = cv2.morphologyEx(flood[1:-1, 1:-1], cv2.MORPH_CLOSE, square)
        area = int(np.count_nonzero(region))
        if area > largest:
            break
        if area < smallest:
            continue
        outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outline = max(outlines, key=cv2.contourArea)
        if not _compact(outline):
            continue
        xs, ys = outline[:, 0, 0], outline[:, 0, 1]
        at_border = (xs == 0) | (ys == 0) | (xs == width - 1) | (ys == height - 1)
        if at_border.mean() > 0.25:
            continue
        around = edge[ys[~at_border], xs[~at_border]]
        # The weakest tenth counts too: an animal is an edge all the way round.
        strength = 0.5 * float(around.mean()) + 0.5 * float(np.percentile(around, 15))
        if strength <= best_edge:
            continue
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [outline], -1, 1, thickness=cv2.FILLED)
        if _stands_out(image, filled, float(np.percentile(around, 15)), noise):
            best, best_edge = filled.astype(bool), strength
    return best


def _compact(outline: np.ndarray) -> bool:
    hull = max(cv2.contourArea(cv2.convexHull(outline)), 1.0)
    (_, (a, b), _) = cv2.minAreaRect(outline)
    return cv2.contourArea(outline) > 0.8 * hull and max(a, b) < 4 * max(min(a, b), 1.0)


def _stands_out(image: np.ndarray, filled: np.ndarray, weak_edge: float, noise: float) -> bool:
    """Whether a region and the ring around it are of one tone each, with a step between them."""
    size = float(np.sqrt(np.count_nonzero(filled)))
    gap = cv2.dilate(filled, np.ones((3, 3), np.uint8), iterations=3)
    reach = 2 * max(2, round(0.15 * size)) + 1
    ring = (cv2.dilate(gap, np.ones((reach, reach), np.uint8)) - gap).astype(bool)
    inner = cv2.erode(filled, np.ones((3, 3), np.uint8), iterations=2).astype(bool)
    if np.count_nonzero(ring) < 20 or np.count_nonzero(inner) < 10:
        return False
    low_in, mid_in, high_in = np.percentile(image[inner], (20, 50, 80))
    low_out, mid_out, high_out = np.percentile(image[ring], (20, 50, 80))
    step = abs(float(mid_in - mid_out))
    # A step of 1, blurred as here, has an edge of 0.2.
    return bool(
        step > 6 * noise
        and high_in - low_in < 0.5 * step
        and high_out - low_out < 0.5 * step
        and weak_edge > 0.09 * step
    )
