"""Small sessions with features and a person's labels, made by rule, for tests of training."""

from pathlib import Path

import numpy as np
import polars as pl

LABELS = ("groom", "run", "still")
# Mean of speed, turning and change of the outline while the animal does it.
_MEANS = {"groom": (0.5, 20.0, 0.30), "run": (12.0, 40.0, 0.25), "still": (0.3, 3.0, 0.03)}


def session(seed: int, *, seconds: float = 60.0, fps: float = 10.0, noise: float = 1.0):
    """Features of a session and the label of each row (str [n]).

    Bouts of 1 to 6 s; features that tell the behaviours apart, each session a little otherwise
    (another camera), and one that is noise.
    """
    rng = np.random.default_rng(seed)
    rows = int(seconds * fps)
    labels: list[str] = []
    while len(labels) < rows:
        follows = [label for label in LABELS if not labels or label != labels[-1]]
        labels += [str(rng.choice(follows))] * int(rng.uniform(1, 6) * fps)
    truth = np.array(labels[:rows])
    scale = rng.uniform(0.8, 1.25)
    means = np.array([_MEANS[label] for label in truth]) * scale
    measured = means * np.exp(rng.normal(0, 0.5 * noise, means.shape))
    table = pl.DataFrame(
        {
            "frame": np.arange(rows),
            "source_frame": np.arange(rows) * 3,
            "timestamp_s": np.arange(rows) / fps,
            "mask_quality": np.full(rows, 0.9),
            "mask_state": ["tracked"] * rows,
            "centroid_x": rng.uniform(0, 640, rows),
            "speed_px_s": measured[:, 0] * 20,
            "speed_cm_s": measured[:, 0],
            "turning_rad_s": np.radians(measured[:, 1]),
            "mask_motion": measured[:, 2],
            "solidity": rng.normal(0.9, 0.02, rows),
            "in_nest": rng.random(rows) < 0.5,
        }
    )
    # Without the animal nothing is measured.
    lost = np.arange(rows) % 97 == 50
    measures = (
        "centroid_x",
        "speed_px_s",
        "speed_cm_s",
        "turning_rad_s",
        "mask_motion",
        "solidity",
    )
    return (
        table.with_columns(
            pl.when(pl.Series(lost)).then(None).otherwise(pl.col(name)).alias(name)
            for name in measures
        ).with_columns(
            pl.when(pl.Series(lost))
            .then(0.0)
            .otherwise(pl.col("mask_quality"))
            .alias("mask_quality"),
            pl.when(pl.Series(lost))
            .then(pl.lit("lost"))
            .otherwise(pl.col("mask_state"))
            .alias("mask_state"),
        ),
        truth,
    )


def results_folders(root: Path, seeds, *, features_version: str = "9", **settings) -> None:
    """What ``tailor run`` leaves, as far as training needs it, for a session per seed."""
    for seed in seeds:
        video = f"video{seed}"
        table, _ = session(seed, **settings)
        folder = root / video
        folder.mkdir(parents=True, exist_ok=True)
        table.write_csv(folder / f"{video}_features.csv")
        pl.DataFrame({"frame": [0], "features_version": [features_version]}).write_csv(
            folder / f"{video}_prediction.csv"
        )


def label_folder(root: Path, seeds, **settings) -> None:
    """A label file per session: every frame of the even seeds, bouts of the odd ones."""
    root.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        table, truth = session(seed, **settings)
        times = table["timestamp_s"].to_numpy()
        if seed % 2 == 0:
            pl.DataFrame({"frame": table["frame"], "behavior": truth}).write_csv(
                root / f"video{seed}.csv"
            )
            continue
        starts = np.flatnonzero(np.r_[True, truth[1:] != truth[:-1]])
        stops = np.r_[times[starts[1:]], times[-1] + times[1]]
        pl.DataFrame(
            {"behavior": truth[starts], "start_s": times[starts], "stop_s": stops}
        ).write_csv(root / f"video{seed}.tsv", separator="\t")
