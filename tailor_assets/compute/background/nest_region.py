"""The nest: the patch around its point whose brightness or texture is not the floor's."""

import cv2
import numpy as np

from tailor_assets.compute.background.background_model import BackgroundModel, small_shape
from tailor_assets.compute.background.body_shape import fill_holes
from tailor_assets.compute.background.ghost_removal import fill_from_rim

# A nest is a good part of a cage, but not the cage.
_SMALLEST_SHARE = 0.002
_USUAL_SHARE = 0.03
_LARGEST_SHARE = 0.35
# Small-scale pixels by which the texture picture's blur may widen a region.
_MARGIN = 6


def grow_nest(model: BackgroundModel, x: float, y: float) -> tuple[np.ndarray, float]:
    """Mask (bool [H, W]) and score (0..1) of the nest around a point of the background image.

    Two pictures are made of the background: brightness and texture (local standard deviation). In
    each, and in both together, the region around the point grows with the tolerance: what is like
    the point, and what is unlike the floor (the picture's usual value). Kept is the region whose
    inside differs most from a ring around it (Fisher's separation), compact and of a plausible
    size. Its outline is then drawn at full scale, where the background departs from the floor as
    interpolated from around the nest. The score is the separation as ``d / (d + 1)``; a point on
    plain floor gives an empty mask and 0.
    """
    height, width = model.shape
    small = _smoothed(model)
    rows, cols = small.shape
    row = int(np.clip(y * rows / height, 0, rows - 1))
    col = int(np.clip(x * cols / width, 0, cols - 1))
    reach = max(2, round(0.012 * max(rows, cols)))
    disc = np.zeros((rows, cols), np.uint8)
    cv2.circle(disc, (col, row), reach, 1, -1)
    features = _features(small)
    like_point = [np.abs(f - np.median(f[disc > 0])) for f in features]
    unlike_floor = [-np.abs(f - np.median(f)) for f in features]
    distances = like_point + unlike_floor
    distances += [np.hypot(*like_point), -np.hypot(*unlike_floor)]
    best, best_separation = None, 0.0
    for distance in distances:
        for tolerance in np.quantile(distance, np.linspace(0.01, 0.6, 40)):
            region = _around(distance <= tolerance, row, col, reach)
            if region is None:
                continue
            separation = _separation(region, features)
            # A part of a nest stands out from its rest; the whole is what is asked for.
            share = np.count_nonzero(region) / region.size
            separation *= share / (share + 0.5 * _USUAL_SHARE)
            # Nests are round; what runs out over bright bedding is not.
            separation *= _solidity(region) ** 2
            if separation > best_separation:
                best, best_separation = region, separation
    # Two patches of one floor differ by about one standard deviation here and there.
    if best is None or best_separation < 1.0:
        return np.zeros((height, width), bool), 0.0
    mask = _sharpened(model, best)
    if mask is None:
        # Hardly brighter or darker than the floor: then its texture has to tell it, all alone.
        if _separation(best, features[1:]) < 1.5:
            return np.zeros((height, width), bool), 0.0
        coarse = cv2.resize(best.astype(np.uint8), (width, height))
        mask = coarse.astype(bool)
    return mask, best_separation / (best_separation + 1.0)


def _sharpened(model: BackgroundModel, region: np.ndarray) -> np.ndarray | None:
    """The outline of a small-scale region at full scale, bool [H, W]; None where brightness does
    not show one.

    The texture picture is blurred, so its region is too wide by about the blur. The floor under
    the nest is interpolated from around it; nest is what departs from that by more than the floor
    around it does.
    """
    height, width = model.shape
    small = _smoothed(model)
    margin = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)
    wide = cv2.dilate(region.astype(np.uint8), margin)
    ring = cv2.dilate(wide, margin).astype(bool) & ~wide.astype(bool)
    if np.count_nonzero(ring) < 30:
        return None
    floor = fill_from_rim(small, wide.astype(bool))
    residual = np.abs(small - cv2.GaussianBlur(small, (0, 0), 3.0))[ring]
    noise = max(4 * 1.4826 * float(np.median(residual)), 4 * model.noise)
    floor_full = cv2.resize(floor, (width, height), interpolation=cv2.INTER_LINEAR)
    wide_full = cv2.resize(wide, (width, height), interpolation=cv2.INTER_NEAREST)
    image = cv2.GaussianBlur(model.image, (0, 0), 1.0)
    departure = np.abs(image - floor_full)
    coarse = cv2.resize(region.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    # Half-way to the nest's own usual departure, so that its shadow and uneven light stay outside.
    gate = max(noise, 0.5 * float(np.percentile(departure[coarse > 0], 60)))
    mask = ((departure > gate) & (wide_full > 0)).astype(np.uint8)
    size = 2 * max(1, round(0.009 * max(height, width))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    mask = fill_holes(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    count, labels = cv2.connectedComponents(mask)
    votes = np.bincount(labels[coarse > 0], minlength=count)
    votes[0] = 0
    if votes.max() < 0.4 * np.count_nonzero(coarse):
        return None
    return labels == int(votes.argmax())


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


def _solidity(region: np.ndarray) -> float:
    """Area over the area of the convex hull, 0..1."""
    outlines, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    outline = max(outlines, key=cv2.contourArea)
    return float(cv2.contourArea(outline)) / max(cv2.contourArea(cv2.convexHull(outline)), 1.0)


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
