"""How well do the behaviour rules find freezing as a person labelled it?

    python -m benchmarks.freezing_rules [path of behaviordepot_demo1.csv]

The recording is BehaviorDEPOT's demo 1: 6000 frames at 50 fps, 32 px/cm, eight tracked body parts,
no video. An outline is drawn around the body parts (nose, ears, legs, tail base, mid-back), and its
centroid, length and motion are what the rules see, at 50 fps and at slower sampling. Beside it
stands that program's own output, which had the body parts themselves and all 50 frames a second.
The thresholds are as published; how jitter and turning are measured was worked out with this
recording in view. One recording of one mouse: an indication, and a hopeful one, not a validation.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import predict
from tailor_assets.compute.behavior.behavior_rules import RuleSet

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


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) of two bool arrays."""
    hits = np.count_nonzero(predicted & truth)
    return 2 * hits / (np.count_nonzero(predicted) + np.count_nonzero(truth))


def freezing_f1(features: pl.DataFrame, tracks: pl.DataFrame) -> float:
    """F1 of the rules against the person, over the rows of ``features``.

    Without its column axis_major_length_cm the rules take their scale from the body's length.
    """
    predictions = predict(features, RuleSet(), features_version="benchmark")
    person = tracks["freezing_human"].gather(features["source_frame"]).to_numpy() == 1
    return f1((predictions["behavior"] == "freezing").to_numpy(), person)


def main() -> None:
    """Print the table."""
    tracks = pl.read_csv(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_CSV)
    person = tracks["freezing_human"].to_numpy() == 1
    program = tracks["freezing_behaviordepot"].to_numpy() == 1
    print(f"BehaviorDEPOT's own output, 50 fps     F1 {f1(program, person):.3f}")
    print("the rules on an outline:     px/cm known    scale from the body's length")
    for stride in (1, 2, 5, 10, 17):
        features = outline_features(tracks, stride)
        known = freezing_f1(features, tracks)
        by_body = freezing_f1(features.drop("axis_major_length_cm"), tracks)
        print(f"{FPS / stride:22.1f} fps    F1 {known:.3f}       F1 {by_body:.3f}")


if __name__ == "__main__":
    main()
