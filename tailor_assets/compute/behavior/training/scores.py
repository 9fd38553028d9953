"""How well predicted labels agree with a person's: by frame, by bout, and how sure that is.

Truth and prediction are label codes, int64 [n]: 0 to the number of labels, and -1 where there is
none. A row without a true label is not scored. The bouts of videos that follow one another in one
table do not join where ``timestamps_s`` steps back or the code says otherwise by ``groups``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.behavior.bouts import (
    NO_DATA_CODE,
    bout_edges,
    longest_step_s,
    row_durations,
)
from tailor_assets.compute.errors import PermanentProblem

BOUT_IOU = 0.5
CONFIDENCE = 0.95  # of the intervals


@dataclass(frozen=True)
class ClassScore:
    """Agreement for one label; precision, recall and f1 are NaN where nothing defines them.

    ``support`` counts the person's frames or bouts of the label, ``predicted`` the model's.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


def label_codes(labels: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
    """Place of each label in ``names``, -1 for None and for any other word: int64 [n]."""
    place = {name: code for code, name in enumerate(names)}
    codes = [NO_DATA_CODE if label is None else place.get(label, NO_DATA_CODE) for label in labels]
    return np.array(codes, dtype=np.int64)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Rows are the person's labels, columns the model's: int64 [classes, classes].

    Rows of the table that lack either are left out.
    """
    both = (truth >= 0) & (predicted >= 0)
    cells = truth[both] * classes + predicted[both]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def frame_scores(
    truth: np.ndarray, predicted: np.ndarray, labels: Sequence[str]
) -> list[ClassScore]:
    """One score per label over all rows that have a true label and a predicted one."""
    matrix = confusion_matrix(truth, predicted, len(labels))
    return [
        _score(label, int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum()))
        for k, label in enumerate(labels)
    ]


def macro_f1(scores: Sequence[ClassScore]) -> float:
    """Mean of the F1 of the labels that somebody gave, person or model; NaN where there is none."""
    known = [score.f1 for score in scores if np.isfinite(score.f1)]
    return float(np.mean(known)) if known else float("nan")


def bout_scores(
    truth: np.ndarray,
    predicted: np.ndarray,
    timestamps_s: np.ndarray,
    labels: Sequence[str],
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    iou: float = BOUT_IOU,
) -> list[ClassScore]:
    """One score per label over bouts: a bout is found if one predicted bout overlaps it by ``iou``.

    Intersection over union is of seconds. A predicted bout finds one bout at most. timestamps_s:
    float64 [n], increasing within each video. Raises PermanentProblem for an ``iou`` outside
    [0.5, 1], below which one bout could be found twice.
    """
    if not 0.5 <= iou <= 1:
        raise PermanentProblem(
            f"Bouts cannot be matched at an overlap of {iou:g}: give an intersection over union "
            "from 0.5 to 1."
        )
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    scored = np.where(truth >= 0, predicted, NO_DATA_CODE)
    stretches = _stretches(np.asarray(timestamps_s, dtype=np.float64), groups)
    ours = _bouts(truth, timestamps_s, stretches)
    theirs = _bouts(scored, timestamps_s, stretches)
    found = np.zeros(len(labels), dtype=np.int64)
    for code in range(len(labels)):
        found[code] = _matches(ours[ours[:, 0] == code], theirs[theirs[:, 0] == code], iou)
    return [
        _score(
            label,
            int(found[k]),
            int((ours[:, 0] == k).sum()),
            int((theirs[:, 0] == k).sum()),
        )
        for k, label in enumerate(labels)
    ]


def bootstrap_f1(
    truth: np.ndarray,
    predicted: np.ndarray,
    timestamps_s: np.ndarray,
    block_s: float,
    repeats: int,
    seed: int,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
) -> tuple[float, float]:
    """Interval of F1 (lower, upper) from blocks of time drawn with replacement.

    Blocks of ``block_s`` seconds and not frames, because frames of one bout are no independent
    observations (Künsch 1989, Annals of Statistics 17:1217, without overlap). Of two bool arrays it
    is the F1 of True; of label codes the macro F1. NaN, NaN where it is not defined.
    """
    draws = _bootstrap(truth, [predicted], timestamps_s, block_s, repeats, seed, groups)[0]
    return _interval(draws)


def bootstrap_difference(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    timestamps_s: np.ndarray,
    block_s: float,
    repeats: int,
    seed: int,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
) -> tuple[float, float]:
    """Interval of macro F1 of ``first`` minus that of ``second``, both of the same blocks."""
    draws = _bootstrap(truth, [first, second], timestamps_s, block_s, repeats, seed, groups)
    return _interval(draws[0] - draws[1])


def _score(label: str, right: int, support: int, predicted: int) -> ClassScore:
    nan = float("nan")
    return ClassScore(
        label=label,
        precision=right / predicted if predicted else nan,
        recall=right / support if support else nan,
        f1=2 * right / (support + predicted) if support + predicted else nan,
        support=support,
        predicted=predicted,
    )


def _stretches(timestamps_s: np.ndarray, groups: Sequence[str] | np.ndarray | None) -> np.ndarray:
    """Number of the unbroken stretch of time that each row is in: int64 [n].

    What is a pause, each group's own steps say: one may have been sampled more slowly than another.
    """
    if not timestamps_s.size:
        return np.zeros(0, dtype=np.int64)
    breaks = np.diff(timestamps_s) <= 0
    if groups is not None:
        names = np.asarray(groups)
        breaks |= names[1:] != names[:-1]
    groups_of_rows = np.concatenate([[0], np.cumsum(breaks)])
    for first, last in zip(*bout_edges(groups_of_rows), strict=True):
        times = timestamps_s[first:last]
        breaks[first : last - 1] |= np.diff(times) > longest_step_s(times)
    return np.concatenate([[0], np.cumsum(breaks)])


def _bouts(codes: np.ndarray, timestamps_s: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Code, stretch, begin and end in seconds of every bout with a label: float64 [bouts, 4]."""
    rows = []
    for stretch, (first, last) in enumerate(zip(*bout_edges(stretches), strict=True)):
        times = np.asarray(timestamps_s[first:last], dtype=np.float64)
        durations = row_durations(times)
        if len(times) == 1:
            durations = np.ones(1)  # alone, it overlaps with itself or not at all
        starts, stops = bout_edges(codes[first:last])
        for start, stop in zip(starts, stops, strict=True):
            if codes[first + start] >= 0:
                end = times[stop - 1] + durations[stop - 1]
                rows.append((codes[first + start], stretch, times[start], end))
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _matches(ours: np.ndarray, theirs: np.ndarray, iou: float) -> int:
    """How many of ours are found by one of theirs; both in order of time, without overlaps."""
    found, place = 0, 0
    for _, stretch, begin, end in ours:
        while place < len(theirs) and (theirs[place, 1], theirs[place, 3]) <= (stretch, begin):
            place += 1
        candidate = place
        while (
            candidate < len(theirs)
            and theirs[candidate, 1] == stretch
            and theirs[candidate, 2] < end
        ):
            shared = min(end, theirs[candidate, 3]) - max(begin, theirs[candidate, 2])
            joint = max(end, theirs[candidate, 3]) - min(begin, theirs[candidate, 2])
            if shared / joint >= iou - 1e-9:
                found += 1
                place = candidate + 1
                break
            candidate += 1
    return found


def _bootstrap(
    truth: np.ndarray,
    predictions: Sequence[np.ndarray],
    timestamps_s: np.ndarray,
    block_s: float,
    repeats: int,
    seed: int,
    groups: Sequence[str] | np.ndarray | None,
) -> list[np.ndarray]:
    """F1 of every prediction in every draw: float64 [repeats] each, NaN where not defined."""
    truth = np.asarray(truth)
    binary = truth.dtype == bool
    codes = truth.astype(np.int64)
    others = [np.asarray(predicted).astype(np.int64) for predicted in predictions]
    known = codes >= 0
    for other in others:
        known &= other >= 0
    if not known.any():
        return [np.full(repeats, np.nan) for _ in others]
    blocks = _block_numbers(np.asarray(timestamps_s, dtype=np.float64), block_s, groups)[known]
    _, blocks = np.unique(blocks, return_inverse=True)
    count = int(blocks.max()) + 1
    classes = max(int(codes.max()), *(int(other.max()) for other in others)) + 1
    # How often each block is drawn, in all repeats.
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)
    draws = []
    for other in others:
        cells = (blocks * classes + codes[known]) * classes + other[known]
        matrices = np.bincount(cells, minlength=count * classes * classes)
        total = (drawn @ matrices.reshape(count, -1)).reshape(repeats, classes, classes)
        right = np.diagonal(total, axis1=1, axis2=2)
        given = total.sum(axis=1) + total.sum(axis=2)
        with np.errstate(invalid="ignore"):
            f1 = np.where(given > 0, 2 * right / given, np.nan)
        if binary:
            draws.append(f1[:, 1] if classes > 1 else np.full(repeats, np.nan))
        else:
            defined = np.isfinite(f1).sum(axis=1)
            draws.append(np.nansum(f1, axis=1) / np.maximum(defined, 1))
    return draws


def _block_numbers(
    timestamps_s: np.ndarray, block_s: float, groups: Sequence[str] | np.ndarray | None
) -> np.ndarray:
    """One number per block of time and video: int64 [n]."""
    if not block_s > 0:
        raise PermanentProblem(
            f"A bootstrap by blocks of {block_s:g} s has no blocks: give more than 0."
        )
    number = np.floor((timestamps_s - timestamps_s.min()) / block_s).astype(np.int64)
    if groups is None:
        return number
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    return np.asarray(group * (int(number.max()) + 1) + number)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    draws = draws[np.isfinite(draws)]
    if not draws.size:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
