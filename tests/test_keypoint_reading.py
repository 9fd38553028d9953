"""Tracking files of DeepLabCut, SLEAP and plain tables, told apart by what is in them."""

from pathlib import Path

import numpy as np
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.keypoints.reading import read_points

DEEPLABCUT = """scorer,net,net,net,net,net,net
bodyparts,nose,nose,nose,tailbase,tailbase,tailbase
coords,x,y,likelihood,x,y,likelihood
0,1.5,2,0.9,10,20,0.8
1,2.5,3,0.05,,,
"""
SEVERAL_ANIMALS = """scorer,net,net,net,net,net,net
individuals,ann,ann,ann,bob,bob,bob
bodyparts,nose,nose,nose,nose,nose,nose
coords,x,y,likelihood,x,y,likelihood
0,1,2,1,5,6,1
1,1,2,1,7,8,1
"""
SLEAP = """track,frame_idx,instance.score,nose.x,nose.y,nose.score,base.x,base.y,base.score
,3,0.9,1,2,0.8,10,20,0.7
,4,0.9,1,3,0.8,,,
,7,0.9,1,4,0.8,10,21,0.7
"""
FLAT = """frame,Nose_x,Nose_y,Nose_likelihood,Mid-Back_x,Mid-Back_y,freezing_human
0,1,2,0.9,5,6,0
1,1,3,NaN,5,7,1
"""


def written(folder: Path, text: str, name: str = "tracking.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problem_with(folder: Path, text: str, **options: str) -> str:
    with pytest.raises(PermanentProblem) as caught:
        read_points(written(folder, text), fps=10, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_deeplabcut_gives_every_part_with_its_likelihood(tmp_path: Path) -> None:
    points = read_points(written(tmp_path, DEEPLABCUT), fps=10)
    assert points.parts == ("nose", "tailbase")
    np.testing.assert_array_equal(points.x, [[1.5, 10], [2.5, np.nan]])
    np.testing.assert_array_equal(points.y, [[2, 20], [3, np.nan]])
    np.testing.assert_array_equal(points.likelihood, [[0.9, 0.8], [0.05, np.nan]])
    np.testing.assert_array_equal(points.source_frame, [0, 1])
    np.testing.assert_allclose(points.timestamp_s, [0, 0.1])


def test_deeplabcut_with_several_animals_gives_the_one_that_was_asked_for(tmp_path: Path) -> None:
    points = read_points(written(tmp_path, SEVERAL_ANIMALS), fps=10, animal="bob")
    np.testing.assert_array_equal(points.x, [[5], [7]])


def test_several_animals_and_no_choice_is_refused_and_they_are_named(tmp_path: Path) -> None:
    assert "ann, bob" in problem_with(tmp_path, SEVERAL_ANIMALS)
    assert "no animal 'carl'" in problem_with(tmp_path, SEVERAL_ANIMALS, animal="carl")


@pytest.mark.parametrize("text", [DEEPLABCUT, SLEAP, FLAT])
def test_a_file_that_names_no_animal_has_none_to_choose(tmp_path: Path, text: str) -> None:
    sentence = problem_with(tmp_path, text, animal="bob")
    assert "names no animal, so there is no animal 'bob' to choose" in sentence


def test_a_deeplabcut_header_of_several_animals_without_any_has_no_body_part(
    tmp_path: Path,
) -> None:
    empty = "scorer\nindividuals\nbodyparts\ncoords\n0\n1\n"
    assert "no body part" in problem_with(tmp_path, empty)
    assert "names no animal" in problem_with(tmp_path, empty, animal="bob")


def test_sleap_gives_a_row_for_every_frame_also_for_those_without_an_animal(tmp_path: Path) -> None:
    points = read_points(written(tmp_path, SLEAP), fps=10)
    assert points.parts == ("nose", "base")
    np.testing.assert_array_equal(points.source_frame, [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(points.y[:, 0], [2, 3, np.nan, np.nan, 4])
    np.testing.assert_array_equal(points.likelihood[:, 1], [0.7, np.nan, np.nan, np.nan, 0.7])
    np.testing.assert_allclose(points.timestamp_s, [0.3, 0.4, 0.5, 0.6, 0.7])


def test_sleap_tracks_are_animals(tmp_path: Path) -> None:
    two = SLEAP.replace("\n,4", "\ntrack_1,4").replace("\n,", "\ntrack_0,")
    assert "track_0, track_1" in problem_with(tmp_path, two)
    points = read_points(written(tmp_path, two), fps=10, animal="track_1")
    np.testing.assert_array_equal(points.source_frame, [4])


def test_two_sleap_animals_in_one_frame_without_a_track_are_refused(tmp_path: Path) -> None:
    assert "frame 3" in problem_with(tmp_path, SLEAP.replace("\n,4,", "\n,3,"))


def test_a_sleap_file_that_counts_frames_by_the_billion_is_refused_at_once(tmp_path: Path) -> None:
    assert "no video" in problem_with(tmp_path, SLEAP.replace("\n,7,", "\n,9000000000,"))


def test_a_plain_table_gives_parts_and_leaves_the_rest(tmp_path: Path) -> None:
    points = read_points(written(tmp_path, FLAT), fps=50)
    assert points.parts == ("Nose", "Mid-Back")
    np.testing.assert_array_equal(points.likelihood, [[0.9, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(points.timestamp_s, [0, 0.02])


def test_a_plain_table_may_have_its_own_times_another_separator_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    text = "\ufefftimestamp_s;nose_x;nose_y\n0.5;1;2\n0.75;1;3\n"
    points = read_points(written(tmp_path, text), fps=50)
    np.testing.assert_array_equal(points.timestamp_s, [0.5, 0.75])
    assert np.isnan(points.likelihood).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a,b,c\n1,2,3\n", "neither DeepLabCut"),
        (FLAT + "2,1,2\n", "Line 4 .* has 3 cells"),
        (FLAT + "2,1,2,0.9,5,6,0,9\n", "Line 4 .* has 8 cells"),
        (FLAT.replace("Mid-Back", "Nose"), "two columns for x of Nose"),
        (FLAT.replace("Mid-Back_y", "other"), "no y of Mid-Back"),
        (FLAT.replace("0,1,2,0.9", "0,1,two,0.9"), "'two' in column Nose_y, row 1"),
        (FLAT.replace("\n1,", "\n0,"), "frame numbers .* do not increase"),
        ("time_s,nose_x,nose_y\n0.5,1,2\nnan,1,3\n", "The times .* do not increase"),
        (FLAT.replace("\n1,", "\n1.5,"), "no frame number"),
        (DEEPLABCUT.replace("\n0,", "\nlabeled-data/img0.png,"), "names pictures"),
        (DEEPLABCUT.replace("likelihood\n", "z\n"), "'z' of tailbase"),
        (
            DEEPLABCUT.replace("coords,x,y,likelihood,", "coords,x,y,x,"),
            "two columns for x of nose",
        ),
        (DEEPLABCUT.replace("coords,x,", "coords,x,x,"), "header rows"),
        (DEEPLABCUT + "2,1,2\n", "Line 6 .* has 3 cells"),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_one_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    import re

    assert re.search(said, problem_with(tmp_path, text))


def test_a_picture_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe")
    with pytest.raises(PermanentProblem, match="no text"):
        read_points(tmp_path / "picture.csv", fps=10)
    with pytest.raises(PermanentProblem, match="cannot be read"):
        read_points(tmp_path / "nothing.csv", fps=10)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_frame_rate_that_is_none_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(PermanentProblem, match="no number of frames per second"):
        read_points(written(tmp_path, FLAT), fps=fps)


def test_a_header_without_rows_is_no_row(tmp_path: Path) -> None:
    for text in (DEEPLABCUT, FLAT, SLEAP):
        header = text.rsplit("\n", 3 if text is not SLEAP else 4)[0] + "\n"
        points = read_points(written(tmp_path, header), fps=10)
        assert points.rows == 0


def test_infinite_and_missing_values_are_no_position(tmp_path: Path) -> None:
    points = read_points(written(tmp_path, FLAT.replace("0,1,2", "0,inf,2")), fps=10)
    assert np.isnan(points.x[0, 0])
    assert np.isnan(points.y[0, 0]), "a point without x is nowhere"
