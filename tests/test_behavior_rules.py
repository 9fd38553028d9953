"""The transparent rules: what they call moving, still, freezing and in nest, and how sure."""

import json

import numpy as np
import polars as pl
import pytest

from benchmarks.freezing_rules import freezing_f1, outline_features
from tailor_assets.compute.behavior.behavior_model import columns_to_read, predict
from tailor_assets.compute.behavior.behavior_rules import LABELS, RuleSet
from tailor_assets.compute.behavior.behavior_thresholds import SET_BY_USER, RuleThresholds
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.feature_table import FEATURES_VERSION, feature_table
from tailor_assets.compute.features.nest_features import nest_share
from tailor_assets.compute.keypoints.point_model import f1_score
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter

PX_PER_CM = 10.0


def regular(fps, seconds):
    return np.arange(round(fps * seconds)) / fps


def irregular(seconds):
    """A variable frame rate as a camera gives it: steps of 33 to 133 ms."""
    steps = np.random.default_rng(3).choice([0.033, 0.067, 0.1, 0.133], size=int(seconds * 30))
    timestamps_s = np.concatenate([[0.0], np.cumsum(steps)])
    return timestamps_s[timestamps_s < seconds]


def track(timestamps_s, speed_cm_s, *, jitter_px=0.0, **columns):
    """A table of features of an animal that goes right with speed_cm_s(t)."""
    fine = np.arange(0, timestamps_s[-1] + 0.01, 0.001)
    way = np.concatenate([[0.0], np.cumsum([speed_cm_s(t) * 0.001 * PX_PER_CM for t in fine[:-1]])])
    noise = np.random.default_rng(0).normal(scale=jitter_px, size=(2, timestamps_s.size))
    rows = timestamps_s.size
    table = {
        "frame": np.arange(rows),
        "source_frame": np.arange(rows),
        "timestamp_s": timestamps_s,
        "centroid_x": 50 + np.interp(timestamps_s, fine, way) + noise[0],
        "centroid_y": np.full(rows, 80.0) + noise[1],
        "axis_major_length": np.full(rows, 8.0 * PX_PER_CM),
        "mask_quality": np.ones(rows),
        "mask_state": ["tracked"] * rows,
    }
    return pl.DataFrame({**table, **{name: pl.Series(v) for name, v in columns.items()}})


def behavior(features, model=None, **options):
    return predict(features, model or RuleSet(), features_version="test", **options)[
        "behavior"
    ].to_numpy()


def walk_pause_walk_freeze(t):
    """Walks at 10 cm/s; pauses from 3 to 3.5 s; freezes from 6 to 9 s."""
    return 0.0 if 3 <= t < 3.5 or 6 <= t < 9 else 10.0


@pytest.mark.parametrize(
    "timestamps_s",
    [regular(3, 12), regular(10, 12), regular(50, 12), irregular(12)],
    ids=["3 fps", "10 fps", "50 fps", "variable"],
)
def test_walking_and_freezing_are_told_apart_at_any_rate_of_sampling(timestamps_s):
    labels = behavior(track(timestamps_s, walk_pause_walk_freeze))
    inside = (timestamps_s > 6.34) & (timestamps_s < 8.66)
    walking = (timestamps_s < 2.6) | ((timestamps_s > 3.9) & (timestamps_s < 5.6))
    assert set(labels[inside]) == {"freezing"}
    assert set(labels[walking | (timestamps_s > 9.4)]) == {"moving"}
    assert "freezing" not in labels[timestamps_s < 5.6]


@pytest.mark.parametrize("fps", [10, 25, 50])
def test_immobility_freezes_only_from_its_minimum_duration_on(fps):
    timestamps_s = regular(fps, 6)
    short = behavior(track(timestamps_s, lambda t: 0.0 if 2 <= t < 2.6 else 10.0))
    long = behavior(track(timestamps_s, lambda t: 0.0 if 2 <= t < 3.4 else 10.0))
    assert set(short) == {"moving", "still"}
    assert set(long) >= {"moving", "freezing"}


def test_slow_shuffling_is_still_and_moving_ends_below_the_stop_velocity():
    timestamps_s = regular(10, 30)
    speeds = [(0, 1.0), (5, 1.9), (10, 3.0), (15, 1.9), (20, 1.6), (25, 1.9)]
    labels = behavior(track(timestamps_s, lambda t: [v for start, v in speeds if t >= start][-1]))
    at = {second: labels[10 * second + 25] for second in range(0, 30, 5)}
    # 1.9 cm/s is below the start velocity of 2.0 and above the stop velocity of 1.75.
    assert at == {0: "still", 5: "still", 10: "moving", 15: "moving", 20: "still", 25: "still"}


def test_grooming_and_turning_on_the_spot_are_not_freezing():
    timestamps_s = regular(10, 20)
    groom = np.where((timestamps_s >= 5) & (timestamps_s < 10), 0.12, 0.01)
    angle = np.where(timestamps_s > 15, np.radians(40 * (timestamps_s - 15)), 0.0)
    labels = behavior(
        track(
            timestamps_s,
            lambda t: 0.0,
            mask_motion=groom,
            orientation_double_sin=np.sin(2 * angle),
            orientation_double_cos=np.cos(2 * angle),
        )
    )
    assert set(labels[55:95]) == {"still"}
    assert set(labels[155:]) == {"still"}
    assert set(labels[5:45]) == set(labels[105:145]) == {"freezing"}


def test_the_jitter_of_an_outline_does_not_hide_freezing():
    timestamps_s = regular(10, 30)
    rng = np.random.default_rng(1)
    features = track(
        timestamps_s,
        lambda t: 0.0 if 10 <= t < 20 else 8.0,
        jitter_px=0.4,
        mask_motion=np.clip(
            np.where((timestamps_s >= 10) & (timestamps_s < 20), 0.05, 0.3)
            + rng.normal(scale=0.005, size=300), 0, 1,
        ),
    )  # fmt: skip
    labels = behavior(features)
    assert np.mean(labels[105:195] == "freezing") > 0.95
    assert np.mean(labels[205:] == "moving") == 1
    calibration = RuleSet().calibration(features)
    assert calibration.mask_jitter == pytest.approx(0.05, abs=0.01)
    assert 0.04 < calibration.immobile_mask_motion < 0.10


def test_rows_without_the_animal_are_no_data_and_end_a_bout():
    timestamps_s = regular(10, 10)
    lost = (timestamps_s >= 5) & (timestamps_s < 5.2)
    features = track(timestamps_s, lambda t: 0.0 if 4.4 <= t < 5.8 else 10.0)
    unbroken = behavior(features)
    features = features.with_columns(
        pl.when(pl.Series(lost)).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("centroid_x", "centroid_y", "axis_major_length", "mask_quality")
    )
    predictions = predict(features, RuleSet(), features_version="test")
    labels = predictions["behavior"].to_numpy()
    assert set(labels[lost]) == {"no data"}
    assert "no data" not in labels[~lost]
    # 1.4 s of immobility is freezing; in two pieces of 0.6 s it is not.
    assert "freezing" in unbroken
    assert "freezing" not in labels
    for column in (c for c in predictions.columns if c.startswith("probability_")):
        assert predictions[column].is_null().to_numpy().tolist() == lost.tolist()


def test_rest_on_both_sides_of_a_hole_in_the_recording_adds_up_to_no_freezing():
    # Walks, rests for 0.6 s, is not filmed for a while, rests for 0.6 s, and walks.
    seen = regular(20, 2)

    def rests(t):
        return 0.0 if 1.4 <= t < 22.6 else 10.0

    apart = behavior(track(np.concatenate([seen, 22 + seen]), rests))
    assert "freezing" not in apart
    # The same rows without a hole are of one rest that is long enough.
    together = behavior(track(regular(20, 4), lambda t: 0.0 if 1.4 <= t < 2.6 else 10.0))
    assert (together == "freezing").sum() >= 12


def test_an_animal_that_freezes_before_and_after_a_hole_freezes_twice():
    t = np.concatenate([regular(10, 5), 3600 + regular(10, 5)])
    found = behavior(track(t, lambda s: 0.0))
    assert (found == "freezing").all()


def test_an_empty_chamber_is_no_data_from_end_to_end():
    features = track(regular(10, 5), lambda t: 0.0).with_columns(
        pl.lit(None, pl.Float64).alias(name)
        for name in ("centroid_x", "centroid_y", "axis_major_length")
    ).with_columns(mask_quality=pl.lit(0.0))  # fmt: skip
    assert set(behavior(features)) == {"no data"}
    assert RuleSet().calibration(features) is None


def test_one_frame_says_whether_the_animal_is_in_its_nest_and_no_more():
    one = track(np.array([0.0]), lambda t: 0.0)
    assert behavior(one).tolist() == ["no data"]
    nested = one.with_columns(
        distance_to_nest_px=pl.lit(0.0), nest_overlap=pl.lit(0.9), nest_area=pl.lit(9000.0),
        area=pl.lit(2000.0),
    )  # fmt: skip
    assert behavior(nested).tolist() == ["in nest"]
    assert behavior(one.clear()).tolist() == []


def test_the_nest_comes_before_everything_else():
    timestamps_s = regular(10, 10)
    inside = (timestamps_s >= 3) & (timestamps_s < 7)
    features = track(
        timestamps_s,
        lambda t: 0.0 if t < 5 else 10.0,
        distance_to_nest_px=np.where(inside, 0.0, 90.0),
        nest_overlap=np.where(inside, 0.8, 0.0),
        nest_area=np.full(100, 9000.0),
        area=np.full(100, 2000.0),
    )
    labels = behavior(features)
    assert set(labels[inside]) == {"in nest"}
    assert "in nest" not in labels[~inside]


def test_an_animal_that_hides_the_middle_of_its_nest_is_in_it():
    rows = 40
    distance = np.where(np.arange(rows) >= 20, 15.0, 200.0)
    nest_area = np.where(np.arange(rows) >= 20, 6000.0, 8000.0)  # 2000 px of it out of sight
    share = nest_share(
        distance, np.zeros(rows), nest_area, np.full(rows, 2500.0), np.full(rows, 80.0)
    )
    assert share[:20].tolist() == [0.0] * 20
    assert share[20:] == pytest.approx(0.8)


def draw_ellipse(shape, x, y, half_length, half_width):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((columns - x) / half_length) ** 2 + ((rows - y) / half_width) ** 2 <= 1


@pytest.mark.parametrize("nest_is_whole", [True, False])
def test_masks_become_an_ethogram_whether_or_not_the_masks_may_overlap(tmp_path, nest_is_whole):
    """Real masks through real features: runs, stands motionless, goes to its nest and rests."""
    shape, fps = (120, 320), 10
    where = np.concatenate(
        [np.linspace(40, 160, 20), np.full(30, 160.0), np.linspace(160, 260, 20), np.full(30, 260)]
    )
    nest = draw_ellipse(shape, 260, 60, 45, 40)
    path = tmp_path / "masks.npz"
    with MaskWriter(
        path, objects=["mouse", "nest"], height=shape[0], width=shape[1], segmenter="drawn"
    ) as writer:
        for frame, x in enumerate(where):
            mouse = draw_ellipse(shape, x, 60, 24, 10)
            writer.append(
                source_frame=frame,
                timestamp_s=frame / fps,
                masks={"mouse": mouse, "nest": nest if nest_is_whole else nest & ~mouse},
                scores={"mouse": 1.0, "nest": 1.0},
            )
    with MaskReader(path) as reader:
        features = feature_table(
            reader, feature_set="mouse", subject="mouse", nest="nest", px_per_cm=6.0
        )
    predictions = predict(features, RuleSet(), features_version=FEATURES_VERSION)
    labels = predictions["behavior"].to_numpy()
    assert set(labels[2:18]) == {"moving"}
    assert set(labels[23:47]) == {"freezing"}
    assert set(labels[53:60]) == {"moving"}
    assert set(labels[70:]) == {"in nest"}
    assert RuleSet().calibration(features).px_per_cm == pytest.approx(6.0)


def random_features(rng):
    timestamps_s = np.cumsum(rng.choice([0.033, 0.1, 0.3, 2.0], size=200, p=[0.4, 0.4, 0.15, 0.05]))
    features = track(
        timestamps_s,
        lambda t: 0.0,
        distance_to_nest_px=rng.choice([0.0, 20.0, 200.0], size=200),
        nest_overlap=rng.random(200),
        nest_area=rng.uniform(5000, 9000, 200),
        area=rng.uniform(1500, 2500, 200),
        mask_motion=rng.random(200) * 0.2,
    )
    steps = rng.choice([0.0, 0.3, 1.0, 2.0, 10.0], size=200)
    lost = rng.random(200) < 0.1
    return features.with_columns(
        centroid_x=pl.Series(np.where(lost, np.nan, 50 + np.cumsum(steps))).fill_nan(None)
    )


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_add_up_and_never_rank_the_label_second(seed):
    features = random_features(np.random.default_rng(seed))
    probabilities = RuleSet().predict_proba(features)
    known = np.isfinite(probabilities).all(axis=1)
    assert np.array_equal(known, np.isfinite(probabilities).any(axis=1))
    assert probabilities[known].sum(axis=1) == pytest.approx(1.0)
    assert probabilities[known].min() >= 0
    ranked = np.sort(probabilities[known], axis=1)
    assert np.all(ranked[:, -1] > ranked[:, -2])
    labels = behavior(features)
    assert [LABELS[k] for k in probabilities[known].argmax(axis=1)] == labels[known].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_columns_that_are_read_for_the_rules_are_all_that_they_look_at(seed):
    rng = np.random.default_rng(seed)
    features = random_features(rng).with_columns(
        solidity=pl.lit(0.9),
        axis_major_length_cm=pl.col("axis_major_length") / 7,
        eccentricity=pl.Series(rng.uniform(0.2, 0.9, 200)),
        orientation_double_sin=pl.Series(rng.uniform(-1, 1, 200)),
        orientation_double_cos=pl.Series(rng.uniform(-1, 1, 200)),
    )
    read = features.select(columns_to_read(RuleSet(), features.columns))
    assert "solidity" not in read.columns
    for model in (RuleSet(), RuleSet(species="rat")):
        whole = predict(features, model, features_version="test")
        assert predict(read, model, features_version="test").equals(whole)
    looked_at = {*RuleSet().optional_columns, *RuleSet().feature_columns}
    assert looked_at & set(features.columns) == set(read.columns) & looked_at


def test_a_speed_far_from_every_threshold_is_sure_and_one_near_is_not():
    fast = RuleSet().predict_proba(track(regular(10, 5), lambda t: 10.0))
    near = RuleSet().predict_proba(track(regular(10, 5), lambda t: 2.05))
    assert fast[10:40, 1].min() > 0.99
    assert 0.5 < near[10:40, 1].max() < 0.95


def test_without_a_scale_the_body_is_the_ruler_and_a_rat_is_longer_than_a_mouse():
    timestamps_s = regular(10, 5)
    features = track(timestamps_s, lambda t: 1.5)  # of a mouse's cm: 80 px are its 8 cm
    assert RuleSet("mouse").calibration(features).px_per_cm == pytest.approx(10.0)
    assert RuleSet("mouse").calibration(features).px_per_cm_origin == "body length"
    assert RuleSet("rat").calibration(features).px_per_cm == pytest.approx(4.0)
    assert set(behavior(features, RuleSet("mouse"))) == {"still"}
    assert set(behavior(features, RuleSet("rat"))) == {"moving"}  # 3.75 cm/s of a rat's
    known = features.with_columns(axis_major_length_cm=pl.col("axis_major_length") / 5.0)
    assert RuleSet("mouse").calibration(known).px_per_cm == pytest.approx(5.0)


def test_every_threshold_names_its_unit_and_its_source():
    table = RuleThresholds().table()
    assert {"moving_start", "immobile_speed", "freezing_min_duration", "in_nest_share"} <= {
        row["name"] for row in table
    }
    assert all(row["unit"] and len(str(row["source"])) > 20 for row in table)
    json.dumps(table)


def test_a_changed_threshold_changes_the_hash_the_source_and_the_labels():
    plain = RuleSet()
    strict = RuleSet(thresholds=RuleThresholds().with_values(freezing_min_duration=4.0))
    assert plain.hash == RuleSet().hash
    assert len({plain.hash, strict.hash, RuleSet("rat").hash}) == 3
    assert strict.thresholds.freezing_min_duration.source == SET_BY_USER
    features = track(regular(10, 12), walk_pause_walk_freeze)
    assert "freezing" in behavior(features, plain)
    assert "freezing" not in behavior(features, strict)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"speed": 1.0}, "no behaviour threshold named speed"),
        ({"moving_start": 1.0}, "must keep the order"),
        ({"freezing_min_duration": -1.0}, "freezing_min_duration is -1"),
        ({"freezing_min_duration": float("nan")}, "freezing_min_duration is nan"),
    ],
)
def test_thresholds_that_cannot_be_are_refused_in_one_sentence(values, sentence):
    with pytest.raises(PermanentProblem, match=sentence):
        RuleThresholds().with_values(**values)


def test_an_unknown_species_is_refused():
    with pytest.raises(PermanentProblem, match="no species hamster"):
        RuleSet("hamster")


@pytest.fixture(scope="module")
def labelled_tracks(shared_data):
    return pl.read_csv(shared_data / "freezing" / "behaviordepot_demo1.csv")


@pytest.mark.parametrize(("stride", "floor"), [(5, 0.75), (17, 0.70)])
def test_freezing_agrees_with_a_persons_labels(labelled_tracks, stride, floor):
    """The floors are loose: one recording of one mouse (see the benchmark)."""
    features = outline_features(labelled_tracks, stride)
    assert freezing_f1(features, labelled_tracks) >= floor
    by_body_length = features.drop("axis_major_length_cm")
    assert freezing_f1(by_body_length, labelled_tracks) >= floor


def test_the_measure_of_agreement_gives_the_programs_known_figure(labelled_tracks):
    program, person = (
        labelled_tracks[c].to_numpy() == 1 for c in ("freezing_behaviordepot", "freezing_human")
    )
    assert f1_score(program, person) == pytest.approx(0.90, abs=0.01)
