"""Bouts as a table: each one, what they add up to per label, and per stretch of time.

Definitions (``docs/report.md`` has them in words):

- A bout is an unbroken run of rows of one label, and a hole in the recording breaks it. A row stands
  for the time until the next one, but for no hole (``bouts.row_durations``), and a bout lasts as
  long as its rows do.
- "No data" is no behaviour: it is counted apart and is in no share of time.
- Where a bout crosses the border of a time bin, each bin gets the part of it that lies in it: that
  many seconds, and that fraction of one bout. So bins add up to the whole, of both.
- An interval between two bouts of a label counts where all of it was recorded and known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import (
    is_probability,
    label_of_column,
    probability_column,
)
from tailor_assets.compute.behavior.bouts import (
    NO_DATA,
    TIME_TOLERANCE_S,
    after_hole,
    bout_edges,
    row_durations,
)
from tailor_assets.compute.errors import PermanentProblem

_BOUT_SCHEMA = {
    "behavior": pl.String,
    "start_s": pl.Float64,
    "stop_s": pl.Float64,
    "duration_s": pl.Float64,
    "first_frame": pl.Int64,
    "last_frame": pl.Int64,
    "mean_probability": pl.Float64,
}
_BIN_SCHEMA = {
    "bin": pl.Int64,
    "start_s": pl.Float64,
    "stop_s": pl.Float64,
    "recorded_s": pl.Float64,
    "known_s": pl.Float64,
    "behavior": pl.String,
    "bouts": pl.Float64,
    "total_s": pl.Float64,
    "share": pl.Float64,
}
# More bins than that are no table for people, and nobody asks for them but by mistake.
MOST_BINS = 100_000


@dataclass(frozen=True)
class TimeBudget:
    """How long was recorded, and of how much of it the behaviour is known; seconds."""

    recorded_s: float
    known_s: float
    no_data_s: float
    no_data_bouts: int


def bout_table(predictions: pl.DataFrame) -> pl.DataFrame:
    """One row per bout in time order, "no data" among them. O(n).

    predictions: a row per frame in time order with ``frame`` (integer), ``timestamp_s`` (float64),
    ``behavior`` (str) and, where there are any, the columns ``probability_<label>``.

    Returns ``behavior``; ``start_s``, ``stop_s`` (its first row's time, and when its last row ends);
    ``duration_s`` (their difference);
    ``first_frame``, ``last_frame``; ``mean_probability`` (of its label, over its rows that have one;
    null where none has).

    Raises PermanentProblem when a column is missing or empty, or time does not increase.
    """
    times, codes, labels = _checked(predictions)
    starts, stops = bout_edges(codes, after_hole(times))
    if not starts.size:
        return pl.DataFrame(schema=_BOUT_SCHEMA)
    durations = row_durations(times)
    elapsed = _clock(durations)
    frames = predictions["frame"].cast(pl.Int64).to_numpy()
    lasts = stops - 1
    return pl.DataFrame(
        {
            "behavior": np.array(labels, dtype=object)[codes[starts]].tolist(),
            "start_s": times[starts],
            "stop_s": times[lasts] + durations[lasts],
            "duration_s": elapsed[stops] - elapsed[starts],
            "first_frame": frames[starts],
            "last_frame": frames[lasts],
            "mean_probability": _mean_of_bouts(
                label_probabilities(predictions), starts, stops
            ).tolist(),
        },
        schema=_BOUT_SCHEMA,
    ).with_columns(pl.col("mean_probability").fill_nan(None))


def time_budget(bouts: pl.DataFrame) -> TimeBudget:
    """Seconds recorded, known and without data. bouts: what ``bout_table`` returned."""
    lost = bouts.filter(pl.col("behavior") == NO_DATA)
    recorded, unknown = float(bouts["duration_s"].sum()), float(lost["duration_s"].sum())
    return TimeBudget(recorded, recorded - unknown, unknown, lost.height)


def bout_statistics(bouts: pl.DataFrame, labels: Sequence[str] = ()) -> pl.DataFrame:
    """What the bouts of each label come to; "no data" is left out.

    bouts: what ``bout_table`` returned. labels: those of the model, so that one that never came up
    is there with a count of 0.

    Returns a row per label, ``labels`` first and in their order: ``behavior``; ``bouts`` (int64);
    ``total_s``; ``mean_s``; ``std_s`` (n - 1; null for fewer than two); ``latency_s`` (from the
    first row to the start of the first bout); ``interval_s`` (mean time from the end of a bout to
    the start of the next, of those in which all was recorded and known); ``share`` (of the seconds
    whose behaviour is known, 0 to 1). Null is "there is none to tell", as the mean of no bout.
    """
    starts, stops = bouts["start_s"].to_numpy(), bouts["stop_s"].to_numpy()
    durations = bouts["duration_s"].to_numpy()
    names = bouts["behavior"].to_numpy()
    known = names != NO_DATA
    known_s = float(durations[known].sum())
    # Known seconds before each bout: what passed between two bouts was seen where it equals the time.
    seen = np.concatenate([[0.0], np.cumsum(np.where(known, durations, 0.0))])
    rows = []
    for label in _with_all(labels, names):
        mine = np.flatnonzero(names == label)
        gaps = starts[mine[1:]] - stops[mine[:-1]]
        observed = seen[mine[1:]] - seen[mine[:-1] + 1]
        whole = gaps - observed <= TIME_TOLERANCE_S
        total = float(durations[mine].sum())
        rows.append(
            {
                "behavior": label,
                "bouts": mine.size,
                "total_s": total,
                "mean_s": total / mine.size if mine.size else None,
                "std_s": float(durations[mine].std(ddof=1)) if mine.size > 1 else None,
                "latency_s": float(starts[mine[0]] - starts[0]) if mine.size else None,
                "interval_s": float(gaps[whole].mean()) if whole.any() else None,
                "share": total / known_s if known_s > 0 else None,
            }
        )
    return pl.DataFrame(
        rows,
        schema={
            "behavior": pl.String,
            "bouts": pl.Int64,
            "total_s": pl.Float64,
            "mean_s": pl.Float64,
            "std_s": pl.Float64,
            "latency_s": pl.Float64,
            "interval_s": pl.Float64,
            "share": pl.Float64,
        },
    )


def bouts_per_bin(
    predictions: pl.DataFrame, bin_s: float, labels: Sequence[str] = ()
) -> pl.DataFrame:
    """The bouts of each label per stretch of ``bin_s`` seconds, split where they cross a border.

    Bins begin at the first row's time; the last one may be shorter. A bout of 3 s, 2 s of which lie
    in a bin, is there 2 s and 2/3 of a bout. Returns a row per bin and label: ``bin`` (from 0),
    ``start_s``, ``stop_s``, ``recorded_s`` (less than the bin's width where the recording has a
    hole), ``known_s`` (of those, the seconds whose behaviour is known), ``behavior``, ``bouts``
    (float64), ``total_s``, ``share`` (total_s / known_s; null where nothing is known).

    Raises PermanentProblem for a width that is no length of time or makes too many bins.
    """
    if not math.isfinite(bin_s) or bin_s <= 0:
        raise PermanentProblem(
            f"Time bins of {bin_s} s cannot be made; give their width in seconds, for example 60."
        )
    times, codes, names = _checked(predictions)
    if not times.size:
        return pl.DataFrame(schema=_BIN_SCHEMA)
    durations = row_durations(times)
    elapsed = _clock(durations)
    edges, borders = _bins(times, durations, elapsed, bin_s)
    starts, stops = bout_edges(codes, after_hole(times))
    wanted = _with_all(labels, np.array(names, dtype=object)[codes[starts]])
    totals, counts = [], []
    for label in wanted:
        code = names.index(label) if label in names else -1
        mine = codes[starts] == code
        begins, ends = elapsed[starts[mine]], elapsed[stops[mine]]
        lasted = np.concatenate([[0.0], np.cumsum(ends - begins)])
        totals.append(_gained(begins, ends, lasted, edges))
        counts.append(_gained(begins, ends, np.arange(begins.size + 1.0), edges))
    bins = borders.size - 1
    known_s = np.sum(totals, axis=0) if wanted else np.zeros(bins)
    per_label = len(wanted)
    table = pl.DataFrame(
        {
            "bin": np.repeat(np.arange(bins), per_label),
            "start_s": np.repeat(borders[:-1], per_label),
            "stop_s": np.repeat(borders[1:], per_label),
            "recorded_s": np.repeat(np.diff(edges), per_label),
            "known_s": np.repeat(known_s, per_label),
            "behavior": list(wanted) * bins,
            "bouts": np.array(counts).T.ravel(),
            "total_s": np.array(totals).T.ravel(),
        },
        schema={name: kind for name, kind in _BIN_SCHEMA.items() if name != "share"},
    )
    known = pl.col("known_s") > TIME_TOLERANCE_S
    return table.with_columns(
        pl.when(known).then(pl.col("total_s") / pl.col("known_s")).alias("share")
    )


def label_probabilities(predictions: pl.DataFrame) -> np.ndarray:
    """Probability of each row's own label: float64 [n], NaN where it has none."""
    behavior = predictions["behavior"].to_numpy()
    found = np.full(predictions.height, np.nan)
    for label in np.unique(behavior.astype(str)) if behavior.size else ():
        column = probability_column(str(label))
        if column in predictions.columns:
            mine = behavior == label
            found[mine] = predictions[column].cast(pl.Float64).to_numpy()[mine]
    return found


def labels_of(predictions: pl.DataFrame) -> list[str]:
    """Labels of the model that made the predictions, in its order, then those only seen in rows.

    A label that never came up is known from its column alone, which has ``_`` for its spaces.
    """
    seen = [str(name) for name in predictions["behavior"].unique(maintain_order=True)]
    by_column = {probability_column(name): name for name in seen if name != NO_DATA}
    model = [
        by_column.get(column, label_of_column(column))
        for column in predictions.columns
        if is_probability(column)
    ]
    return [*model, *(name for name in seen if name not in model and name != NO_DATA)]


def row_codes(predictions: pl.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """Place of each row's label in ``labels``: int64 [n], -1 for "no data" and any other."""
    behavior = predictions["behavior"].cast(pl.String)
    places = list(range(len(labels)))
    return behavior.replace_strict(
        list(labels), places, default=-1, return_dtype=pl.Int64
    ).to_numpy()


def _clock(durations: np.ndarray) -> np.ndarray:
    """Seconds recorded before each row and at the end, float64 [n + 1]: holes have no length."""
    return np.concatenate([[0.0], np.cumsum(durations)])


def _bins(
    times: np.ndarray, durations: np.ndarray, elapsed: np.ndarray, bin_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Borders of the bins by ``_clock`` and by the recording's time: two float64 [bins + 1]."""
    end = times[-1] + durations[-1]
    count = max(1, math.ceil((end - times[0]) / bin_s - TIME_TOLERANCE_S))
    if count > MOST_BINS:
        raise PermanentProblem(
            f"Time bins of {bin_s:g} s would be {count:,} of them; give a greater width."
        )
    borders = times[0] + bin_s * np.arange(count + 1)
    borders[-1] = end
    moments = np.maximum.accumulate(np.stack([times, times + durations], 1).ravel())
    edges = np.interp(borders, moments, np.stack([elapsed[:-1], elapsed[1:]], 1).ravel())
    edges[-1] = elapsed[-1]
    return edges, borders


def _gained(
    begins: np.ndarray, ends: np.ndarray, reached: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """What is gained in each bin of a sum that grows evenly during each bout and rests between.

    begins, ends: float64 [k], bouts in order. reached: float64 [k + 1], the sum before and after
    each. edges: float64 [bins + 1].
    """
    if not begins.size:
        return np.zeros(edges.size - 1)
    if edges[-1] <= edges[0]:
        return np.append(reached[-1:], np.zeros(edges.size - 2))  # one row, which has no length
    moments = np.stack([begins, ends], 1).ravel()
    sums = np.stack([reached[:-1], reached[1:]], 1).ravel()
    return np.diff(np.interp(edges, moments, sums))


def _mean_of_bouts(values: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Mean per bout of what is not NaN; NaN where nothing is."""
    there = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(there, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(there)])
    numbers = counts[stops] - counts[starts]
    means = (sums[stops] - sums[starts]) / np.maximum(numbers, 1)
    return np.where(numbers > 0, means, np.nan)


def _with_all(labels: Sequence[str], seen: np.ndarray) -> list[str]:
    """``labels``, then the others that are seen, by name; never "no data"."""
    others = sorted({str(name) for name in seen} - set(labels) - {NO_DATA})
    return [*labels, *others]


def _checked(predictions: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Times float64 [n], codes int64 [n], and the name of each code."""
    missing = [c for c in ("frame", "timestamp_s", "behavior") if c not in predictions.columns]
    if missing:
        raise PermanentProblem(
            f"The predictions lack {', '.join(missing)}, so no bout can be told; make them again."
        )
    empty = [c for c in ("frame", "timestamp_s", "behavior") if predictions[c].null_count()]
    if empty:
        raise PermanentProblem(
            f"The predictions have empty cells in {', '.join(empty)}; make them again."
        )
    times = predictions["timestamp_s"].cast(pl.Float64).to_numpy()
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise PermanentProblem(
            "The predictions' timestamps do not increase, so bouts have no length; make them again."
        )
    names = [str(name) for name in predictions["behavior"].unique(maintain_order=True)]
    return times, row_codes(predictions, names), names
