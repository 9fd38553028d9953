"""Change points, windows around them, the copied frames and the summary."""

import random
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor_assets.compute.behavior import review_flags
from tailor_assets.compute.behavior.review_flags import (
    copy_flagged_frames,
    effective_fps,
    flag_predictions,
    flag_summary,
    flagged_frame_numbers,
)
from tailor_assets.compute.errors import PermanentProblem


def predictions(labels, timestamps_s, states=None):
    return pl.DataFrame(
        {
            "frame": np.arange(len(labels), dtype=np.int64),
            "timestamp_s": np.asarray(timestamps_s, dtype=np.float64),
            "behavior": pl.Series(list(labels), dtype=pl.String),
            "mask_state": pl.Series(states or ["tracked"] * len(labels), dtype=pl.String),
        }
    )


def at_rate(labels, fps):
    return predictions(labels, np.arange(len(labels)) / fps)


NO_DOUBT = {
    "doubtful_mask_rows": 0,
    "refound_mask_rows": 0,
    "uncertain_mask_rows": 0,
    "merged_mask_rows": 0,
    "swapped_mask_rows": 0,
    "exploded_mask_rows": 0,
    "lost_mask_rows": 0,
    "not_started_mask_rows": 0,
}


def naive_flags(labels, timestamps_s, seconds_window):
    """The words of the specification, every row against every change."""
    changes = [i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]
    windows = [
        {
            i
            for i in range(len(labels))
            if abs(timestamps_s[i] - timestamps_s[c]) <= seconds_window / 2 + 1e-6
        }
        for c in changes
    ]
    merged = True
    while merged:
        merged = False
        for a in range(len(windows)):
            for b in range(a + 1, len(windows)):
                if any(i in windows[b] or i + 1 in windows[b] or i - 1 in windows[b]
                       for i in windows[a]):  # fmt: skip
                    windows[a] |= windows.pop(b)
                    merged = True
                    break
            if merged:
                break
    number = [0] * len(labels)
    for k, window in enumerate(sorted(windows, key=min), start=1):
        for i in window:
            number[i] = k
    return changes, number


@st.composite
def videos(draw):
    rows = draw(st.integers(0, 60))
    labels = draw(
        st.lists(st.sampled_from(["moving", "still", "no data"]), min_size=rows, max_size=rows)
    )
    repeats = draw(st.integers(1, 12))
    labels = [labels[i // repeats] for i in range(rows)]
    if draw(st.booleans()):
        steps = [1 / draw(st.sampled_from([3, 10, 25, 30]))] * rows
    else:
        steps = draw(
            st.lists(
                st.sampled_from([0.033, 0.067, 0.1, 0.133, 0.5, 1.5, 3.0, 7.0]),
                min_size=rows,
                max_size=rows,
            )
        )
    timestamps_s = np.concatenate([[0.0], np.cumsum(steps)])[:rows].tolist()
    return labels, timestamps_s, draw(st.sampled_from([0.0, 0.2, 1.0, 3.0, 10.0]))


@settings(max_examples=300, deadline=None)
@given(videos())
def test_flags_agree_with_the_specification_read_literally(video):
    labels, timestamps_s, seconds_window = video
    flags = flag_predictions(predictions(labels, timestamps_s), seconds_window=seconds_window)
    changes, number = naive_flags(labels, timestamps_s, seconds_window)
    assert np.flatnonzero(flags["change_point"].to_numpy()).tolist() == changes
    assert flags["flag_window"].to_list() == number
    assert flags["flagged"].to_list() == [int(n > 0) for n in number]


def test_a_window_of_3_seconds_at_3_fps_reaches_4_rows_either_side():
    flags = at_rate(["still"] * 20 + ["moving"] * 20, 3.0).pipe(flag_predictions)
    assert np.flatnonzero(flags["flag_window"].to_numpy()).tolist() == list(range(16, 25))
    assert flags["change_point"].sum() == 1


def test_windows_that_adjoin_are_one_and_windows_one_row_apart_are_two():
    # At 3 fps a window covers 9 rows: changes 9 rows apart adjoin, 10 rows apart leave a row.
    adjoining = at_rate("a" * 20 + "b" * 9 + "c" * 20, 3.0)
    apart = at_rate("a" * 20 + "b" * 10 + "c" * 20, 3.0)
    assert flag_predictions(adjoining)["flag_window"].max() == 1
    assert flag_predictions(apart)["flag_window"].max() == 2


def test_losing_the_animal_is_a_change_and_the_first_row_is_none():
    flags = at_rate(["no data"] * 30 + ["still"] * 30 + ["no data"] * 30, 10.0)
    changes = np.flatnonzero(flag_predictions(flags)["change_point"].to_numpy())
    assert changes.tolist() == [30, 60]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_without_a_change_has_no_window(rows):
    table = at_rate(["still"] * rows, 10.0)
    flags = flag_predictions(table)
    assert flags.columns == [
        *table.columns, "change_point", "flag_window", "flagged", "window_priority",
    ]  # fmt: skip
    assert flags.height == rows
    assert flag_summary(flags, flagged_frames=0, effective_fps=None) == {
        "total_rows": rows,
        "predicted_change_points": 0,
        "flagged_frames": 0,
        "flagged_frames_pct": 0.0 if rows else None,
        "windows_count": 0,
        "rows_covered_by_windows": 0,
        "effective_fps": None,
        **NO_DOUBT,
    }


def test_the_example_of_the_specification_can_be_had():
    """8,999 rows, 395 changes, 115 windows and 1,684 rows, at 30 fps, stride 10 and 3.0 s."""
    windows, changes, rows, covered = 115, 395, 8999, 1684
    # A window of c changes whose first and last are d rows apart covers 9 + d rows.
    extra_changes = changes - windows
    extra_rows = covered - 9 * windows
    starts, row = [], 40
    change_rows = []
    for k in range(windows):
        c = extra_changes // windows + (k < extra_changes % windows)
        d = extra_rows // windows + (k < extra_rows % windows)
        change_rows += [row, *sorted(random.Random(k).sample(range(row + 1, row + d), c - 1))]
        change_rows.append(row + d)
        starts.append(row)
        row += d + 60
    is_change = np.zeros(rows, dtype=int)
    is_change[change_rows] = 1
    labels = np.where(np.cumsum(is_change) % 2 == 0, "still", "moving")
    flags = flag_predictions(at_rate(labels, 3.0), seconds_window=3.0)
    summary = flag_summary(flags, flagged_frames=1682, effective_fps=effective_fps(30.0, stride=10))
    assert summary == {
        "total_rows": 8999,
        "predicted_change_points": 395,
        "flagged_frames": 1682,
        "flagged_frames_pct": 18.7,
        "windows_count": 115,
        "rows_covered_by_windows": 1684,
        "effective_fps": 3.0,
        **NO_DOUBT,
    }
    assert tuple(summary) == review_flags.SUMMARY_KEYS


def test_a_million_rows_do_not_take_the_square_of_their_time():
    labels = np.where(np.random.default_rng(0).random(1_000_000) < 0.5, "still", "moving")
    table = at_rate(labels, 10.0)
    begin = time.process_time()
    flags = flag_predictions(table)
    assert time.process_time() - begin < 10  # 0.2 s on an idle processor
    assert flags["flagged"].sum() > 999_000


def test_a_doubtful_mask_is_carried_and_counted_and_flags_nothing():
    states = (
        ["not_started"] * 2 + ["tracked"] * 9 + ["swapped"] * 3 + ["held"] * 4 + ["uncertain"]
        + ["exploded"] * 2 + ["lost"] * 5 + ["refound"] + ["merged"] * 6
    )  # fmt: skip
    labels = ["still"] * len(states)
    flags = flag_predictions(predictions(labels, np.arange(len(states)) / 3, states))
    assert flags["mask_state"].to_list() == states
    assert flags["flagged"].sum() == 0
    summary = flag_summary(flags, flagged_frames=0, effective_fps=3.0)
    assert {name: summary[name] for name in NO_DOUBT} == {
        "doubtful_mask_rows": 13,
        "refound_mask_rows": 1,
        "uncertain_mask_rows": 1,
        "merged_mask_rows": 6,
        "swapped_mask_rows": 3,
        "exploded_mask_rows": 2,
        "lost_mask_rows": 5,
        "not_started_mask_rows": 2,
    }


def test_effective_fps_is_the_sampled_rate_where_no_stride_was_given():
    assert effective_fps(29.97, stride=10) == pytest.approx(2.997)
    assert effective_fps(None, stride=10) is None
    assert effective_fps(30.0, timestamps_s=np.arange(101) * 0.1) == pytest.approx(10.0)
    assert effective_fps(30.0, timestamps_s=np.array([0.0])) is None


def test_time_that_stands_still_is_refused_in_one_sentence():
    with pytest.raises(PermanentProblem, match="do not increase"):
        flag_predictions(predictions(["a", "b", "a"], [0.0, 0.1, 0.1]))


def test_a_missing_column_and_a_negative_window_are_refused():
    with pytest.raises(PermanentProblem, match="no column behavior"):
        flag_predictions(pl.DataFrame({"timestamp_s": [0.0]}))
    with pytest.raises(PermanentProblem, match=r"no column mask_state.*make the predictions again"):
        flag_predictions(at_rate("ab", 3.0).drop("mask_state"))
    with pytest.raises(PermanentProblem, match="total width"):
        flag_predictions(at_rate("ab", 3.0), seconds_window=-1.0)


@pytest.fixture
def frames_dir(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for frame in range(30):
        (folder / f"{frame:06d}.jpg").write_bytes(b"jpeg %d" % frame)
    return folder


def test_flagged_frames_are_copied_once_each_and_counted(tmp_path, frames_dir):
    flags = flag_predictions(at_rate("a" * 15 + "b" * 15, 3.0))
    watch = tmp_path / "out" / "watch"
    assert copy_flagged_frames(frames_dir, flagged_frame_numbers(flags), watch) == 9
    assert sorted(p.name for p in watch.iterdir()) == [f"{n:06d}.jpg" for n in range(11, 20)]
    assert (watch / "000011.jpg").read_bytes() == b"jpeg 11"


def test_copying_again_replaces_the_folder_and_leaves_nothing_beside_it(tmp_path, frames_dir):
    watch = tmp_path / "watch"
    assert copy_flagged_frames(frames_dir, [1, 2, 3, 3], watch) == 3
    assert copy_flagged_frames(frames_dir, [2, 4], watch) == 2
    assert sorted(p.name for p in watch.iterdir()) == ["000002.jpg", "000004.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "watch"]
    assert len(list(frames_dir.iterdir())) == 30


def test_a_missing_frame_is_left_out_of_the_count_and_no_flags_make_an_empty_folder(
    tmp_path, frames_dir
):
    (frames_dir / "000002.jpg").unlink()
    assert copy_flagged_frames(frames_dir, [1, 2, 3, 99], tmp_path / "watch") == 2
    assert copy_flagged_frames(frames_dir, [], tmp_path / "none") == 0
    assert (tmp_path / "none").is_dir()


def test_frames_are_copied_where_the_file_system_cannot_link(tmp_path, frames_dir, monkeypatch):
    def refuse(source, target):
        raise OSError("cross-device link")

    monkeypatch.setattr("os.link", refuse)
    watch = tmp_path / "watch"
    assert copy_flagged_frames(frames_dir, [5], watch) == 1
    assert (watch / "000005.jpg").read_bytes() == b"jpeg 5"
    assert (watch / "000005.jpg").stat().st_ino != (frames_dir / "000005.jpg").stat().st_ino


def test_a_copy_that_fails_leaves_the_earlier_folder_as_it_was(tmp_path, frames_dir, monkeypatch):
    watch = tmp_path / "watch"
    copy_flagged_frames(frames_dir, [1], watch)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space"):
        copy_flagged_frames(frames_dir, [2], watch)
    assert [p.name for p in watch.iterdir()] == ["000001.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "watch"]
