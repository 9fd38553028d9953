"""The asset `behavior_model`: a candidate from label files of partitions, never promoted by itself."""

import dagster as dg
import pytest
from making_labels import label_folder, session

from resources.artifact_store import ArtifactStore
from resources.behavior_models import BehaviorModels
from tailor_assets.behavior_model import StoredFeatures, behavior_model
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.definitions import build_defs
from tailor_assets.features import features

KEYS = [f"lab--video{seed}--0000000{seed}" for seed in range(3)]


@pytest.fixture
def store(tmp_path):
    made = ArtifactStore(root=str(tmp_path / "artifacts"))
    for seed, key in enumerate(KEYS):
        with made.making(key, "features") as draft:
            session(seed)[0].write_parquet(draft.path("features.parquet"))
            draft.commit(version=f"v{seed}", details={"features_version": "9"})
    return made


@pytest.fixture
def labels(tmp_path):
    folder = tmp_path / "home" / "labels"
    label_folder(folder, range(3))
    for path in list(folder.iterdir()):
        seed = int(path.stem.removeprefix("video"))
        path.rename(path.with_name(KEYS[seed] + path.suffix))
    return folder


@pytest.fixture
def train(tmp_path, store, monkeypatch):
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))

    def run(**config):
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [behavior_model, features.to_source_assets()[0]],
                selection=[behavior_model],
                instance=instance,
                resources={"store": store, "behavior_models": BehaviorModels()},
                run_config={
                    "ops": {
                        "behavior_model": {
                            "config": {"name": "activity", "estimator": "logistic", **config}
                        }
                    },
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                raise_on_error=False,
            )
            run = instance.get_run_by_id(result.run_id)
            assert run is not None
            failed = [e for e in result.all_events if e.is_step_failure]
            sentence = failed[0].step_failure_data.user_failure_data.description if failed else ""
            made = result.asset_materializations_for_node("behavior_model")
            return made[0] if made else None, sentence, run.tags

    return run


def test_a_run_makes_a_candidate_with_its_report(train, labels, tmp_path):
    made, sentence, _ = train()
    assert sentence == ""
    report = made.metadata["report"].value
    for words in ("Macro F1 by frame", "Confusion", "| groom |", "leave one video out"):
        assert words in report
    assert made.metadata["model"].value == "activity@1"
    assert made.metadata["in force"].value == "none"
    assert made.metadata["macro F1 by frame"].value > 0.7
    registry = BehaviorModels().registry()
    assert registry.in_force("activity") is None, "a person promotes"
    training = registry.load("activity", 1).description.training
    assert training["videos"] == KEYS
    assert training["recipe"] == {
        "estimator": "logistic", "calibration": "sigmoid", "smoothing": "none", "seed": 0,
    }  # fmt: skip
    registry.promote("activity", 1, who="tester")
    made, _, _ = train(smoothing="viterbi")
    assert made.metadata["in force"].value == "activity@1"
    assert "On the same folds version 1, which is in force" in made.metadata["report"].value


def test_bad_labels_fail_once_with_one_sentence(train, labels):
    (labels / f"{KEYS[0]}.csv").write_text("behavior,start_s,stop_s\nrun,0,5\nstill,4,6\n")
    made, sentence, tags = train()
    assert made is None
    assert "run and still at once at 4 s" in sentence
    assert tags["dagster/max_retries"] == "0"
    assert "labels" in train(labels="/nonexistent")[1]
    assert "is no name" in train(name="../x")[1]


def test_label_files_of_what_is_no_partition_are_left_out(train, labels):
    (labels / "Day 1.csv").write_text("behavior,start_s,stop_s\nrun,0,5\n")
    made, sentence, _ = train()
    assert sentence == ""
    assert (
        "belong to no video with features and were left out: Day 1."
        in made.metadata["report"].value
    )


def test_features_that_a_check_refused_are_not_trained_with(train, labels, store):
    with store.making(KEYS[1], "features") as draft:
        session(1)[0].write_parquet(draft.path("features.parquet"))
        draft.commit(version="bad", details={"features_version": "9"}, problem="infinite.")
    assert "were refused by a check: infinite." in train()[1]


def test_the_store_gives_the_columns_that_are_asked_for(store):
    source = StoredFeatures(store)
    assert source.read(KEYS[0], ["timestamp_s", "solidity"]).columns == ["timestamp_s", "solidity"]
    assert source.version("not-there") is None
    assert source.version("No Key") is None
    assert "mask_state" in source.schema(KEYS[0])
    with pytest.raises(PermanentProblem):
        store.record("No Key", "features")


def test_the_job_trains_and_no_job_of_a_video_does():
    definitions = build_defs()
    job = definitions.resolve_job_def("train_behavior_model")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {
        "behavior_model"
    }
    assert job.partitions_def is None
    for name in ("process_video", "rescore_video", "publish_frames"):
        keys = definitions.resolve_job_def(name).asset_layer.executable_asset_keys
        assert dg.AssetKey("behavior_model") not in keys
