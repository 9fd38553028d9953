"""What a listing means: a pure function, tested with plain values."""

from dataclasses import replace

import pytest

from resources.drive import DriveFile, VideoFolder
from resources.video_registry import VideoRow
from sensors.inbox_changes import InboxChange, find_changes


def file(name: str = "v.mp4", size: int = 100, fingerprint: str = "f1") -> DriveFile:
    return DriveFile(id=f"id of {name}", name=name, size=size, fingerprint=fingerprint)


def folder(name: str, *videos: DriveFile, sidecar: str | None = None) -> VideoFolder:
    return VideoFolder(
        tenant="anna",
        id=f"anna/{name}",
        name=name,
        videos=videos,
        sidecar=DriveFile("id of sidecar", "tailor.json", 2, sidecar) if sidecar else None,
    )


def kinds(changes: list[InboxChange]) -> list[tuple[str, str]]:
    return [(change.folder.name, change.kind) for change in changes]


def look(known: dict[str, VideoRow], *listed: VideoFolder) -> list[InboxChange]:
    """One look, after which the rows are what the changes say, as the sensor would have saved."""
    changes = find_changes(listed, known)
    known.update({change.row.folder_id: change.row for change in changes})
    return changes


def admit(known: dict[str, VideoRow], name: str, **more: str) -> None:
    row = known[f"anna/{name}"]
    known[row.folder_id] = replace(row, state="admitted", checksum="c1", run_key="k1", **more)  # type: ignore[arg-type]


def settled(*, sidecar: str | None = None) -> dict[str, VideoRow]:
    """Rows of one admitted video ``day``."""
    known: dict[str, VideoRow] = {}
    for _ in range(2):
        look(known, folder("day", file(), sidecar=sidecar))
    admit(known, "day", **({"sidecar_fingerprint": sidecar} if sidecar else {}))
    return known


def test_a_new_video_is_observed_then_still_and_then_nothing() -> None:
    known: dict[str, VideoRow] = {}
    listed = folder("day", file())
    assert kinds(look(known, listed)) == [("day", "observed")]
    assert known["anna/day"].state == "settling"
    assert kinds(look(known, listed)) == [("day", "still")]
    admit(known, "day")
    assert look(known, listed) == []


def test_a_file_that_is_still_being_copied_is_never_still() -> None:
    known: dict[str, VideoRow] = {}
    for size in (0, 10, 20, 30):
        listed = folder("day", file(size=size, fingerprint=f"f{size}"))
        assert kinds(look(known, listed)) == [("day", "observed")]
    assert kinds(look(known, listed)) == [("day", "still")]
    assert known["anna/day"].size == 30


def test_an_empty_file_is_said_to_be_empty_until_there_is_something_in_it() -> None:
    known: dict[str, VideoRow] = {}
    listed = folder("day", file(size=0, fingerprint="f0"))
    assert kinds(look(known, listed)) == [("day", "observed")]
    assert kinds(look(known, listed)) == [("day", "rejected")]
    assert "is empty" in (known["anna/day"].problem or "")
    assert look(known, listed) == []
    listed = folder("day", file(size=10, fingerprint="f1"))
    assert kinds(look(known, listed)) == [("day", "observed")]
    assert known["anna/day"].problem is None
    assert kinds(look(known, listed)) == [("day", "still")]


@pytest.mark.parametrize("taken_away", ["the file", "the folder"])
def test_what_was_mended_by_taking_it_away_is_no_problem_any_more(taken_away: str) -> None:
    known: dict[str, VideoRow] = {}
    listed = folder("day", file(size=0, fingerprint="f0"))
    for _ in range(2):
        look(known, listed)
    assert known["anna/day"].problem
    left = [folder("day")] if taken_away == "the file" else []
    assert kinds(look(known, *left)) == [("day", "observed")]
    assert known["anna/day"].problem is None
    assert look(known, *left) == []
    assert kinds(look(known, folder("day", file(fingerprint="f0")))) == [("day", "observed")]


def test_results_stay_when_a_folder_with_a_wrong_tailor_json_is_taken_away() -> None:
    known: dict[str, VideoRow] = {}
    look(known, folder("day", file()))
    admit(known, "day")
    known["anna/day"] = replace(known["anna/day"], problem="tailor.json is no JSON.")
    assert kinds(look(known)) == [("day", "observed")]
    assert (known["anna/day"].state, known["anna/day"].problem) == ("admitted", None)
    assert known["anna/day"].fingerprint


def test_a_folder_without_a_video_is_nothing_yet() -> None:
    assert find_changes([folder("day"), folder("other", sidecar="s1")], {}) == []


def test_a_video_that_is_gone_changes_nothing() -> None:
    known = settled()
    assert find_changes([], known) == []
    assert find_changes([folder("day")], known) == []


def test_a_replaced_file_settles_again_and_so_does_the_first_one_put_back() -> None:
    known = settled()
    for fingerprint in ("f2", "f1"):
        listed = folder("day", file(fingerprint=fingerprint))
        assert kinds(look(known, listed)) == [("day", "observed")]
        assert known["anna/day"].state == "settling"
        assert known["anna/day"].checksum == "c1", "what was processed is still known"
        assert kinds(look(known, listed)) == [("day", "still")]
        admit(known, "day")


def test_a_file_of_another_name_in_the_same_folder_is_the_same_video_replaced() -> None:
    known = settled()
    (change,) = find_changes([folder("day", file("w.avi"))], known)
    assert change.kind == "observed"
    assert change.row.partition_key == known["anna/day"].partition_key
    assert (change.row.file_id, change.row.file_name) == ("id of w.avi", "w.avi")


def test_tailor_json_that_appears_changes_or_goes_is_a_change_once() -> None:
    known = settled()
    for sidecar in ("s1", "s2", None):
        listed = folder("day", file(), sidecar=sidecar)
        assert kinds(find_changes([listed], known)) == [("day", "sidecar")]
        known["anna/day"] = replace(known["anna/day"], sidecar_fingerprint=sidecar)
        assert find_changes([listed], known) == []


def test_tailor_json_of_a_video_that_settles_is_no_change_of_its_own() -> None:
    known: dict[str, VideoRow] = {}
    look(known, folder("day", file()))
    assert kinds(look(known, folder("day", file(), sidecar="s1"))) == [("day", "still")]


def test_a_bad_tailor_json_that_is_taken_away_again_is_looked_at() -> None:
    known = settled()
    known["anna/day"] = replace(known["anna/day"], problem="tailor.json is not valid JSON")
    assert kinds(find_changes([folder("day", file())], known)) == [("day", "sidecar")]


def test_two_videos_in_one_folder_are_rejected_once_and_taken_when_one_is_moved() -> None:
    known: dict[str, VideoRow] = {}
    both = folder("day", file("a.mp4"), file("b.mp4"))
    (change,) = look(known, both)
    assert change.kind == "rejected"
    assert "'day' holds 2 videos" in (change.row.problem or "")
    assert look(known, both) == []
    one = folder("day", file("a.mp4"))
    (change,) = look(known, one)
    assert (change.kind, change.row.problem) == ("observed", None)
    assert kinds(look(known, one)) == [("day", "still")]


def test_a_second_video_stops_an_admitted_one_and_leaves_its_checksum() -> None:
    known = settled()
    (change,) = look(known, folder("day", file(), file("b.mp4")))
    assert change.row.state == "rejected"
    assert change.row.checksum == "c1"
    listed = folder("day", file())
    assert kinds(look(known, listed)) == [("day", "observed")]
    assert kinds(look(known, listed)) == [("day", "still")]


def test_folders_with_names_that_fall_together_have_results_of_their_own() -> None:
    listed = [folder(name, file()) for name in ("a:b", "a_b", "a?b", "A_B", "../..", "..")]
    rows = [change.row for change in find_changes(listed, {})]
    assert len({row.results_name.casefold() for row in rows}) == len(rows)
    assert len({row.partition_key for row in rows}) == len(rows)
    assert [row.folder_name for row in rows] == ["a:b", "a_b", "a?b", "A_B", "../..", ".."]
    later = find_changes([folder("a*b", file())], {row.folder_id: row for row in rows})[0].row
    assert later.results_name not in {row.results_name for row in rows}


def test_changes_come_in_the_order_of_the_listing() -> None:
    listed = [folder(name, file()) for name in ("c", "a", "b")]
    assert [change.folder.name for change in find_changes(listed, {})] == ["c", "a", "b"]
