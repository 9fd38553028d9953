"""Pure check functions: an artifact's numbers in, a problem sentence or None out.

The asset that made the artifact yields them as blocking checks of its partition and writes the
problem into the artifact's record, so that nothing downstream takes a bad artifact either way.
"""

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.behavior_model import is_probability

NO_DATA = "no data"


def problem_with_video(frame_count: int, timestamps_s: np.ndarray) -> str | None:
    """At least one frame, one timestamp per frame, and time that moves forward."""
    if frame_count < 1:
        return "the video has no frame: export it again."
    if len(timestamps_s) != frame_count:
        return f"{frame_count} frames decode but {len(timestamps_s)} have a time."
    if not np.isfinite(timestamps_s).all() or (np.diff(timestamps_s) <= 0).any():
        return "the frames' timestamps do not increase."
    return None


def problem_with_frames(table: pl.DataFrame, files: int) -> str | None:
    """One file per row of the table, rows numbered from 0, time and source frames increasing."""
    if table.height == 0:
        return "no frame was taken."
    if files != table.height:
        return f"{files} pictures for {table.height} rows of the frame table."
    if table["frame"].to_list() != list(range(table.height)):
        return "the frame table is not numbered 0, 1, 2, ..."
    for column in ("source_frame", "timestamp_s"):
        if table.height > 1 and not (table[column].diff().drop_nulls() > 0).all():
            return f"{column} does not increase."
    return None


def problem_with_masks(source_frames: np.ndarray, table: pl.DataFrame) -> str | None:
    """The masks are of exactly the frames of the frame table."""
    if source_frames.tolist() != table["source_frame"].to_list():
        return f"masks of {len(source_frames)} frames for a table of {table.height} frames."
    return None


def problem_with_features(features: pl.DataFrame, rows: int) -> str | None:
    """One row per mask and no infinite value; missing values are allowed, they are no data."""
    if features.height != rows:
        return f"{features.height} rows for {rows} masks."
    for name, kind in features.schema.items():
        if kind.is_float() and features[name].is_infinite().any():
            return f"{name} is infinite in some row."
    return None


def problem_with_predictions(predictions: pl.DataFrame, rows: int) -> str | None:
    """One row per feature row; probabilities sum to 1 wherever there is a behaviour."""
    if predictions.height != rows:
        return f"{predictions.height} rows for {rows} rows of features."
    columns = [name for name in predictions.columns if is_probability(name)]
    known = (predictions["behavior"] != NO_DATA).to_numpy()
    if known.any() and columns:
        # numpy, because the first expression of polars in a process costs most of a second.
        shares = np.stack([predictions[name].to_numpy()[known] for name in columns])
        # A gap that clean-up filled has a label and no probability at all, which is as it should be.
        filled = np.isnan(shares).all(axis=0)
        if not (np.abs(shares[:, ~filled].sum(axis=0) - 1) <= 1e-6).all():
            return "the probabilities of some row do not sum to 1."
    return None


def problem_with_flags(flags: pl.DataFrame, rows: int, copied: int) -> str | None:
    """One row per prediction, every flagged row's frame copied."""
    if flags.height != rows:
        return f"{flags.height} rows for {rows} predictions."
    flagged = flags.filter(pl.col("flag_window") > 0).height
    if copied != flagged:
        return f"{copied} frames in watch/ for {flagged} flagged rows."
    return None


def share_lost(mask_quality: pl.Series) -> float | None:
    """Share of frames in which the animal was not found, None without frames (non-blocking)."""
    if mask_quality.len() == 0:
        return None
    return int((mask_quality.fill_null(0.0) == 0).sum()) / mask_quality.len()
