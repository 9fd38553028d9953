"""Which review windows are worth a person's time first: a priority of 0..1 for each.

Three things together, each a mean over the time of the window's rows (a row counts for as long as it
stands for, ``bouts.row_durations``) but for the second:

- **uncertainty**: 1 - (p1 - p2), p1 and p2 being the two greatest probabilities of a row. It is
  uncertainty sampling (Lewis and Gale 1994, Proc. SIGIR, pp. 3-12) by the margin (Scheffer, Decomain
  and Wrobel 2001, Proc. IDA, pp. 309-318): with two labels the two are the same, and with more a
  row that wavers between two of five is as uncertain as one between two of two, which entropy would
  rank lower.
- **changes**: 1 - 2^-k for k changes of behaviour in the window: 0, 1/2, 3/4, ... A label that
  flickers is more often wrong than one that changes once.
- **mask doubt**: 1 - ``mask_quality``, and 1 where the mask is refound, uncertain, merged, swapped,
  exploded or lost: what was measured there, or that nothing was, may be the segmenter's mistake.

priority = (2 uncertainty + changes + mask doubt) / 4. Of what is not known (no probabilities in any
row, no quality) the mean is taken without: no data is not zero. Rows before the animal's first point
tell nothing of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import is_probability
from tailor_assets.compute.behavior.bouts import row_durations
from tailor_assets.compute.mask_state import MaskState

UNCERTAINTY_WEIGHT, CHANGES_WEIGHT, MASK_WEIGHT = 2.0, 1.0, 1.0
# Far finer than any difference that means something, and the same on every processor.
_PRIORITY_DIGITS = 6
_IN_DOUBT = frozenset(
    state.label for state in MaskState if MaskState.REFOUND <= state <= MaskState.LOST
)


@dataclass(frozen=True)
class ReviewWindow:
    """One window: rows ``first_row`` up to but without ``stop_row``, and why to look at it.

    ``stop_s`` is when its last row ends. ``predicted``: the labels in it, each once, in their order.
    ``uncertainty`` and ``mask_doubt`` are 0..1 or None where not known; ``changes`` is their number.
    """

    number: int
    first_row: int
    stop_row: int
    start_s: float
    stop_s: float
    predicted: tuple[str, ...]
    uncertainty: float | None
    changes: int
    mask_doubt: float | None
    priority: float


def row_uncertainty(predictions: pl.DataFrame) -> np.ndarray:
    """1 - (p1 - p2) of every row: float64 [n] in 0..1, NaN without two probabilities.

    predictions: a table with columns ``probability_<label>``.
    """
    columns = [name for name in predictions.columns if is_probability(name)]
    if len(columns) < 2:
        return np.full(predictions.height, np.nan)
    shares = np.stack([predictions[name].cast(pl.Float64).to_numpy() for name in columns], axis=1)
    second, best = np.partition(shares, -2, axis=1)[:, -2:].T
    return np.clip(1 - (best - second), 0.0, 1.0)


def row_mask_doubt(predictions: pl.DataFrame) -> np.ndarray:
    """How doubtful the animal's mask is in every row: float64 [n] in 0..1, NaN where not known."""
    doubt = np.full(predictions.height, np.nan)
    if "mask_quality" in predictions.columns:
        quality = predictions["mask_quality"].cast(pl.Float64).to_numpy()
        doubt = 1 - np.clip(quality, 0.0, 1.0)
    if "mask_state" in predictions.columns:
        states = predictions["mask_state"].to_list()
        doubt[[state in _IN_DOUBT for state in states]] = 1.0
        doubt[[state == MaskState.NOT_STARTED.label for state in states]] = np.nan
    return doubt


def window_priorities(flags: pl.DataFrame) -> np.ndarray:
    """The priority of every row's window: float64 [n] in 0..1, NaN outside of windows.

    flags: a row per frame with ``timestamp_s``, ``change_point``, ``flag_window`` and, where they
    are there, ``probability_<label>``, ``mask_quality`` and ``mask_state``. O(n).
    """
    window = flags["flag_window"].to_numpy()
    priority = _measures(flags).priority
    return np.where(window > 0, priority[window], np.nan)


def ranked_windows(flags: pl.DataFrame) -> list[ReviewWindow]:
    """All windows, the most urgent first; of equals the one with the lower number.

    flags: as for ``window_priorities``, with ``behavior``.
    """
    window = flags["flag_window"].to_numpy()
    if not np.any(window > 0):
        return []
    measures = _measures(flags)
    times = flags["timestamp_s"].cast(pl.Float64).to_numpy()
    ends = times + row_durations(times)
    behavior = flags["behavior"].to_list()
    starts = np.flatnonzero(np.diff(window, prepend=0) != 0)
    stops = np.append(starts[1:], window.size)
    found = []
    for first, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        number = int(window[first])
        if number == 0:
            continue
        found.append(
            ReviewWindow(
                number=number,
                first_row=first,
                stop_row=stop,
                start_s=float(times[first]),
                stop_s=float(ends[stop - 1]),
                predicted=tuple(dict.fromkeys(behavior[first:stop])),
                uncertainty=_known(measures.uncertainty[number]),
                changes=int(measures.changes[number]),
                mask_doubt=_known(measures.mask_doubt[number]),
                priority=float(measures.priority[number]),
            )
        )
    return sorted(found, key=lambda one: (-one.priority, one.number))


@dataclass(frozen=True)
class _Measures:
    """By number of the window, float64 [windows + 1]; place 0 is no window."""

    uncertainty: np.ndarray
    changes: np.ndarray
    mask_doubt: np.ndarray
    priority: np.ndarray


def _measures(flags: pl.DataFrame) -> _Measures:
    window = flags["flag_window"].to_numpy()
    times = flags["timestamp_s"].cast(pl.Float64).to_numpy()
    durations_s = row_durations(times)
    count = int(window.max()) + 1 if window.size else 1

    def mean(values: np.ndarray) -> np.ndarray:
        weights = np.where(np.isfinite(values), durations_s, 0.0)
        total = np.bincount(window, np.where(weights > 0, values, 0.0) * weights, count)
        known = np.bincount(window, weights, count)
        return np.divide(total, known, out=np.full(count, np.nan), where=known > 0)

    uncertainty, mask_doubt = mean(row_uncertainty(flags)), mean(row_mask_doubt(flags))
    changes = np.bincount(window, flags["change_point"].to_numpy(), count)
    parts = np.stack([uncertainty, 1 - 0.5**changes, mask_doubt])
    weights = np.array([[UNCERTAINTY_WEIGHT], [CHANGES_WEIGHT], [MASK_WEIGHT]])
    weights = np.where(np.isfinite(parts), weights, 0.0)
    priority = np.where(weights > 0, parts, 0.0) * weights
    # Changes are always known, so there is always something to divide by.
    rounded = np.round(priority.sum(axis=0) / weights.sum(axis=0), _PRIORITY_DIGITS)
    return _Measures(uncertainty, changes, mask_doubt, rounded)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
