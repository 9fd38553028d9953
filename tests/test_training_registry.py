"""Versions of a model: numbered once, promoted when not worse, gone back to, safe for two at once."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from making_labels import session

from resources.behavior_models import BehaviorModels
from tailor_assets.compute.behavior.behavior_model import predict
from tailor_assets.compute.behavior.behavior_rules import RuleSet
from tailor_assets.compute.behavior.sklearn_model import SklearnModel
from tailor_assets.compute.behavior.training.estimators import fit_estimator, make_estimator
from tailor_assets.compute.behavior.training.model_description import (
    ModelDescription,
    libraries_here,
)
from tailor_assets.compute.behavior.training.registry import ModelRegistry
from tailor_assets.compute.errors import PermanentProblem

COLUMNS = ("speed_cm_s", "mask_motion")
WHO = "tester"


@pytest.fixture(scope="module")
def estimator():
    table, truth = session(0, seconds=20)
    return fit_estimator(make_estimator("logistic", 0), table.select(COLUMNS).to_numpy(), truth)


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(tmp_path / "behavior_models")


@pytest.fixture
def add(registry, estimator):
    def make_one(name="freeze", **evaluation):
        def make(version):
            return SklearnModel(
                ModelDescription(
                    name=name, version=version, features_version="9", feature_columns=COLUMNS,
                    labels=("groom", "run", "still"), sha256="0" * 64, libraries=libraries_here(),
                ),
                estimator,
            )  # fmt: skip

        return registry.add(name, make, evaluation, who=WHO)

    return make_one


def compared(with_version, ours, theirs):
    return {
        "comparison": {
            "with_version": with_version, "macro_f1": ours, "macro_f1_in_force": theirs,
        }
    }  # fmt: skip


def test_versions_count_up_and_a_number_is_never_given_twice(registry, add):
    import shutil

    assert [add(), add()] == [1, 2]
    shutil.rmtree(registry.path("freeze", 2))
    assert add() == 3
    assert registry.versions("freeze") == [1, 3]
    assert registry.names() == ["freeze"]
    assert registry.in_force("freeze") is None
    assert sorted(p.name for p in registry.path("freeze", 3).iterdir()) == [
        "evaluation.json", "model.json", "model.skops",
    ]  # fmt: skip
    assert registry.load("freeze", 3).version == "3"


def test_a_version_that_could_not_be_made_leaves_nothing(registry, add):
    def broken(version):
        raise RuntimeError("full disk")

    add()
    with pytest.raises(RuntimeError, match="full disk"):
        registry.add("freeze", broken, {}, who=WHO)
    assert registry.versions("freeze") == [1]
    assert not list((registry.folder / "freeze").glob(".draft*"))
    assert add() == 2


def test_the_first_version_is_promoted_as_it_is(registry, add):
    add()
    done = registry.promote("freeze", 1, who=WHO)
    assert (done.version, done.before, done.action) == (1, None, "promote")
    assert registry.in_force("freeze") == 1
    with pytest.raises(PermanentProblem, match="in force already"):
        registry.promote("freeze", 1, who=WHO)


def test_a_worse_version_is_promoted_only_with_a_reason(registry, add):
    add()
    registry.promote("freeze", 1, who=WHO)
    add(**compared(1, 0.80, 0.85))
    with pytest.raises(PermanentProblem, match=r"worse than version 1.*0\.800 and 0\.850"):
        registry.promote("freeze", 2, who=WHO)
    assert registry.in_force("freeze") == 1
    registry.promote("freeze", 2, who=WHO, reason="labels of the old one were wrong")
    assert registry.promotions("freeze")[-1].reason == "labels of the old one were wrong"


def test_a_version_that_is_not_worse_on_the_same_folds_is_promoted(registry, add):
    add()
    registry.promote("freeze", 1, who=WHO)
    add(**compared(1, 0.85, 0.85))
    done = registry.promote("freeze", 2, who=WHO)
    assert done.reason == "macro F1 0.850, version 1 0.850 on the same folds"


def test_a_comparison_with_another_version_than_the_one_in_force_counts_for_nothing(registry, add):
    add()
    add(**compared(1, 0.9, 0.8))
    add(**compared(1, 0.9, 0.8))
    registry.promote("freeze", 1, who=WHO)
    registry.promote("freeze", 2, who=WHO)
    with pytest.raises(PermanentProblem, match="never compared with version 2"):
        registry.promote("freeze", 3, who=WHO)
    add(**compared(2, None, None))
    with pytest.raises(PermanentProblem, match="could not be compared"):
        registry.promote("freeze", 4, who=WHO)


def test_going_back_goes_one_version_back_each_time_and_needs_a_reason(registry, add):
    for version in (1, 2, 3):
        add()
        registry.promote("freeze", version, who=WHO, reason="trial")
    with pytest.raises(PermanentProblem, match="Say why"):
        registry.rollback("freeze", who=WHO, reason=" ")
    assert registry.rollback("freeze", who=WHO, reason="odd").version == 2
    assert registry.rollback("freeze", who=WHO, reason="odd").version == 1
    with pytest.raises(PermanentProblem, match="No other version of freeze that was in force"):
        registry.rollback("freeze", who=WHO, reason="odd")
    registry.promote("freeze", 3, who=WHO, reason="again")
    assert registry.rollback("freeze", who=WHO, reason="odd").version == 1
    assert registry.rollback("freeze", who=WHO, reason="that", to=2).version == 2
    with pytest.raises(PermanentProblem, match="9 was ever in force"):
        registry.rollback("freeze", who=WHO, reason="that", to=9)
    lines = (registry.folder / "freeze" / "promotions.jsonl").read_text().splitlines()
    assert [json.loads(line)["version"] for line in lines] == [1, 2, 3, 2, 1, 3, 1, 2]


def test_a_damaged_version_is_not_promoted(registry, add):
    add()
    (registry.path("freeze", 1) / "model.skops").write_bytes(b"x")
    with pytest.raises(PermanentProblem, match="sha256 differs"):
        registry.promote("freeze", 1, who=WHO)


def test_a_version_in_anothers_place_is_refused(registry, add):
    import shutil

    add()
    shutil.copytree(registry.path("freeze", 1), registry.folder / "freeze" / "2")
    with pytest.raises(PermanentProblem, match="says that it is freeze 1"):
        registry.load("freeze", 2)


def test_a_line_that_a_crash_cut_off_counts_as_never_written(registry, add):
    add()
    add()
    registry.promote("freeze", 1, who=WHO)
    path = registry.folder / "freeze" / "promotions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"version": 2, "who": "te')
    assert registry.in_force("freeze") == 1
    registry.promote("freeze", 2, who=WHO, reason="after the crash")
    assert registry.in_force("freeze") == 2
    assert path.read_bytes().startswith(whole), "only ever appended to"


def test_names_stay_in_the_folder(registry):
    for name in ("../x", "a/b", "", ".hidden", "x" * 65):
        with pytest.raises(PermanentProblem, match="is no name of a behaviour model"):
            registry.versions(name)


def test_two_at_once_get_two_numbers_and_both_promotions_are_kept(registry, add):
    with ThreadPoolExecutor(4) as pool:
        numbers = sorted(pool.map(lambda _: add(), range(4)))
    assert numbers == [1, 2, 3, 4]
    code = (
        "import sys; from pathlib import Path;"
        "from tailor_assets.compute.behavior.training.registry import ModelRegistry;"
        "r = ModelRegistry(Path(sys.argv[1]));"
        "[r.promote('freeze', v, who='w', reason='r') for v in map(int, sys.argv[2:])]"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(registry.folder), *versions],
            cwd=Path(__file__).resolve().parents[1],
        )
        for versions in (("1", "2"), ("3", "4"))
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    promotions = registry.promotions("freeze")
    assert sorted(line.version for line in promotions) == [1, 2, 3, 4]
    # Each says what was in force before it, so none was written over another.
    assert [line.before for line in promotions] == [
        None, *(line.version for line in promotions[:-1]),
    ]  # fmt: skip


# ------------------------------------------------------------------------------- by its name


def test_a_name_means_the_version_in_force_and_a_number_that_version(tmp_path, registry, add):
    models = BehaviorModels(home=str(tmp_path))
    assert isinstance(models.get(None, species="mouse"), RuleSet)
    assert isinstance(models.get("rules", species="rat"), RuleSet)
    with pytest.raises(
        PermanentProblem, match=r"no behaviour model 'freeze': choose one of rules,"
    ):
        models.get("freeze", species="mouse")
    add()
    add()
    with pytest.raises(
        PermanentProblem, match=r"No version .* is in force: promote one .*freeze@2"
    ):
        models.get("freeze", species="mouse")
    assert models.get("freeze@2", species="mouse").version == "2"
    registry.promote("freeze", 1, who=WHO)
    assert models.get("freeze", species="mouse").version == "1"
    for name in ("freeze@9", "../freeze", "freeze@"):
        with pytest.raises(PermanentProblem):
            models.get(name, species="mouse")


def test_features_of_another_version_are_refused_by_name(tmp_path, add):
    add()
    model = BehaviorModels(home=str(tmp_path)).get("freeze@1", species="mouse")
    table, _ = session(1, seconds=5)
    assert predict(table, model, features_version="9")["model_version"][0] == "1"
    with pytest.raises(PermanentProblem, match=r"made for features of version 9 .* version 8"):
        predict(table, model, features_version="8")
    with pytest.raises(PermanentProblem, match="lack mask_motion"):
        predict(table.drop("mask_motion"), model, features_version="9")


def test_the_rules_name_is_not_given_to_a_trained_model(add):
    with pytest.raises(PermanentProblem, match="shipped rules"):
        add(name="rules")


def test_the_rules_name_is_refused_before_anything_is_trained(tmp_path, registry, add):
    """``versions`` is what every trainer asks first."""
    with pytest.raises(PermanentProblem, match="shipped rules"):
        registry.versions("rules")
    add()
    (registry.folder / "rules" / "1").mkdir(parents=True)
    assert registry.names() == ["freeze"], "a folder that somebody made hides no model"
    with pytest.raises(PermanentProblem, match="no behaviour model 'rules@1': choose one of rules"):
        BehaviorModels(home=str(tmp_path)).get("rules@1", species="mouse")


def test_a_mistyped_name_leaves_no_folder(registry):
    with pytest.raises(PermanentProblem, match="no version 1 of the behaviour model typo"):
        registry.promote("typo", 1, who=WHO)
    with pytest.raises(PermanentProblem, match="No other version of typo"):
        registry.rollback("typo", who=WHO, reason="odd")
    with pytest.raises(PermanentProblem, match="version of typo that is 2 was ever in force"):
        registry.rollback("typo", who=WHO, reason="odd", to=2)
    assert not (registry.folder / "typo").exists()
