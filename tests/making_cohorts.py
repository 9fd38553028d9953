"""Results folders of small made-up videos, for tests of cohorts."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bouts import NO_DATA

LABELS = ("moving", "still", "in nest")


def tables_of_video(
    rows: int = 60, *, moving: int = 20, seed: int = 1, px_per_cm: float | None = 10.0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and predictions at 2 rows/s: ``moving`` rows of moving, the last 5 without data."""
    chance = np.random.default_rng(seed)
    frame = np.arange(rows)
    behavior = np.array(["still"] * rows, dtype=object)
    behavior[:moving] = "moving"
    behavior[-5:] = NO_DATA
    lost = behavior == NO_DATA
    speed = np.where(behavior == "moving", 20 + chance.uniform(0, 4, rows), 0.5)
    speed[0] = np.nan
    speed[lost] = np.nan
    path = np.nancumsum(np.nan_to_num(speed) / 2)
    features = {
        "frame": frame,
        "timestamp_s": frame / 2,
        "mask_quality": np.where(lost, 0.0, 0.9),
        "centroid_x": np.where(lost, np.nan, 100 + path / 10),
        "centroid_y": np.where(lost, np.nan, 80.0),
        "speed_px_s": speed,
        "path_length_px": np.where(lost, np.nan, path),
        "nest_entries": np.where(lost, np.nan, (frame > 30).astype(float)),
        "nest_time_s": np.where(lost, np.nan, np.maximum(frame - 31, 0) / 2),
    }
    if px_per_cm:
        features |= {
            "speed_cm_s": speed / px_per_cm,
            "path_length_cm": features["path_length_px"] / px_per_cm,
        }
    predictions = {
        "frame": frame,
        "timestamp_s": frame / 2,
        "behavior": behavior.astype(str).tolist(),
        **{
            f"probability_{label.replace(' ', '_')}": np.where(
                lost, np.nan, np.where(behavior == label, 0.8, 0.1)
            )
            for label in LABELS
        },
        "model_name": ["rules"] * rows,
        "model_version": ["2"] * rows,
        "model_hash": ["0123456789abcdef"] * rows,
        "features_version": ["3"] * rows,
    }
    return tuple(  # type: ignore[return-value]
        pl.DataFrame(table).with_columns(pl.col(pl.Float64).fill_nan(None))
        for table in (features, predictions)
    )


def write_results(root: Path, name: str, **how: object) -> Path:
    """A results folder of one video under ``root``."""
    folder = root / name
    folder.mkdir(parents=True)
    features, predictions = tables_of_video(**how)  # type: ignore[arg-type]
    features.write_csv(folder / f"{name}_features.csv")
    predictions.write_csv(folder / f"{name}_prediction.csv")
    scale = how.get("px_per_cm", 10.0)
    manifest = {"partition": f"local--{name}--0a1b2c3d", "px_per_cm": scale, "segmenter": "hand"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
