"""The body's shape in a mask: holes filled, tail off, head and ears kept."""

import cv2
import numpy as np

# The tail is thinner than this share of the body's half-width.
_TAIL_SHARE = 0.38
# Area over half-thickness squared: 3 for a disc, 5 to 8 for a head, 20 and more for a tail.
_STOUT = 9.0
# Length over mean width: a head is some 2, a tail 5 and more.
_SHORT = 2.7


def without_tail(mask: np.ndarray, near: np.ndarray, half_width: float) -> np.ndarray:
    """Body of a full-scale mask (uint8), without what is long and thin; holes filled.

    The mask is opened by a disc that a tail cannot hold. Of what the opening took, short and stout
    pieces (head, snout, ears) are given back, long and thin ones (tail, rim of a shadow, cable) but
    for their roots are not. ``near`` (uint8) marks the pixels that say which part is meant.
    ``half_width`` px is the animal's usual one; a smaller blob is opened by its own.
    """
    mask = fill_holes(mask)
    # At the picture's border the animal goes on outside; it is not thin there.
    pad = int(np.ceil(max(half_width, 2.0)))
    padded = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[pad:-pad, pad:-pad]
    own = float(depth[near > 0].max(initial=0.0))
    if own < 1:
        return np.zeros(mask.shape, bool)
    radius = _TAIL_SHARE * min(own, half_width if half_width > 0 else own)
    mask = _part_with_most(mask, near)
    core = ((depth > radius) & (mask > 0)).astype(np.uint8)
    opened = mask & within(core, radius)
    body = opened | (mask & within(opened, 0.5 * radius))
    rest = mask & (1 - opened)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(rest, connectivity=4)
    if count > 1:
        thickness = cv2.distanceTransform(rest, cv2.DIST_L2, 5)
        away = cv2.distanceTransform(1 - opened, cv2.DIST_L2, 5)
        for label in range(1, count):
            left, top, wide, high, area = stats[label]
            if area < 0.3 * radius**2:
                continue
            box = (slice(top, top + high), slice(left, left + wide))
            piece = labels[box] == label
            length = float(away[box][piece].max())
            thick = float(thickness[box][piece].max())
            if area <= _STOUT * thick**2 and length**2 <= _SHORT * area:
                body[box] |= piece.astype(np.uint8)
    return fill_holes(_part_with_most(body, near)).astype(bool)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """A uint8 mask with its holes filled."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = np.zeros_like(mask)
    cv2.drawContours(out, outlines, -1, 1, thickness=cv2.FILLED)
    return out


def within(mask: np.ndarray, radius: float) -> np.ndarray:
    """Pixels no farther than ``radius`` from the mask (uint8): dilation by a true disc."""
    return (cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5) <= radius).astype(np.uint8)


def _part_with_most(mask: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The connected part that shares most pixels with ``near``."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    if count <= 2:
        return mask
    votes = np.bincount(labels[near > 0], minlength=count)
    votes[0] = 0
    return (labels == int(votes.argmax())).astype(np.uint8)
