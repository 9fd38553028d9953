"""The distance between the nearest pixels of two masks, exactly, from their runs."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.features.mask_strip import (
    MaskStrip,
    Windows,
    cut_strip,
    in_batches,
    number_within,
    shared_area,
)
from tailor_assets.compute.features.shape_features import STRIP_PIXELS, Runs, strip_runs

# Pairs of runs worked on at once: bounds the memory.
_PAIRS_AT_ONCE = 1 << 19
# For the first guess every so many runs are looked at.
_COARSE = 8


def mask_gap(
    packed: np.ndarray,
    windows: Windows,
    packed_other: np.ndarray,
    windows_other: Windows,
    height: int,
    width: int,
) -> np.ndarray:
    """Distance between the centres of the nearest pixels of two masks, float64 [n]; 0 in overlap.

    ``packed*`` uint8 [frames, ceil(height * width / 8)], row-major, first pixel in bit 7;
    ``windows`` and ``windows_other``: of the same n frames. Raises ValueError where a window holds
    no pixel.
    """
    gap = np.zeros(len(windows))
    shared = shared_area(packed, windows, packed_other, windows_other.row, height, width)
    apart = np.flatnonzero(shared == 0)
    done = 0
    for batch in in_batches(windows[apart], STRIP_PIXELS):
        rows = apart[done : done + len(batch)]
        done += len(batch)
        mine = cut_strip(packed, batch, height, width)
        theirs = cut_strip(packed_other, windows_other[rows], height, width)
        gap[rows] = np.sqrt(_squared_gap(_Segments.of(mine), _Segments.of(theirs)))
    return gap


class _Segments:
    """Runs of n masks in coordinates of the picture: row, first and last column, int64 [k]."""

    def __init__(self, row: np.ndarray, first: np.ndarray, last: np.ndarray, count: np.ndarray):
        self.row, self.first, self.last, self.count = row, first, last, count
        self.start = np.cumsum(count) - count

    @classmethod
    def of(cls, strip: MaskStrip) -> _Segments:
        runs: Runs = strip_runs(strip)
        count = runs.count
        top = np.repeat(strip.windows.min_row - strip.first_line, count)
        left = np.repeat(strip.windows.min_col, count)
        return cls(runs.line + top, runs.start + left, runs.stop - 1 + left, count)

    def kept(self, keep: np.ndarray) -> _Segments:
        count = np.add.reduceat(keep.astype(np.int64), self.start)
        return _Segments(self.row[keep], self.first[keep], self.last[keep], count)

    def every(self, nth: int) -> _Segments:
        return self.kept(number_within(self.count) % nth == 0)

    def near(self, other: _Segments, squared: np.ndarray) -> _Segments:
        """Those whose distance to the other mask's box is at most the square root of ``squared``."""
        top, left = other.row[other.start], np.minimum.reduceat(other.first, other.start)
        bottom = other.row[other.start + other.count - 1]
        right = np.maximum.reduceat(other.last, other.start)
        top, bottom, left, right, most = (
            np.repeat(v, self.count) for v in (top, bottom, left, right, squared)
        )
        away = _squared_distance(self.row, self.first, self.last, top, bottom, left, right)
        return self.kept(away <= most)


def _squared_distance(
    row: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
) -> np.ndarray:
    """Between a run and a box of pixels, int64."""
    dx = np.maximum(np.maximum(left - last, first - right), 0)
    dy = np.maximum(np.maximum(top - row, row - bottom), 0)
    return dx * dx + dy * dy


def _squared_gap(mine: _Segments, theirs: _Segments) -> np.ndarray:
    """Smallest squared distance of each pair of masks, int64 [n]."""
    # Some runs give a distance that is too great; only runs within it of the other's box can give
    # a smaller one, and of two animals those are few.
    guess = _of_all_pairs(mine.every(_COARSE), theirs.every(_COARSE))
    return _of_all_pairs(mine.near(theirs, guess), theirs.near(mine, guess))


def _of_all_pairs(mine: _Segments, theirs: _Segments) -> np.ndarray:
    n = mine.count.shape[0]
    smallest = np.empty(n, np.int64)
    pairs = np.cumsum(mine.count * theirs.count)
    begin = 0
    while begin < n:
        done = int(pairs[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(pairs, done + _PAIRS_AT_ONCE, side="right")))
        smallest[begin:end] = _of_some_pairs(mine, theirs, begin, end)
        begin = end
    return smallest


def _of_some_pairs(mine: _Segments, theirs: _Segments, begin: int, end: int) -> np.ndarray:
    """Of the masks begin..end - 1, every run of the one beside every run of the other."""
    first = int(mine.start[begin])
    which = np.arange(first, int(mine.start[end - 1] + mine.count[end - 1]))
    mask = np.repeat(np.arange(begin, end), mine.count[begin:end])
    n_others = theirs.count[mask]
    a = np.repeat(which, n_others)
    b = np.repeat(theirs.start[mask], n_others) + number_within(n_others)
    row = theirs.row[b]
    squared = _squared_distance(
        mine.row[a], mine.first[a], mine.last[a], row, row, theirs.first[b], theirs.last[b]
    )
    per_mask = (mine.count * theirs.count)[begin:end]
    return np.minimum.reduceat(squared, np.cumsum(per_mask) - per_mask)
