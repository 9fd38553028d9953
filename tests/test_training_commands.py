"""`tailor train`, `evaluate` and `behavior-models`: from label files to a version in force."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from joblib import parallel_config
from making_labels import label_folder, results_folders, session
from threadpoolctl import threadpool_limits

from resources.behavior_models import BehaviorModels
from tailor_assets.cli import main
from tailor_assets.compute.behavior.behavior_model import predict
from tailor_assets.compute.behavior.training.choices import ESTIMATORS
from tailor_assets.compute.behavior.training.estimators import (
    fit_estimator,
    make_estimator,
    predict_probabilities,
)
from tailor_assets.compute.behavior.training.skops_file import write_estimator

SEEDS = range(4)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    root = tmp_path_factory.mktemp("sessions")
    results_folders(root / "results", SEEDS)
    label_folder(root / "labels", SEEDS)
    return root


@pytest.fixture
def tailor(tmp_path, monkeypatch, capsys, sessions):
    """Run a command in a home of this test; its exit status, output and complaint."""
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    data = ["--labels", str(sessions / "labels"), "--features", str(sessions / "results")]

    def run(*words, on=data):
        status = main([*words, *on])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def manage(tailor, *words):
    return tailor("behavior-models", *words, on=[])


def train(tailor, *more):
    return tailor("train", "--name", "activity", "--estimator", "logistic", *more)


def test_a_model_is_trained_shown_promoted_compared_and_gone_back_from(tailor):
    status, out, err = train(tailor)
    assert status == 0, err
    assert "Macro F1 by frame" in out
    assert "validated by: leave one video out" in out
    assert "Version 1 of activity is a candidate" in out
    assert "| groom |" in out
    status, out, _ = manage(tailor, "list")
    assert out.splitlines()[0].split() == ["model", "macro", "F1", "by", "bout", "videos",
                                           "trained", "by"]  # fmt: skip
    assert "activity@1" in out
    assert "in force" not in out
    assert manage(tailor, "promote", "activity", "1")[1] == "activity@1 is in force.\n"

    status, out, _ = train(tailor, "--no-learning-curve", "--seed", "1")
    assert "version 1, which is in force, has a macro F1" in out
    status, out, _ = manage(tailor, "promote", "activity", "2")
    assert (status, out[:44]) == (0, "activity@2 is in force in place of version 1")
    status, out, err = train(
        tailor, "--no-learning-curve", "--columns", "solidity", "--calibration", "none"
    )
    assert status == 0, err
    status, _, err = manage(tailor, "promote", "activity", "3")
    assert status == 1
    assert "is worse than version 2" in err
    status, out, _ = manage(tailor, "rollback", "activity", "--reason", "odd bouts")
    assert out == "activity@1 is in force in place of version 2 (odd bouts).\n"
    rows = json.loads(manage(tailor, "list", "--json")[1])
    assert [(row["version"], row["in_force"]) for row in rows] == [
        (3, False), (2, False), (1, True),
    ]  # fmt: skip
    status, out, _ = manage(tailor, "show", "activity")
    assert "activity@1, for features of version 9: groom, run, still" in out
    assert "rollback activity@1" in out
    model = BehaviorModels().get("activity", species="mouse")
    table, truth = session(7)
    told = predict(table, model, features_version="9")
    known = (told["behavior"] != "no data").to_numpy()
    assert np.mean(told["behavior"].to_numpy()[known] == truth[known]) > 0.8


def test_a_model_is_evaluated_on_labelled_videos_as_it_scores_them(tailor, tmp_path, sessions):
    train(tailor, "--no-learning-curve")
    status, _, err = tailor("evaluate", "--model", "activity@1")
    assert status == 0, err
    assert "The model was trained with 4 of these 4 videos" in " ".join(err.split())
    results_folders(tmp_path / "results", [8])
    label_folder(tmp_path / "labels", [8])
    on = ["--labels", str(tmp_path / "labels"), "--features", str(tmp_path / "results")]
    report = tmp_path / "report.json"
    status, _, err = tailor("evaluate", "--model", "activity@1", "--out", str(report), on=on)
    assert status == 0, err
    assert "trained with" not in err
    said = json.loads(report.read_text())
    assert said["videos"] == ["video8"]
    assert said["frames"]["macro_f1"] > 0.75
    # What it says of a video is what a pipeline would write.
    model = BehaviorModels().get("activity@1", species="mouse")
    table, truth = session(8)
    told = predict(table, model, features_version="9")["behavior"].to_numpy()
    known = told != "no data"
    assert np.trace(said["confusion_matrix"]) == np.sum(told[known] == truth[known])


def test_a_recipe_is_cross_validated_without_making_a_model(tailor):
    status, out, err = tailor("evaluate", "--estimator", "logistic", "--rest", "other")
    assert status == 0, err
    assert "validated by: leave one video out" in out
    assert "No model was trained yet" in manage(tailor, "list")[1]


def test_only_the_behaviours_that_are_named_count(tailor):
    status, out, err = train(
        tailor, "--behaviors", "run", "--rest", "anything else", "--no-learning-curve"
    )
    assert status == 0, err
    assert "| anything else |" in out
    assert "| groom |" not in out


def test_one_labelled_video_is_a_loud_warning(tailor, tmp_path, sessions):
    label_folder(tmp_path / "labels", [2])
    status, out, err = tailor(
        "train", "--name", "one", "--estimator", "logistic",
        on=["--labels", str(tmp_path / "labels"), "--features", str(sessions / "results")],
    )  # fmt: skip
    assert status == 0, err
    assert "THERE IS ONE LABELLED VIDEO." in err
    assert "5 blocks of one video, 2 s left out beside each" in out


def refused(outcome):
    status, out, err = outcome
    assert status == 1
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("tailor: ")]
    return line


def test_what_cannot_be_trained_with_is_refused_in_one_sentence(tailor, tmp_path, sessions):
    def with_folders(labels=sessions / "labels", features=sessions / "results"):
        return ["--labels", str(labels), "--features", str(features)]

    def refusal(on=None, name="x", more=()):
        words = ["train", "--name", name, "--estimator", "logistic", *more]
        return refused(tailor(*words, on=on or with_folders()))

    assert "is not there: make it" in refusal(with_folders(labels=tmp_path / "no"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no label file" in refusal(with_folders(labels=empty))
    assert "folder of features" in refusal(with_folders(features=tmp_path / "no"))
    assert "None of the 4 labelled videos has features" in refusal(with_folders(features=empty))
    assert "is no name of a behaviour model" in refusal(name="../x")
    assert "the shipped rules" in refusal(name="rules", more=["--no-learning-curve"])
    assert "lack colour" in refusal(more=["--columns", "colour"])
    assert "names a feature twice" in refusal(more=["--columns", "solidity,solidity"])
    assert "is no seed" in refusal(more=["--seed", "-1"])
    assert "labels none of the 600 frames as Run" in refusal(more=["--behaviors", "Run"])
    assert "name 1 behaviour (run)" in refusal(more=["--behaviors", "run"])
    odd = tmp_path / "odd"
    results_folders(odd, [0])
    results_folders(odd, [1], features_version="8")
    assert "features of the versions 8, 9" in refusal(with_folders(features=odd))
    (odd / "video0" / "video0_prediction.csv").unlink()
    assert "keep the results folder together" in refusal(with_folders(features=odd))
    twice = tmp_path / "twice"
    results_folders(twice / "a", [0])
    results_folders(twice / "b", [0])
    assert "videos of one name" in refusal(with_folders(features=twice))
    assert "There is no behaviour model 'y'" in refused(tailor("evaluate", "--model", "y"))
    assert "no version 5" in refused(manage(tailor, "promote", "y", "5"))


def test_a_damaged_features_file_is_named(tailor, tmp_path, sessions):
    results_folders(tmp_path / "results", SEEDS)
    path = tmp_path / "results" / "video1" / "video1_features.csv"
    path.write_text(path.read_text().replace("0.9,tracked", "broken,tracked", 1))
    on = ["--labels", str(sessions / "labels"), "--features", str(tmp_path / "results")]
    line = refused(tailor("train", "--name", "x", on=on))
    assert "video1_features.csv is no table of features" in line


def test_label_files_of_other_videos_are_left_out_and_named(tailor, tmp_path, sessions):
    label_folder(tmp_path / "labels", [0, 1, 2, 9])
    on = ["--labels", str(tmp_path / "labels"), "--features", str(sessions / "results")]
    status, _, err = tailor(
        "train", "--name", "x", "--estimator", "logistic", "--no-learning-curve", on=on
    )
    assert status == 0
    assert "1 label file(s) belong to no video with features" in " ".join(err.split())


def test_a_recording_that_is_there_under_two_names_is_trained_with_once(tailor, tmp_path, sessions):
    results, labels = tmp_path / "results", tmp_path / "labels"
    shutil.copytree(sessions / "results", results)
    shutil.copytree(sessions / "labels", labels)
    (given,) = labels.glob("video1.*")
    shutil.copy(given, labels / f"video1 again{given.suffix}")
    (results / "video1 again").mkdir()
    for path in (results / "video1").iterdir():
        shutil.copy(path, results / "video1 again" / path.name.replace("video1", "video1 again"))
    for name, md5 in (("video0", "a"), ("video1", "b"), ("video1 again", "b")):
        manifest = results / name / "manifest.json"
        said = json.loads(manifest.read_text()) if manifest.exists() else {}
        manifest.write_text(json.dumps({**said, "video": {"md5": md5}}))
    on = ["--labels", str(labels), "--features", str(results)]
    status, out, err = tailor(
        "train", "--name", "x", "--estimator", "logistic", "--no-learning-curve", on=on
    )
    assert status == 0
    said = " ".join((out + err).split())
    assert "video1 again is the same recording as video1, and its labels were left out" in said
    training = BehaviorModels().registry().load("x", 1).description.training
    assert training["videos"] == ["video0", "video1", "video2", "video3"]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_one_thread_or_many_make_the_same_model_and_the_same_answers(kind, tmp_path):
    table, truth = session(0)
    columns = ("speed_cm_s", "turning_rad_s", "mask_motion", "solidity")
    matrix = table.select(columns).to_numpy()
    made = []
    for threads in (1, 4):
        estimator = make_estimator(kind, 3)
        smaller = {"max_iter": 30, "n_estimators": 30}
        estimator.set_params(**{k: v for k, v in smaller.items() if k in estimator.get_params()})
        with threadpool_limits(threads), parallel_config(n_jobs=threads):
            fit_estimator(estimator, matrix, truth)
            write_estimator(estimator, tmp_path / "model.skops")
            told = predict_probabilities(estimator, matrix)
        made.append(((tmp_path / "model.skops").read_bytes(), told.tobytes()))
    assert made[0] == made[1]


def test_another_process_makes_the_same_model_and_the_same_report(tailor, tmp_path, sessions):
    words = ["--smoothing", "forward_backward", "--no-learning-curve"]
    assert train(tailor, *words)[0] == 0
    code = "import sys; from tailor_assets.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [
            sys.executable, "-c", code, "train", "--name", "activity", "--estimator", "logistic",
            *words, "--labels", str(sessions / "labels"), "--features", str(sessions / "results"),
        ],
        cwd=Path(__file__).resolve().parents[1],
        env={
            "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TAILOR_HOME": str(tmp_path / "other"),
            "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "POLARS_MAX_THREADS": "3",
            "PYTHONHASHSEED": "5",
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("model.skops", "evaluation.json"):
        ours, theirs = (
            (tmp_path / home / "behavior_models" / "activity" / "1" / name).read_bytes()
            for home in ("home", "other")
        )
        assert ours == theirs, name


def test_features_read_from_csv_train_as_those_of_the_store_do(sessions, tmp_path):
    """What is written with all digits and read back is what it was."""
    from tailor_assets.compute.behavior.training.sources import ResultsFolders

    table, _ = session(0)
    source = ResultsFolders(sessions / "results")
    read = source.read("video0", ["timestamp_s", "speed_cm_s", "in_nest", "source_frame"])
    assert read["speed_cm_s"].equals(table["speed_cm_s"])
    assert read["in_nest"].to_list() == table["in_nest"].cast(pl.Float64).to_list()
    assert source.version("video0") == "9"
    assert source.version("video99") is None
    assert source.schema("video0")["mask_state"] == pl.String
