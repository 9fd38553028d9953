"""Crops of many packed masks, stacked into one tall picture that numpy can work on at once.

A mask of an animal fills one or two percent of its picture, and a numpy call costs more than the
arithmetic on one small crop. So the bounding boxes of many frames are cut out of the packed bits
and laid under one another with a blank line between them (a strip); every measurement is then a
handful of numpy calls for the whole strip, and no pixel outside the boxes is looked at.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Where in the picture the crops of n frames lie.

    ``row`` int64 [n]: index of the frame in its chunk. ``min_row``, ``max_row`` int64 [n]: lines of
    the picture, half-open. ``min_col`` int64 [n]: first column, a multiple of 8. ``n_bytes`` int64
    [n]: width of the crop in bytes of 8 columns.
    """

    row: np.ndarray
    min_row: np.ndarray
    max_row: np.ndarray
    min_col: np.ndarray
    n_bytes: np.ndarray

    def __len__(self) -> int:
        """Number of crops."""
        return int(self.row.shape[0])

    def __getitem__(self, which: slice | np.ndarray) -> "Windows":
        """Return the windows of some of the crops."""
        return Windows(
            self.row[which],
            self.min_row[which],
            self.max_row[which],
            self.min_col[which],
            self.n_bytes[which],
        )

    @property
    def height(self) -> np.ndarray:
        """Lines of each crop, int64 [n]."""
        return self.max_row - self.min_row


def windows_around(bbox: np.ndarray, row: np.ndarray) -> Windows:
    """Windows that hold the bounding boxes ``bbox`` int [n, 4] (min_row, min_col, max_row, max_col,
    half-open) of the frames ``row`` int [n], widened to whole bytes. No box may be empty.
    """
    box = bbox.astype(np.int64)
    min_col = box[:, 1] // 8 * 8
    n_bytes = -(-(box[:, 3] - min_col) // 8)
    return Windows(row.astype(np.int64), box[:, 0], box[:, 2], min_col, n_bytes)


def in_batches(windows: Windows, max_pixels: int) -> list[Windows]:
    """Split windows so that each strip has at most ``max_pixels`` pixels (or one crop)."""
    pixels = (windows.height + 1) * (windows.n_bytes + 1) * 8
    batches, start, total = [], 0, 0
    for i, more in enumerate(pixels.tolist()):
        if i > start and total + more > max_pixels:
            batches.append(windows[start:i])
            start, total = i, 0
        total += more
    if len(windows) > start:
        batches.append(windows[start:])
    return batches


@dataclass(frozen=True)
class MaskStrip:
    """Stacked crops of n frames.

    ``packed`` uint8 [lines, width // 8]: the crops with a blank line before the first and after
    each, and at least one blank byte at the right, so that a pixel's neighbours in the flattened
    strip (+-1, +-width) are its neighbours in the picture or blank. ``first_line`` int64 [n]: the
    strip's line of each crop's first line.
    """

    windows: Windows
    packed: np.ndarray
    first_line: np.ndarray

    @property
    def width(self) -> int:
        """Columns of the strip."""
        return int(self.packed.shape[1]) * 8

    def frame_of_line(self) -> np.ndarray:
        """Return the frame of each line, int64 [lines]; a crop's frame owns the blank below it."""
        n_lines = self.windows.height + 1
        n_lines[0] += 1
        return np.repeat(np.arange(len(self.windows)), n_lines)

    def count_shared(self, other: "MaskStrip") -> np.ndarray:
        """Pixels set in both strips, int64 [n]. Both must be cut from the same windows."""
        per_line = np.bitwise_count(self.packed & other.packed).sum(axis=1, dtype=np.int64)
        return np.add.reduceat(per_line, self.first_line)


def set_bits(packed: np.ndarray) -> np.ndarray:
    """Positions of the set bits of ``packed`` uint8 [k], int64, increasing; bit 7 comes first."""
    # Few bytes have any: expand only those.
    where = np.flatnonzero(packed != 0)
    bit = np.flatnonzero(np.unpackbits(packed[where]).view(np.bool_))
    return 8 * where[bit >> 3] + (bit & 7)


def number_within(count: np.ndarray) -> np.ndarray:
    """Place of every member in its group, from 0, int64 [sum of ``count``].

    ``count`` int64 [groups]: members of each group, which follow one another. [2, 3] -> 0 1 0 1 2.
    """
    before = np.cumsum(count) - count
    return np.arange(int(count.sum())) - np.repeat(before, count)


def left_neighbours(packed: np.ndarray) -> np.ndarray:
    """Bits of ``packed`` uint8 [k], each moved one place on: every bit tells its left neighbour."""
    moved = packed >> 1
    moved[1:] |= packed[:-1] << 7
    return moved


def right_neighbours(packed: np.ndarray) -> np.ndarray:
    """Bits of ``packed`` uint8 [k], each moved one place back: every bit tells its right neighbour."""
    moved = packed << 1
    moved[:-1] |= packed[1:] >> 7
    return moved


def cut_strip(packed: np.ndarray, windows: Windows, height: int, width: int) -> MaskStrip:
    """Cut ``windows`` out of masks ``packed`` uint8 [frames, ceil(height * width / 8)] (row-major,
    first pixel in bit 7) and stack them.
    """
    heights = windows.height
    first_line = 1 + np.concatenate(([0], np.cumsum(heights + 1)[:-1]))
    n_lines = int(first_line[-1] + heights[-1] + 1)
    strip = np.zeros((n_lines, int(windows.n_bytes.max()) + 1), np.uint8)
    aligned = width % 8 == 0
    pictures = packed.reshape(packed.shape[0], height, -1) if aligned else packed
    for frame, r0, r1, c0, n_bytes, line in zip(
        windows.row.tolist(),
        windows.min_row.tolist(),
        windows.max_row.tolist(),
        windows.min_col.tolist(),
        windows.n_bytes.tolist(),
        first_line.tolist(),
        strict=True,
    ):
        if aligned:
            crop = pictures[frame, r0:r1, c0 // 8 : c0 // 8 + n_bytes]
        else:
            crop = _cut_unaligned(pictures[frame], r0, r1, c0, n_bytes, width)
        strip[line : line + r1 - r0, :n_bytes] = crop
    return MaskStrip(windows, strip, first_line)


def _cut_unaligned(
    packed: np.ndarray, r0: int, r1: int, c0: int, n_bytes: int, width: int
) -> np.ndarray:
    # Lines do not begin at whole bytes here: unpack the lines of the box and pack the crop again.
    start, stop = r0 * width, r1 * width
    bits = np.unpackbits(packed[start // 8 : -(-stop // 8)])[start % 8 :][: stop - start]
    return np.packbits(bits.reshape(r1 - r0, width)[:, c0 : c0 + 8 * n_bytes], axis=1)


def pixels_set(
    packed: np.ndarray, frame: np.ndarray, row: np.ndarray, col: np.ndarray, width: int
) -> np.ndarray:
    """Whether pixel (``row``, ``col``) of mask ``frame`` is set: int [k] each -> bool [k]."""
    bit = row * width + col
    return (packed[frame, bit >> 3] >> (7 - (bit & 7))) & 1 == 1


def shared_area(
    packed: np.ndarray,
    windows: Windows,
    other: np.ndarray,
    other_row: np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    """Pixels that two masks share inside each window, int64 [n].

    ``packed`` and ``other`` uint8 [frames, ceil(height * width / 8)]: the crop of frame
    ``windows.row[i]`` of the first is compared with frame ``other_row[i]`` of the second.
    """
    if len(windows) == 0:
        return np.empty(0, np.int64)
    there = dataclasses.replace(windows, row=other_row)
    here = cut_strip(packed, windows, height, width)
    return here.count_shared(cut_strip(other, there, height, width))
