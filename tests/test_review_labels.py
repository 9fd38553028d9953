"""From decisions to labels, to BORIS and back: what a person said is what comes out."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from tailor_assets.commands.review import boris_text
from tailor_assets.compute.behavior.review_flags import flag_predictions
from tailor_assets.compute.behavior.training.label_files import read_labels
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.review.boris_files import BORIS_COLUMNS
from tailor_assets.compute.review.decision_labels import (
    decisions_from_labels,
    labels_from_decisions,
    reviewed_labels,
)
from tailor_assets.compute.review.decisions import Decision, Piece, check_decision
from tailor_assets.compute.review.label_events import label_events
from tailor_assets.compute.review.ranking import ranked_windows


def flags_of(labels, *, times=None):
    times = np.arange(len(labels)) / 10 if times is None else np.asarray(times, dtype=float)
    return flag_predictions(
        pl.DataFrame(
            {
                "frame": np.arange(len(labels)),
                "source_frame": np.arange(len(labels)) * 3,
                "timestamp_s": times,
                "behavior": pl.Series(list(labels), dtype=pl.String),
                "mask_state": ["tracked"] * len(labels),
            }
        ),
        seconds_window=2.0,
    )


# Four windows of 21 rows, around the rows 50, 100, 150 and 200.
LABELS = ["still"] * 50 + ["run"] * 50 + ["no data"] * 50 + ["run"] * 50 + ["still"] * 50


@pytest.fixture
def flags():
    return flags_of(LABELS)


def decision(flags, number, verdict, **changes):
    window = next(w for w in ranked_windows(flags) if w.number == number)
    said = {
        "run_id": "r",
        "partition_key": "v",
        "flag_window": number,
        "flags_version": "1",
        "start_s": window.start_s,
        "stop_s": window.stop_s,
        "predicted_label": ", ".join(window.predicted),
        "verdict": verdict,
        "who": "anna",
        "decided_at": datetime(2026, 5, 1, tzinfo=UTC),
    }
    return Decision(**said | changes)


def test_accepted_windows_keep_what_was_predicted_and_relabelled_ones_take_the_new_label(flags):
    labels = labels_from_decisions(
        flags,
        [
            decision(flags, 1, "accept"),
            decision(flags, 2, "accept"),
            decision(flags, 3, "reject"),
            decision(flags, 4, "relabel", new_label="groom"),
        ],
    )
    assert labels[40:61] == ["still"] * 10 + ["run"] * 11
    assert labels[90:111] == ["run"] * 10 + [None] * 11, "no data is no label"
    assert labels[140:161] == [None] * 21, "that a label is wrong says not which is right"
    assert labels[190:211] == ["groom"] * 21
    assert sum(label is not None for label in labels) == 21 + 10 + 21


def test_a_window_can_be_relabelled_in_pieces(flags):
    pieces = (Piece(4.0, 4.6, "still"), Piece(4.6, 5.5, "groom"))
    labels = labels_from_decisions(
        flags, [decision(flags, 1, "relabel", new_label="groom", pieces=pieces)]
    )
    assert labels[40:61] == ["still"] * 6 + ["groom"] * 9 + [None] * 6


def test_decisions_of_little_confidence_can_be_left_out(flags):
    decisions = [
        decision(flags, 1, "accept", confidence=0.4),
        decision(flags, 4, "accept", confidence=0.9),
        decision(flags, 2, "accept"),
    ]
    labels = labels_from_decisions(flags, decisions, least_confidence=0.5)
    assert labels[40:61] == [None] * 21
    assert labels[90] == "run", "who does not say how sure they are is sure"
    assert labels[190] == "run"


def test_a_decision_on_other_windows_is_never_applied(flags):
    made = decision(flags, 1, "accept")
    other = flags_of(["still"] * 70 + LABELS[70:])
    with pytest.raises(PermanentProblem, match="is of other flags than these"):
        labels_from_decisions(other, [made])
    with pytest.raises(PermanentProblem, match="is of other flags than these"):
        labels_from_decisions(flags_of(["still"] * 250), [made])


@pytest.mark.parametrize(
    ("verdict", "changes", "sentence"),
    [
        ("perhaps", {}, "no verdict"),
        ("relabel", {}, "needs its new label"),
        ("accept", {"new_label": "run"}, "goes with relabel"),
        ("relabel", {"new_label": "grom"}, "choose one of still, run"),
        ("relabel", {"new_label": "no data"}, "reject the window instead"),
        ("accept", {"confidence": 1.5}, "from 0 to 1"),
        ("accept", {"confidence": float("nan")}, "from 0 to 1"),
        ("relabel", {"new_label": "run", "pieces": [Piece(1.0, 2.0, "run")]}, "is not in window 1"),
        (
            "relabel",
            {"new_label": "run", "pieces": [Piece(4.0, 5.0, "run"), Piece(4.5, 5.5, "still")]},
            "overlaps another",
        ),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused_in_one_sentence(
    flags, verdict, changes, sentence
):
    window = next(w for w in ranked_windows(flags) if w.number == 1)
    given = {"new_label": None, "pieces": [], "confidence": None, **changes}
    with pytest.raises(PermanentProblem, match=sentence) as told:
        check_decision(window, verdict, known_labels=("still", "run"), new_behavior=False, **given)
    assert "\n" not in str(told.value)


def test_a_new_behaviour_may_be_named_where_it_is_said_to_be_new(flags):
    window = ranked_windows(flags)[0]
    for label, fine in (("grooming", True), (" ", False), ("x" * 101, False), ("a\tb", False)):
        arguments = {
            "new_label": label,
            "pieces": [],
            "confidence": None,
            "known_labels": ("still",),
            "new_behavior": True,
        }
        if fine:
            check_decision(window, "relabel", **arguments)
        else:
            with pytest.raises(PermanentProblem):
                check_decision(window, "relabel", **arguments)


# ------------------------------------------------------------------------------------- BORIS


def read(text, flags, tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text(text, encoding="utf-8")
    return read_labels(path, flags["timestamp_s"].to_numpy())


def test_the_columns_are_those_that_boris_writes(flags):
    text, events = boris_text("v", flags, [], made_at="2026-05-01T10:00:00+00:00", fps=30.0)
    header, *lines = text.splitlines()
    assert header.split("\t") == list(BORIS_COLUMNS)
    assert len(lines) == 2 * events
    first = dict(zip(BORIS_COLUMNS, lines[0].split("\t"), strict=True))
    assert first["Observation id"] == "v"
    assert first["Observation date"] == "2026-05-01 10:00:00"
    assert first["Behavior type"] == "START"
    assert (first["Behavior"], first["Time"]) == ("still", "4.000000")
    assert (first["Image index"], first["FPS"]) == ("120", "30.000")
    assert first["Comment"].endswith("not decided")


def test_the_whole_video_comes_back_from_boris_row_for_row(tmp_path):
    rng = np.random.default_rng(3)
    # A variable frame rate with holes, and bouts of a single row.
    times = np.cumsum(rng.choice([0.0333333, 0.1, 0.5, 7.0], 400, p=[0.5, 0.3, 0.15, 0.05]))
    labels = rng.choice(["still", "run", "no data"], 400).tolist()
    flags = flags_of(labels, times=times)
    text, _ = boris_text("v", flags, [], whole=True)
    assert read(text, flags, tmp_path) == [None if x == "no data" else x for x in labels]


def test_decisions_go_out_to_boris_and_come_back_as_the_same_labels(flags, tmp_path):
    pieces = (Piece(9.0, 9.4, "groom"), Piece(9.4, 11.1, "run"))
    decisions = [
        decision(flags, 1, "accept"),
        decision(flags, 2, "relabel", new_label="run", pieces=pieces),
        decision(flags, 3, "reject"),
        decision(flags, 4, "relabel", new_label="groom"),
    ]
    text, _ = boris_text("v", flags, decisions)
    labels = read(text, flags, tmp_path)
    assert labels == labels_from_decisions(flags, decisions)

    proposals = decisions_from_labels(flags, labels)
    assert [(p.window.number, p.verdict, p.new_label) for p in proposals] == [
        (1, "accept", None),
        (2, "relabel", "run"),
        (4, "relabel", "groom"),
    ], "a window without any label is not decided"
    assert proposals[2].pieces == ()
    again = [
        decision(flags, p.window.number, p.verdict, new_label=p.new_label, pieces=p.pieces)
        for p in proposals
    ]
    assert labels_from_decisions(flags, again) == labels


def test_a_file_that_a_person_has_edited_becomes_their_decisions(flags, tmp_path):
    text, _ = boris_text("v", flags, [])
    # The change comes half a second later than was predicted.
    edited = text.replace("\t5.000000\t", "\t5.500000\t")
    assert edited.count("\t5.500000\t") == 2
    proposals = decisions_from_labels(flags, read(edited, flags, tmp_path))
    first, *others = proposals
    assert (first.verdict, first.new_label) == ("relabel", "still")
    assert [piece.label for piece in first.pieces] == ["still", "run"]
    assert first.pieces[0].stop_s == pytest.approx(5.5)
    assert [p.verdict for p in others] == ["accept"] * 3


def test_no_data_said_in_words_is_no_label(flags):
    assert decisions_from_labels(flags, ["no data"] * 250) == []
    proposals = decisions_from_labels(flags, LABELS)
    assert [(p.window.number, p.verdict) for p in proposals] == [(n, "accept") for n in range(1, 5)]


def test_only_the_most_urgent_windows_are_written_where_few_are_wanted(flags, tmp_path):
    labels = read(boris_text("v", flags, [], top=2)[0], flags, tmp_path)
    numbers = {window.number for window in ranked_windows(flags)[:2]}
    inside = np.isin(flags["flag_window"].to_numpy(), list(numbers))
    assert all(label is None for label, ok in zip(labels, inside, strict=True) if not ok)
    assert {p.window.number for p in decisions_from_labels(flags, labels)} == numbers


def test_what_was_decided_stands_in_place_of_what_was_predicted(flags):
    shown = reviewed_labels(flags, [decision(flags, 3, "reject")])
    assert shown[0] == "still"
    assert shown[140:161] == [None] * 21


def test_an_event_ends_at_a_hole_in_the_recording_and_another_begins_after_it():
    times = np.concatenate([np.arange(50) / 10, 3600 + np.arange(50) / 10])
    first, second = label_events(["a"] * 100, times)
    assert (first.start_s, first.stop_row) == (0.0, 50)
    assert first.stop_s == pytest.approx(5.9)  # a row stands for a second at most
    assert (second.start_s, second.stop_row) == (3600.0, 100)


def test_events_end_where_the_next_row_begins_and_the_only_row_is_a_moment():
    events = label_events(["a", "a", None, "b", "b"], np.array([0.0, 0.1, 0.2, 30.0, 30.1]))
    assert [(e.label, e.first_row, e.stop_row) for e in events] == [("a", 0, 2), ("b", 3, 5)]
    assert events[0].stop_s == pytest.approx(0.2)
    (only,) = label_events(["a"], np.array([0.0]))
    assert only.stop_s > only.start_s
    assert label_events([], np.array([])) == []
