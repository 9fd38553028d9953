"""Any model, rules or trained, gives the same table of predictions or one plain refusal."""

import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from tailor_assets.compute.behavior.behavior_model import predict
from tailor_assets.compute.behavior.behavior_rules import RuleSet
from tailor_assets.compute.behavior.bouts import BoutCleanUp
from tailor_assets.compute.behavior.sklearn_model import ModelDescription, SklearnModel
from tailor_assets.compute.behavior.training.calibration import Calibration
from tailor_assets.compute.behavior.training.choices import ESTIMATORS
from tailor_assets.compute.behavior.training.estimators import (
    fit_estimator,
    make_estimator,
)
from tailor_assets.compute.behavior.training.model_description import libraries_here
from tailor_assets.compute.behavior.training.smoothing import Smoothing
from tailor_assets.compute.errors import PermanentProblem

COLUMNS = ("speed_cm_s", "solidity")


def features(rows=240, *, lost=(), seed=0):
    """Two features of an animal that grooms (slow, solid) and rears (fast, not solid)."""
    rng = np.random.default_rng(seed)
    rearing = (np.arange(rows) // 30) % 2 == 1
    missing = np.isin(np.arange(rows), lost)

    def column(values):
        return pl.Series(np.where(missing, np.nan, values)).fill_nan(None)

    table = pl.DataFrame(
        {
            "frame": np.arange(rows),
            "source_frame": np.arange(rows) * 3,
            "timestamp_s": np.arange(rows) / 10,
            "speed_cm_s": column(rng.normal(1 + 3 * rearing, 0.3)),
            "solidity": column(rng.normal(0.9 - 0.2 * rearing, 0.02)),
            "mask_quality": np.where(missing, 0.0, 0.9),
            "mask_state": np.where(missing, "lost", "tracked"),
        }
    )
    return table, np.where(rearing, "rearing", "grooming")


def description(**changes):
    return ModelDescription(
        **{
            "name": "groom-rear",
            "version": 3,
            "features_version": "7",
            "feature_columns": COLUMNS,
            "labels": ("rearing", "grooming"),
            "sha256": "0" * 64,
            "libraries": libraries_here(),
            **changes,
        }
    )


def trained(estimator=None):
    table, truth = features()
    matrix = table.select(COLUMNS).to_numpy().copy()
    matrix[::17, 1] = np.nan
    estimator = estimator or HistGradientBoostingClassifier(max_iter=20, random_state=0)
    return estimator.fit(matrix, truth)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "3"
    folder.mkdir()
    SklearnModel(description(), trained()).save(folder)
    return folder


def rewrite_description(folder, **changes):
    beside = folder / "model.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **changes}))


@pytest.fixture
def own_path(tmp_path, model_path):
    return shutil.copytree(model_path, tmp_path / "3")


def put_file(folder, content):
    """A file that its description belongs to, whatever is in it."""
    (folder / "model.skops").write_bytes(content)
    rewrite_description(folder, sha256=hashlib.sha256(content).hexdigest())


def test_a_trained_model_is_loaded_and_predicts_rows_it_has_not_seen(model_path):
    model = SklearnModel.load(model_path)
    table, truth = features(seed=1, lost=[5, 6, 200])
    predictions = predict(table, model, features_version="7")
    assert predictions.columns == [
        "frame",
        "source_frame",
        "timestamp_s",
        "behavior",
        "behavior_raw",
        "probability_rearing",
        "probability_grooming",
        "mask_quality",
        "mask_state",
        "model_name",
        "model_version",
        "model_hash",
        "features_version",
    ]
    lost = np.isin(np.arange(table.height), [5, 6, 200])
    labels = predictions["behavior"].to_numpy()
    assert set(labels[lost]) == {"no data"}
    assert np.mean(labels[~lost] == truth[~lost]) > 0.98
    probabilities = predictions.select("probability_rearing", "probability_grooming")
    assert probabilities.sum_horizontal(ignore_nulls=False).is_null().to_numpy().tolist() == (
        lost.tolist()
    )
    assert probabilities.drop_nulls().sum_horizontal().to_numpy() == pytest.approx(1.0)
    # The description's order of labels is not the estimator's, which is alphabetical.
    top = np.where(predictions["probability_rearing"].fill_null(0) > 0.5, "rearing", "grooming")
    assert np.array_equal(top[~lost], labels[~lost])


def test_predictions_carry_the_identity_of_the_model_that_made_them(model_path):
    predictions = predict(features()[0], SklearnModel.load(model_path), features_version="7")
    row = predictions.row(0, named=True)
    assert row["model_name"] == "groom-rear"
    assert row["model_version"] == "3"
    assert row["model_hash"] == SklearnModel.load(model_path).hash
    assert row["features_version"] == "7"
    rules = RuleSet()
    tracks = features()[0].with_columns(
        centroid_x=pl.col("timestamp_s"), centroid_y=0.0, axis_major_length=80.0
    )
    row = predict(tracks, rules, features_version="7").row(0, named=True)
    assert (row["model_name"], row["model_version"], row["model_hash"]) == (
        "rules", rules.version, rules.hash,
    )  # fmt: skip


def test_a_model_that_takes_missing_cells_gets_them_and_another_says_no_data(model_path):
    table, _ = features()
    table = table.with_columns(
        pl.when(pl.col("frame") == 10).then(None).otherwise(pl.col("solidity")).alias("solidity")
    )
    takes = predict(table, SklearnModel.load(model_path), features_version="7")
    assert takes["behavior"][10] == "grooming"
    complete = features()[0]
    linear = LogisticRegression().fit(complete.select(COLUMNS).to_numpy(), features()[1])
    gives_up = predict(table, SklearnModel(description(), linear), features_version="7")
    assert gives_up["behavior"][10] == "no data"
    assert gives_up["behavior"][11] == "grooming"
    forest = RandomForestClassifier(10, random_state=0).fit(
        complete.select(COLUMNS).to_numpy(), features()[1]
    )
    assert predict(table, SklearnModel(description(), forest), features_version="7")["behavior"][
        10
    ] in ("grooming", "rearing")


def test_features_of_another_version_are_refused(model_path):
    with pytest.raises(PermanentProblem, match=r"made for features of version 7 .* version 8"):
        predict(features()[0], SklearnModel.load(model_path), features_version="8")


def test_missing_feature_columns_are_named(model_path):
    with pytest.raises(PermanentProblem, match="lack solidity, which the behaviour model groom"):
        predict(features()[0].drop("solidity"), SklearnModel.load(model_path), features_version="7")


def test_features_of_before_mask_states_are_to_be_made_again():
    tracks = features()[0].with_columns(
        centroid_x=pl.col("timestamp_s"), centroid_y=0.0, axis_major_length=80.0
    )
    with pytest.raises(PermanentProblem, match=r"lack mask_state.*make the features again"):
        predict(tracks.drop("mask_state"), RuleSet(), features_version="1")


def test_a_model_that_asks_for_words_is_refused_by_its_name():
    columns = ("speed_cm_s", "mask_state")
    model = SklearnModel(description(feature_columns=columns), trained())
    with pytest.raises(PermanentProblem, match=r"groom-rear 3 asks for mask_state.*words"):
        predict(features()[0], model, features_version="7")


def test_predictions_carry_the_quality_and_the_state_of_the_mask(model_path):
    table, _ = features(lost=[3])
    table = table.with_columns(
        mask_state=pl.when(pl.col("frame") == 5)
        .then(pl.lit("swapped"))
        .otherwise(pl.col("mask_state"))
    )
    predictions = predict(table, SklearnModel.load(model_path), features_version="7")
    assert predictions.select("mask_quality", "mask_state").equals(
        table.select("mask_quality", "mask_state")
    )
    assert predictions["behavior"][3] == "no data"
    assert predictions["behavior"][5] != "no data", "a swapped mask is measured, and marked"


def test_a_file_that_is_not_the_described_one_is_not_loaded(own_path):
    path = own_path / "model.skops"
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(PermanentProblem, match="sha256 differs"):
        SklearnModel.load(own_path)


def skops_bytes(value):
    import skops.io

    return skops.io.dumps(value)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_kind_of_estimator_is_stored_and_answers_the_same(kind, tmp_path):
    table, truth = features()
    matrix = table.select(COLUMNS).to_numpy().copy()
    matrix[::17, 1] = np.nan
    fitted = SklearnModel(description(), fit_estimator(make_estimator(kind, 1), matrix, truth))
    fitted.save(tmp_path)
    loaded = SklearnModel.load(tmp_path)
    assert np.array_equal(loaded.predict_proba(table), fitted.predict_proba(table))
    assert loaded.hash == fitted.save(tmp_path).hash


def test_a_file_that_holds_anything_but_a_classifier_of_ours_is_never_built(own_path):
    """Also what skops would let in: another of scikit-learn's, a generator, a function."""
    table, truth = features()
    strange = KNeighborsClassifier().fit(table.select(COLUMNS).to_numpy(), truth)
    for value, name in (
        (strange, "KNeighborsClassifier"),
        (np.random.RandomState(0), "RandomState"),
        ({"a": np.sqrt}, "FunctionNode"),
    ):
        put_file(own_path, skops_bytes(value))
        with pytest.raises(PermanentProblem, match=f"holds .*{name}.* is not loaded"):
            SklearnModel.load(own_path)
    put_file(own_path, skops_bytes([1, 2]))
    with pytest.raises(
        PermanentProblem, match="no fitted classifier with probabilities but a list"
    ):
        SklearnModel.load(own_path)


def test_a_pickle_in_the_files_place_is_never_opened(own_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file was unpickled",))

    put_file(own_path, pickle.dumps(Trap()))
    with pytest.raises(PermanentProblem, match="cannot be loaded"):
        SklearnModel.load(own_path)


def test_a_pickled_array_inside_the_file_is_never_opened(own_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the array was unpickled",))

    content = io.BytesIO()
    with zipfile.ZipFile(own_path / "model.skops") as there, zipfile.ZipFile(content, "w") as new:
        for name in there.namelist():
            data = there.read(name)
            if name.endswith(".npy"):
                array = io.BytesIO()
                np.save(array, np.array([Trap()], dtype=object), allow_pickle=True)
                data = array.getvalue()
            new.writestr(name, data)
    put_file(own_path, content.getvalue())
    with pytest.raises(PermanentProblem, match="cannot be loaded"):
        SklearnModel.load(own_path)


def test_the_same_estimator_gives_the_same_file_whenever_it_is_written(tmp_path):
    written = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        SklearnModel(description(), trained()).save(folder)
        written.append((folder / "model.skops").read_bytes())
    assert written[0] == written[1]


def test_a_missing_or_damaged_description_is_refused(own_path):
    rewrite_description(own_path, labels=["rearing", "no data"])
    with pytest.raises(PermanentProblem, match="bad labels"):
        SklearnModel.load(own_path)
    rewrite_description(own_path, labels=["rearing", "grooming"], color="red")
    with pytest.raises(PermanentProblem, match="bad color"):
        SklearnModel.load(own_path)
    (own_path / "model.json").write_text("{")
    with pytest.raises(PermanentProblem, match="is not JSON"):
        SklearnModel.load(own_path)
    (own_path / "model.json").unlink()
    with pytest.raises(PermanentProblem, match="has no description"):
        SklearnModel.load(own_path)


def test_a_missing_or_damaged_file_is_refused(own_path):
    put_file(own_path, b"not a model")
    with pytest.raises(PermanentProblem, match="cannot be loaded"):
        SklearnModel.load(own_path)
    (own_path / "model.skops").unlink()
    with pytest.raises(PermanentProblem, match="cannot be read"):
        SklearnModel.load(own_path)


def test_a_model_of_other_libraries_is_refused(own_path):
    here = libraries_here()
    rewrite_description(own_path, libraries={**here, "scikit-learn": "1.2.2"})
    with pytest.raises(PermanentProblem, match=r"trained with scikit-learn 1\.2\.2"):
        SklearnModel.load(own_path)
    rewrite_description(own_path, libraries={**here, "numpy": "1.26.4"})
    with pytest.raises(PermanentProblem, match=r"trained with numpy 1\.26\.4"):
        SklearnModel.load(own_path)
    rewrite_description(own_path, libraries={})
    with pytest.raises(PermanentProblem, match="scikit-learn an unknown version"):
        SklearnModel.load(own_path)
    major = here["numpy"].split(".")[0]
    rewrite_description(own_path, libraries={**here, "numpy": f"{major}.0.1"})
    assert SklearnModel.load(own_path).version == "3"


def test_the_hash_is_of_what_decides_and_of_nothing_else(model_path):
    plain = SklearnModel.load(model_path).description
    renamed = plain.model_copy(update={"name": "other", "version": 9, "training": {"rows": 1}})
    assert renamed.hash == plain.hash
    curves = (((1.0,), (0.5,)), ((1.0,), (0.0,)))
    changed = plain.model_copy(update={"calibration": Calibration(method="sigmoid", curves=curves)})
    assert changed.hash != plain.hash


def test_a_model_calibrates_and_smooths_what_its_estimator_says(model_path):
    table, _ = features(lost=[100])
    loaded = SklearnModel.load(model_path)
    plain = loaded.predict_proba(table)
    curves = (((0.3,), (0.0,)), ((0.3,), (0.0,)))
    modest = SklearnModel(
        description(calibration=Calibration(method="sigmoid", curves=curves)), loaded._estimator
    ).predict_proba(table)
    known = np.isfinite(plain).all(axis=1)
    assert known.tolist() == [row != 100 for row in range(240)]
    assert modest[known].max() < plain[known].max()
    smoothing = Smoothing(
        method="forward_backward", rates_per_s=((-0.01, 0.01), (0.01, -0.01)),
        shares=(0.5, 0.5), prior=(0.5, 0.5),
    )  # fmt: skip
    # A row of rearing in the middle of grooming, alone beside the lost row and then within.
    rearing = (table["frame"] == 101) | (table["frame"] == 80)
    table = table.with_columns(
        pl.when(rearing).then(4.0).otherwise(pl.col("speed_cm_s")).alias("speed_cm_s"),
        pl.when(rearing).then(0.7).otherwise(pl.col("solidity")).alias("solidity"),
    )
    smooth = SklearnModel(description(smoothing=smoothing), loaded._estimator)
    assert loaded.predict_proba(table)[80, 0] > 0.9
    assert smooth.predict_proba(table)[80, 0] < 0.1
    assert np.isnan(smooth.predict_proba(table)[100]).all()


def test_an_estimator_that_is_not_what_its_description_says_is_refused():
    with pytest.raises(PermanentProblem, match="labels grooming, rearing"):
        SklearnModel(description(labels=("digging", "grooming")), trained())
    with pytest.raises(PermanentProblem, match=r"other features \(2\)"):
        SklearnModel(description(feature_columns=("solidity",)), trained())
    with pytest.raises(PermanentProblem, match="no fitted classifier"):
        SklearnModel(description(), KNeighborsClassifier())
    curves = (((), ()),) * 3
    with pytest.raises(PermanentProblem, match="smoothing for 3 labels and 2 labels"):
        SklearnModel(
            description(calibration=Calibration(method="isotonic", curves=curves)), trained()
        )


def test_columns_in_another_order_than_trained_are_refused():
    pandas = pytest.importorskip("pandas")
    table, truth = features()
    named = HistGradientBoostingClassifier(max_iter=5).fit(
        pandas.DataFrame(table.select(COLUMNS).to_dict(as_series=False)), truth
    )
    SklearnModel(description(), named)
    with pytest.raises(PermanentProblem, match="another order"):
        SklearnModel(description(feature_columns=COLUMNS[::-1]), named)


def test_clean_up_changes_short_bouts_and_the_numbers_still_agree(model_path):
    table, _ = features(lost=[100])
    # One row of rearing in the middle of grooming.
    table = table.with_columns(
        pl.when(pl.col("frame") == 10)
        .then(4.0)
        .otherwise(pl.col("speed_cm_s"))
        .alias("speed_cm_s"),
        pl.when(pl.col("frame") == 10).then(0.7).otherwise(pl.col("solidity")).alias("solidity"),
    )
    model = SklearnModel.load(model_path)
    plain = predict(table, model, features_version="7")
    clean = predict(
        table, model, features_version="7", clean_up=BoutCleanUp(fill_gaps_ms=100, stitch_ms=200)
    )
    assert plain["behavior"][10] == "rearing"
    assert plain["behavior"][100] == "no data"
    assert clean["behavior"][10] == "grooming"
    # What the model said stands beside it.
    assert clean["behavior_raw"].equals(plain["behavior"].rename("behavior_raw"))
    assert plain["behavior_raw"].equals(plain["behavior"].rename("behavior_raw"))
    assert clean["probability_grooming"][10] > clean["probability_rearing"][10]
    assert clean["probability_grooming"][10] < 0.51
    # A filled gap has a label and no numbers: nothing was measured there.
    assert clean["behavior"][100] == clean["behavior"][99]
    assert clean["probability_grooming"][100] is None
    untouched = (plain["behavior"] == clean["behavior"]).to_numpy()
    assert plain.filter(untouched).equals(clean.filter(untouched))


def test_no_rows_give_the_columns_and_no_rows(model_path):
    empty = predict(features()[0].clear(), SklearnModel.load(model_path), features_version="7")
    assert empty.height == 0
    assert empty.schema["behavior"] == pl.String
    assert empty.schema["probability_rearing"] == pl.Float64
