"""Models on tracked points: validated by blocks of time, chosen within them, trained and used."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor_assets.cli import main
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.point_features import (
    KEYPOINT_FEATURES_VERSION,
    keypoint_features,
)
from tailor_assets.compute.keypoints.point_model import (
    Decision,
    Learner,
    f1_score,
    model_columns,
    validate_nested,
)
from tailor_assets.compute.keypoints.reading import read_points

DEMO = Path(__file__).parents[2] / "shared/data/freezing/behaviordepot_demo1.csv"
needs_demo = pytest.mark.skipif(not DEMO.is_file(), reason=f"{DEMO} is not here")
FEW = ("body_speed_cm_s", "body_speed_cm_s_mean_1s", "head_turning_abs_deg_s_mean_1s")
FPS = 20


def stop_and_go(
    folder: Path, name: str = "mouse.csv", seed: int = 1, bouts: int = 30
) -> tuple[Path, np.ndarray]:
    """A tracking file of a mouse that walks and stands by turns, and when it stands (bool)."""
    rng = np.random.default_rng(seed)
    stands = np.repeat(np.arange(bouts) % 2 == 1, rng.integers(30, 70, bouts))
    along = np.cumsum(np.where(stands, 0.0, 8.0) / FPS) * 10
    lines = [
        "frame,nose_x,nose_y,left_ear_x,left_ear_y,right_ear_x,right_ear_y,tail_base_x,tail_base_y"
    ]
    for row, x in enumerate(along):
        places = np.array([[x + 60, 0], [x + 50, -5], [x + 50, 5], [x, 0]]) + rng.normal(
            0, 0.3, (4, 2)
        )
        lines.append(f"{row}," + ",".join(f"{value:.3f}" for value in places.ravel()))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path, stands


def features_of(path: Path) -> pl.DataFrame:
    return keypoint_features(read_points(path, fps=FPS), px_per_cm=10)


def test_a_model_is_tested_on_rows_that_it_never_saw(tmp_path: Path) -> None:
    path, stands = stop_and_go(tmp_path)
    learners = {"line": Learner(("logistic",), FEW)}
    found = validate_nested(features_of(path), stands, learners, [Decision()])
    assert np.isfinite(found.probability).all()
    assert f1_score(found.predicted, stands) > 0.85
    assert len(found.chosen) == 5
    assert found.chosen[0]["inner_f1"] is None, "with one way to go nothing is chosen"


def test_labels_of_chance_are_not_learnt(tmp_path: Path) -> None:
    path, stands = stop_and_go(tmp_path)
    rng = np.random.default_rng(0)
    chance = np.repeat(rng.random(stands.size // 20 + 1) < 0.5, 20)[: stands.size]
    learners = {"forest": Learner(("random_forest",), FEW)}
    found = validate_nested(features_of(path), chance, learners, [Decision()])
    assert abs(np.mean(found.predicted == chance) - 0.5) < 0.15


def test_the_choice_is_made_without_the_block_that_is_tested(tmp_path: Path) -> None:
    """Labels of the tested block are turned round: the choice for it stays what it was."""
    path, stands = stop_and_go(tmp_path)
    features = features_of(path)
    learners = {"line": Learner(("logistic",), FEW), "one": Learner(("logistic",), FEW[:1])}
    decisions = [Decision(), Decision(mean_over_s=0.5), Decision(min_bout_ms=500)]
    before = validate_nested(features, stands, learners, decisions)
    turned = stands.copy()
    last = np.array_split(np.arange(stands.size), 5)[-1]
    turned[last] = ~turned[last]
    after = validate_nested(features, turned, learners, decisions)
    names = ("learner", "mean_over_s", "threshold", "min_bout_ms", "inner_f1")
    assert [before.chosen[-1][n] for n in names] == [after.chosen[-1][n] for n in names]
    np.testing.assert_array_equal(before.probability[last], after.probability[last])


def test_what_is_true_of_one_recording_only_is_not_learnt(tmp_path: Path) -> None:
    path, _ = stop_and_go(tmp_path)
    columns = model_columns(features_of(path))
    assert "body_speed_cm_s" in columns
    for name in (
        "centroid_x",
        "path_length_cm",
        "timestamp_s",
        "head_direction_sin",
        "mask_quality",
    ):
        assert name not in columns
    assert not [name for name in columns if name.endswith("_likelihood")]


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, stands = stop_and_go(tmp_path)
    features, learners = features_of(path), {"line": Learner(("logistic",), FEW)}
    with pytest.raises(PermanentProblem, match="one True or False a row"):
        validate_nested(features, stands[:-1], learners)
    with pytest.raises(PermanentProblem, match="only one behaviour"):
        validate_nested(features, np.zeros(stands.size, bool), learners, [Decision()])
    with pytest.raises(PermanentProblem, match="lack wings"):
        validate_nested(
            features, stands, {"line": Learner(("logistic",), ("wings",))}, [Decision()]
        )


def test_the_command_writes_features_behaviour_and_bouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, stands = stop_and_go(tmp_path)
    out = tmp_path / "out"
    options = ["score-keypoints", str(path), "--px-per-cm", "10", "--fps", str(FPS)]
    assert main([*options, "--rule", "freezing", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "mouse")
    features = pl.read_csv(out / "mouse" / "mouse_features.csv")
    predictions = pl.read_csv(out / "mouse" / "mouse_prediction.csv")
    bouts = pl.read_csv(out / "mouse" / "mouse_bouts.csv")
    summary = pl.read_csv(out / "mouse" / "mouse_bouts_summary.csv")
    assert features.height == predictions.height == stands.size
    assert f1_score((predictions["behavior"] == "freezing").to_numpy(), stands) > 0.9
    assert abs(bouts["duration_s"].sum() - stands.size / FPS) < 0.01
    freezing = summary.filter(pl.col("behavior") == "freezing")
    assert freezing["bouts"][0] == (bouts["behavior"] == "freezing").sum()
    assert set(predictions["features_version"]) == {KEYPOINT_FEATURES_VERSION}


def test_the_command_says_in_one_sentence_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = stop_and_go(tmp_path)
    for options, said in (
        (["--px-per-cm", "0"], "no number of pixels per centimetre"),
        ([], "give the scale"),
        (["--px-per-cm", "10", "--rule", "dancing"], "no rule 'dancing'"),
        (["--px-per-cm", "10", "--role", "nose=beak"], "No part 'beak'"),
        (["--px-per-cm", "10", "--animal", "bob"], "no animal"),
    ):
        assert main(["score-keypoints", str(path), "--fps", "20", *options]) == 1
        assert said in capsys.readouterr().err


def test_scored_points_do_not_replace_the_finished_results_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = stop_and_go(tmp_path)
    folder = tmp_path / "out" / "mouse"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"manifest_version": 1}')
    options = ["score-keypoints", str(path), "--px-per-cm", "10", "--fps", str(FPS)]
    assert main([*options, "--out", str(tmp_path / "out")]) == 1
    assert "mouse has the finished results of `tailor run`" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["manifest.json"]
    assert main([*options, "--out", str(tmp_path / "points")]) == 0


def test_a_model_is_trained_with_scored_keypoints_and_scores_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    labels = tmp_path / "labels"
    labels.mkdir()
    for number in range(3):
        path, stands = stop_and_go(tmp_path, f"mouse{number}.csv", seed=number, bouts=8)
        options = ["--px-per-cm", "10", "--fps", str(FPS), "--out", str(tmp_path / "out")]
        assert main(["score-keypoints", str(path), *options]) == 0
        words = np.where(stands, "rests", "walks")
        table = pl.DataFrame({"frame": np.arange(stands.size), "behavior": words.tolist()})
        table.write_csv(labels / f"mouse{number}.csv")
    assert main([
        "train", "--name", "rester", "--labels", str(labels), "--features", str(tmp_path / "out"),
        "--estimator", "random_forest", "--calibration", "none", "--no-learning-curve",
    ]) == 0  # fmt: skip
    path, stands = stop_and_go(tmp_path, "another.csv", seed=9)
    options = ["--px-per-cm", "10", "--fps", str(FPS), "--out", str(tmp_path / "out")]
    assert main(["score-keypoints", str(path), "--model", "rester@1", *options]) == 0
    predictions = pl.read_csv(tmp_path / "out" / "another" / "another_prediction.csv")
    assert f1_score((predictions["behavior"] == "rests").to_numpy(), stands) > 0.85


@needs_demo
def test_beside_a_person_a_simple_model_of_many_features_is_no_worse_than_was_measured() -> None:
    features = keypoint_features(read_points(DEMO, fps=50), px_per_cm=32, rich=True)
    person = pl.read_csv(DEMO)["freezing_human"].to_numpy() == 1
    learners = {"line": Learner(("logistic",), model_columns(features))}
    found = validate_nested(features, person, learners, [Decision()])
    assert f1_score(found.predicted, person) > 0.84
