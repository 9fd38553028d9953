"""How well does a trained model find freezing as a person labelled it, and its peers beside it?

    python -m benchmarks.freezing_model [--nested] [path of behaviordepot_demo1.csv]

The recording is BehaviorDEPOT's demo 1: 6000 frames at 50 fps, 32 px/cm, eight tracked body parts.
Models are validated over five contiguous blocks of time, with 2 s left out of the training beside
each; features from the tracked points look 1.5 s to either side at most. F1 is of all frames
together. Settings are those of ``training.estimators`` and ``point_features``, the same for every
behaviour, and were not chosen on this recording; ``--nested`` tests in their place a model whose
classifiers, smoothing and threshold are chosen within the training blocks (half an hour). The
interval is of blocks of 10 s drawn with replacement. One recording of one mouse: other minutes of
it, and not another animal, are what the models are tested on.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.freezing_rules import DEFAULT_CSV, FPS, PX_PER_CM
from tailor_assets.compute.behavior.freezing_rule import FREEZING, FreezingRule
from tailor_assets.compute.behavior.training.scores import bootstrap_f1, bout_scores
from tailor_assets.compute.keypoints.point_features import keypoint_features
from tailor_assets.compute.keypoints.point_model import (
    DECISIONS,
    Decision,
    Learner,
    f1_score,
    model_columns,
    validate_nested,
)
from tailor_assets.compute.keypoints.reading import read_points

BLOCK_S, REPEATS, SEED = 10.0, 2000, 0
BOOSTING, FOREST, LOGISTIC = "hist_gradient_boosting", "random_forest", "logistic"
# What a person would begin with: how fast, how fast the head turns, and both over a second.
FEW = tuple(
    f"{name}{ending}"
    for name in ("head_speed_cm_s", "rear_back_speed_cm_s", "head_turning_abs_deg_s")
    for ending in ("", "_mean_1s", "_std_1s")
)


def report(
    name: str, predicted: np.ndarray, truth: np.ndarray, timestamp_s: np.ndarray, seconds: float
) -> None:
    """Print one line of the table."""
    low, high = bootstrap_f1(truth, predicted, timestamp_s, BLOCK_S, REPEATS, SEED)
    _, bouts = bout_scores(
        truth.astype(np.int64), predicted.astype(np.int64), timestamp_s, ("other", FREEZING)
    )
    print(
        f"{name:56} {f1_score(predicted, truth):.3f}  {low:.2f}-{high:.2f}   {bouts.f1:.2f}"
        f"   {seconds:6.1f} s",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("csv", nargs="?", type=Path, default=DEFAULT_CSV)
    parser.add_argument("--nested", action="store_true")
    options = parser.parse_args()
    labels = pl.read_csv(options.csv)
    truth = labels["freezing_human"].to_numpy() == 1
    program = labels["freezing_behaviordepot"].to_numpy() == 1
    start = time.perf_counter()
    points = read_points(options.csv, fps=FPS)
    features = keypoint_features(points, px_per_cm=PX_PER_CM, rich=True)
    timestamp_s = points.timestamp_s
    print(
        f"{features.height} frames, {truth.mean():.1%} of them freezing; {features.width} columns "
        f"in {time.perf_counter() - start:.1f} s\n"
    )
    print(f"{'':56} F1     95%         bouts")
    report("(d) BehaviorDEPOT's own output", program, truth, timestamp_s, 0.0)
    for speed_of in ("head and rear back", "mid-back"):
        start = time.perf_counter()
        rule = FreezingRule(speed_of=speed_of)
        freezing = (rule.label(features)["behavior"] == FREEZING).to_numpy()
        took = time.perf_counter() - start
        report(f"(c) the rule, untrained, speed of {speed_of}", freezing, truth, timestamp_s, took)
        print(f"      beside BehaviorDEPOT's own output: F1 {f1_score(freezing, program):.3f}")

    everything = model_columns(features)
    no_context = tuple(n for n in everything if "_before_" not in n and "_after_" not in n)
    fixed = {
        f"(a) boosting, {len(FEW)} features": Learner((BOOSTING,), FEW),
        f"    logistic, {len(everything)} features": Learner((LOGISTIC,), everything),
        f"    forest, {len(everything)} features": Learner((FOREST,), everything),
        f"    boosting, {len(no_context)} features, no context": Learner((BOOSTING,), no_context),
        f"(b) OURS: boosting, {len(everything)} features": Learner((BOOSTING,), everything),
    }
    if options.nested:
        start = time.perf_counter()
        learners = {
            "boosting": Learner((BOOSTING,), everything),
            "forest": Learner((FOREST,), everything),
            "all three": Learner((BOOSTING, FOREST, LOGISTIC), everything),
        }
        found = validate_nested(
            features,
            truth,
            learners,
            DECISIONS,
            seed=SEED,
            progress=lambda line: print("     ", line),
        )
        name = f"(b') nested: of {len(learners)} learners, {len(DECISIONS)} decisions"
        report(name, found.predicted, truth, timestamp_s, time.perf_counter() - start)
        for block in found.chosen:
            print("     ", block)
        return
    for name, learner in fixed.items():
        start = time.perf_counter()
        found = validate_nested(features, truth, {name: learner}, [Decision()], seed=SEED)
        report(name, found.predicted, truth, timestamp_s, time.perf_counter() - start)
        print("      by block:", " ".join(f"{block['f1']:.3f}" for block in found.chosen))


if __name__ == "__main__":
    main()
