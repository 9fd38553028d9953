"""Visits to the nest: entries, latency, time spent, approach, and what the animal covers of it."""

import numpy as np
import pytest

from tailor_assets.compute.features.motion_features import time_steps
from tailor_assets.compute.features.nest_features import nest_occlusion, nest_share
from tailor_assets.compute.features.nest_visits import (
    NEST_VISIT_FEATURES,
    nest_motion,
    nest_visits,
)

NAN = float("nan")


def visits(in_nest: list[float], time: list[float] | None = None) -> dict[str, list[float]]:
    t = np.array(time if time is not None else np.arange(len(in_nest)) / 2.0)
    dt, neighbours = time_steps(t)
    with np.errstate(all="raise"):
        got = nest_visits(t, neighbours, dt, np.array(in_nest, float))
    return {name: values.tolist() for name, values in got.items()}


def test_entries_are_counted_and_the_latency_is_that_of_the_first() -> None:
    got = visits([0, 0, 1, 1, 0, 1])
    assert got["nest_entries"] == [0, 0, 1, 1, 1, 2]
    np.testing.assert_equal(got["nest_latency_s"], [NAN, NAN, 1, 1, 1, 1])
    np.testing.assert_equal(got["time_since_nest_entry_s"], [NAN, NAN, 0, 0.5, 1, 0])
    assert got["nest_time_s"] == [0, 0, 0.5, 1, 1, 1.5]


def test_a_recording_that_begins_in_the_nest_begins_with_a_visit() -> None:
    got = visits([1, 1, 0])
    assert got["nest_entries"] == [1, 1, 1]
    assert got["nest_latency_s"] == [0, 0, 0]
    assert got["nest_time_s"] == [0, 0.5, 0.5]


def test_an_animal_that_is_lost_in_its_nest_does_not_enter_it_again() -> None:
    got = visits([0, 1, NAN, NAN, 1, NAN, 0, NAN, 1])
    np.testing.assert_equal(got["nest_entries"], [0, 1, NAN, NAN, 1, NAN, 1, NAN, 2])
    np.testing.assert_equal(got["nest_time_s"], [0, 0.5, NAN, NAN, 0.5, NAN, 0.5, NAN, 0.5])


def test_a_pause_is_not_spent_in_the_nest_and_latency_counts_from_the_first_row() -> None:
    got = visits([0, 1, 1, 1], time=[100.0, 100.5, 160.0, 160.5])
    assert got["nest_time_s"] == [0, 0.5, 0.5, 1.0]
    np.testing.assert_equal(got["nest_latency_s"], [NAN, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("in_nest", [[], [NAN], [NAN] * 4, [0.0] * 4])
def test_without_a_visit_there_is_no_latency(in_nest: list[float]) -> None:
    got = visits(in_nest)
    assert np.isnan(got["nest_latency_s"]).all()
    assert np.isnan(got["time_since_nest_entry_s"]).all()
    np.testing.assert_equal(got["nest_entries"], [0.0 if v == 0 else NAN for v in in_nest])
    declared = {feature.name for feature in NEST_VISIT_FEATURES}
    assert set(got) | {"nest_approach_px_s", "facing_nest_cos"} == declared


def test_approach_and_facing_are_towards_the_middle_of_the_nest() -> None:
    time = np.arange(4) / 2
    dt, neighbours = time_steps(time)
    nest = np.tile([[10.0, 100.0]], (4, 1))
    nest[2] = NAN
    got = nest_motion(
        np.array([0.0, 10, 20, 30]),
        np.full(4, 10.0),
        np.array([0.0, 1, 0, NAN]),
        np.array([1.0, 0, 1, NAN]),
        np.array([80.0, 70, NAN, 75]),
        nest,
        neighbours,
        dt,
    )
    np.testing.assert_equal(got["nest_approach_px_s"], [NAN, 20, NAN, NAN])
    np.testing.assert_equal(got["facing_nest_cos"], [1, 0, NAN, NAN])


def test_what_covers_the_nest_is_seen_whether_the_masks_overlap_or_exclude_each_other() -> None:
    distance = np.array([300.0, 0, 0, 90, NAN])
    length, area = np.full(5, 100.0), np.full(5, 5000.0)
    overlapping = nest_occlusion(
        distance, np.array([0, 0.6, 1, 0, NAN]), np.full(5, 20000.0), area, length
    )
    np.testing.assert_allclose(overlapping, [0, 0.15, 0.25, 0, NAN])
    nest_area = np.array([20000.0, 17000, 15000, 19000, 20000])
    excluding = nest_occlusion(distance, np.array([0, 0, 0, 0, NAN]), nest_area, area, length)
    np.testing.assert_allclose(excluding, [0, 0.15, 0.25, 0, NAN])
    share = nest_share(distance, np.array([0, 0, 0, 0, NAN]), nest_area, area, length)
    np.testing.assert_allclose(share, [0, 0.6, 1, 0, NAN])


def test_what_the_nest_lost_is_reckoned_from_when_the_animal_was_last_away() -> None:
    distance, nest = np.array([100.0, 100, 0]), np.array([900.0, 600, 300])
    none, body, length = np.zeros(3), np.full(3, 100.0), np.full(3, 30.0)
    got = nest_occlusion(distance, none, nest, body, length)
    np.testing.assert_allclose(got, [0, 0, (600 - 300) / 600])
    # Never away: from the most that was ever seen of it.
    got = nest_occlusion(none, none, np.array([300.0, 600, 450]), body, length)
    np.testing.assert_allclose(got, [0.5, 0, 0.25])
