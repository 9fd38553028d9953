"""Scores of masks against truth: arithmetic on arrays, nothing of files or segmenters."""

from dataclasses import dataclass

import numpy as np

# An animal that shows less than this share of its usual area (a tail's root at the picture's edge, a
# back between strands of nest) is neither in the picture nor out of it: nobody is judged by it.
HARDLY_VISIBLE = 0.1
# From this share of its full area (the 90th percentile) on, an animal is seen whole: no strands of
# nest on it, no part of it outside the picture.
WHOLE = 0.8
# Out of the picture for a while: so many frames in a row, a third of a second at 30 frames/s.
ABSENT_FRAMES = 10
# A mask that shares less than half with the animal has not found it.
FOUND_IOU = 0.5
# Frames compared to see whether masks get worse with time: rows after the click, and late ones.
EARLY, LATE = slice(1, 51), slice(150, 300)


def trimap_iou(mask: np.ndarray, trimap: np.ndarray) -> float:
    """Intersection over union of bool [H, W] and a trimap's 255, leaving out pixels of 128."""
    truth, judged = trimap == 255, trimap != 128
    union = np.count_nonzero((mask | truth) & judged)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def packed_iou(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union, float64 [n], of bit-packed masks uint8 [n, bytes]; 1 of two empty."""
    shared = np.bitwise_count(masks & truth).sum(axis=1, dtype=np.int64)
    either = np.bitwise_count(masks | truth).sum(axis=1, dtype=np.int64)
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True in bool [N], as (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of True in bool [N]."""
    return max((stop - first for first, stop in runs(flags)), default=0)


def presence(truth_area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where an object is to be found and where it is away, each bool [N], from its true areas [N].

    Away are runs of at least ``ABSENT_FRAMES`` rows without a pixel of it, also before it first
    comes; what is neither is not judged.
    """
    seen = truth_area > 0
    usual = np.median(truth_area[seen]) if seen.any() else 0.0
    visible = seen & (truth_area >= HARDLY_VISIBLE * usual)
    absent = np.zeros(len(truth_area), bool)
    for first, stop in runs(~seen):
        absent[first:stop] = stop - first >= ABSENT_FRAMES
    return visible, absent


def seen_whole(truth_area: np.ndarray) -> np.ndarray:
    """Bool [N]: rows in which hardly anything of an object is hidden, from its true areas [N]."""
    seen = truth_area[truth_area > 0]
    return truth_area >= WHOLE * (np.percentile(seen, 90) if seen.size else np.inf)


@dataclass(frozen=True)
class ObjectScore:
    """One object of one clip, by row: ``iou`` float64 [N] (of ``visible`` rows it counts), and bool
    [N] ``visible``, ``absent`` (see ``presence``), ``whole`` and ``empty``: nothing was found.

    ``share`` is its usual true area as a share of the picture, which is also its share of the
    network's square input.
    """

    name: str
    is_nest: bool
    share: float
    iou: np.ndarray
    visible: np.ndarray
    absent: np.ndarray
    whole: np.ndarray
    empty: np.ndarray

    @property
    def mean_iou(self) -> float:
        """Mean over visible rows; NaN without any."""
        return _mean(self.iou[self.visible])

    @property
    def mean_iou_whole(self) -> float:
        """Mean over the visible rows in which it is seen whole; NaN without any."""
        return _mean(self.iou[self.visible & self.whole])

    @property
    def fall(self) -> float:
        """By how much the mean IoU is lower late than early; NaN where it is not seen in both."""
        return _fall(self.iou, self.visible)

    @property
    def fall_whole(self) -> float:
        """The same of the rows in which it is seen whole.

        Simulated animals go to their nest late in a clip, where strands make every IoU lower: that
        is in ``fall`` and not in this.
        """
        return _fall(self.iou, self.visible & self.whole)

    @property
    def absent_called_absent(self) -> tuple[int, int]:
        """Rows without the object in which nothing was found, and rows without it."""
        return int((self.absent & self.empty).sum()), int(self.absent.sum())

    @property
    def found_after_return(self) -> tuple[int, int]:
        """Visible rows after it first went and came again, those found, and all of them.

        Coming for the first time is no return: that is where it is clicked.
        """
        away = [run for run in runs(self.absent) if self.visible[: run[0]].any()]
        if not away:
            return 0, 0
        back = self.visible.copy()
        back[: away[0][1]] = False
        return int((self.iou[back] >= FOUND_IOU).sum()), int(back.sum())

    @property
    def goodness(self) -> np.ndarray:
        """By which the worst rows are found, [N]: IoU; 0 where something was found and nothing is
        there; NaN where nobody is judged."""
        judged = np.where(self.visible, self.iou, np.nan)
        return np.where(self.absent, np.where(self.empty, 1.0, 0.0), judged)


def lost_frames(area: np.ndarray, error_px: np.ndarray, farthest_px: float = 25) -> np.ndarray:
    """Bool [N]: the mask is empty or its centroid farther from the true one than ``farthest_px``.

    A centroid error of an empty mask is NaN.
    """
    return (area == 0) | ~(error_px <= farthest_px)


def points_inside(mask: np.ndarray, points: np.ndarray, grown_px: float = 5) -> np.ndarray:
    """Which of the points float64 [P, 2] (x, y) lie in bool [H, W] grown by so many pixels."""
    import cv2

    if not mask.any():
        return np.zeros(len(points), bool)
    away = cv2.distanceTransform(1 - mask.astype(np.uint8), cv2.DIST_L2, 5)
    at = np.clip(points.round().astype(int), 0, [mask.shape[1] - 1, mask.shape[0] - 1])
    return np.asarray(away[at[:, 1], at[:, 0]] <= grown_px)


def worst_rows(
    goodness: dict[str, np.ndarray], count: int = 12, apart: int = 30, per_group: int = 12
) -> list[tuple[str, int]]:
    """The (group, row) of the lowest values, no two of a group within ``apart`` rows.

    Neighbouring frames fail alike, and a sheet of one failure would hide the others: so at most
    ``per_group`` of one group. NaN is left out, and 0.98 or more, which is no failure.
    """
    order = sorted(
        (float(value), row, group)
        for group, values in goodness.items()
        for row, value in enumerate(values)
        if value < 0.98
    )
    chosen: list[tuple[str, int]] = []
    for _, row, group in order:
        if len(chosen) == count:
            break
        own = [at for other, at in chosen if other == group]
        if len(own) < per_group and all(abs(row - at) >= apart for at in own):
            chosen.append((group, row))
    return chosen


def _fall(iou: np.ndarray, judged: np.ndarray) -> float:
    early, late = (_mean(iou[period][judged[period]]) for period in (EARLY, LATE))
    return early - late


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
