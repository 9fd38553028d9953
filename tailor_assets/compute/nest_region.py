"""The nest: the patch around its point whose brightness or texture is not the floor's."""

import cv2
import numpy as np

from tailor_assets.compute.background_model import BackgroundModel, small_shape

# A nest is a good part of a cage, but not the cage.
_SMALLEST_SHARE = 0.002
_LARGEST_SHARE = 0.35


def grow_nest(model: BackgroundModel, x: float, y: float) -> tuple[np.ndarray, float]:
    """Mask (bool [H, W]) and score (0..1) of the nest around a point of the background image.

    Three pictures are made of the background: brightness, texture (local standard deviation), and
    both together, each as a distance from what is found at the point. In each the region around
    the point grows with the tolerance; kept is the one whose inside differs most from a ring
    around it (Fisher's separation), compact and of a plausible size. The score is that separation,
    ``d / (d + 1)``; a point on plain floor gives an empty mask and 0.
    """
    height, width = model.shape
    small = _smoothed(model)
    rows, cols = small.shape
    row = int(np.clip(y * rows / height, 0, rows - 1))
    col = int(np.clip(x * cols / width, 0, cols - 1))
    features = _features(small)
    reach = max(2, round(0.012 * max(rows, cols)))
    disc = np.zeros((rows, cols), np.uint8)
    cv2.circle(disc, (col, row), reach, 1, -1)
    inside = disc > 0
    distances = []
    for feature in features:
        centre = float(np.median(feature[inside]))
        distances.append(np.abs(feature - centre))
    distances.append(np.sqrt(distances[0] ** 2 + distances[1] ** 2))
    best, best_separation = None, 0.0
    for distance in distances:
        for tolerance in np.quantile(distance, np.linspace(0.01, 0.6, 40)):
            region = _around(distance <= tolerance, row, col, reach)
            if region is None:
                continue
            separation = _separation(region, features)
            if separation > best_separation:
                best, best_separation = region, separation
    # Two patches of one floor differ by about one standard deviation here and there.
    if best is None or best_separation < 1.5:
        return np.zeros((height, width), bool), 0.0
    soft = cv2.resize(
        cv2.GaussianBlur(best.astype(np.float32), (0, 0), 1.5),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    return soft > 0.5, best_separation / (best_separation + 1.0)


def _smoothed(model: BackgroundModel) -> np.ndarray:
    rows, cols = small_shape(*model.shape)
    return cv2.resize(model.image, (cols, rows), interpolation=cv2.INTER_AREA)


def _features(small: np.ndarray) -> list[np.ndarray]:
    """Brightness and texture, each in units of its own spread over the picture."""
    sigma = max(2.0, 0.012 * max(small.shape))
    mean = cv2.GaussianBlur(small, (0, 0), sigma)
    fine = small - cv2.GaussianBlur(small, (0, 0), sigma)
    texture = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), sigma))
    texture = np.log(texture + 0.05 * float(texture.max()) + 1e-3)
    out = []
    for feature in (cv2.GaussianBlur(mean, (0, 0), 1.0), texture):
        spread = 1.4826 * float(np.median(np.abs(feature - np.median(feature))))
        out.append(feature / max(spread, 1e-3 * float(np.abs(feature).max()), 1e-6))
    return out


def _around(inside: np.ndarray, row: int, col: int, reach: int) -> np.ndarray | None:
    """The compact part of a mask that holds the point, or None."""
    size = 2 * max(1, reach // 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    mask = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    if not mask[row, col]:
        return None
    _, labels = cv2.connectedComponents(mask, connectivity=4)
    part = (labels == labels[row, col]).astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea)
    area = cv2.contourArea(outline)
    if not _SMALLEST_SHARE * mask.size <= area <= _LARGEST_SHARE * mask.size:
        return None
    if area < 0.6 * cv2.contourArea(cv2.convexHull(outline)):
        return None
    filled = np.zeros_like(part)
    cv2.drawContours(filled, [outline], -1, 1, thickness=cv2.FILLED)
    return filled.astype(bool)


def _separation(region: np.ndarray, features: list[np.ndarray]) -> float:
    """How far a region's inside is from the ring around it, in standard deviations."""
    width = max(3, round(0.25 * np.sqrt(np.count_nonzero(region))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    ring = cv2.dilate(region.astype(np.uint8), kernel).astype(bool) & ~region
    if np.count_nonzero(ring) < 0.2 * np.count_nonzero(region):
        return 0.0
    total = 0.0
    for feature in features:
        a, b = feature[region], feature[ring]
        spread = np.sqrt(0.5 * (a.var() + b.var())) + 0.05
        total = max(total, float(abs(a.mean() - b.mean()) / spread))
    return total
