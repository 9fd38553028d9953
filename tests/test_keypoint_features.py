"""Features of tracked points: roles by name, formulas by hand, and nothing where nothing is known."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.cleaning import Cleaning
from tailor_assets.compute.keypoints.part_roles import ROLE_NAMES, find_roles
from tailor_assets.compute.keypoints.point_features import keypoint_features
from tailor_assets.compute.keypoints.tracked_points import TrackedPoints

PAGE = Path(__file__).parents[1] / "docs" / "keypoints.md"
AS_TRACKED = Cleaning(0, 0, 0, 0, 0)


def points_of(
    places: dict[str, np.ndarray], fps: float = 10.0, likelihood: float = 1.0
) -> TrackedPoints:
    """places: part -> [rows, 2]."""
    xy = np.stack(list(places.values()), axis=1).astype(np.float64)
    rows = xy.shape[0]
    return TrackedPoints(
        tuple(places),
        xy[:, :, 0],
        xy[:, :, 1],
        np.full(xy.shape[:2], likelihood),
        np.arange(rows),
        np.arange(rows) / fps,
    )


def walking_mouse(rows: int = 60, fps: float = 10.0) -> dict[str, np.ndarray]:
    """A mouse, 8 px wide and 60 px long, that walks to the right at 20 px/s, nose ahead."""
    start = {
        "Nose": (60, 0), "LeftEar": (50, -4), "RightEar": (50, 4), "Mid-Back": (30, 0),
        "LeftLeg": (10, -4), "RightLeg": (10, 4), "Tailbase": (0, 0), "Tail": (-30, 0),
    }  # fmt: skip
    walk = np.column_stack([20 * np.arange(rows) / fps, np.zeros(rows)])
    return {part: walk + place for part, place in start.items()}


def values(features: pl.DataFrame, name: str) -> np.ndarray:
    return features[name].fill_null(np.nan).to_numpy()


def test_the_parts_of_well_known_projects_find_their_roles() -> None:
    behaviordepot = list(walking_mouse())
    assert find_roles(behaviordepot) == {
        "nose": "Nose", "left_ear": "LeftEar", "right_ear": "RightEar", "mid_back": "Mid-Back",
        "left_hip": "LeftLeg", "right_hip": "RightLeg", "tail_base": "Tailbase", "tail_tip": "Tail",
    }  # fmt: skip
    open_field = find_roles(["snout", "leftear", "rightear", "tailbase"])
    assert list(open_field) == ["nose", "left_ear", "right_ear", "tail_base"]
    jabs = find_roles(["NOSE", "LEFT_EAR", "RIGHT_EAR", "BASE_NECK", "CENTER_SPINE", "BASE_TAIL"])
    assert jabs["mid_back"] == "CENTER_SPINE"
    assert jabs["neck"] == "BASE_NECK"
    superanimal = find_roles(["nose", "left_ear", "neck", "mid_back", "mouse_center", "tail_base"])
    assert superanimal["mid_back"] == "mid_back"
    deepof = find_roles(["B_Nose", "B_Left_ear", "B_Center", "B_Tail_base"])
    assert deepof == {
        "nose": "B_Nose", "left_ear": "B_Left_ear", "mid_back": "B_Center",
        "tail_base": "B_Tail_base",
    }  # fmt: skip


def test_a_plain_tail_is_the_base_only_where_there_is_no_other() -> None:
    assert find_roles(["nose", "tail"])["tail_base"] == "tail"
    assert find_roles(["nose", "tailbase", "tail"])["tail_tip"] == "tail"


def test_roles_that_are_given_are_believed_and_wrong_ones_refused() -> None:
    assert find_roles(["a", "nose"], {"nose": "a"}) == {"nose": "a"}
    assert find_roles(["a", "nose"], {"nose": ""}) == {}
    with pytest.raises(PermanentProblem, match="no role 'nosee'"):
        find_roles(["a"], {"nosee": "a"})
    with pytest.raises(PermanentProblem, match="No part 'b'"):
        find_roles(["a"], {"nose": "b"})


def test_no_name_of_a_part_means_two_roles() -> None:
    names = [name for names in ROLE_NAMES.values() for name in names]
    assert len(names) == len(set(names))


def test_speeds_directions_and_lengths_are_as_worked_out_by_hand() -> None:
    features = keypoint_features(points_of(walking_mouse()), px_per_cm=10, cleaning=AS_TRACKED)
    for part in ("nose", "head", "mid_back", "rear_back", "tail_base", "body", "part"):
        name = f"{part}_speed_mean_cm_s" if part == "part" else f"{part}_speed_cm_s"
        np.testing.assert_allclose(values(features, name)[1:], 2.0)
        assert features[name][0] is None, "the first row has no step"
    np.testing.assert_allclose(values(features, "body_length_cm"), 6.0)
    np.testing.assert_allclose(values(features, "distance_nose_tail_base_cm"), 6.0)
    np.testing.assert_allclose(values(features, "head_direction_cos"), 1.0)
    np.testing.assert_allclose(values(features, "head_turning_deg_s")[1:], 0.0)
    np.testing.assert_allclose(values(features, "head_body_angle_deg"), 0.0, atol=1e-9)
    np.testing.assert_allclose(values(features, "angle_nose_mid_back_tail_base_deg"), 180.0)
    np.testing.assert_allclose(values(features, "shape_change_cm_s")[1:], 0.0, atol=1e-9)
    np.testing.assert_allclose(values(features, "path_length_cm"), 0.2 * np.arange(60))
    assert features.schema["frame"] == pl.Int64
    assert set(features["mask_state"]) == {"tracked"}


def test_a_head_that_is_turned_to_the_right_of_the_screens_way_down_has_a_positive_angle() -> None:
    """The body looks along x; the nose is turned by 30 degrees towards y, which runs down."""
    rows = np.zeros((10, 1))
    turned = np.radians(30.0)
    parts = {
        "nose": np.hstack([rows + 30 + 10 * np.cos(turned), rows + 10 * np.sin(turned)]),
        "neck": np.hstack([rows + 30, rows]),
        "mid_back": np.hstack([rows + 15, rows]),
        "tail_base": np.hstack([rows, rows]),
    }
    features = keypoint_features(points_of(parts), cleaning=AS_TRACKED)
    np.testing.assert_allclose(values(features, "head_direction_sin"), np.sin(turned))
    np.testing.assert_allclose(values(features, "head_body_angle_deg"), 30.0, atol=1e-6)


def test_a_turning_head_turns_clockwise_on_the_screen_and_across_the_half_turn() -> None:
    angle = np.radians(150 + 9 * np.arange(40))  # 90 degrees per second, over the jump at 180
    nose = 20 * np.column_stack([np.cos(angle), np.sin(angle)])
    side = 4 * np.column_stack([-np.sin(angle), np.cos(angle)])
    ears = {"nose": nose, "left_ear": -side, "right_ear": side}
    both = keypoint_features(points_of(ears), cleaning=AS_TRACKED)
    np.testing.assert_allclose(values(both, "head_turning_deg_s")[1:], 90.0)
    np.testing.assert_allclose(values(both, "head_turning_abs_deg_s")[1:], 90.0)
    del ears["nose"]
    by_ears = keypoint_features(points_of(ears), cleaning=AS_TRACKED)
    np.testing.assert_allclose(values(by_ears, "head_turning_deg_s")[1:], 90.0)
    for column in ("head_direction_sin", "head_direction_cos"):
        np.testing.assert_allclose(values(by_ears, column), values(both, column), atol=1e-9)


def test_a_lost_nose_makes_no_jump_of_the_head_and_no_turn() -> None:
    places = walking_mouse()
    places["Nose"][20:40] = np.nan
    features = keypoint_features(points_of(places), px_per_cm=10, cleaning=AS_TRACKED)
    np.testing.assert_allclose(values(features, "head_speed_cm_s")[1:], 2.0)
    np.testing.assert_allclose(values(features, "head_turning_deg_s")[1:], 0.0, atol=1e-9)
    np.testing.assert_allclose(values(features, "body_speed_cm_s")[1:], 2.0)
    assert features["nose_speed_cm_s"][20:41].null_count() == 21
    assert features["body_length_cm"][20:40].null_count() == 20
    np.testing.assert_allclose(values(features, "mask_quality")[25], 7 / 8)


def test_a_part_that_was_never_found_takes_only_its_own_columns_along() -> None:
    places = walking_mouse()
    places["LeftEar"][:] = np.nan
    features = keypoint_features(points_of(places), px_per_cm=10)
    assert features["left_ear_speed_cm_s"].null_count() == 60
    assert features["distance_nose_left_ear_cm"].null_count() == 60
    np.testing.assert_allclose(values(features, "rear_back_speed_cm_s")[1:], 2.0)
    np.testing.assert_allclose(values(features, "body_speed_cm_s")[1:], 2.0)


def test_an_animal_that_is_lost_has_no_number_and_no_zero() -> None:
    places = walking_mouse()
    for place in places.values():
        place[10:40] = np.nan
    features = keypoint_features(points_of(places), px_per_cm=10)
    lost = features[12:38].drop(
        "frame", "source_frame", "timestamp_s", "mask_quality", "mask_state",
        *(name for name in features.columns if name.endswith("_likelihood")),
        *(name for name in features.columns if re.search(r"_(1|3)s$", name)),
    )  # fmt: skip
    assert all(column.null_count() == 26 for column in lost.select(pl.exclude(r"^.*_0.3s$")))
    assert set(features["mask_state"][12:38]) == {"lost"}
    assert features["mask_quality"][20] == 0.0


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_recording_of_hardly_any_rows_has_its_columns(rows: int) -> None:
    usual = keypoint_features(points_of(walking_mouse()), px_per_cm=10, rich=True)
    short = keypoint_features(points_of(walking_mouse(rows)), px_per_cm=10, rich=True)
    assert short.columns == usual.columns
    assert short.schema == usual.schema
    assert short.height == rows


def test_without_a_scale_lengths_are_in_pixels_and_say_so() -> None:
    features = keypoint_features(points_of(walking_mouse()))
    assert not [name for name in features.columns if "_cm" in name]
    np.testing.assert_allclose(values(features, "mid_back_speed_px_s")[1:], 20.0)


@pytest.mark.parametrize("scale", [0.0, -3.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(PermanentProblem, match="no number of pixels per centimetre"):
        keypoint_features(points_of(walking_mouse()), px_per_cm=scale)


def test_columns_are_the_same_whatever_the_parts_are_called() -> None:
    places = walking_mouse()
    names = [
        "snout",
        "ear_left",
        "ear_right",
        "center_spine",
        "left_hip",
        "right_hip",
        "tail1",
        "tail_end",
    ]
    others = dict(zip(names, places.values(), strict=True))
    one = keypoint_features(points_of(places), px_per_cm=10, rich=True)
    other = keypoint_features(points_of(others), px_per_cm=10, rich=True)
    assert one.equals(other)


def test_parts_without_a_role_or_with_a_role_s_name_have_columns_of_their_own() -> None:
    places = {"nose": walking_mouse()["Nose"], "Fibre Tip": walking_mouse()["Tail"]}
    features = keypoint_features(points_of(places), roles={"nose": ""})
    assert {"fibre_tip_speed_px_s", "nose_part_speed_px_s"} <= set(features.columns)
    assert "nose_speed_px_s" not in features.columns


def test_the_rates_of_uneven_frames_are_per_second() -> None:
    even = points_of(walking_mouse(), fps=10)
    kept = np.array([0, 1, 3, 4, 7, 8, 9, 12, 20])
    uneven = TrackedPoints(
        even.parts, even.x[kept], even.y[kept], even.likelihood[kept],
        even.source_frame[kept], even.timestamp_s[kept],
    )  # fmt: skip
    features = keypoint_features(uneven, px_per_cm=10, cleaning=AS_TRACKED)
    np.testing.assert_allclose(values(features, "mid_back_speed_cm_s")[1:], 2.0)


def test_windows_before_and_after_lie_where_they_say() -> None:
    places = walking_mouse(100, fps=10)
    for place in places.values():
        place[50:, 0] = place[50, 0]  # walks until 5 s, then stands
    features = keypoint_features(points_of(places), px_per_cm=10, cleaning=AS_TRACKED, rich=True)
    before = values(features, "body_speed_cm_s_before_mean_1s")
    after = values(features, "body_speed_cm_s_after_mean_1s")
    np.testing.assert_allclose(before[50], 2.0)
    np.testing.assert_allclose(after[50], 0.0, atol=1e-9)
    assert np.isnan(before[:7]).all(), "there is no second before the first"
    assert np.isnan(after[-7:]).all()


def test_every_column_is_on_the_page_and_every_line_of_the_page_is_a_column() -> None:
    features = keypoint_features(
        points_of({**walking_mouse(), "neck": walking_mouse()["Nose"]}), px_per_cm=10, rich=True
    )
    page = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([^`]+)` \|", page.split("## The features")[1], re.MULTILINE)
    patterns = {line: _pattern(line) for line in listed}
    for column in features.columns:
        assert any(p.fullmatch(column) for p in patterns.values()), f"{column} is not on the page"
    for line, pattern in patterns.items():
        assert any(pattern.fullmatch(c) for c in features.columns), f"no column is {line}"


def _pattern(line: str) -> re.Pattern[str]:
    """``<part>_speed_<u>_s`` -> what its columns look like."""
    placeholders = {
        "<part>": r"[a-z0-9_]+", "<a>": r"[a-z0-9_]+", "<b>": r"[a-z0-9_]+", "<c>": r"[a-z0-9_]+",
        "<u>": r"(cm|px)", "<column>": r"[a-z0-9_]+", "<w>": r"[0-9.]+",
        "<statistic>": r"(mean|median|std|skew|kurtosis|min|max)",
    }  # fmt: skip
    pattern = re.escape(line)
    for placeholder, regex in placeholders.items():
        pattern = pattern.replace(re.escape(placeholder), regex)
    return re.compile(pattern)
