"""Probabilities become as right as they are sure, and smoothing means the same at any frame rate."""

import numpy as np
import pytest
from scipy.linalg import expm
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from tailor_assets.compute.behavior.training.calibration import Calibration, fit_calibration
from tailor_assets.compute.behavior.training.calibration_scores import (
    expected_calibration_error,
    reliability,
)
from tailor_assets.compute.behavior.training.smoothing import Smoothing, fit_smoothing


def overconfident(rows=4000, seed=0):
    """Truth, what it was drawn by, and the same odds four times as sure."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, (rows, 3))
    honest = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in honest])
    sure = np.exp(4 * scores) / np.exp(4 * scores).sum(axis=1, keepdims=True)
    return truth, honest, sure


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_model_too_sure_of_itself_is_told_so(method):
    truth, _, sure = overconfident()
    fitted = fit_calibration(method, sure[:2000], truth[:2000])
    before = expected_calibration_error(reliability(sure[2000:], truth[2000:]))
    calibrated = fitted.apply(sure[2000:])
    after = expected_calibration_error(reliability(calibrated, truth[2000:]))
    assert before > 0.2
    assert after < 0.05
    assert calibrated.sum(axis=1) == pytest.approx(1.0)
    again = Calibration.model_validate_json(fitted.model_dump_json())
    assert np.array_equal(again.apply(sure), fitted.apply(sure)), "JSON keeps every digit"


def test_isotonic_curves_are_those_of_scikit_learn():
    truth, _, sure = overconfident(500)
    fitted = fit_calibration("isotonic", sure, truth)
    theirs = np.stack(
        [
            IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            .fit(sure[:, k], truth == k)
            .predict(sure[:, k])
            for k in range(3)
        ],
        axis=1,
    )
    assert fitted.apply(sure) == pytest.approx(theirs / theirs.sum(axis=1, keepdims=True))


def test_sigmoid_curves_are_platts():
    """Of the same model and data scikit-learn's, fitted on log-odds, are the same."""

    rng = np.random.default_rng(2)
    odds = rng.normal(0, 3, 800)
    truth = (rng.random(800) < 1 / (1 + np.exp(-0.5 * odds - 0.7))).astype(int)
    chance = 1 / (1 + np.exp(-odds))
    fitted = fit_calibration("sigmoid", np.stack([1 - chance, chance], axis=1), truth)
    theirs = _SigmoidCalibration().fit(odds, truth)
    slope, offset = fitted.curves[1][0][0], fitted.curves[1][1][0]
    assert (-theirs.a_, -theirs.b_) == pytest.approx((slope, offset), rel=1e-3)


def test_classes_that_nothing_is_known_of_stay_as_they_are():
    probabilities = np.array([[0.7, 0.3, 0.0]] * 4 + [[0.2, 0.8, 0.0]] * 4)
    fitted = fit_calibration("isotonic", probabilities, np.array([0, 0, 0, 1, 1, 1, 1, 0]))
    assert fitted.curves[2] == ((), ())
    assert fitted.apply(probabilities).sum(axis=1) == pytest.approx(1.0)
    # A row of which all curves say 0 is anything.
    none = Calibration(method="isotonic", curves=(((0.0, 1.0), (0.0, 0.0)),) * 2)
    assert none.apply(np.array([[0.4, 0.6]])).tolist() == [[0.5, 0.5]]
    assert Calibration().apply(probabilities) is probabilities


def test_what_a_model_did_not_know_teaches_nothing():
    """Rows of which the model knew only the first two classes: as if they were not there."""
    truth, _, sure = overconfident(800)
    partly = sure.copy()
    partly[:200, 2] = np.nan
    fitted = fit_calibration("sigmoid", partly, truth)
    assert fitted.curves[:2] == fit_calibration("sigmoid", sure, truth).curves[:2]
    assert fitted.curves[2] == fit_calibration("sigmoid", sure[200:], truth[200:]).curves[2]


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_no_curve_turns_a_behaviour_upside_down(method):
    """Denied where it is: from 0 up, a curve would make it the less likely the surer a model is."""
    chance = np.repeat([0.02, 0.05], 50)
    truth = np.repeat([1, 0], 50)
    fitted = fit_calibration(method, np.stack([1 - chance, chance], axis=1), truth)
    assert fitted.curves == (((), ()), ((), ()))


# --------------------------------------------------------------------------------- smoothing


def chain(fps, seconds, rates, seed=0):
    """A state per row of a Markov chain in continuous time."""
    rng = np.random.default_rng(seed)
    step = expm(rates / fps)
    states = [0]
    while len(states) < fps * seconds:
        states.append(int(rng.choice(len(rates), p=step[states[-1]])))
    return np.array(states), np.arange(len(states)) / fps


RATES = np.array([[-0.5, 0.5], [0.25, -0.25]])


def test_rates_are_per_second_whatever_the_frame_rate():
    for fps in (5, 25):
        states, times = chain(fps, 4000, RATES)
        fitted = fit_smoothing(
            "viterbi", states, times, np.zeros(len(states), int), 2, even_prior=True
        )
        # At 5 per second some short stays are missed.
        assert np.array(fitted.rates_per_s) == pytest.approx(RATES, rel=0.15)
        assert np.array(fitted.rates_per_s).sum(axis=1) == pytest.approx(0.0)
        assert fitted.shares == pytest.approx((1 / 3, 2 / 3), rel=0.1)


def noisy(states, share, seed=1):
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(states.size) < share, 1 - states, states)
    return np.where(np.eye(2, dtype=bool)[said], 0.8, 0.2)


@pytest.mark.parametrize("method", ["viterbi", "forward_backward"])
def test_smoothing_mends_single_wrong_frames_and_leaves_bouts(method):
    states, times = chain(10, 300, RATES, seed=3)
    stretches = np.zeros(states.size, int)
    fitted = fit_smoothing(method, states, times, stretches, 2, even_prior=True)
    probabilities = noisy(states, 0.15)
    smoothed = fitted.apply(probabilities, times, stretches)
    assert smoothed.sum(axis=1) == pytest.approx(1.0)
    raw = np.mean(probabilities.argmax(axis=1) == states)
    assert np.mean(smoothed.argmax(axis=1) == states) > raw + 0.03
    changes = np.sum(np.diff(smoothed.argmax(axis=1)) != 0)
    assert changes < 1.5 * np.sum(np.diff(states) != 0)


def test_forward_backward_is_what_summing_over_every_path_gives():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1], size=7)
    times = np.cumsum(rng.uniform(0.05, 0.9, 7))
    model = Smoothing(
        method="forward_backward",
        rates_per_s=tuple(map(tuple, RATES.tolist())),
        shares=(0.3, 0.7),
        prior=(0.4, 0.6),
    )
    evidence = np.exp(model._evidence(probabilities, times))
    posterior = np.zeros((7, 2))
    best, best_path = -1.0, None
    for number in range(2**7):
        path = [(number >> k) & 1 for k in range(7)]
        weight = model.shares[path[0]] * evidence[0, path[0]]
        for k in range(1, 7):
            step = expm(RATES * round(times[k] - times[k - 1], 4))
            weight *= step[path[k - 1], path[k]] * evidence[k, path[k]]
        posterior[np.arange(7), path] += weight
        if weight > best:
            best, best_path = weight, path
    posterior /= posterior.sum(axis=1, keepdims=True)
    stretches = np.zeros(7, int)
    assert model.apply(probabilities, times, stretches) == pytest.approx(posterior)
    viterbi = model.model_copy(update={"method": "viterbi"}).apply(probabilities, times, stretches)
    assert viterbi.argmax(axis=1).tolist() == best_path


def test_nothing_passes_over_a_gap():
    model = Smoothing(
        method="forward_backward", rates_per_s=((-0.01, 0.01), (0.01, -0.01)),
        shares=(0.5, 0.5), prior=(0.5, 0.5),
    )  # fmt: skip
    sure, unsure = [[0.999, 0.001]] * 20, [[0.5, 0.5]]
    probabilities = np.array(sure + unsure)
    times = np.arange(21) / 10
    joined = model.apply(probabilities, times, np.zeros(21, int))
    assert joined[20, 0] > 0.9
    apart = model.apply(probabilities, times, np.r_[np.zeros(20, int), 1])
    assert apart[20].tolist() == [0.5, 0.5]


def test_twice_the_frames_are_not_twice_the_evidence():
    model = Smoothing(
        method="forward_backward", rates_per_s=((-0.5, 0.5), (0.5, -0.5)),
        shares=(0.5, 0.5), prior=(0.5, 0.5),
    )  # fmt: skip
    answers = []
    for fps in (10, 20, 50):
        rows = fps * 4
        times = np.arange(rows) / fps
        probabilities = np.where((np.abs(times - 2) < 0.35)[:, None], [0.3, 0.7], [0.8, 0.2])
        answers.append(model.apply(probabilities, times, np.zeros(rows, int))[fps * 2, 1])
    assert answers == pytest.approx([answers[0]] * 3, abs=0.06)


def test_one_row_and_no_rows_are_smoothed_too():
    model = Smoothing(
        method="viterbi", rates_per_s=((-1.0, 1.0), (1.0, -1.0)), shares=(0.5, 0.5),
        prior=(0.5, 0.5),
    )  # fmt: skip
    one = model.apply(np.array([[0.2, 0.8]]), np.array([1.0]), np.array([0]))
    assert one[0, 1] == pytest.approx(0.8)
    assert model.apply(np.zeros((0, 2)), np.zeros(0), np.zeros(0, int)).shape == (0, 2)
