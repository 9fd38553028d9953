"""Rows are divided by video or by blocks of time, and nothing leaks from one side to the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from tailor_assets.compute.behavior.training.estimators import fit_estimator, make_estimator
from tailor_assets.compute.behavior.training.folds import (
    contiguous_blocks,
    leave_one_video_out,
    videos_in_folds,
)
from tailor_assets.compute.behavior.training.scores import frame_scores, macro_f1
from tailor_assets.compute.errors import PermanentProblem


def test_each_video_is_tested_once_by_a_model_of_all_the_others():
    groups = np.array(["b", "b", "a", "a", "a", "c"])
    folds = list(leave_one_video_out(groups))
    assert [set(groups[fold.test]) for fold in folds] == [{"b"}, {"a"}, {"c"}]
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert np.array_equal(np.sort(np.r_[fold.train, fold.test]), np.arange(6))


def test_very_many_videos_are_tested_whole_in_fewer_folds():
    groups = np.repeat([f"v{k:02d}" for k in range(23)], 4)
    folds = list(videos_in_folds(groups, 5))
    assert len(folds) == 5
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(92))
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert len(set(groups[fold.test])) in (4, 5)


def test_one_video_cannot_be_left_out():
    with pytest.raises(PermanentProblem, match="only 1 labelled video"):
        list(leave_one_video_out(["a"] * 10))


@given(
    st.lists(st.floats(0.01, 3.0), min_size=30, max_size=80),
    st.integers(2, 6),
    st.floats(0.0, 4.0),
)
@settings(max_examples=60, deadline=None)
def test_blocks_cover_all_rows_and_nothing_trains_within_the_purge(steps, blocks, purge_s):
    times = np.cumsum(steps)
    try:
        folds = list(contiguous_blocks(times, blocks, purge_s))
    except PermanentProblem:
        return  # nothing was left to train with, which is said
    assert np.array_equal(np.concatenate([fold.test for fold in folds]), np.arange(times.size))
    for fold in folds:
        assert np.array_equal(fold.test, np.arange(fold.test[0], fold.test[-1] + 1))
        apart = np.abs(times[fold.train][:, None] - times[fold.test][None, :])
        assert apart.min() > purge_s
        # And no row more than that is given up.
        kept = set(fold.train.tolist()) | set(fold.test.tolist())
        for row in set(range(times.size)) - kept:
            inside = times[fold.test[0]] - purge_s - 1e-5 <= times[row]
            assert inside
            assert times[row] <= times[fold.test[-1]] + purge_s + 1e-5


def test_blocks_that_leave_nothing_to_train_with_are_refused():
    with pytest.raises(PermanentProblem, match="leaves none to train with"):
        list(contiguous_blocks(np.arange(20) / 10, 2, 5.0))
    with pytest.raises(PermanentProblem, match="3 labelled rows cannot be divided into 5 blocks"):
        list(contiguous_blocks(np.arange(3) / 10, 5))


def macro_over(folds, matrix, truth):
    predicted = np.full(truth.size, -1)
    for train, test in folds:
        estimator = fit_estimator(
            make_estimator("random_forest", 0).set_params(n_estimators=30),
            matrix[train],
            truth[train],
        )
        predicted[test] = estimator.predict(matrix[test])
    return macro_f1(frame_scores(truth, predicted, ("a", "b")))


def test_shuffled_frames_would_overstate_and_blocks_do_not():
    """Features that wander slowly and know nothing of the labels: the honest answer is chance."""
    rng = np.random.default_rng(5)
    rows = 2400
    times = np.arange(rows) / 10
    matrix = np.cumsum(rng.normal(size=(rows, 4)), axis=0)
    truth = np.repeat(rng.integers(0, 2, rows // 20), 20)
    shuffled = KFold(5, shuffle=True, random_state=0).split(matrix)
    blocks = [(fold.train, fold.test) for fold in contiguous_blocks(times)]
    leaky, honest = macro_over(shuffled, matrix, truth), macro_over(blocks, matrix, truth)
    assert leaky > 0.8
    assert honest < 0.6


def test_without_the_purge_windows_of_time_would_leak_over_the_edges():
    """A feature that sees 2 s around each row tells a neighbour's label, which is another's test."""
    rng = np.random.default_rng(2)
    rows, fps, blocks = 3000, 10, 60
    times = np.arange(rows) / fps
    # Each second has a secret number and, independent of it, a label; the window shows the secret.
    secret = np.repeat(rng.normal(size=rows // 10), 10)
    before, after = np.full(10, np.nan), np.full(10, np.nan)
    window = np.stack([np.r_[before, secret[:-10]], secret, np.r_[secret[10:], after]], axis=1)
    matrix = np.round(window, 6)
    truth = np.repeat(rng.integers(0, 2, rows // 10), 10)

    def known(purge_s):
        """Share of test rows whose secret is in the window of some row of the training."""
        shares = []
        for fold in contiguous_blocks(times, blocks, purge_s):
            seen = set(matrix[fold.train].ravel().tolist())
            shares.append(np.mean([value in seen for value in matrix[fold.test, 1].tolist()]))
        return float(np.mean(shares))

    assert truth.size == rows
    assert known(0.0) > 0.3
    assert known(2.0) == 0.0
