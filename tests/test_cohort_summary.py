"""From videos to animals to groups: what counts as what, and what is left empty."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from making_cohorts import tables_of_video

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.cohort.cohort_file import Cohort, CohortVideo
from tailor_assets.compute.cohort.measures import (
    OF_BEHAVIOR,
    OF_VIDEO,
    VideoMeasures,
    VideoTables,
    measure_video,
)
from tailor_assets.compute.cohort.summary import summarise
from tailor_assets.compute.cohort.tidy_table import subject_days, subject_values, tidy_table
from tailor_assets.compute.cohort.trend_figures import TRENDS, draw_trends
from tailor_assets.compute.errors import PermanentProblem


def video(name: str, group: str, subject: str, day: float | None = None) -> CohortVideo:
    return CohortVideo(name, group, subject, None if day is None else f"{day:g}", day)


def measured(share: float | None, speed: float = 1.0, unit: str = "cm") -> VideoMeasures:
    of_video = {one.name: ("s", 1.0) for one in OF_VIDEO} | {"mean_speed": (f"{unit}/s", speed)}
    found = {one.name: share for one in OF_BEHAVIOR.values()}
    return VideoMeasures(
        {} if share is None else {"moving": found}, ["probability_moving"], of_video
    )


def cell(table: pl.DataFrame, column: str, **where: object) -> object:
    rows = table.filter(*(pl.col(name).eq_missing(pl.lit(v)) for name, v in where.items()))
    assert rows.height == 1, rows
    return rows[column][0]


def test_a_video_is_measured_in_seconds_centimetres_and_counts() -> None:
    features, predictions = tables_of_video(60, moving=20)
    found = measure_video(VideoTables(features, predictions, 10.0))
    assert found.of_behavior["moving"] == pytest.approx(
        {"share": 20 / 55, "total_time": 10.0, "bout_count": 1, "mean_bout": 10.0, "latency": 0.0}
    )
    assert found.of_behavior["still"]["latency"] == 10.0
    assert found.of_video["duration"] == ("s", 30.0)
    assert found.of_video["frames_without_data"] == ("1", 5 / 60)
    assert found.of_video["nest_entries"] == ("1", 1.0)
    unit, distance = found.of_video["distance_travelled"]
    speed = found.of_video["mean_speed"][1]
    assert unit == "cm"
    assert distance is not None
    assert speed == pytest.approx(distance / 27.0)  # 54 steps of half a second were seen


def test_what_is_not_known_of_a_video_is_empty_and_what_never_came_up_is_zero() -> None:
    features, predictions = tables_of_video(60)
    lost = predictions.with_columns(pl.lit(NO_DATA).alias("behavior"))
    blind = features.with_columns(
        pl.lit(None, pl.Float64).alias(name)
        for name in ("speed_cm_s", "path_length_cm", "nest_entries", "nest_time_s")
    )
    cohort = Cohort([video("seen", "a", "m1"), video("lost", "a", "m2")], [])
    tidy = tidy_table(
        cohort,
        {
            "seen": measure_video(VideoTables(features, predictions)),
            "lost": measure_video(VideoTables(blind, lost)),
        },
    )
    assert tidy["behavior"].drop_nulls().unique().sort().to_list() == ["in nest", "moving", "still"]
    for measure, value in (("share", 0), ("bout_count", 0), ("mean_bout", None), ("latency", None)):
        assert cell(tidy, "value", video="seen", behavior="in nest", measure=measure) == value
    unknown = tidy.filter(pl.col("video") == "lost", pl.col("value").is_not_null())
    assert unknown["measure"].to_list() == ["frames_without_data", "duration"]
    assert cell(tidy, "value", video="lost", measure="frames_without_data") == 1.0


def test_a_label_is_called_as_where_it_came_up() -> None:
    numbers = {measure.name: 1.0 for measure in OF_BEHAVIOR.values()}
    of_video = measured(None).of_video
    one = VideoMeasures({"in_nest": numbers}, ["probability_in_nest"], of_video)
    other = VideoMeasures({"moving": numbers}, ["probability_in_nest"], of_video)
    cohort = Cohort([video("v1", "a", "m1"), video("v2", "a", "m2")], [])
    tidy = tidy_table(cohort, {"v1": one, "v2": other})
    assert set(tidy["behavior"].drop_nulls()) == {"in_nest", "moving"}
    assert cell(tidy, "value", video="v2", behavior="in_nest", measure="share") == 0.0
    assert cell(tidy, "value", video="v1", behavior="moving", measure="share") is None


def test_tables_of_different_frames_are_refused() -> None:
    features, predictions = tables_of_video(60)
    with pytest.raises(PermanentProblem, match="59 rows of features and 60 of predictions"):
        measure_video(VideoTables(features.head(59), predictions))


def test_videos_of_a_day_are_averaged_and_then_days_so_that_animals_are_counted() -> None:
    videos = [
        video("v1", "a", "m1", 1), video("v2", "a", "m1", 1), video("v3", "a", "m1", 2),
        video("v4", "a", "m2", 1), video("v5", "a", "m3", 1),
    ]  # fmt: skip
    shares = [0.1, 0.3, 0.6, 0.5, None]
    tidy = tidy_table(
        Cohort(videos, []),
        {one.video: measured(share) for one, share in zip(videos, shares, strict=True)},
    )
    days = subject_days(tidy)
    of_share = {"measure": "share", "behavior": "moving"}
    assert cell(days, "value", subject="m1", day_number=1.0, **of_share) == pytest.approx(0.2)
    animals = subject_values(days)
    assert cell(animals, "value", subject="m1", **of_share) == pytest.approx(0.4)
    assert cell(animals, "value", subject="m3", **of_share) is None
    summary = summarise(
        Cohort(videos, []),
        {one.video: measured(share) for one, share in zip(videos, shares, strict=True)},
    )
    groups = summary.tables["groups"]
    assert cell(groups, "n", **of_share) == 2
    assert cell(groups, "without_value", **of_share) == 1
    assert cell(groups, "mean", **of_share) == pytest.approx(0.45)


def test_filming_each_animal_ten_times_makes_no_group_larger_and_no_difference_surer() -> None:
    chance = np.random.default_rng(3)
    shares = {f"m{i}": float(chance.uniform(0.2, 0.8)) for i in range(8)}

    def summary_of(times: int) -> pl.DataFrame:
        videos = [
            video(f"{animal} {i}", "ab"[int(animal[1]) % 2], animal)
            for animal in shares
            for i in range(times)
        ]
        found = {one.video: measured(shares[one.subject]) for one in videos}
        return summarise(Cohort(videos, []), found).tables["comparisons"]

    assert summary_of(10).equals(summary_of(1))


def test_the_order_of_lines_changes_no_statistic() -> None:
    videos = [video(f"v{i}", "ab"[i % 2], f"m{i % 6}", i // 6) for i in range(12)]
    chance = np.random.default_rng(5)
    found = {one.video: measured(float(chance.uniform())) for one in videos}
    one = summarise(Cohort(videos, []), found).tables
    # The first line stays, as it says which group comes first.
    other = summarise(Cohort([videos[0], *reversed(videos[1:])], []), found).tables
    for name in ("groups", "comparisons", "days", "trends", "trend_comparisons"):
        assert one[name].equals(other[name]), name


def test_days_and_slopes_say_what_changes_and_how_fast() -> None:
    videos = [
        video(f"{animal} day {day}", "ab"[int(animal[1]) % 2], animal, float(day))
        for animal in (f"m{i}" for i in range(6))
        for day in (1, 2, 4)
    ]
    found = {
        one.video: measured(0.5, speed=(2 if one.group == "b" else 1) * (one.day_number or 0)
                            + int(one.subject[1]))
        for one in videos
    }  # fmt: skip
    tables = summarise(Cohort(videos, []), found).tables
    speed = {"measure": "mean_speed", "unit": "cm/s/day"}
    assert cell(tables["slopes"], "value", subject="m1", **speed) == pytest.approx(2.0)
    assert cell(tables["trends"], "mean", group="a", **speed) == pytest.approx(1.0)
    assert cell(tables["trend_comparisons"], "difference", **speed) == pytest.approx(1.0)
    of_day = {"measure": "mean_speed", "unit": "cm/s", "day_number": 4.0}
    assert cell(tables["days"], "mean", group="b", **of_day) == pytest.approx(8 + 3)
    assert cell(tables["days"], "n", group="b", **of_day) == 3


def test_a_video_without_a_day_is_in_no_slope() -> None:
    videos = [video(f"day {day}", "a", "m1", day) for day in (1.0, 2.0, None)]
    found = {one.video: measured(0.5, speed=one.day_number or 50.0) for one in videos}
    tables = summarise(Cohort(videos, []), found).tables
    speed = {"measure": "mean_speed", "unit": "cm/s/day"}
    assert cell(tables["slopes"], "value", subject="m1", **speed) == pytest.approx(1.0)
    assert cell(tables["slopes"], "days", subject="m1", **speed) == 2


def test_what_the_numbers_do_not_bear_is_said() -> None:
    videos = [video("v1", "a", "m1", 1), video("v2", "a", "m2"), video("v3", "b", "m3", 2)]
    cohort = Cohort([*videos, video("v4", "b", "m4", 2)], [])
    found = {one.video: measured(0.5) for one in videos}
    found["v1"] = VideoMeasures(**{**vars(found["v1"]), "model": "rules 1"})
    found["v2"] = VideoMeasures(**{**vars(found["v2"]), "model": "rules 2"})
    said = " ".join(summarise(cohort, found).warnings)
    for part in ("1 of 4 videos have no results", "scored by 2 models", "The group a has 2 animals",
                 "1 videos have no day"):  # fmt: skip
        assert part in said, part
    assert summarise(cohort, found).tables["comparisons"]["welch_p"].null_count() > 0


def test_animals_without_results_do_not_make_a_group_large_enough() -> None:
    videos = [video(f"v{i}", "a", f"m{i}") for i in range(3)]
    cohort = Cohort([*videos, *(video(f"w{i}", "b", f"n{i}") for i in range(3))], [])
    found = {one.video: measured(0.5) for one in videos} | {"w0": measured(0.5)}
    said = " ".join(summarise(cohort, found).warnings)
    assert "The group b has 1 animal: with fewer than 3" in said
    assert "The group a" not in said


@pytest.mark.parametrize("name", TRENDS)
def test_days_of_videos_without_results_alone_are_no_trend(name: str) -> None:
    gone = [video("v2", "a", "m2", 1), video("v3", "a", "m2", 2)]
    cohort = Cohort([video("v1", "a", "m1"), *gone], [])
    assert cohort.has_days
    drawing = draw_trends(summarise(cohort, {"v1": measured(0.5)}), name)
    assert drawing.png is None
    assert "no data" in drawing.caption


def test_pixels_and_centimetres_are_never_put_together() -> None:
    videos = [video(f"v{i}", "ab"[i % 2], f"m{i}") for i in range(4)]
    found = {v.video: measured(0.5, unit="px" if v.video == "v3" else "cm") for v in videos}
    groups = summarise(Cohort(videos, []), found).tables["groups"]
    speeds = groups.filter(pl.col("measure") == "mean_speed", pl.col("group") == "b")
    assert dict(speeds.select("unit", "n").iter_rows()) == {"cm/s": 1, "px/s": 1}


def test_the_page_of_documentation_has_every_measure_and_column() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "cohort.md").read_text()
    videos = [video(f"v{i}", "ab"[i % 2], f"m{i}", i // 2) for i in range(4)]
    tables = summarise(Cohort(videos, []), {one.video: measured(0.5) for one in videos}).tables
    columns = {*tables["groups"].columns, *tables["comparisons"].columns}
    columns -= {"group", "group_1", "n_1", "n_2", "welch_p_holm", "mann_whitney_p_holm"}
    measures = [one.name for one in (*OF_BEHAVIOR.values(), *OF_VIDEO)]
    for name in (*measures, *tables, *columns - {"measure", "unit", "behavior"}):
        assert f"`{name}`" in page, name
