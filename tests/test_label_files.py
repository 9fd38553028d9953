"""Label files as people have them become one label per row, or one sentence."""

from itertools import pairwise

import numpy as np
import pytest

from tailor_assets.compute.behavior.training.label_files import LabelChoice, read_labels
from tailor_assets.compute.errors import PermanentProblem

TIMES = np.arange(100) / 10  # 10 s at 10 rows per second

# What BORIS 8 and 9 write: Observations > Export events > Tabular events.
TABULAR = (
    "Observation id\tObservation date\tDescription\tObservation duration\tObservation type\tSource\t"
    "Time offset (s)\tMedia duration (s)\tFPS\tSubject\tBehavior\tBehavioral category\tModifier #1\t"
    "Behavior type\tTime\tMedia file name\tImage index\tImage file path\tComment"
)
AGGREGATED = (
    "Observation id\tObservation date\tDescription\tObservation type\tSource\tTime offset (s)\t"
    "Coding duration\tMedia duration (s)\tFPS (frame/s)\tSubject\t"
    "Observation duration by subject by observation\tBehavior\tBehavioral category\tBehavior type\t"
    "Start (s)\tStop (s)\tDuration (s)\tMedia file name\tImage index start\tImage index stop\t"
    "Image file path start\tImage file path stop\tComment start\tComment stop"
)


def tabular(*events, subject="mouse 1", offset="0.0", observation="day 1", media="a.mp4"):
    lines = [TABULAR]
    for behavior, kind, time, *modifier in events:
        lines.append(
            f"{observation}\t2026-05-01 10:00:00\t\t10.0\tMedia file(s)\tplayer #1:a.mp4\t{offset}\t"
            f"10.0\t30.000\t{subject}\t{behavior}\t\t{modifier[0] if modifier else ''}\t{kind}\t"
            f"{time}\t{media}\t0\tNA\t"
        )
    return "\n".join(lines) + "\n"


def aggregated(*events, observation="day 1"):
    lines = [AGGREGATED]
    for behavior, kind, start, stop in events:
        lines.append(
            f"{observation}\t2026-05-01\t\tMedia file\tplayer #1:a.mp4\t0.0\t10.000\t10.000\t30.000\t"
            f"No focal subject\t10.0\t{behavior}\tNot defined\t{kind}\t{start}\t{stop}\tNA\ta.mp4\t0\t"
            "0\tNA\tNA\t\t"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture
def read(tmp_path):
    def read_text(text, name="video.csv", times=TIMES, encoding="utf-8", **arguments):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return read_labels(path, times, **arguments)

    return read_text


def spans(labels):
    """(label, first row, one past the last) of every run that has a label."""
    edges = [0, *(k for k in range(1, len(labels)) if labels[k] != labels[k - 1]), len(labels)]
    return [(labels[a], a, b) for a, b in pairwise(edges) if labels[a] is not None]


# ------------------------------------------------------------------------------- per frame


def test_a_label_per_frame_is_taken_by_the_rows_number(read):
    labels = read("frame,behavior\n0,rest\n1,rest\n2,groom\n5,\n6,no data\n")
    assert labels[:7] == ["rest", "rest", "groom", None, None, None, None]
    assert labels[7:] == [None] * 93


def test_a_label_per_frame_of_the_video_is_taken_by_source_frame(read):
    text = "source_frame,behavior\n" + "".join(f"{k},{'a' if k < 30 else 'b'}\n" for k in range(60))
    labels = read(text, source_frames=np.arange(100) * 3)
    assert spans(labels) == [("a", 0, 10), ("b", 10, 20)]
    with pytest.raises(PermanentProblem, match="counts the video's own frames"):
        read(text)


def test_time_goes_before_row_numbers_which_may_be_of_another_sampling(read):
    # 30 labels per second for 10 rows per second.
    text = "frame,timestamp_s,behaviour\n" + "".join(
        f"{k},{k / 30:.3f},{'a' if k < 150 else 'b'}\n" for k in range(300)
    )
    labels = read(text)
    assert spans(labels) == [("a", 0, 50), ("b", 50, 100)]
    # And 2 per second: each stands for the time around it.
    text = "timestamp_s,behavior\n" + "".join(f"{k / 2},{'ab'[k % 2]}\n" for k in range(20))
    labels = read(text)
    assert labels[0] == "a"
    assert [labels[5], labels[10]] == ["b", "a"]
    assert None not in labels[:97]


def test_frames_that_the_video_does_not_have_are_refused(read):
    with pytest.raises(PermanentProblem, match="labels frame 100 and the video has 100 analysed"):
        read("frame,behavior\n0,a\n100,b\n")
    with pytest.raises(PermanentProblem, match=r"goes on until 60 s and the video ends at 10\.000"):
        read("timestamp_s,behavior\n0,a\n60,b\n")


def test_two_labels_of_one_frame_are_refused_and_the_same_twice_is_fine(read):
    assert read("frame,behavior\n3,a\n3,a\n")[3] == "a"
    with pytest.raises(PermanentProblem, match=r"frame 3 two labels \(a and b\)"):
        read("frame,behavior\n3,a\n3,b\n")
    with pytest.raises(PermanentProblem, match=r"time 0\.5 s two labels"):
        read("timestamp_s,behavior\n0.5,a\n0.5,b\n")


@pytest.mark.parametrize("number", ["-1", "1.5", "x", ""])
def test_a_frame_that_is_no_number_is_named_with_its_line(read, number):
    with pytest.raises(PermanentProblem, match="line 3: frame is"):
        read(f"frame,behavior\n0,a\n{number},b\n")


# ------------------------------------------------------------------------------------ bouts


def test_a_bout_holds_its_start_and_not_its_stop(read):
    labels = read("behavior,start_s,stop_s\nrest,0,2\ngroom,2,2.5\nrest,5,10.4\n")
    assert spans(labels) == [("rest", 0, 20), ("groom", 20, 25), ("rest", 50, 100)]


def test_time_that_nobody_coded_is_not_labelled_unless_told_what_it_is(read):
    text = "behavior,start_s,stop_s\nfreezing,1,2\n"
    assert read(text).count(None) == 90
    labels = read(text, choice=LabelChoice(rest="other"))
    assert labels.count("other") == 90
    assert labels.count("freezing") == 10
    nothing = read("behavior,start_s,stop_s\n", choice=LabelChoice(rest="other"))
    assert nothing == ["other"] * 100


def test_two_behaviours_at_once_are_refused_unless_one_is_chosen(read):
    text = "behavior,start_s,stop_s\nrest,0,5\ngroom,4,6\n"
    with pytest.raises(PermanentProblem, match="rest and groom at once at 4 s"):
        read(text)
    labels = read(text, choice=LabelChoice(behaviors=("groom",)))
    assert spans(labels) == [("groom", 40, 60)]


def test_a_long_bout_that_holds_two_others_is_refused_at_the_second_too(read):
    with pytest.raises(PermanentProblem, match="rest and rear at once at 6 s"):
        read("behavior,start_s,stop_s\nrest,0,9\nrest,1,2\nrear,6,7\n")


@pytest.mark.parametrize("cells", ["3,2", "3,3", "3,", "x,4"])
def test_a_bout_without_a_start_before_its_stop_is_refused(read, cells):
    with pytest.raises(PermanentProblem, match="line 2"):
        read(f"behavior,start_s,stop_s\nrest,{cells}\n")


def test_events_before_the_video_or_long_after_it_are_refused(read):
    with pytest.raises(PermanentProblem, match="before 0 s"):
        read("behavior,start_s,stop_s\nrest,-1,2\n")
    assert read("behavior,start_s,stop_s\nrest,9,10.9\n")[99] == "rest"
    with pytest.raises(PermanentProblem, match=r"goes on until 11\.5 s"):
        read("behavior,start_s,stop_s\nrest,9,11.5\n")


def test_a_file_that_labels_nothing_of_the_video_is_refused(read):
    with pytest.raises(PermanentProblem, match="labels none of the 100 frames as Rest"):
        read("behavior,start_s,stop_s\nrest,1,2\n", choice=LabelChoice(behaviors=("Rest",)))


# ------------------------------------------------------------------------------------ BORIS


def test_tabular_events_of_boris_are_read(read):
    labels = read(
        tabular(
            ("rest", "START", "0.5"), ("sniff", "POINT", "1.04"), ("rest", "STOP", "2.0"),
            ("groom", "START", "2.0"), ("rear", "POINT", "4.0"), ("groom", "STOP", "3.5"),
        ),
        name="video.tsv",
    )  # fmt: skip
    assert spans(labels) == [
        ("rest", 5, 10), ("sniff", 10, 11), ("rest", 11, 20), ("groom", 20, 35), ("rear", 40, 41),
    ]  # fmt: skip


def test_tabular_events_as_boris_wrote_them_before_version_8_are_read(read):
    labels = read(
        "Observation id\tobservation #1\t\t\t\n\t\t\t\t\nMedia file(s)\t\t\t\t\n"
        "Player #1\ta.mp4\t\t\t\nTime offset (s)\t0.0\t\t\t\n\t\t\t\t\n"
        "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\t"
        "Status\n"
        "3.300\ta.mp4\t10.0\t25.0\tsubject1\ts\t\t\tSTART\n"
        "7.750\ta.mp4\t10.0\t25.0\tsubject1\ts\t\t\tSTOP\n"
    )
    assert spans(labels) == [("s", 33, 78)]


def test_aggregated_events_of_boris_are_read(read):
    labels = read(
        aggregated(("s", "STATE", "1.800", "8.125"), ("p", "POINT", "9.05", "9.05")),
        name="video.tsv",
    )
    assert spans(labels) == [("s", 18, 82), ("p", 90, 91)]


def test_a_row_between_two_stretches_of_labels_by_time_has_none(tmp_path):
    """Labels every tenth of a second from 0 to 1 s and from 2 to 3 s; nobody coded in between."""
    times = np.r_[np.arange(11), 20 + np.arange(11)] / 10
    lines = [f"{time:.1f},run" for time in times]
    path = tmp_path / "v.csv"
    path.write_text("timestamp_s,behavior\n" + "\n".join(lines))
    labels = read_labels(path, np.arange(31) / 10)
    assert labels == ["run"] * 11 + [None] * 9 + ["run"] * 11


def test_boris_counts_time_as_the_player_does_and_all_others_as_tailor_does(read):
    player_s = 3 * TIMES + 0.1 * (np.arange(100) % 2)  # as wrong as a container may be
    text = tabular(("groom", "START", player_s[20]), ("groom", "STOP", player_s[30]))
    assert spans(read(text, player_s=player_s)) == [("groom", 20, 30)]
    text = aggregated(("groom", "STATE", player_s[80], player_s[95]))
    assert spans(read(text, player_s=player_s)) == [("groom", 80, 95)]
    text = "behavior,start_s,stop_s\ngroom,2.0,3.0\n"
    assert spans(read(text, player_s=player_s)) == [("groom", 20, 30)]
    with pytest.raises(PermanentProblem, match="the video ends at 10"):
        read(aggregated(("groom", "STATE", 240, 285)))


def test_the_same_events_as_csv_give_the_same_labels(read):
    events = tabular(("rest", "START", "0.5"), ("rest", "STOP", "2.0"))
    assert read(events.replace("\t", ",")) == read(events, name="video.tsv")


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([("rest", "START", "1")], "START of rest at 1 s has no STOP"),
        ([("rest", "STOP", "1")], "STOP of rest at 1 s has no START"),
        ([("rest", "START", "1"), ("rest", "START", "2"), ("rest", "STOP", "3")],
         "START of rest at 2 s has no STOP before it"),
        ([("rest", "START", "3"), ("rest", "STOP", "1")], "stops at 1 s before it starts at 3 s"),
        ([("rest", "STATE", "1")], "neither START, STOP nor POINT"),
        ([("rest", "START", "NA"), ("rest", "STOP", "NA")], "has no time"),
        ([("a", "POINT", "1.01"), ("b", "POINT", "1.02")], "a and b in the one frame"),
    ],
)  # fmt: skip
def test_events_that_do_not_fit_together_are_refused(read, events, sentence):
    with pytest.raises(PermanentProblem, match=sentence):
        read(tabular(*events))


def test_modifiers_pair_events_and_do_not_make_labels(read):
    labels = read(
        tabular(
            ("sniff", "START", "1", "wall"), ("sniff", "START", "2", "floor"),
            ("sniff", "STOP", "3", "wall"), ("sniff", "STOP", "4", "floor"),
        )
    )  # fmt: skip
    assert spans(labels) == [("sniff", 10, 40)]


def test_one_file_is_of_one_animal_one_observation_one_video_and_starts_at_zero(read):
    both = (
        tabular(("a", "POINT", "1"))
        + tabular(("a", "POINT", "2"), subject="mouse 2").split("\n", 1)[1]
    )
    with pytest.raises(PermanentProblem, match=r"2 subjects \(mouse 1, mouse 2\): say whose"):
        read(both)
    labels = read(both, choice=LabelChoice(subject="mouse 2"))
    assert spans(labels) == [("a", 20, 21)]
    with pytest.raises(PermanentProblem, match="no event of the subject 'rat'"):
        read(both, choice=LabelChoice(subject="rat"))
    two = (
        aggregated(("a", "POINT", "1", "1"))
        + aggregated(("a", "POINT", "2", "2"), observation="day 2").split("\n", 1)[1]
    )
    with pytest.raises(PermanentProblem, match=r"2 observations \(day 1, day 2\)"):
        read(two)
    with pytest.raises(PermanentProblem, match=r"2 videos \(a\.mp4, b\.mp4\)"):
        read(
            tabular(("a", "POINT", "1"))
            + tabular(("a", "POINT", "2"), media="b.mp4").split("\n", 1)[1]
        )
    with pytest.raises(PermanentProblem, match="has a time offset"):
        read(tabular(("a", "POINT", "1"), offset="12.5"))


# ------------------------------------------------------------------------- files as they are


def test_marks_encodings_and_line_ends_of_spreadsheets_are_taken(read):
    text = "behavior,start_s,stop_s\r\nFlüchten,1,2\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert spans(read(text, encoding=encoding)) == [("Flüchten", 10, 20)]


def test_semicolons_and_tabs_may_have_decimal_commas(read):
    for separator in ";\t":
        text = "behavior,start_s,stop_s\nrest,1D5,2D25\n".replace(",", separator)
        assert spans(read(text.replace("D", ","))) == [("rest", 15, 23)]
    assert spans(read('behavior,start_s,stop_s\nrest,"1,5","2,25"\n')) == [("rest", 15, 23)]


def test_names_of_columns_may_be_in_any_case_and_cells_may_have_spaces(read):
    assert spans(read(" Behavior , Start_s,STOP_S\n rest , 1 , 2 \n")) == [("rest", 10, 20)]


def test_quoted_cells_may_hold_the_separator(read):
    text = 'behavior,start_s,stop_s,comment\n"rest, eyes open",1,2,"a, b"\n'
    assert spans(read(text)) == [("rest, eyes open", 10, 20)]


def test_mixed_separators_are_refused_with_the_line(read):
    with pytest.raises(PermanentProblem, match="line 3 has 1 cells and its header 3"):
        read("behavior,start_s,stop_s\nrest,1,2\nrest;3;4\n")
    with pytest.raises(PermanentProblem, match="line 2 has 5 cells and its header 3"):
        read("behavior,start_s,stop_s\nrest,1,5,2,25\n")


def test_other_encodings_other_tables_and_no_text_at_all_are_refused(read, tmp_path):
    with pytest.raises(PermanentProblem, match="neither UTF-8 nor UTF-16"):
        read("behavior,start_s,stop_s\nFlüchten,1,2\n", encoding="cp1252")
    with pytest.raises(PermanentProblem, match="no header of a label file"):
        read("time,what\n1,rest\n")
    with pytest.raises(PermanentProblem, match="is empty"):
        read(" \n")
    with pytest.raises(PermanentProblem, match="two columns 'behavior'"):
        read("behavior,behaviour,start_s,stop_s\na,b,1,2\n")
    with pytest.raises(PermanentProblem, match="is no text"):
        read("frame,behavior\n0,\0\n")
    with pytest.raises(PermanentProblem, match="cannot be read"):
        read_labels(tmp_path / "absent.csv", TIMES)


def test_numbers_with_thousands_are_refused_as_they_could_be_either(read):
    with pytest.raises(PermanentProblem, match=r"start_s is '1\.234,5', which is no number"):
        read("behavior;start_s;stop_s\nrest;1.234,5;1.240,0\n")


def test_our_own_predictions_corrected_by_a_person_are_a_label_file(read):
    text = "frame,source_frame,timestamp_s,behavior,behavior_raw,probability_a\n" + "".join(
        f"{k},{3 * k},{k / 10},{'a' if k < 50 else 'no data'},a,0.9\n" for k in range(100)
    )
    assert spans(read(text)) == [("a", 0, 50)]


def test_a_video_of_one_row_and_one_of_none_can_be_asked_for(read):
    assert read("frame,behavior\n0,a\n", times=np.array([0.0])) == ["a"]
    assert read("timestamp_s,behavior\n0,a\n", times=np.array([0.0])) == ["a"]
    rest = LabelChoice(rest="other")
    assert read("behavior,start_s,stop_s\n", times=np.zeros(0), choice=rest) == []
