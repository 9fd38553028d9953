"""Which rows a person should look at: those around every predicted change of behaviour.

Two steps, because the summary counts frames that were really copied:

    flags = flag_predictions(predictions, seconds_window=3.0)
    copied = copy_flagged_frames(frames_dir, flagged_frame_numbers(flags), watch_dir)
    summary = flag_summary(flags, flagged_frames=copied, effective_fps=effective_fps(30.0, stride=10))

A change is the first row of a new label; the first row of the table follows nothing and is none;
"no data" is a label like any other. Row i is in the window of change c when
|t_i - t_c| <= seconds_window / 2 + 1 microsecond. Windows whose rows overlap or adjoin are one.

Which window to look at first is said by ``review/ranking.py``. On demand there are windows without a
change, too, where the model is unsure for long (``review/uncertain_stretches.py``).
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.review.ranking import window_priorities
from tailor_assets.compute.review.uncertain_stretches import uncertain_windows as unsure_moments

DEFAULT_SECONDS_WINDOW = 3.0
WINDOW_TOLERANCE_S = 1e-6  # a frame a rounding error away from the edge is inside
# States that are news: the mask is in doubt, or there is none.
DOUBTFUL = (
    MaskState.REFOUND,
    MaskState.UNCERTAIN,
    MaskState.MERGED,
    MaskState.SWAPPED,
    MaskState.EXPLODED,
)
NOT_FOUND_AS_USUAL = (*DOUBTFUL, MaskState.LOST, MaskState.NOT_STARTED)
SUMMARY_KEYS = (
    "total_rows",
    "predicted_change_points",
    "flagged_frames",
    "flagged_frames_pct",
    "windows_count",
    "rows_covered_by_windows",
    "effective_fps",
    # Appended: the names before are those other programs know.
    "doubtful_mask_rows",
    *(f"{state.label}_mask_rows" for state in NOT_FOUND_AS_USUAL),
)


def flag_predictions(
    predictions: pl.DataFrame,
    *,
    seconds_window: float = DEFAULT_SECONDS_WINDOW,
    uncertain_windows: int = 0,
) -> pl.DataFrame:
    """Mark the changes of behaviour and number the windows around them. O(n log n).

    predictions: a row per frame with at least ``timestamp_s`` (float64, strictly increasing),
    ``behavior`` (str) and ``mask_state`` (str; it flags nothing, the summary counts it).
    Its ``probability_<label>`` and ``mask_quality`` rank the windows, where they are there.
    seconds_window: total width of a window, in seconds. uncertain_windows: so many windows at most
    where the model is unsure for long and no label changes; they have the numbers after those of the
    changes, in time, and count as windows in the summary.

    Returns the same rows and columns, and after them ``change_point`` (int8, 1 on the first row of
    a new label), ``flag_window`` (int64, windows numbered from 1 in time, 0 = none), ``flagged``
    (int8, 1 where the row is in a window) and ``window_priority`` (float64, 0..1, how urgent it is
    to look at the row's window, null outside of windows).

    Raises PermanentProblem when a column is missing or empty somewhere, when time does not
    increase, and when the width is not a length of time.
    """
    if not math.isfinite(seconds_window) or seconds_window < 0:
        raise PermanentProblem(
            f"A review window of {seconds_window} s cannot be made; give its total width in seconds, "
            "for example 3.0."
        )
    timestamps_s, behavior = _checked(predictions)
    rows = predictions.height

    change_point = np.zeros(rows, dtype=bool)
    change_point[1:] = behavior[1:] != behavior[:-1]
    reach_s = seconds_window / 2 + WINDOW_TOLERANCE_S
    changes_s = timestamps_s[change_point]
    first = np.searchsorted(timestamps_s, changes_s - reach_s, side="left")
    stop = np.searchsorted(timestamps_s, changes_s + reach_s, side="right")

    # One pass over the rows: +1 where a window opens, -1 after it closes. As windows that overlap
    # or adjoin are one, the windows are the unbroken runs of covered rows.
    opened = np.bincount(first, minlength=rows + 1) - np.bincount(stop, minlength=rows + 1)
    covered = np.cumsum(opened[:rows]) > 0
    begins = covered & ~np.concatenate([[False], covered[:-1]])[:rows]
    flag_window = np.where(covered, np.cumsum(begins), 0)
    if uncertain_windows > 0:
        windows = int(flag_window.max()) if rows else 0
        moments = unsure_moments(
            predictions, covered, seconds_window=seconds_window, most=uncertain_windows
        )
        for number, (begin, end) in enumerate(moments, start=windows + 1):
            flag_window[begin:end] = number
    flags = predictions.with_columns(
        pl.Series("change_point", change_point.astype(np.int8)),
        pl.Series("flag_window", flag_window.astype(np.int64)),
        pl.Series("flagged", (flag_window > 0).astype(np.int8)),
    )
    return flags.with_columns(
        pl.Series("window_priority", window_priorities(flags), dtype=pl.Float64, nan_to_null=True)
    )


def flagged_frame_numbers(flags: pl.DataFrame) -> list[int]:
    """The distinct values of ``frame`` in flagged rows, in increasing order."""
    return flags.filter(pl.col("flag_window") > 0)["frame"].unique().sort().to_list()


def effective_fps(
    video_fps: float | None,
    *,
    stride: int | None = None,
    timestamps_s: np.ndarray | None = None,
) -> float | None:
    """Rows per second of the table.

    With a stride: video_fps / stride. Without one (a target rate was sampled): the rate of the
    sampled timestamps, (n - 1) / (last - first). None where neither is known, as with one frame.
    """
    if stride is not None:
        return video_fps / stride if video_fps is not None else None
    if timestamps_s is None or len(timestamps_s) < 2:
        return None
    return (len(timestamps_s) - 1) / float(timestamps_s[-1] - timestamps_s[0])


def flag_summary(
    flags: pl.DataFrame, *, flagged_frames: int, effective_fps: float | None
) -> dict[str, Any]:
    """The statistics of one video, with the keys of ``SUMMARY_KEYS`` in their order.

    flags: what ``flag_predictions`` returned. flagged_frames: distinct frames copied for review.
    ``flagged_frames_pct`` is 100 * flagged_frames / total_rows to one decimal, None without rows.
    ``<state>_mask_rows`` are rows whose mask is in that state, ``doubtful_mask_rows`` those of all
    states in DOUBTFUL.
    """
    rows = flags.height
    states = dict(flags["mask_state"].value_counts().iter_rows())
    return {
        "total_rows": rows,
        "predicted_change_points": int(flags["change_point"].sum()),
        "flagged_frames": flagged_frames,
        "flagged_frames_pct": round(100 * flagged_frames / rows, 1) if rows else None,
        "windows_count": int(flags["flag_window"].max() or 0),  # type: ignore[arg-type]
        "rows_covered_by_windows": int((flags["flag_window"] > 0).sum()),
        "effective_fps": round(effective_fps, 6) if effective_fps is not None else None,
        "doubtful_mask_rows": sum(states.get(state.label, 0) for state in DOUBTFUL),
        **{f"{state.label}_mask_rows": states.get(state.label, 0) for state in NOT_FOUND_AS_USUAL},
    }


def copy_flagged_frames(frames_dir: Path, frames: Iterable[int], watch_dir: Path) -> int:
    """Make ``watch_dir`` hold exactly the given frames (000000.jpg, ...) of ``frames_dir``.

    The folder appears whole or not at all, and replaces an earlier one. A frame that is not there
    is left out and not counted. Hard links where the file system allows, copies elsewhere: a
    finished frame is never written again, so the two cannot drift apart.

    Returns the number of distinct frames now in ``watch_dir``.
    """
    watch_dir = Path(watch_dir)
    watch_dir.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{watch_dir.name}-", dir=watch_dir.parent))
    copied = 0
    try:
        made.chmod(0o755)  # mkdtemp's 0700 would hide the folder from the people it is for
        # Thousands of names: plain text, as a Path for each costs more than the link.
        there, here = os.fspath(frames_dir), os.fspath(made)
        for frame in sorted(set(frames)):
            name = f"{frame:06d}.jpg"
            copied += _link_or_copy(f"{there}/{name}", f"{here}/{name}")
        replaced = made.with_name(made.name + "-old")
        if watch_dir.exists():
            os.replace(watch_dir, replaced)
        os.replace(made, watch_dir)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return copied


def _link_or_copy(source: str, target: str) -> bool:
    """Whether the source was there to be taken."""
    try:
        os.link(source, target)
    except OSError:
        if not os.path.isfile(source):
            return False
        shutil.copyfile(source, target)  # another file system, or one without hard links
    return True


def _checked(predictions: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    for column in ("timestamp_s", "behavior", "mask_state"):
        if column not in predictions.columns:
            raise PermanentProblem(
                f"The predictions have no column {column}, so no changes can be flagged; "
                "make the predictions again."
            )
        if predictions[column].null_count():
            raise PermanentProblem(
                f"The predictions have rows without {column}, so no changes can be flagged; "
                "make the predictions again."
            )
    timestamps_s = predictions["timestamp_s"].cast(pl.Float64).to_numpy()
    if not np.all(np.isfinite(timestamps_s)) or np.any(np.diff(timestamps_s) <= 0):
        raise PermanentProblem(
            "The timestamps of the predictions do not increase from row to row, so windows of time "
            "cannot be drawn; make the frame table and the predictions again."
        )
    behavior = predictions["behavior"].cast(pl.String).cast(pl.Categorical).to_physical()
    return timestamps_s, behavior.to_numpy()
