"""A recipe is validated on videos that its models never saw, and the report says how."""

import json

import numpy as np
import polars as pl
import pytest
from making_labels import LABELS, session
from sklearn import metrics

from tailor_assets.compute.behavior.training.evaluation import (
    Rival,
    cross_validate,
    divide,
    evaluate_recipe,
    score_report,
)
from tailor_assets.compute.behavior.training.evaluation_text import evaluation_markdown
from tailor_assets.compute.behavior.training.labelled_data import (
    join_videos,
    labelled_video,
    stretches_of,
    trainable_columns,
    widest_window_s,
)
from tailor_assets.compute.behavior.training.recipe import Recipe, fit_model
from tailor_assets.compute.errors import PermanentProblem

COLUMNS = ("speed_cm_s", "turning_rad_s", "mask_motion")


def data_of(seeds, columns=COLUMNS, change=None, **settings):
    videos = []
    for seed in seeds:
        table, truth = session(seed, **settings)
        labels = list(truth) if change is None else change(seed, truth)
        videos.append(labelled_video(f"video{seed}", table, labels, columns))
    return join_videos(videos)


def test_labels_that_would_be_one_column_are_refused():
    def spelt(seed, truth):
        return ["in nest" if label == truth[0] else "in_nest" for label in truth]

    with pytest.raises(PermanentProblem, match="'in nest' and 'in_nest' differ in their spaces"):
        data_of(range(1), change=spelt)


def recipe(**changes):
    return Recipe(**{"estimator": "logistic", "columns": COLUMNS, **changes})


@pytest.fixture(scope="module")
def four_videos():
    return data_of(range(4))


@pytest.fixture(scope="module")
def report(four_videos):
    return evaluate_recipe(four_videos, recipe())


def test_the_report_has_the_figures_that_scikit_learn_gives(four_videos, report):
    data = four_videos
    _, finished = cross_validate(data, recipe(), divide(data, 2.0).folds)
    predicted = finished.argmax(axis=1)
    assert report["labels"] == list(LABELS)
    assert report["rows"] == len(data.codes)
    expected = metrics.f1_score(data.codes, predicted, average="macro")
    assert report["frames"]["macro_f1"] == pytest.approx(expected)
    assert report["confusion_matrix"] == metrics.confusion_matrix(data.codes, predicted).tolist()
    low, high = report["frames"]["interval_95"]
    assert low < expected < high
    assert expected > 0.75
    assert report["how"] == "leave one video out"
    assert [fold["tested"] for fold in report["folds"]] == [[f"video{k}"] for k in range(4)]
    assert report["warnings"] == []
    assert report["calibration"]["brier"] < report["calibration"]["before"]["brier"] + 0.01
    json.dumps(report, allow_nan=False)


def test_the_learning_curve_goes_from_one_video_to_all_the_others(report):
    curve = report["learning_curve"]
    assert [point["videos"] for point in curve] == [1, 2, 3]
    assert curve[-1]["macro_f1"] > curve[0]["macro_f1"] - 0.02


def test_the_text_says_what_a_person_looks_for(report):
    text = evaluation_markdown(report)
    for word in ("By frame", "By bout", "at least 0.5", "Confusion", "Brier", "Learning curve",
                 "leave one video out", "| groom |"):  # fmt: skip
        assert word in text
    assert "labelled frames have no animal" in text


def test_one_video_is_validated_by_blocks_with_a_loud_warning():
    data = data_of([1], seconds=120)
    report = evaluate_recipe(data, recipe(columns=("speed_cm_s", "mask_motion")))
    assert report["how"] == "5 blocks of one video, 2 s left out beside each"
    assert len(report["folds"]) == 5
    assert report["warnings"][0].startswith("THERE IS ONE LABELLED VIDEO.")
    assert [point["share_of_blocks"] for point in report["learning_curve"]] == [0.2, 0.4, 0.8]
    assert "THERE IS ONE LABELLED VIDEO" in evaluation_markdown(report)


def test_what_is_left_out_beside_a_block_is_as_wide_as_the_features_look():
    assert recipe().purge_s == 2.0
    assert recipe(columns=("speed_cm_s_mean_5s", "speed_cm_s_std_1s")).purge_s == 5.0
    assert widest_window_s(["a_mean_0.5s", "b", "speed_cm_s"]) == 0.5


def test_shuffled_frames_would_say_more_than_videos_do():
    """Each video has its own look: a model knows a video it has seen, and not the next one."""
    rng = np.random.default_rng(0)
    videos, columns = [], tuple(f"look{k}" for k in range(4))
    for seed in range(4):
        table, truth = session(seed, seconds=40)
        looks = np.cumsum(rng.normal(0, 1, (table.height, 4)), axis=0)
        table = table.with_columns(pl.Series(f"look{k}", looks[:, k]) for k in range(4))
        videos.append(labelled_video(f"video{seed}", table, list(truth), columns))
    data = join_videos(videos)
    forest = recipe(estimator="random_forest", calibration="none", columns=columns)
    by_video = evaluate_recipe(data, forest, learning_curve=False)["frames"]["macro_f1"]
    rows = rng.permutation(len(data.codes))
    half = len(rows) // 2
    model = fit_model(data, np.sort(rows[:half]), forest)
    told = model.raw(data, np.sort(rows[half:])).argmax(axis=1)
    shuffled = metrics.f1_score(data.codes[np.sort(rows[half:])], told, average="macro")
    assert shuffled > by_video + 0.2


def test_calibration_is_fitted_without_the_videos_it_is_tested_on(four_videos, monkeypatch):
    from tailor_assets.compute.behavior.training import recipe as module

    seen = []
    real = module._held_out

    def spy(data, rows, *rest):
        held_out, said = real(data, rows, *rest)
        seen.append((set(np.unique(data.video[rows])), set(held_out.tolist()), len(rows)))
        return held_out, said

    monkeypatch.setattr(module, "_held_out", spy)
    folds = divide(four_videos, 2.0).folds
    cross_validate(four_videos, recipe(), folds)
    for fold, (videos, held_out, rows) in zip(folds, seen, strict=True):
        assert not videos & set(np.unique(four_videos.video[fold.test]))
        assert held_out == set(range(rows)), "every row is said something of by a model without it"


@pytest.mark.parametrize("smoothing", ["viterbi", "forward_backward"])
def test_smoothing_makes_fewer_and_better_bouts(smoothing):
    data = data_of(range(3), noise=1.5)
    plain = evaluate_recipe(data, recipe(), learning_curve=False)
    smooth = evaluate_recipe(data, recipe(smoothing=smoothing), learning_curve=False)
    assert smooth["frames"]["macro_f1"] > plain["frames"]["macro_f1"]
    assert smooth["bouts"]["macro_f1"] > plain["bouts"]["macro_f1"] + 0.1


def test_a_behaviour_of_one_video_only_is_warned_of():
    def change(seed, truth):
        return ["rear" if label == "groom" and seed == 1 else label for label in truth]

    report = evaluate_recipe(data_of(range(3), change=change), recipe(), learning_curve=False)
    assert any("Only one video has rear" in warning for warning in report["warnings"])


def test_the_model_in_force_is_compared_on_the_same_folds(four_videos):
    weak = Rival(3, recipe(columns=("turning_rad_s",)), ("video0",))
    report = evaluate_recipe(four_videos, recipe(), rival=weak, learning_curve=False)
    comparison = report["comparison"]
    assert comparison["with_version"] == 3
    assert comparison["folds_hash"] == report["folds_hash"]
    assert comparison["macro_f1"] > comparison["macro_f1_in_force"]
    # Where video0 was tested its model had nothing left to learn from, so neither is scored there.
    left_out = int((four_videos.video == 0).sum())
    assert comparison["rows"] == len(four_videos.codes) - left_out
    same = Rival(4, recipe(), four_videos.names)
    comparison = evaluate_recipe(four_videos, recipe(), rival=same, learning_curve=False)[
        "comparison"
    ]
    assert comparison["difference"] == 0
    assert comparison["difference_interval_95"] == [0.0, 0.0]


def test_the_model_in_force_does_not_look_into_what_it_is_tested_on():
    """Of one video, blocks of time: as far apart as the wider windows of the two models reach."""
    table, truth = session(0, seconds=120.0)
    table = table.with_columns(speed_cm_s_mean_5s=pl.col("speed_cm_s"))
    wide = (*COLUMNS, "speed_cm_s_mean_5s")
    data = join_videos([labelled_video("video0", table, list(truth), wide)])
    rival = Rival(1, recipe(columns=wide), data.names)
    report = evaluate_recipe(data, recipe(), rival=rival, learning_curve=False)
    assert recipe().purge_s == 2.0
    assert report["folds_hash"] == divide(data, 5.0).hash


def test_rows_a_model_does_not_answer_are_counted_and_left_out(four_videos):
    said = np.eye(3)[four_videos.codes]
    said[:10] = np.nan
    report = score_report(four_videos, said, 0)
    assert report["rows_not_answered"] == 10
    assert report["frames"]["macro_f1"] == 1.0
    assert report["bouts"]["macro_f1"] == 1.0


@pytest.mark.parametrize(("videos", "with_it"), [(4, (0, 3)), (1, (0,))])
def test_a_rare_behaviour_is_still_predicted_after_the_calibration(videos, with_it):
    """Of videos that are left out together no model knows what is in these alone."""

    def rare(seed, truth):
        """It is nowhere else: such rows have no label."""
        early = len(truth) // 5 if videos == 1 else len(truth)  # in one block of time
        return [
            label if label != "groom" or (seed in with_it and row < early) else None
            for row, label in enumerate(truth)
        ]

    data = data_of(range(videos), change=rare, noise=0.3, seconds=30.0)
    rows = np.arange(len(data.codes))
    fitted = fit_model(data, rows, Recipe(columns=COLUMNS))
    groom = data.labels.index("groom")
    raw = fitted.raw(data, rows)
    finished = fitted.finish(raw, data, rows)
    here = data.codes == groom
    assert here.sum() > 10
    known = (raw.argmax(axis=1) == groom)[here].mean()
    assert known > 0.9
    assert (finished.argmax(axis=1) == groom)[here].mean() > 0.9


def test_labels_that_cannot_train_are_refused_in_one_sentence():
    with pytest.raises(PermanentProblem, match=r"name 1 behaviour \(still\)"):
        data_of([0], change=lambda _, truth: ["still"] * len(truth))
    with pytest.raises(PermanentProblem, match="the others show one behaviour only"):
        evaluate_recipe(
            data_of([0, 1], change=lambda seed, truth: [("run", "still")[seed]] * len(truth)),
            recipe(),
        )


# ------------------------------------------------------------------------------- the table


def test_columns_that_name_a_place_or_a_pixel_with_a_twin_in_cm_are_not_trained_with():
    table, _ = session(0)
    assert trainable_columns([table.schema]) == (
        "speed_cm_s", "turning_rad_s", "mask_motion", "solidity", "in_nest",
    )  # fmt: skip
    without = table.drop("speed_cm_s").schema
    assert "speed_px_s" in trainable_columns([table.schema, without])
    names = ("area_mean_1s", "area_cm2_mean_1s", "area", "area_cm2", "path_length_px",
             "axis_major_length", "axis_major_length_cm", "mask_quality_std_5s", "bbox_min_row",
             "heading_sin", "orientation", "nest_entries", "mask_quality_power_0.1_1hz_1s",
             "distance_to_nest_px_max_5s")  # fmt: skip
    schema = pl.Schema(dict.fromkeys(names, pl.Float64()))
    assert trainable_columns([schema]) == (
        "area_cm2_mean_1s", "area_cm2", "axis_major_length_cm", "distance_to_nest_cm_max_5s",
    )  # fmt: skip
    with pytest.raises(PermanentProblem, match="no feature in common"):
        trainable_columns([pl.Schema({"area": pl.Float64()}), pl.Schema({"b": pl.Float64()})])


def test_rows_without_the_animal_are_not_learnt_from_and_break_a_stretch():
    table, truth = session(0, seconds=20)
    video = labelled_video("v", table, list(truth), COLUMNS)
    lost = int((table["mask_quality"] == 0).sum())
    assert lost > 0
    assert video.without_data == lost
    assert len(video.labels) == table.height - lost
    assert np.isfinite(video.features).all()
    assert len(np.unique(video.stretches)) == lost + 1
    times = np.r_[np.arange(5) / 10, 8 + np.arange(5) / 10]
    assert stretches_of(np.arange(10), times).tolist() == [0] * 5 + [1] * 5


def test_the_hashes_tell_labels_and_features_apart(four_videos):
    again = data_of(range(4))
    assert again.data_hash == four_videos.data_hash
    assert again.features_hash == four_videos.features_hash
    relabelled = data_of(
        range(4), change=lambda seed, truth: ["run", *truth[1:]] if seed == 2 else list(truth)
    )
    assert relabelled.features_hash == four_videos.features_hash
    assert relabelled.data_hash != four_videos.data_hash
    assert data_of(range(4), noise=1.01).features_hash != four_videos.features_hash
