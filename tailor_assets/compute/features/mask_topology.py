"""Pieces and holes of masks, counted on the bits and the runs of a strip (see mask_strip.py)."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.features.mask_strip import MaskStrip, left_neighbours, number_within


def euler_number(strip: MaskStrip) -> np.ndarray:
    """Pieces minus holes of each crop, int64 [n], as regionprops' ``euler_number``.

    Pieces are connected over edges and corners, holes over edges only. A pixel is taken as a closed
    square: a line has as many runs as its corners outnumber its pixels, and two lines are joined in
    as many places as the corners that they share outnumber the edges that they share.
    """
    pixels = strip.packed.reshape(-1)
    corners = pixels | left_neighbours(pixels)
    n = strip.packed.shape[1]
    count = np.bitwise_count(corners).view(np.int8) - np.bitwise_count(pixels).view(np.int8)
    # The last line is blank, so no line lacks the one below.
    count[:-n] -= np.bitwise_count(corners[:-n] & corners[n:]).view(np.int8)
    count[:-n] += np.bitwise_count(pixels[:-n] & pixels[n:]).view(np.int8)
    return np.add.reduceat(count, strip.first_line * n, dtype=np.int64)


def hole_area(
    line: np.ndarray, start: np.ndarray, stop: np.ndarray, strip: MaskStrip
) -> np.ndarray:
    """Pixels that filling the holes of each crop would add, int64 [n].

    ``line``, ``start``, ``stop`` int64 [k]: the strip's runs. As in regionprops' ``area_filled``
    the background is connected over corners too: a hole that is closed by a corner alone is open.
    """
    area = np.zeros(len(strip.windows), np.int64)
    gap = np.flatnonzero(line[1:] == line[:-1])
    if gap.size == 0:
        return area
    # Only what lies between two runs of a line can be in a hole.
    at, left, right = line[gap], stop[gap], start[gap + 1]
    n_lines, far = strip.packed.shape[0], strip.width + 1
    first, last = np.full(n_lines, far), np.full(n_lines, -1)
    begins = np.flatnonzero(np.diff(line, prepend=-1))
    first[line[begins]] = start[begins]
    ends = np.append(begins[1:], line.shape[0]) - 1
    last[line[ends]] = stop[ends]
    is_open = np.zeros(gap.size, bool)
    for other in (at - 1, at + 1):
        is_open |= (left <= first[other]) | (right >= last[other])
    # Gaps of the next line that touch a gap are neighbours in the list.
    key = strip.width + 2
    from_ = np.searchsorted(at * key + right, (at + 1) * key + left, side="left")
    to = np.searchsorted(at * key + left, (at + 1) * key + right, side="right")
    n_touching = np.maximum(to - from_, 0)
    upper = np.repeat(np.arange(gap.size), n_touching)
    lower = from_[upper] + number_within(n_touching)
    while True:
        passes = is_open[upper] != is_open[lower]
        if not passes.any():
            break
        is_open[upper[passes]] = is_open[lower[passes]] = True
        upper, lower = upper[~passes], lower[~passes]
    frame = np.searchsorted(strip.first_line, at[~is_open], side="right") - 1
    np.add.at(area, frame, (right - left)[~is_open])
    return area
