"""What a person should look at first: windows in the order of doubt, changes and bad masks."""

import numpy as np
import polars as pl
import pytest

from tailor_assets.compute.behavior.review_flags import flag_predictions, flag_summary
from tailor_assets.compute.review.ranking import ranked_windows, row_uncertainty, window_priorities


def table(labels, *, fps=10.0, best=0.9, states=None, quality=1.0):
    """Two labels, the predicted one with the probability ``best`` (one number, or one per row)."""
    labels = np.asarray(labels, dtype=object)
    best = np.broadcast_to(np.asarray(best, dtype=float), labels.shape)
    return pl.DataFrame(
        {
            "frame": np.arange(labels.size),
            "timestamp_s": np.arange(labels.size) / fps,
            "behavior": pl.Series(labels.tolist(), dtype=pl.String),
            "probability_still": np.where(labels == "still", best, 1 - best),
            "probability_moving": np.where(labels == "moving", best, 1 - best),
            "mask_quality": np.broadcast_to(np.asarray(quality, dtype=float), labels.shape),
            "mask_state": pl.Series(states or ["tracked"] * labels.size, dtype=pl.String),
        }
    )


TWO_BOUTS = ["still"] * 50 + ["moving"] * 50


def test_the_priority_of_a_window_is_the_documented_mean():
    flags = flag_predictions(table(TWO_BOUTS, best=0.7, quality=0.8))
    (window,) = ranked_windows(flags)
    assert window.uncertainty == pytest.approx(0.6)  # 1 - (0.7 - 0.3)
    assert window.changes == 1
    assert window.mask_doubt == pytest.approx(0.2)
    assert window.priority == pytest.approx((2 * 0.6 + 0.5 + 0.2) / 4)
    assert window.predicted == ("still", "moving")
    assert (window.start_s, window.stop_s) == pytest.approx((3.5, 6.6))
    inside = flags["flag_window"].to_numpy() > 0
    priority = flags["window_priority"].to_numpy()
    assert np.all(priority[inside] == window.priority)
    assert flags["window_priority"].null_count() == int((~inside).sum()), "no data, not zero"
    assert flags.columns[-4:] == ["change_point", "flag_window", "flagged", "window_priority"]


def test_with_two_labels_uncertainty_is_that_of_lewis_and_gale():
    best = np.linspace(0.5, 1.0, 100)
    found = row_uncertainty(table(TWO_BOUTS, best=best))
    assert found == pytest.approx(1 - 2 * np.abs(best - 0.5))


def test_the_best_two_of_many_labels_count_whatever_the_rest_has():
    wavers = pl.DataFrame(
        {
            "probability_a": [0.5, 0.4, 1.0],
            "probability_b": [0.5, 0.4, 0.0],
            "probability_c": [0.0, 0.2, 0.0],
        }
    )
    assert row_uncertainty(wavers) == pytest.approx([1.0, 1.0, 0.0])


def test_doubt_flicker_and_a_bad_mask_each_bring_a_window_forward():
    calm = TWO_BOUTS
    labels = [*calm, *calm, *calm, *calm]
    best = np.full(400, 0.95)
    best[135:165] = 0.55  # the window around the change at row 150 is in doubt
    states = ["tracked"] * 400
    states[235:265] = ["merged"] * 30
    labels[350:360] = ["moving", "still"] * 5
    ranked = ranked_windows(flag_predictions(table(labels, best=best, states=states)))
    quiet = ranked[-1]
    by_start = {round(window.start_s): window for window in ranked}
    assert by_start[14].uncertainty > 0.8
    assert by_start[24].mask_doubt > 0.9
    assert by_start[34].changes > 8
    for start in (14, 24, 34):
        assert by_start[start].priority > quiet.priority
    assert ranked[0].start_s == pytest.approx(by_start[14].start_s), "doubt weighs most"


def test_equal_windows_come_in_the_order_of_time_every_time():
    flags = flag_predictions(table(TWO_BOUTS * 5))
    ranked = ranked_windows(flags)
    by_priority: dict[float, list[int]] = {}
    for window in ranked:
        by_priority.setdefault(window.priority, []).append(window.number)
    assert len(ranked) > len(by_priority), "there are equal ones"
    assert all(numbers == sorted(numbers) for numbers in by_priority.values())
    assert ranked_windows(flags) == ranked


def test_what_is_not_known_is_left_out_of_the_mean_and_is_no_zero():
    bare = table(TWO_BOUTS).select("frame", "timestamp_s", "behavior", "mask_state")
    flags = flag_predictions(bare.with_columns(mask_state=pl.lit("not_started")))
    (window,) = ranked_windows(flags)
    assert (window.uncertainty, window.mask_doubt, window.priority) == (None, None, 0.5)

    lost = ["tracked"] * 50 + ["lost"] * 50
    gone = table(["still"] * 50 + ["no data"] * 50, states=lost, quality=[1.0] * 50 + [0.0] * 50)
    gone = gone.with_columns(
        pl.when(pl.col("behavior") == "no data").then(None).otherwise(pl.col(name)).alias(name)
        for name in ("probability_still", "probability_moving")
    )
    (window,) = ranked_windows(flag_predictions(gone))
    assert window.uncertainty == pytest.approx(0.2), "of the rows that have probabilities"
    assert window.mask_doubt == pytest.approx(0.5, abs=0.05)


def test_a_video_without_windows_has_no_priorities():
    flags = flag_predictions(table(["still"] * 30))
    assert ranked_windows(flags) == []
    assert flags["window_priority"].null_count() == 30
    empty = flag_predictions(table([]))
    assert window_priorities(empty).size == 0
    assert empty.schema["window_priority"] == pl.Float64


def wavering():
    """60 s of one label: unsure from 10 to 12 s, from 20 to 40 s (most at 30 s), and at 50 s."""
    best = np.full(600, 0.95)
    best[100:120] = 0.6
    best[200:400] = 0.6
    best[290:310] = 0.52
    best[500:505] = 0.5  # half a second
    return table(["still"] * 600, best=best)


def test_uncertain_stretches_make_no_window_unless_asked_for():
    flags = flag_predictions(wavering())
    assert flags["flagged"].sum() == 0


def test_on_demand_the_most_doubtful_stretches_get_a_window_where_they_are_worst():
    flags = flag_predictions(wavering(), uncertain_windows=5)
    windows = sorted(ranked_windows(flags), key=lambda window: window.number)
    assert len(windows) == 2, "half a second is too short"
    assert (windows[0].start_s, windows[0].stop_s) == pytest.approx((10.0, 12.0))
    assert windows[1].start_s == pytest.approx(28.4, abs=0.3)
    assert windows[1].stop_s - windows[1].start_s == pytest.approx(3.1), "one window's width"
    assert all(window.changes == 0 for window in windows)
    assert flag_predictions(wavering(), uncertain_windows=1)["flagged"].sum() == 31

    summary = flag_summary(flags, flagged_frames=0, effective_fps=10.0)
    assert (summary["windows_count"], summary["predicted_change_points"]) == (2, 0)


def test_windows_of_changes_keep_their_numbers_and_uncertain_ones_come_after():
    best = np.full(600, 0.95)
    best[100:140] = 0.55
    labels = ["still"] * 300 + ["moving"] * 300
    plain = flag_predictions(table(labels, best=best))
    more = flag_predictions(table(labels, best=best), uncertain_windows=3)
    number, before = more["flag_window"].to_numpy(), plain["flag_window"].to_numpy()
    assert np.all(number[before > 0] == before[before > 0])
    assert sorted(set(number.tolist())) == [0, 1, 2]
    assert np.flatnonzero(number == 2)[0] < np.flatnonzero(number == 1)[0]


def test_a_hole_in_the_recording_ends_a_stretch():
    unsure = wavering()
    times = unsure["timestamp_s"].to_numpy().copy()
    times[300:] += 100.0
    flags = flag_predictions(
        unsure.with_columns(pl.Series("timestamp_s", times)), uncertain_windows=5
    )
    for window in ranked_windows(flags):
        assert window.stop_s - window.start_s < 5
