"""The whole loop: look at windows, decide, train again, and see the candidate compared."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from making_labels import label_folder
from reviewed_videos import put_video

from jobs.retraining import retrain as retrain_job
from resources.artifact_store import ArtifactStore
from resources.behavior_models import BehaviorModels
from resources.database import engine_for, migrate
from resources.review_decisions import Wanted, decide, review_decisions_table
from resources.video_registry import VideoRegistry
from tailor_assets.behavior_model import StoredFeatures
from tailor_assets.cli import main
from tailor_assets.commands.behavior_models import show_behavior_model
from tailor_assets.compute.behavior.training.label_files import LabelChoice, read_labels
from tailor_assets.compute.behavior.training.sources import gather
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.feature_table import FEATURES_VERSION
from tailor_assets.compute.review.ranking import ranked_windows
from tailor_assets.retraining import gather_labels, retrain

FAST = {"estimator": "logistic", "calibration": "none"}


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    migrate(postgres_url)
    yield postgres_url
    with engine_for(postgres_url).begin() as connection:
        connection.execute(sa.delete(review_decisions_table))


@pytest.fixture
def home(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path))
    monkeypatch.setenv("TAILOR_POSTGRES_URL", url)
    monkeypatch.delenv("TAILOR_ARTIFACTS", raising=False)
    return tmp_path


@pytest.fixture
def store(home: Path) -> ArtifactStore:
    """Four videos; the last was predicted wrongly for a while."""
    store = ArtifactStore()
    for seed in (0, 1, 2):
        put_video(store, f"video{seed}", seed)
    put_video(store, "video3", 3, wrong_s=(20.0, 35.0))
    return store


def decide_by_truth(url: str, store: ArtifactStore, key: str, truth: np.ndarray) -> dict[str, int]:
    """What a person would who sees the truth: accept what is right, relabel what is one thing."""
    flags = store.read_table(key, "flags")
    counts = {"accept": 0, "relabel": 0, "reject": 0}
    for window in ranked_windows(flags):
        rows = slice(window.first_row, window.stop_row)
        said, true = flags["behavior"].to_list()[rows], truth[rows].tolist()
        if said == true:
            wanted = Wanted(window.number, "accept")
        elif len(set(true)) == 1:
            wanted = Wanted(window.number, "relabel", true[0])
        else:
            wanted = Wanted(window.number, "reject")
        counts[wanted.verdict] += 1
        decide(url, store, key, [wanted], who="anna")
    return {verdict: count for verdict, count in counts.items() if count}


def run(store: ArtifactStore, url: str, home: Path, work: str, settings=FAST, **more):
    return retrain(
        store,
        url,
        BehaviorModels().registry(),
        "ours",
        label_folder=home / "labels",
        work_folder=home / work,
        choice=LabelChoice(),
        settings=settings,
        who="anna",
        learning_curve=False,
        **more,
    )


def with_a_model_of_few_columns(store: ArtifactStore, url: str, home: Path):
    """The registry with ours@1 in force, and the columns that were chosen for it."""
    label_folder(home / "labels", (0, 1, 2))
    registry = BehaviorModels().registry()
    columns = ("speed_cm_s", "mask_motion")
    run(store, url, home, "first", columns=columns)
    registry.promote("ours", 1, who="anna")
    return registry, columns


def test_decisions_become_a_candidate_that_is_compared_and_not_promoted(
    store: ArtifactStore, url: str, home: Path
) -> None:
    label_folder(home / "labels", (0, 1, 2))
    registry = BehaviorModels().registry()
    first = run(store, url, home, "first")
    assert first.labels.verdicts == {}
    registry.promote("ours", first.candidate.version, who="anna")

    _, truth = put_video(store, "video3", 3, wrong_s=(20.0, 35.0))
    counts = decide_by_truth(url, store, "video3", truth)
    second = run(store, url, home, "second")

    assert second.labels.verdicts == counts
    assert counts["accept"] > 3
    assert second.candidate.version == 2
    comparison = second.candidate.evaluation["comparison"]
    assert comparison["with_version"] == 1
    assert comparison["macro_f1"] is not None
    assert comparison["folds_hash"] == second.candidate.evaluation["folds_hash"]
    assert second.candidate.evaluation["videos"] == ["video0", "video1", "video2", "video3"]
    assert registry.in_force("ours") == 1, "nothing is promoted by itself"
    recipe = registry.load("ours", 2).description.training["recipe"]
    assert (recipe["estimator"], recipe["calibration"]) == ("logistic", "none")
    assert (home / "second" / "video3.tsv").is_file(), "what it was trained with is kept"


def test_a_retraining_goes_on_with_the_recipe_of_the_version_in_force(
    store: ArtifactStore, url: str, home: Path
) -> None:
    registry, columns = with_a_model_of_few_columns(store, url, home)
    as_before = {"estimator": None, "calibration": None, "smoothing": None}
    run(store, url, home, "second", settings=as_before)
    first, second = registry.load("ours", 1).description, registry.load("ours", 2).description
    assert second.training["recipe"] == first.training["recipe"]
    assert second.feature_columns == columns


def test_a_retraining_goes_on_with_the_recipe_of_a_model_that_these_libraries_do_not_load(
    store: ArtifactStore, url: str, home: Path
) -> None:
    registry, columns = with_a_model_of_few_columns(store, url, home)
    path = registry.path("ours", 1) / "model.json"
    description = json.loads(path.read_text())
    description["libraries"]["scikit-learn"] = "0.1.0"
    path.write_text(json.dumps(description))
    with pytest.raises(PermanentProblem, match=r"trained with scikit-learn 0\.1\.0"):
        registry.load("ours", 1)

    second = run(store, url, home, "second", settings={})
    made = registry.description("ours", second.candidate.version)
    assert made.training["recipe"] == description["training"]["recipe"]
    assert made.feature_columns == columns
    said = " ".join(second.candidate.evaluation["warnings"])
    assert "Version 1 of ours, which is in force, could not be tested beside it" in said
    shown = "\n".join(show_behavior_model("ours", None))
    assert "ours@1, for features of version" in shown


def test_where_a_label_file_and_a_decision_differ_the_label_file_wins(
    store: ArtifactStore, url: str, home: Path
) -> None:
    flags = store.read_table("video0", "flags")
    window = ranked_windows(flags)[0]
    decide(url, store, "video0", [Wanted(window.number, "relabel", "groom")], who="anna")
    (home / "labels").mkdir()
    first = window.first_row
    pl.DataFrame({"frame": [first], "behavior": ["run"]}).write_csv(home / "labels" / "video0.csv")
    gathered = gather_labels(
        store,
        url,
        StoredFeatures(store),
        home / "labels",
        home / "work",
        LabelChoice(),
        0.0,
    )
    times = flags["timestamp_s"].to_numpy()
    labels = read_labels(gathered.files["video0"], times)
    assert labels[first : window.stop_row] == ["run"] + ["groom"] * (window.stop_row - first - 1)
    assert sum(label is not None for label in labels) == window.stop_row - first


def test_the_rest_of_a_label_file_is_no_label_of_videos_that_only_have_decisions(
    store: ArtifactStore, url: str, home: Path
) -> None:
    label_folder(home / "labels", (0,))
    decide(url, store, "video1", [Wanted(1, "accept")], who="anna")
    choice = LabelChoice(behaviors=("run",), rest="other")
    gathered = gather_labels(
        store, url, StoredFeatures(store), home / "labels", home / "work", choice, 0.0
    )
    times = store.read_table("video0", "flags")["timestamp_s"].to_numpy()
    assert set(read_labels(gathered.files["video0"], times)) == {"run", "other"}
    if "video1" in gathered.files:
        assert set(read_labels(gathered.files["video1"], times)) == {"run", None}


def test_stale_decisions_and_a_broken_video_are_told_of_and_stop_nobody(
    store: ArtifactStore, url: str, home: Path
) -> None:
    for key in ("video0", "video1", "video2"):
        decide(url, store, key, [Wanted(1, "accept"), Wanted(2, "accept")], who="anna")
    put_video(store, "video1", 1, window_s=1.0)
    store.path("video2", "flags.json").unlink()
    # Its masks were corrected, and its features are not made again yet.
    decide(url, store, "video3", [Wanted(1, "accept")], who="anna")
    with store.making("video3", "masks") as draft:
        masks = draft.commit(version="1", run_id="r")
    features = store.read_table("video3", "features")
    with store.making("video3", "features") as draft:
        features.write_parquet(draft.path("features.parquet"))
        details = {"features_version": FEATURES_VERSION}
        draft.commit(version="1", made_from={"masks": masks}, details=details, run_id="r")
    with store.making("video3", "masks") as draft:
        draft.commit(version="2", run_id="r")
    gathered = gather_labels(
        store, url, StoredFeatures(store), home / "labels", home / "work", LabelChoice(), 0.0
    )
    assert list(gathered.files) == ["video0"]
    assert gathered.verdicts == {"accept": 2}
    said = " ".join(gathered.warnings)
    assert "2 decision(s) are on flags that have been made again" in said
    assert "The decisions on video2 are not used: The flags of video2 are not there" in said
    assert "video3 is left out: The features of video3 were made from an earlier 'masks'" in said


def test_without_a_label_there_is_one_sentence(store: ArtifactStore, url: str, home: Path) -> None:
    with pytest.raises(PermanentProblem, match="nothing to train with"):
        run(store, url, home, "work")
    decide(url, store, "video0", [Wanted(1, "reject")], who="anna")
    with pytest.raises(PermanentProblem, match="No decision gives a label"):
        run(store, url, home, "work")


def test_the_job_retrain_reports_the_candidate_and_a_bad_name_fails_once(
    store: ArtifactStore, url: str, home: Path
) -> None:
    label_folder(home / "labels", (0, 1, 2))
    resources = {
        "registry": VideoRegistry(url=url),
        "store": store,
        "behavior_models": BehaviorModels(),
    }
    with dg.DagsterInstance.ephemeral() as instance:

        def launch(**config):
            return retrain_job.execute_in_process(
                run_config={"ops": {"retrain_op": {"config": config}}},
                resources=resources,
                instance=instance,
                raise_on_error=False,
            )

        done = launch(name="ours", estimator="logistic", calibration="none")
        assert done.success
        (made,) = [event for event in done.all_events if event.is_step_materialization]
        metadata = made.step_materialization_data.materialization.metadata
        assert metadata["model"].value == "ours@1"
        assert metadata["in force"].value == "none"
        assert "Macro F1 by frame" in metadata["report"].value

        bad = launch(name="../x")
        assert not bad.success
        run = instance.get_run_by_id(bad.run_id)
        assert run is not None
        assert run.tags["dagster/max_retries"] == "0"


# ---------------------------------------------------------------- a container whose times are wrong


def with_a_wrong_container(store: ArtifactStore, key: str, seed: int) -> np.ndarray:
    """A video whose container plays at 12 frames per second, and a little unevenly, what was filmed
    at 30; when it shows each row of the features."""
    put_video(store, key, seed)
    sources = store.read_table(key, "features")["source_frame"].to_numpy()
    shown_s = np.arange(sources[-1] + 3) / 12 + 0.01 * (np.arange(sources[-1] + 3) % 2)
    with store.making(key, "video") as draft:
        pl.DataFrame(
            {"source_frame": np.arange(shown_s.size), "timestamp_s": shown_s}
        ).write_parquet(draft.path("video_timestamps.parquet"))
        draft.commit(version="1", details={"fps": 12.0, "file_name": "day.avi"})
    with store.making(key, "frames") as draft:
        draft.commit(version="1", details={"fps_override": 30.0, "video_fps": 30.0})
    return shown_s[sources]


def gathered_labels(store: ArtifactStore, url: str, home: Path, key: str) -> list[str | None]:
    gathered = gather_labels(
        store, url, StoredFeatures(store), home / "labels", home / "work", LabelChoice(), 0.0
    )
    return read_labels(
        gathered.files[key], store.read_table(key, "features")["timestamp_s"].to_numpy()
    )


def test_boris_and_tailor_speak_of_the_same_frames_where_the_containers_times_are_wrong(
    store: ArtifactStore, url: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown_s = with_a_wrong_container(store, "video4", 4)
    file = home / "events.tsv"
    assert said(capsys, "review", "export", "video4", "--out", str(file), "--whole")[0] == 0
    events = pl.read_csv(file, separator="\t", infer_schema_length=None)
    assert set(events["FPS"]) == {12.0}
    starts = events.filter(pl.col("Behavior type") == "START")
    np.testing.assert_allclose(starts["Time"], shown_s[starts["Image index"].to_numpy() // 3])
    assert events["Observation duration"][0] == pytest.approx(60 * 30 / 12, abs=0.5)

    predicted = store.read_table("video4", "flags")["behavior"].to_list()
    status, out, _ = said(capsys, "review", "import", "video4", str(file))
    assert status == 0
    assert {line.rpartition(": ")[2] for line in out.splitlines()[:-1]} == {"accept."}

    # A person puts it among the label files, or tailor does.
    (home / "labels").mkdir()
    (home / "labels" / "video4.tsv").write_text(file.read_text())
    assert gathered_labels(store, url, home, "video4") == predicted
    # So does what trains with label files alone.
    label_file = {"video4": home / "labels" / "video4.tsv"}
    together, _ = gather(
        StoredFeatures(store), label_file, choice=LabelChoice(), columns=["speed_cm_s"]
    )
    found = store.read_table("video4", "features")["mask_quality"].to_numpy() > 0
    labelled = np.array(predicted, dtype=object)[found]
    data = together.data
    assert [data.labels[code] for code in data.codes] == labelled.tolist()
    (home / "labels" / "video4.tsv").unlink()
    assert said(capsys, "review", "import", "video4", str(file), "--as-labels")[0] == 0
    kept = home / "labels" / "video4.tsv"
    features = store.read_table("video4", "features")
    arguments = {"source_frames": features["source_frame"].to_numpy()}
    times = features["timestamp_s"].to_numpy()
    assert read_labels(kept, times, **arguments) == predicted, "without knowing the container"
    assert gathered_labels(store, url, home, "video4") == predicted


def test_label_files_in_tailors_own_time_stay_so_where_the_containers_times_are_wrong(
    store: ArtifactStore, url: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_wrong_container(store, "video4", 4)
    bouts = home / "bouts.csv"
    bouts.write_text("behavior,start_s,stop_s\nrun,10,12\n")
    assert said(capsys, "review", "import", "video4", str(bouts), "--as-labels")[0] == 0
    assert (home / "labels" / "video4.csv").read_text() == bouts.read_text()
    expected = [None] * 100 + ["run"] * 20 + [None] * 480
    assert gathered_labels(store, url, home, "video4") == expected


def test_without_the_containers_times_nothing_is_taken_from_boris(
    store: ArtifactStore, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_wrong_container(store, "video4", 4)
    store.path("video4", "video.json").unlink()
    status, _, err = said(capsys, "review", "export", "video4", "--out", str(home / "events.tsv"))
    assert (status, "The video video4 has an fps_override" in err) == (1, True)
    assert not (home / "events.tsv").exists()


# ------------------------------------------------------------------------------- command line


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def test_people_review_at_the_command_line(
    store: ArtifactStore, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = said(capsys, "review", "list", "video0", "video3", "--top", "5", "--json")
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 5
    assert [row["priority"] for row in rows] == sorted(
        (row["priority"] for row in rows), reverse=True
    )
    video, window = rows[0]["video"], str(rows[0]["window"])

    status, out, _ = said(
        capsys,
        "review",
        "decide",
        video,
        window,
        "relabel",
        "--label",
        "groom",
        "--confidence",
        "0.9",
    )
    assert (status, "relabel groom" in out) == (0, True)
    _, out, _ = said(capsys, "review", "list", video, "--top", "0", "--json")
    assert window not in {str(json.loads(line)["window"]) for line in out.splitlines()}
    _, out, _ = said(capsys, "review", "list", video, "--top", "0", "--all")
    assert "relabel groom" in out

    status, _, err = said(capsys, "review", "decide", video, "999", "accept")
    assert (status, "has no review window 999" in err) == (1, True)
    status, _, err = said(capsys, "review", "list")
    assert (status, "Say of which videos" in err) == (1, True)

    file = tmp_path / "events.tsv"
    status, out, _ = said(capsys, "review", "export", video, "--out", str(file), "--top", "2")
    assert (status, "event(s)" in out) == (0, True)
    other = "video3" if video == "video0" else "video0"
    status, out, _ = said(capsys, "review", "import", video, str(file))
    assert status == 0
    assert "window(s) of" in out
    file.write_text(file.read_text().replace("\tgroom\t", "\tyawn\t"))
    if "\tyawn\t" in file.read_text():
        status, _, err = said(capsys, "review", "import", video, str(file))
        assert (status, "'yawn'" in err) == (1, True)

    status, out, _ = said(
        capsys, "review", "export", other, "--out", str(tmp_path / "whole.tsv"), "--whole"
    )
    assert status == 0
    status, out, _ = said(
        capsys, "review", "import", other, str(tmp_path / "whole.tsv"), "--as-labels"
    )
    assert status == 0
    assert (home / "labels" / f"{other}.tsv").is_file()
    status, _, err = said(
        capsys, "review", "import", other, str(tmp_path / "whole.tsv"), "--as-labels"
    )
    assert (status, "has a label file of this video already" in err) == (1, True)


def test_one_video_whose_flags_are_refused_hides_no_other_of_its_tenant(
    store: ArtifactStore,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(VideoRegistry, "partitions_of", lambda _, tenant: ["video0", "video3"])
    with store.making("video0", "features") as draft:
        store.read_table("video0", "features").write_parquet(draft.path("features.parquet"))
        draft.commit(version="another")
    status, out, err = said(capsys, "review", "list", "--tenant", "lab", "--json")
    assert status == 0
    assert {json.loads(line)["video"] for line in out.splitlines()} == {"video3"}
    assert "The flags of video0 were made from an earlier 'features'" in err
    status, out, err = said(capsys, "review", "list", "video0", "--tenant", "lab", "--json")
    assert (status, out) == (1, ""), "who asks for it by name is told that it cannot be had"
    assert "The flags of video0" in err


def test_retrain_at_the_command_line_trains_and_says_how_to_go_on(
    store: ArtifactStore, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label_folder(home / "labels", (0, 1, 2))
    status, out, _ = said(
        capsys, "retrain", "ours", "--estimator", "logistic", "--calibration", "none",
        "--no-learning-curve",
    )  # fmt: skip
    assert status == 0
    assert "tailor behavior-models promote ours 1" in out
    status, _, err = said(capsys, "retrain", "../x")
    assert (status, "is no name of a behaviour model" in err) == (1, True)
