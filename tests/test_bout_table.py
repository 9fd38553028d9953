"""Bouts as a table, against counting row by row."""

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor_assets.compute.behavior.bout_table import (
    bout_statistics,
    bout_table,
    bouts_per_bin,
    labels_of,
    row_codes,
    time_budget,
)
from tailor_assets.compute.behavior.bouts import NO_DATA, row_durations
from tailor_assets.compute.errors import PermanentProblem

NAMES = {"a": "moving", "b": "in nest", "c": "still", "-": NO_DATA}


def predictions(text: str, times: np.ndarray | None = None, **columns: Any) -> pl.DataFrame:
    times = np.arange(len(text)) / 10 if times is None else times
    return pl.DataFrame(
        {
            "frame": np.arange(len(text)),
            "timestamp_s": np.asarray(times, dtype=np.float64),
            "behavior": [NAMES[letter] for letter in text],
            **columns,
        },
        schema_overrides={"frame": pl.Int64, "behavior": pl.String},
    )


def by_hand(text: str, times: np.ndarray) -> list[dict[str, Any]]:
    """Bouts, by going from row to row."""
    durations = row_durations(times)
    hole_s = max(1.0, 1.5 * float(np.median(np.diff(times)))) if len(times) > 1 else 0.0
    bouts: list[dict[str, Any]] = []
    for row, letter in enumerate(text):
        goes_on = row > 0 and times[row] - times[row - 1] <= hole_s
        if not goes_on or bouts[-1]["behavior"] != NAMES[letter]:
            bouts.append(
                {"behavior": NAMES[letter], "start_s": times[row], "duration_s": 0.0, "rows": []}
            )
        bouts[-1]["duration_s"] += durations[row]
        bouts[-1]["stop_s"] = times[row] + durations[row]
        bouts[-1]["rows"].append(row)
    return bouts


rows_and_times = st.lists(
    st.tuples(st.sampled_from("aabbc--"), st.sampled_from([0.02, 0.1, 0.1, 0.1, 0.4, 3.0])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(rows_and_times, st.sampled_from([0.25, 1.0, 1.7, 60.0]))
def test_the_tables_are_what_counting_row_by_row_gives(
    drawn: list[tuple[str, float]], bin_s: float
) -> None:
    text = "".join(letter for letter, _ in drawn)
    times = 5.0 + np.concatenate([[0.0], np.cumsum([step for _, step in drawn])[:-1]])
    table = predictions(text, times)
    expected = by_hand(text, times)
    bouts = bout_table(table)
    assert bouts["behavior"].to_list() == [bout["behavior"] for bout in expected]
    for column in ("start_s", "stop_s", "duration_s"):
        assert np.allclose(bouts[column], [bout[column] for bout in expected]), column
    assert bouts["first_frame"].to_list() == [bout["rows"][0] for bout in expected]
    assert bouts["last_frame"].to_list() == [bout["rows"][-1] for bout in expected]

    durations = row_durations(times)
    known_s = sum(b["duration_s"] for b in expected if b["behavior"] != NO_DATA)
    for row in bout_statistics(bouts, ["moving", "still"]).iter_rows(named=True):
        mine = [b for b in expected if b["behavior"] == row["behavior"]]
        lasted = [b["duration_s"] for b in mine]
        assert row["bouts"] == len(mine)
        assert row["total_s"] == pytest.approx(sum(lasted))
        assert row["mean_s"] == (pytest.approx(np.mean(lasted)) if mine else None)
        assert row["std_s"] == (
            pytest.approx(np.std(lasted, ddof=1), abs=1e-9) if len(mine) > 1 else None
        )
        assert row["latency_s"] == (pytest.approx(mine[0]["start_s"] - times[0]) if mine else None)
        assert row["share"] == (pytest.approx(sum(lasted) / known_s) if known_s > 0 else None)
        between = []
        for one, other in pairwise(mine):
            rows = range(one["rows"][-1] + 1, other["rows"][0])
            gap = other["start_s"] - one["stop_s"]
            seen = sum(durations[r] for r in rows if text[r] != "-")
            if gap - seen < 1e-6:
                between.append(gap)
        assert row["interval_s"] == (pytest.approx(np.mean(between)) if between else None)

    end = times[-1] + durations[-1]
    for row in bouts_per_bin(table, bin_s).iter_rows(named=True):
        first = times[0] + row["bin"] * bin_s
        assert row["start_s"] == pytest.approx(first)
        assert row["stop_s"] == pytest.approx(min(first + bin_s, end), abs=1e-5)
        parts = [
            (bout, sum(max(0.0, min(times[r] + durations[r], row["stop_s"]) - max(times[r], first))
                       for r in bout["rows"]))
            for bout in expected if bout["behavior"] == row["behavior"]
        ]  # fmt: skip
        assert row["total_s"] == pytest.approx(sum(part for _, part in parts), abs=1e-6)
        if end > times[0]:
            pieces = sum(part / bout["duration_s"] for bout, part in parts)
            assert row["bouts"] == pytest.approx(pieces, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(rows_and_times, st.sampled_from([0.3, 1.0, 7.0]))
def test_bins_add_up_to_the_whole_of_seconds_and_of_bouts(
    drawn: list[tuple[str, float]], bin_s: float
) -> None:
    text = "".join(letter for letter, _ in drawn)
    times = np.concatenate([[0.0], np.cumsum([step for _, step in drawn])[:-1]])
    table = predictions(text, times)
    sums = bouts_per_bin(table, bin_s).group_by("behavior").agg(pl.col("bouts", "total_s").sum())
    whole = bout_statistics(bout_table(table))
    both = whole.join(sums, on="behavior", suffix="_of_bins")
    assert both.height == whole.height
    assert np.allclose(both["bouts"].cast(pl.Float64), both["bouts_of_bins"])
    assert np.allclose(both["total_s"], both["total_s_of_bins"])


def test_a_bout_across_a_border_counts_on_both_sides_for_its_part() -> None:
    bins = bouts_per_bin(predictions("aaaaaabbbb" + "b" * 10), 1.0)
    moving = bins.filter(pl.col("behavior") == "moving")
    nest = bins.filter(pl.col("behavior") == "in nest")
    assert np.allclose(moving["total_s"], [0.6, 0.0])
    assert np.allclose(moving["bouts"], [1.0, 0.0])
    assert np.allclose(nest["total_s"], [0.4, 1.0])
    assert np.allclose(nest["bouts"], [0.4 / 1.4, 1.0 / 1.4])


def test_no_data_is_counted_apart_and_is_in_no_share() -> None:
    table = predictions("aa--bb----")
    budget = time_budget(bout_table(table))
    assert budget.recorded_s == pytest.approx(1.0)
    assert (budget.known_s, budget.no_data_s) == (pytest.approx(0.4), pytest.approx(0.6))
    assert budget.no_data_bouts == 2
    shares = bout_statistics(bout_table(table))
    assert NO_DATA not in shares["behavior"].to_list()
    assert shares["share"].to_list() == [pytest.approx(0.5), pytest.approx(0.5)]


def test_an_interval_that_was_not_seen_is_not_averaged() -> None:
    # 0.2 s of still, then 0.1 s in which nobody knows what it did.
    bouts = bout_table(predictions("accaa-acca"))
    row = bout_statistics(bouts).filter(pl.col("behavior") == "moving").to_dicts()[0]
    assert row["bouts"] == 4
    assert row["interval_s"] == pytest.approx(0.2)


def test_a_hole_in_the_recording_ends_a_bout_and_is_no_part_of_it() -> None:
    times = np.array([0.0, 0.1, 0.2, 60.0, 60.1])
    before, after = bout_table(predictions("aaaaa", times)).to_dicts()
    assert (before["start_s"], before["stop_s"]) == (0.0, pytest.approx(1.2))
    assert before["duration_s"] == pytest.approx(0.1 + 0.1 + 1.0)
    assert (after["start_s"], after["stop_s"]) == (60.0, pytest.approx(60.2))
    assert after["duration_s"] == pytest.approx(0.1 + 0.1)
    bins = bouts_per_bin(predictions("aaaaa", times), 30.0)
    assert np.allclose(bins["total_s"], [1.2, 0.0, 0.2])
    assert np.allclose(bins["recorded_s"], [1.2, 0.0, 0.2])
    assert bins["share"].to_list() == [1.0, None, 1.0]


def test_a_bouts_probability_is_that_of_its_label_where_there_is_one() -> None:
    table = predictions(
        "aab-",
        probability_moving=[0.9, 0.7, 0.1, None],
        probability_in_nest=[0.1, 0.3, None, None],
        probability_still=[0.0, 0.0, 0.0, None],
    )
    assert bout_table(table)["mean_probability"].to_list() == [pytest.approx(0.8), None, None]
    assert labels_of(table) == ["moving", "in nest", "still"]
    statistics = bout_statistics(bout_table(table), labels_of(table))
    assert statistics["behavior"].to_list() == ["moving", "in nest", "still"]
    never = statistics.row(2, named=True)
    assert (never["bouts"], never["total_s"], never["mean_s"]) == (0, 0.0, None)


def test_codes_are_places_among_the_labels_and_of_no_data_there_is_none() -> None:
    table = predictions("ab-ca")
    assert row_codes(table, ["in nest", "moving"]).tolist() == [1, 0, -1, -1, 1]
    assert row_codes(table, []).tolist() == [-1] * 5
    codes = row_codes(predictions(""), ["moving"])
    assert (codes.size, codes.dtype) == (0, np.int64)


def test_no_rows_give_empty_tables_and_one_row_a_bout_without_length() -> None:
    assert bout_table(predictions("")).is_empty()
    assert bouts_per_bin(predictions(""), 1.0).is_empty()
    assert bout_statistics(bout_table(predictions(""))).is_empty()
    (bout,) = bout_table(predictions("a")).to_dicts()
    assert bout["duration_s"] == 0
    (row,) = bouts_per_bin(predictions("a"), 1.0).to_dicts()
    assert (row["bouts"], row["total_s"], row["share"]) == (1.0, 0.0, None)


@pytest.mark.parametrize("bin_s", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_width_that_is_no_time_or_makes_too_many_bins_is_refused(bin_s: float) -> None:
    with pytest.raises(PermanentProblem, match="Time bins of"):
        bouts_per_bin(predictions("ab"), bin_s)


def test_times_that_do_not_increase_and_missing_columns_are_refused() -> None:
    with pytest.raises(PermanentProblem, match="do not increase"):
        bout_table(predictions("ab", np.array([1.0, 1.0])))
    with pytest.raises(PermanentProblem, match="lack behavior"):
        bout_table(predictions("ab").drop("behavior"))
    with pytest.raises(PermanentProblem, match="empty cells in behavior"):
        bout_table(predictions("ab").with_columns(pl.lit(None, pl.String).alias("behavior")))
