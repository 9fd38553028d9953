"""Figures of agreement are those of scikit-learn, of brute force, or of a sum done by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tailor_assets.compute.behavior.training.calibration_scores import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from tailor_assets.compute.behavior.training.scores import (
    bootstrap_difference,
    bootstrap_f1,
    bout_scores,
    confusion_matrix,
    frame_scores,
    label_codes,
    macro_f1,
)
from tailor_assets.compute.errors import PermanentProblem

NAMES = ("a", "b", "c")
codes = st.lists(st.integers(0, 2), min_size=1, max_size=40)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_frame_scores_are_those_of_scikit_learn(pairs):
    truth, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    scores = frame_scores(truth, predicted, NAMES)
    theirs = metrics.precision_recall_fscore_support(
        truth, predicted, labels=[0, 1, 2], zero_division=np.nan
    )
    for k, score in enumerate(scores):
        assert score.precision == pytest.approx(theirs[0][k], nan_ok=True)
        assert score.recall == pytest.approx(theirs[1][k], nan_ok=True)
        assert score.support == theirs[3][k]
        if score.support + score.predicted:
            assert score.f1 == pytest.approx(
                metrics.f1_score(truth, predicted, labels=[k], average="macro", zero_division=0.0)
            )
    assert macro_f1(scores) == pytest.approx(
        metrics.f1_score(truth, predicted, average="macro", zero_division=0.0)
    )
    assert np.array_equal(
        confusion_matrix(truth, predicted, 3),
        metrics.confusion_matrix(truth, predicted, labels=[0, 1, 2]),
    )


def test_rows_without_a_label_on_either_side_are_in_no_figure():
    truth = np.array([0, 0, 1, -1, 1])
    predicted = np.array([0, 1, 1, 0, -1])
    first, second, third = frame_scores(truth, predicted, NAMES)
    assert (first.support, first.predicted) == (2, 1)
    assert (second.support, second.predicted) == (1, 2)
    assert np.isnan(third.f1)
    assert label_codes(["b", None, "x", "a"], NAMES).tolist() == [1, -1, -1, 0]


def most_matches(ours, theirs, iou):
    """By trying every assignment."""
    fits = [
        [
            (min(a[1], b[1]) - max(a[0], b[0])) / (max(a[1], b[1]) - min(a[0], b[0])) >= iou - 1e-9
            for b in theirs
        ]
        for a in ours
    ]
    small, large = (
        (len(ours), len(theirs)) if len(ours) <= len(theirs) else (len(theirs), len(ours))
    )
    best = 0
    for chosen in itertools.permutations(range(large), small):
        pairs = enumerate(chosen)
        best = max(
            best,
            sum(fits[i][j] if len(ours) <= len(theirs) else fits[j][i] for i, j in pairs),
        )
    return best


def runs(values, code):
    edges = [0, *(k for k in range(1, len(values)) if values[k] != values[k - 1]), len(values)]
    return [(a, b) for a, b in itertools.pairwise(edges) if values[a] == code]


@given(
    st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 1)), min_size=2, max_size=18),
    st.sampled_from([0.5, 0.6, 0.8, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_bouts_are_matched_as_well_as_any_assignment_could(pairs, iou):
    truth, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    times = np.arange(truth.size) / 10
    scores = bout_scores(truth, predicted, times, NAMES[:2], iou=iou)
    judged = np.where(truth >= 0, predicted, -1)
    for k, score in enumerate(scores):
        ours, theirs = runs(truth, k), runs(judged, k)
        assert (score.support, score.predicted) == (len(ours), len(theirs))
        found = most_matches(ours, theirs, iou)
        if ours:
            assert score.recall == pytest.approx(found / len(ours))
        if theirs:
            assert score.precision == pytest.approx(found / len(theirs))


def test_a_bout_is_found_by_half_of_its_time_and_not_by_less():
    times = np.arange(20) / 10
    truth = np.r_[np.zeros(10, int), np.ones(10, int)]
    half = np.r_[np.zeros(5, int), np.ones(15, int)]
    assert [s.recall for s in bout_scores(truth, half, times, NAMES[:2])] == [1.0, 1.0]
    less = np.r_[np.zeros(4, int), np.ones(16, int)]
    assert [s.recall for s in bout_scores(truth, less, times, NAMES[:2])] == [0.0, 1.0]
    with pytest.raises(PermanentProblem, match=r"overlap of 0\.3"):
        bout_scores(truth, less, times, NAMES[:2], iou=0.3)


def test_bouts_end_with_their_video_and_at_a_gap():
    truth = np.zeros(20, dtype=int)
    same = np.r_[np.arange(10) / 10, np.arange(10) / 10]
    assert bout_scores(truth, truth, same, NAMES)[0].support == 2
    on = np.arange(20) / 10
    assert bout_scores(truth, truth, on, NAMES)[0].support == 1
    assert bout_scores(truth, truth, on, NAMES, groups=["x"] * 10 + ["y"] * 10)[0].support == 2
    pause = np.r_[np.arange(10) / 10, 60 + np.arange(10) / 10]
    assert bout_scores(truth, truth, pause, NAMES)[0].support == 2
    alone = bout_scores(np.array([0]), np.array([0]), np.array([3.0]), NAMES)
    assert (alone[0].f1, alone[0].support) == (1.0, 1)
    nothing = bout_scores(np.zeros(0, int), np.zeros(0, int), np.zeros(0), NAMES)
    assert all(np.isnan(score.f1) for score in nothing)


def test_bouts_of_a_slowly_sampled_video_are_not_its_frames():
    """A row every 2 s beside a row every tenth of one: what is a pause, each video's rows say."""
    slow, fast = np.arange(30) * 2.0, np.arange(200) / 10
    truth = [np.repeat([0, 1], 15), np.tile(np.repeat([0, 1], 10), 10)]
    groups = ["slow"] * 30 + ["fast"] * 200
    both = np.concatenate(truth)
    scores = bout_scores(both, both, np.r_[slow, fast], NAMES[:2], groups=groups)
    assert [score.support for score in scores] == [11, 11]


def test_the_bootstrap_draws_blocks_as_a_loop_over_draws_would():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.7, truth, rng.integers(0, 3, 300))
    times = np.arange(300) / 10
    low, high = bootstrap_f1(truth, predicted, times, 2.0, 400, seed=7)
    drawn = np.random.default_rng(7).multinomial(15, np.full(15, 1 / 15), size=400)
    values = []
    for counts in drawn:
        rows = np.concatenate(
            [np.tile(np.arange(b * 20, b * 20 + 20), n) for b, n in enumerate(counts)]
        ).astype(int)
        values.append(metrics.f1_score(truth[rows], predicted[rows], average="macro"))
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    point = metrics.f1_score(truth, predicted, average="macro")
    assert low < point < high


def test_the_bootstrap_of_two_values_is_of_true_alone():
    rng = np.random.default_rng(1)
    truth = rng.random(500) < 0.3
    predicted = truth ^ (rng.random(500) < 0.1)
    low, high = bootstrap_f1(truth, predicted, np.arange(500) / 10, 5.0, 500, 0)
    assert low < metrics.f1_score(truth, predicted) < high
    assert bootstrap_f1(truth, predicted, np.arange(500) / 10, 5.0, 500, 0) == (low, high)
    nothing = np.zeros(50, dtype=bool)
    assert np.isnan(bootstrap_f1(nothing, nothing, np.arange(50) / 10, 5.0, 50, 0)).all()
    with pytest.raises(PermanentProblem, match="has no blocks"):
        bootstrap_f1(truth, predicted, np.arange(500) / 10, 0.0, 10, 0)


def test_long_bouts_make_the_interval_wide_and_shuffled_frames_would_make_it_narrow():
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.integers(0, 2, 30), 50)
    # Wrong for whole bouts at a time, as models are.
    predicted = np.where(np.repeat(rng.random(30) < 0.8, 50), truth, 1 - truth)
    times = np.arange(1500) / 10
    low, high = bootstrap_f1(truth, predicted, times, 10.0, 1000, 0)
    narrow = bootstrap_f1(truth, predicted, times, 0.1, 1000, 0)
    assert high - low > 2 * (narrow[1] - narrow[0])


def test_the_difference_of_two_predictions_is_of_the_same_draws():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 600)
    good = np.where(rng.random(600) < 0.9, truth, 1 - truth)
    bad = np.where(rng.random(600) < 0.6, truth, 1 - truth)
    times = np.arange(600) / 10
    assert bootstrap_difference(truth, good, good, times, 5.0, 200, 0) == (0.0, 0.0)
    low, high = bootstrap_difference(truth, good, bad, times, 5.0, 500, 0)
    assert 0.1 < low < high < 0.5


def test_reliability_and_its_error_are_as_counted_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.85, 0.15], [0.85, 0.15], [0.3, 0.7], [0.5, 0.5]])
    truth = np.array([0, 0, 1, 1, 0])
    rows = reliability(probabilities, truth)
    assert [(r.low, r.rows, r.accuracy) for r in rows] == [
        (0.4, 1, 1.0), (0.6, 1, 1.0), (0.8, 2, 0.5), (0.9, 1, 1.0),
    ]  # fmt: skip
    assert expected_calibration_error(rows) == pytest.approx(
        (abs(0.5 - 1) + abs(0.7 - 1) + 2 * abs(0.85 - 0.5) + abs(0.95 - 1)) / 5
    )
    assert brier_score(probabilities, truth) == pytest.approx(
        2 * metrics.brier_score_loss(truth, probabilities[:, 1])
    )
    assert reliability(np.zeros((0, 2)), np.zeros(0, int)) == []
    assert np.isnan(brier_score(np.zeros((0, 2)), np.zeros(0, int)))
