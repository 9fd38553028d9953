"""The arithmetic of benchmarks/mask_quality on made masks, whose scores are known beforehand."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.mask_quality.__main__ import main
from benchmarks.mask_quality.report import Bar, Figure, figures_table
from benchmarks.mask_quality.scores import (
    ObjectScore,
    longest_run,
    lost_frames,
    packed_iou,
    points_inside,
    presence,
    runs,
    seen_whole,
    trimap_iou,
    worst_rows,
)
from benchmarks.mask_quality.sheets import Shot, write_sheet
from benchmarks.mask_quality.simulated import Clip, clip_of, figures, first_well_visible, score_clip
from tailor_assets.compute.mask_writer import MaskWriter

HEIGHT, WIDTH = 40, 50


def square(top: int, left: int, side: int = 10) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + side, left : left + side] = True
    return mask


NOTHING = np.zeros((HEIGHT, WIDTH), bool)


def score(iou, visible=None, absent=None, empty=None, whole=None, **fields) -> ObjectScore:
    iou = np.array(iou, float)
    none, every = np.zeros(len(iou), bool), np.ones(len(iou), bool)
    flags = {
        name: default if given is None else np.array(given, bool)
        for name, given, default in (
            ("visible", visible, every),
            ("absent", absent, none),
            ("empty", empty, none),
            ("whole", whole, every),
        )
    }
    return ObjectScore(
        **{"name": "mouse", "is_nest": False, "share": 0.01} | fields, iou=iou, **flags
    )


def test_pixels_that_a_trimap_does_not_judge_count_neither_for_nor_against():
    trimap = np.where(square(10, 10), 255, 0).astype(np.uint8)
    trimap[10:20, 20:25] = 128
    assert trimap_iou(square(10, 10), trimap) == 1
    assert trimap_iou(square(10, 10) | (trimap == 128), trimap) == 1
    assert trimap_iou(square(10, 15), trimap) == 0.5  # the half beside the body is not judged
    assert trimap_iou(square(15, 10), trimap) == pytest.approx(50 / 150)
    assert trimap_iou(NOTHING, trimap) == 0


def test_packed_masks_have_the_iou_of_the_masks_they_hold():
    masks = np.stack([square(0, 0), square(0, 5), NOTHING, NOTHING])
    truth = np.stack([square(0, 0), square(0, 0), square(0, 0), NOTHING])
    packed = [np.packbits(m.reshape(4, -1), axis=1) for m in (masks, truth)]
    assert packed_iou(*packed) == pytest.approx([1, 50 / 150, 0, 1])


def test_runs_are_found_also_at_both_ends():
    flags = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], bool)
    assert runs(flags) == [(0, 2), (4, 5), (6, 9)]
    assert longest_run(flags) == 3
    assert longest_run(np.zeros(5, bool)) == 0


def test_a_frame_is_lost_when_its_mask_is_empty_or_too_far_away():
    area, error = np.array([0, 90, 90, 90]), np.array([np.nan, 25.0, 25.1, 0.0])
    assert lost_frames(area, error).tolist() == [True, False, True, False]


def test_an_animal_is_absent_only_where_nothing_of_it_is_seen_for_a_while():
    area = np.full(60, 100)
    area[0:12] = 0  # before it comes
    area[20:29] = 0  # nine frames: too short
    area[35:45] = 0  # ten
    area[45] = 5  # a twentieth of it: judged by nobody
    visible, absent = presence(area)
    assert runs(absent) == [(0, 12), (35, 45)]
    assert runs(visible) == [(12, 20), (29, 35), (46, 60)]


def test_frames_without_the_animal_and_after_its_return_are_counted():
    absent = np.array([0] * 5 + [1] * 10 + [0] * 5, bool)
    iou = [0.9] * 5 + [0.0] * 10 + [0.1, 0.4, 0.5, 0.9, 0.9]
    empty = [0] * 5 + [1] * 7 + [0] * 3 + [0] * 5
    own = score(iou, visible=~absent, absent=absent, empty=empty)
    assert own.absent_called_absent == (7, 10)
    assert own.found_after_return == (3, 5)
    assert own.mean_iou == pytest.approx(np.mean([0.9] * 7 + [0.1, 0.4, 0.5]))
    assert own.goodness[12:15].tolist() == [0, 0, 0]
    comes_late = score(iou[5:], visible=~absent[5:], absent=absent[5:], empty=empty[5:])
    assert comes_late.absent_called_absent == (7, 10)
    assert comes_late.found_after_return == (0, 0)
    always_there = score([0.9] * 20)
    assert always_there.absent_called_absent == (0, 0)
    assert always_there.found_after_return == (0, 0)


def test_the_fall_compares_early_with_late_frames_and_leaves_out_the_click():
    iou = np.full(300, 0.5)
    iou[0], iou[1:51], iou[150:] = 0.0, 0.9, 0.7
    assert score(iou).fall == pytest.approx(0.2)
    assert np.isnan(score(iou[:100]).fall)


def test_what_nest_strands_do_to_the_iou_is_not_in_the_fall_of_the_whole_animal():
    iou, area = np.full(300, 0.9), np.full(300, 1000)
    iou[200:], area[200:] = 0.4, 500
    own = score(iou, whole=seen_whole(area))
    assert own.fall == pytest.approx(0.5 * 100 / 150)
    assert own.fall_whole == pytest.approx(0)


def test_points_are_inside_up_to_five_pixels_beside_the_mask():
    mask = square(10, 10)  # columns 10 to 19
    points = np.array([[15.0, 15.0], [24.0, 15.0], [25.0, 15.0], [-3.0, 15.0]])
    assert points_inside(mask, points).tolist() == [True, True, False, False]
    assert not points_inside(NOTHING, points).any()


def test_the_worst_frames_of_a_sheet_are_of_more_than_one_failure():
    drifting = np.linspace(0.5, 0.1, 100)
    other = np.full(100, 0.99)
    other[50] = 0.6
    worst = worst_rows({"a": drifting, "b": other, "c": np.full(9, np.nan)}, apart=30, per_group=2)
    assert worst == [("a", 99), ("a", 69), ("b", 50)]


def write_masks(path: Path, masks: dict[str, list[np.ndarray]]) -> Path:
    with MaskWriter(
        path, objects=list(masks), height=HEIGHT, width=WIDTH, segmenter="made"
    ) as writer:
        for row in range(len(masks["mouse"])):
            own = {name: frames[row] for name, frames in masks.items()}
            writer.append(
                source_frame=row, timestamp_s=row / 30, masks=own, scores=dict.fromkeys(own, 1.0)
            )
    return path


def made_clip(folder: Path) -> Clip:
    """80 frames: a mouse that is gone from 20 to 40, one that comes at 10, a tail and a nest."""
    truth = write_masks(
        folder / "truth.npz",
        {
            "mouse": [NOTHING if 20 <= t < 40 else square(5, 5) for t in range(80)],
            "mouse_2": [NOTHING if t < 10 else square(20, 5) for t in range(80)],
            "tail": [square(0, 0, 3)] * 80,
            "nest": [square(10, 30)] * 80,
        },
    )
    facts = {
        "seed": 7,
        "coat": "black",
        "lighting": "visible",
        "arena": "circular",
        "floor": "grey",
    }
    return clip_of(folder / "clip.mp4", truth, facts)


def test_every_object_of_the_truth_but_the_tail_is_clicked_where_it_is_first_seen(tmp_path):
    recording = made_clip(tmp_path).recording
    assert recording.objects == (("mouse", "animal"), ("mouse_2", "animal"), ("nest", "nest"))
    assert [p.source_frame for p in recording.prompts] == [0, 10, 0]
    for prompt, place in zip(recording.prompts, [(5, 5), (20, 5), (10, 30)], strict=True):
        assert square(*place)[int(prompt.y), int(prompt.x)]
    assert first_well_visible(np.array([0, 0, 40, 49, 50, 100, 100, 100, 100])) == 4


def test_a_clip_is_judged_object_by_object(tmp_path):
    clip = made_clip(tmp_path)
    masks = write_masks(
        tmp_path / "masks.npz",
        {
            # Found throughout, and half of the time that it is gone.
            "mouse": [NOTHING if 20 <= t < 30 else square(5, 5) for t in range(80)],
            "mouse_2": [square(20, 10)] * 80,
            "nest": [square(10, 30)] * 80,
        },
    )
    mouse, second, nest = score_clip(clip, masks)
    assert mouse.mean_iou == 1
    assert mouse.absent_called_absent == (10, 20)
    assert mouse.found_after_return == (40, 40)
    assert second.mean_iou == pytest.approx(50 / 150)
    assert second.absent_called_absent == (0, 10)  # it had not come yet
    assert second.share == pytest.approx(100 / (HEIGHT * WIDTH))
    assert nest.is_nest
    values = {f.what: f.value for f in figures([mouse, second, nest])}
    # 5% of the picture is large.
    assert values["mean IoU of bodies of >= 2% of the picture"] == pytest.approx((1 + 1 / 3) / 2)
    assert np.isnan(values["mean IoU of smaller bodies"])
    assert values["mean IoU of nests"] == 1
    assert values["frames without the animal called so, %"] == pytest.approx(100 * 10 / 30)


def test_a_bar_is_passed_at_its_very_edge_and_nothing_to_judge_is_no_miss():
    assert not Figure("a", 0.95, Bar(0.95)).missed
    assert Figure("a", 0.9499, Bar(0.95)).missed
    assert Figure("a", 1.0, Bar(0, 0)).missed
    assert not Figure("a", float("nan"), Bar(0.95)).missed
    table = figures_table({"x": [Figure("a", 0.5, Bar(high=0.4))], "y": [Figure("b", 1, digits=0)]})
    assert table.splitlines()[2:] == ["| a | 0.500 [<= 0.4: **missed**] | - |", "| b | - | 1 |"]


def test_a_sheet_shows_truth_in_green_and_the_mask_in_red(tmp_path):
    grey = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    shots = [
        Shot(lambda: grey, square(5, 5), ("first",), truth=square(8, 8)),
        Shot(lambda: grey, NOTHING, ("second", "nothing found"), points=np.array([[20.0, 20.0]])),
        Shot(lambda: grey, NOTHING, ("third",)),
    ]
    write_sheet(tmp_path / "deep" / "sheet.png", "made", shots)
    sheet = cv2.imread(str(tmp_path / "deep" / "sheet.png"))[..., ::-1].astype(int)
    green, red = ((sheet == colour).all(axis=2) for colour in ((0, 220, 0), (235, 30, 30)))
    first, second = (slice(0, 320), slice(320, 640))
    assert green[:, first].any()
    assert red[:, first].any()
    assert green[:, second].any()
    assert not red[:, second].any()


def test_absent_recordings_are_said_to_be_skipped(tmp_path, monkeypatch, capsys):
    for part in ("real", "stills", "empty"):
        monkeypatch.setattr(sys, "argv", ["", "--only", part, "--data", str(tmp_path)])
        assert main() == 0
        assert "SKIPPED" in capsys.readouterr().out


def test_an_unknown_segmenter_ends_the_run_with_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["", "--segmenters", "sam9"])
    assert main() == 2
    assert "no segmenter 'sam9'" in capsys.readouterr().err
