"""Bouts and their clean-up, in seconds and not in rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor_assets.compute.behavior.behavior_measures import Spans, turning_speed
from tailor_assets.compute.behavior.bouts import (
    BoutCleanUp,
    bout_duration_of_rows,
    bout_edges,
    clean_up_bouts,
    row_durations,
)
from tailor_assets.compute.errors import PermanentProblem

LETTERS = {"a": 0, "b": 1, "c": 2, "-": -1}


def cleaned(text, settings, timestamps_s=None):
    codes = np.array([LETTERS[letter] for letter in text], dtype=np.int64)
    if timestamps_s is None:
        timestamps_s = np.arange(len(text)) / 10
    names = {code: letter for letter, code in LETTERS.items()}
    return "".join(names[code] for code in clean_up_bouts(codes, timestamps_s, settings))


def test_nothing_changes_by_default():
    assert cleaned("aab-abbca-c", BoutCleanUp()) == "aab-abbca-c"


def test_a_gap_is_filled_only_between_bouts_of_one_label_and_up_to_its_length():
    fill = BoutCleanUp(fill_gaps_ms=200)
    assert cleaned("aa--aa--bb---b-", fill) == "aaaaaa--bb---b-"


def test_stitching_joins_two_bouts_over_a_short_other_one():
    assert cleaned("aaabaaacccbbc", BoutCleanUp(stitch_ms=100)) == "aaaaaaacccbbc"
    assert cleaned("aaabaaacccbbc", BoutCleanUp(stitch_ms=200)) == "aaaaaaacccccc"


def test_stitching_takes_the_shortest_first_whatever_the_direction():
    text = "aaaabbabbbbb"
    assert cleaned(text, BoutCleanUp(stitch_ms=200)) == "aaaabbbbbbbb"
    assert cleaned(text[::-1], BoutCleanUp(stitch_ms=200)) == "bbbbbbbbaaaa"


def test_a_bout_shorter_than_the_minimum_goes_to_its_longer_neighbour():
    drop = BoutCleanUp(min_bout_ms=300)
    assert cleaned("aaaabbcccccc", drop) == "aaaacccccccc"
    assert cleaned("aaaabbb", drop) == "aaaabbb"


def test_no_data_never_spreads_and_a_short_bout_alone_in_it_stays():
    assert cleaned("---bb---aa", BoutCleanUp(min_bout_ms=500)) == "---bb---aa"


def test_the_order_is_fill_then_stitch_then_drop():
    # The gap must be filled first, or b would not be a bout between two bouts of a.
    every = BoutCleanUp(fill_gaps_ms=100, stitch_ms=300, min_bout_ms=500)
    assert cleaned("aaab-baaa", every) == "aaaaaaaaa"


def test_lengths_are_those_of_the_timestamps():
    # Two rows of b: 0.2 s at an even rate, 0.8 s where the frames between were dropped.
    timestamps_s = np.array([0.0, 0.1, 0.2, 0.6, 1.0, 1.1, 1.2])
    stitch = BoutCleanUp(stitch_ms=300)
    assert cleaned("aabbaaa", stitch) == "aaaaaaa"
    assert cleaned("aabbaaa", stitch, timestamps_s) == "aabbaaa"


@settings(max_examples=200, deadline=None)
@given(st.text("abc-", max_size=60), st.integers(0, 8), st.integers(0, 8))
def test_after_clean_up_no_known_bout_with_a_known_neighbour_is_short(text, stitch, least):
    codes = np.array([LETTERS[letter] for letter in text], dtype=np.int64)
    settings_ = BoutCleanUp(stitch_ms=100 * stitch, min_bout_ms=100 * least)
    result = clean_up_bouts(codes, np.arange(len(text)) / 10, settings_)
    assert np.array_equal(result == -1, codes == -1)
    starts, stops = bout_edges(result)
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        neighbours = [result[starts[j]] for j in (k - 1, k + 1) if 0 <= j < len(starts)]
        if result[start] != -1 and any(code != -1 for code in neighbours):
            assert stop - start >= least


@settings(max_examples=200, deadline=None)
@given(
    st.text("abc-", max_size=60),
    st.sampled_from(["fill_gaps_ms", "stitch_ms", "min_bout_ms"]),
    st.integers(1, 8),
)
def test_each_step_leaves_itself_nothing_to_do(text, step, rows):
    settings_ = BoutCleanUp(**{step: 100 * rows})
    once = cleaned(text, settings_)
    assert cleaned(once, settings_) == once


def test_the_steps_are_taken_once_each_also_where_one_makes_work_for_the_one_before():
    # Dropping joins b and c to a bout that stitching, earlier in the order, would have taken.
    both = BoutCleanUp(stitch_ms=200, min_bout_ms=200)
    once = cleaned("aaaaaaaaaabcab", both)
    assert once == "aaaaaaaaaabbaa"
    assert cleaned(once, both) == "aaaaaaaaaaaaaa"


def test_a_row_stands_for_the_time_to_the_next_but_not_for_a_hole():
    assert row_durations(np.array([0.0, 0.1, 0.3, 60.0])).tolist() == pytest.approx(
        [0.1, 0.2, 1.0, 0.2]
    )
    assert row_durations(np.array([4.2])).tolist() == [0.0]
    assert row_durations(np.array([])).size == 0
    codes = np.array([0, 0, 1, 1])
    durations = bout_duration_of_rows(codes, np.array([0.1, 0.2, 0.3, 0.4]))
    assert durations == pytest.approx([0.3, 0.3, 0.7, 0.7])


def test_a_length_that_is_none_is_refused():
    with pytest.raises(PermanentProblem, match="min_bout_ms"):
        BoutCleanUp(min_bout_ms=-1)
    with pytest.raises(PermanentProblem, match="stitch_ms"):
        BoutCleanUp(stitch_ms=float("nan"))


def test_nothing_spreads_over_a_hole_in_the_recording():
    """A short bout beside a hole lies between two of another label in rows, and not in time."""
    codes = np.array([0, 0, 0, 1, 0, 0, 0])
    through = np.arange(7) / 10
    hole = np.r_[np.arange(4) / 10, 3600 + np.arange(3) / 10]
    stitch = BoutCleanUp(stitch_ms=150)
    assert clean_up_bouts(codes, through, stitch).tolist() == [0] * 7
    assert clean_up_bouts(codes, hole, stitch).tolist() == codes.tolist()
    lost = np.where(codes == 1, -1, codes)
    fill = BoutCleanUp(fill_gaps_ms=150)
    assert clean_up_bouts(lost, through, fill).tolist() == [0] * 7
    assert clean_up_bouts(lost, hole, fill).tolist() == lost.tolist()


def test_a_body_axis_turns_the_shorter_way_round():
    """An axis has no front: from 86 degrees to -86 it has turned by 8."""
    spans = Spans(np.array([0]), np.array([1]))
    turned = turning_speed(np.array([0.0, 0.5]), np.radians([86.0, -86.0]), spans)
    assert turned == pytest.approx([16.0])
