"""The pure checks of artifacts: what is good passes, what is bad is said."""

import numpy as np
import polars as pl
import pytest

from tailor_assets.checks import (
    problem_with_features,
    problem_with_flags,
    problem_with_frames,
    problem_with_masks,
    problem_with_predictions,
    problem_with_video,
    share_lost,
)

FRAMES = pl.DataFrame(
    {"frame": [0, 1, 2], "source_frame": [0, 3, 6], "timestamp_s": [0.0, 0.1, 0.2]}
)


@pytest.mark.parametrize(
    ("count", "times", "says"),
    [
        (3, [0, 1, 2], None),
        (1, [0], None),
        (0, [], "no frame"),
        (3, [0, 1], "3 frames decode but 2 have a time"),
        (3, [0, 1, 1], "do not increase"),
        (3, [0, 2, 1], "do not increase"),
        (2, [0, float("nan")], "do not increase"),
        (2, [0, float("inf")], "do not increase"),
    ],
)
def test_a_video_has_frames_and_time_moves_forward(
    count: int, times: list[float], says: str | None
) -> None:
    problem = problem_with_video(count, np.array(times, float))
    assert problem is None if says is None else says in (problem or "")


def test_frames_match_their_table() -> None:
    assert problem_with_frames(FRAMES, 3) is None
    assert problem_with_frames(FRAMES[:1], 1) is None
    assert "2 pictures for 3 rows" in (problem_with_frames(FRAMES, 2) or "")
    assert "no frame" in (problem_with_frames(FRAMES[:0], 0) or "")
    for column, values, says in (
        ("frame", [0, 1, 3], "numbered"),
        ("frame", [1, 2, 3], "numbered"),
        ("source_frame", [0, 3, 3], "source_frame"),
        ("timestamp_s", [0.0, 0.2, 0.1], "timestamp_s"),
    ):
        bad = FRAMES.with_columns(pl.Series(column, values))
        assert says in (problem_with_frames(bad, 3) or ""), (column, values)


def test_masks_are_of_exactly_the_frames_taken() -> None:
    assert problem_with_masks(np.array([0, 3, 6]), FRAMES) is None
    for wrong in ([0, 3], [0, 3, 7], [0, 3, 6, 9], []):
        assert problem_with_masks(np.array(wrong), FRAMES)


def test_features_may_be_missing_but_never_infinite() -> None:
    table = pl.DataFrame({"frame": [0, 1], "area": [5.0, None], "speed": [float("nan"), 1.0]})
    assert problem_with_features(table, 2) is None
    assert "2 rows for 3 masks" in (problem_with_features(table, 3) or "")
    endless = table.with_columns(pl.Series("speed", [1.0, float("-inf")]))
    assert "speed is infinite" in (problem_with_features(endless, 2) or "")


def predictions(first: float | None, behavior: str = "moving") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "behavior": [behavior, "no data"],
            "probability_moving": [first, None],
            "probability_still": [0.25, None],
        },
        schema_overrides={"probability_moving": pl.Float64},
    )


def test_probabilities_sum_to_one_wherever_there_is_a_behaviour() -> None:
    assert problem_with_predictions(predictions(0.75), 2) is None
    assert problem_with_predictions(predictions(None, "no data"), 2) is None
    assert problem_with_predictions(predictions(0.75)[:0], 0) is None
    assert "sum to 1" in (problem_with_predictions(predictions(0.7), 2) or "")
    assert "sum to 1" in (problem_with_predictions(predictions(None), 2) or ""), "half a row"


def test_a_gap_that_clean_up_filled_has_a_label_and_no_probability() -> None:
    table = predictions(0.75).with_columns(
        pl.lit(None, pl.Float64).alias("probability_moving"),
        pl.lit(None, pl.Float64).alias("probability_still"),
    )
    assert problem_with_predictions(table, 2) is None
    assert "2 rows for 3" in (problem_with_predictions(predictions(0.75), 3) or "")


def test_every_flagged_frame_was_copied() -> None:
    flags = pl.DataFrame({"frame": [0, 1, 2], "flag_window": [0, 1, 1]})
    assert problem_with_flags(flags, 3, 2) is None
    assert problem_with_flags(flags[:1], 1, 0) is None
    for copied in (0, 1, 3):
        assert "2 flagged rows" in (problem_with_flags(flags, 3, copied) or "")
    assert "3 rows for 4" in (problem_with_flags(flags, 4, 2) or "")


def test_the_share_of_lost_frames() -> None:
    assert share_lost(pl.Series([0.0, 0.5, 1.0, 0.0])) == 0.5
    assert share_lost(pl.Series([1.0])) == 0.0
    assert share_lost(pl.Series([], dtype=pl.Float64)) is None
