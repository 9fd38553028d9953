"""How well do the behaviour rules find freezing as a person labelled it?

    python -m benchmarks.freezing_rules [path of behaviordepot_demo1.csv]

The recording is BehaviorDEPOT's demo 1: 6000 frames at 50 fps, 32 px/cm, eight tracked body parts,
no video. First the rule on the tracked points themselves (``freezing_rule``, published defaults,
untrained), at slower sampling, with noise added to the points, and in another scale; its numbers
and smoothing are as published, and of the program's ways of measuring speed the released one was
taken because it agrees best with that program's own output, which is no person's label.

For the rules on masks, an outline is drawn around the body parts (nose, ears, legs, tail base,
mid-back), and its centroid, length and motion are what they see, at 50 fps and at slower sampling.
Beside it stands that program's own output, which had the body parts themselves and all 50 frames a
second. The thresholds are as published; how jitter and turning are measured was worked out with this
recording in view. One recording of one mouse: an indication, and a hopeful one, not a validation.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import predict
from tailor_assets.compute.behavior.behavior_rules import RuleSet
from tailor_assets.compute.behavior.freezing_rule import FREEZING, FreezingRule
from tailor_assets.compute.keypoints.point_features import keypoint_features
from tailor_assets.compute.keypoints.point_model import f1_score
from tailor_assets.compute.keypoints.reading import read_points
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints

FPS = 50.0
PX_PER_CM = 32.0
BODY = ("Nose", "LeftEar", "RightEar", "LeftLeg", "RightLeg", "Tailbase", "Mid-Back")
DEFAULT_CSV = Path(__file__).parents[2] / "shared/data/freezing/behaviordepot_demo1.csv"


def outline_features(tracks: pl.DataFrame, stride: int = 1) -> pl.DataFrame:
    """Features of a convex outline around the body parts of every ``stride``-th frame.

    tracks: columns <part>_x and <part>_y in pixels. Returns the columns that the rules use.
    """
    frames = tracks.gather_every(stride)
    points = np.stack([frames.select(f"{part}_x", f"{part}_y").to_numpy() for part in BODY], axis=1)
    points = points - points.min(axis=(0, 1)) + 2
    width, height = np.ceil(points.max(axis=(0, 1))).astype(int) + 2
    centroids, lengths, angles, motion = [], [], [], [None]
    before = None
    for shape in points.astype(np.float32):
        mask = np.zeros((height, width), np.uint8)
        hull = cv2.convexHull(shape)[:, 0]
        cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), 1, shift=4)
        moments = cv2.moments(mask, binaryImage=True)
        centroids.append((moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]))
        spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]])
        lengths.append(4 * np.sqrt(np.linalg.eigvalsh(spread / moments["m00"])[1]))
        angles.append(0.5 * np.arctan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1]))
        if before is not None:
            motion.append(1 - np.count_nonzero(mask & before) / np.count_nonzero(mask | before))
        before = mask
    x, y = np.array(centroids).T
    timestamps_s = np.arange(frames.height) * stride / FPS
    return pl.DataFrame(
        {
            "frame": np.arange(frames.height),
            "source_frame": np.arange(frames.height) * stride,
            "timestamp_s": timestamps_s,
            "centroid_x": x,
            "centroid_y": y,
            "axis_major_length": lengths,
            "orientation_double_sin": np.sin(2 * np.array(angles)),
            "orientation_double_cos": np.cos(2 * np.array(angles)),
            "axis_major_length_cm": np.array(lengths) / PX_PER_CM,
            "mask_motion": pl.Series(motion, dtype=pl.Float64),
            "mask_quality": np.ones(frames.height),
            "mask_state": ["tracked"] * frames.height,
        }
    )


def freezing_f1(features: pl.DataFrame, tracks: pl.DataFrame) -> float:
    """F1 of the rules against the person, over the rows of ``features``.

    Without its column axis_major_length_cm the rules take their scale from the body's length.
    """
    predictions = predict(features, RuleSet(), features_version="benchmark")
    person = tracks["freezing_human"].gather(features["source_frame"]).to_numpy() == 1
    return f1_score((predictions["behavior"] == "freezing").to_numpy(), person)


def rule_on_points(
    points: TrackedPoints, stride: int, noise_px: float, speed_of: str
) -> np.ndarray:
    """Freezing by the rule on every ``stride``-th frame, with normal noise on every coordinate."""
    rng = np.random.default_rng(1)
    x, y = (
        values[::stride] + rng.normal(0, noise_px, values[::stride].shape)
        for values in (points.x, points.y)
    )
    fewer = TrackedPoints(
        points.parts,
        x,
        y,
        points.likelihood[::stride],
        points.source_frame[::stride],
        points.timestamp_s[::stride],
    )
    features = keypoint_features(fewer, px_per_cm=PX_PER_CM, windows_s=())
    labels = FreezingRule(speed_of=speed_of).label(features)
    return (labels["behavior"] == FREEZING).to_numpy()


def print_rule_on_points(path: Path, person: np.ndarray, program: np.ndarray) -> None:
    """Print the rule's F1 against the person, and how far it agrees with the program it is of."""
    points = read_points(path, fps=FPS)
    for speed_of in ("head and rear back", "mid-back"):
        found = rule_on_points(points, 1, 0.0, speed_of)
        print(
            f"the rule on points, speed of {speed_of:20} F1 {f1_score(found, person):.3f}   beside "
            f"BehaviorDEPOT's own output {f1_score(found, program):.3f}"
        )
    print("the same, speed of head and rear back, with noise of")
    levels = (0.0, 0.3, 0.6, 1.0, 2.0)
    print(" " * 26 + "".join(f"{level:6.1f} px" for level in levels))
    for stride in (1, 2, 3, 5, 10, 17):
        scores = [
            f1_score(rule_on_points(points, stride, level, "head and rear back"), person[::stride])
            for level in levels
        ]
        print(f"{FPS / stride:22.1f} fps" + "".join(f"{score:9.3f}" for score in scores))
    print()


def main() -> None:
    """Print the table."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_CSV
    tracks = pl.read_csv(path)
    person = tracks["freezing_human"].to_numpy() == 1
    program = tracks["freezing_behaviordepot"].to_numpy() == 1
    print(f"BehaviorDEPOT's own output, 50 fps     F1 {f1_score(program, person):.3f}")
    print_rule_on_points(path, person, program)
    print("the rules on an outline:     px/cm known    scale from the body's length")
    for stride in (1, 2, 5, 10, 17):
        features = outline_features(tracks, stride)
        known = freezing_f1(features, tracks)
        by_body = freezing_f1(features.drop("axis_major_length_cm"), tracks)
        print(f"{FPS / stride:22.1f} fps    F1 {known:.3f}       F1 {by_body:.3f}")


if __name__ == "__main__":
    main()
