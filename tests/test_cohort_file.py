"""The cohort file: what it may say, and the sentence for what it may not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tailor_assets.compute.cohort.cohort_file import Cohort, read_cohort
from tailor_assets.compute.errors import PermanentProblem


def read(folder: Path, text: str) -> Cohort:
    path = folder / "study.csv"
    path.write_bytes(text.encode())
    return read_cohort(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_file_is_read_with_the_separator_that_a_spreadsheet_chose(
    tmp_path: Path, delimiter: str
) -> None:
    lines = ["video,group,subject,day,session_start,sex", "v1,a,m1,1,2026-03-01T09:00:00Z,F", "",
             "v2,b, m2 ,2,,", ",,,,,"]  # fmt: skip
    cohort = read(tmp_path, "\ufeff" + "\r\n".join(lines).replace(",", delimiter))
    first, second = cohort.videos
    assert (first.video, first.group, first.subject, first.day_number) == ("v1", "a", "m1", 1.0)
    assert first.session_start == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert first.covariates == {"sex": "F"}
    assert (second.subject, second.covariates) == ("m2", {})
    assert second.no_session_start is not None
    assert cohort.groups == ["a", "b"]
    assert cohort.has_days


def test_dates_count_in_days_from_the_earliest_one(tmp_path: Path) -> None:
    days = ["2026-03-03", "2026-03-01", "", "2026-04-01"]
    lines = [f"v{i},a,m{i},{day}" for i, day in enumerate(days)]
    cohort = read(tmp_path, "\n".join(["video,group,subject,day", *lines]))
    assert [one.day_number for one in cohort.videos] == [2.0, 0.0, None, 31.0]
    assert cohort.videos[0].day == "2026-03-03"


def test_a_moment_without_an_offset_from_utc_is_not_guessed(tmp_path: Path) -> None:
    (one,) = read(tmp_path, "video,group,subject,session_start\nv1,a,m1,2026-03-01T09:00:00").videos
    assert one.session_start is None
    assert "offset from UTC" in str(one.no_session_start)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no video"),
        ("video,group,subject\n", "names no video"),
        ("video,subject\nv1,m1", "no column group"),
        ("video,group,subject\nv1,,m1", "Video 1 of study.csv has no group"),
        ("video,group,subject\nv1,a,m1\nv1,a,m2", "'v1' more than once"),
        ("video,group,subject\nv1,a,m1\nv2,b,m1", "the animal 'm1' in the groups 'a' and 'b'"),
        ("video,group,subject,day\nv1,a,m1,1\nv2,a,m2,2026-01-01", "numbers in some lines"),
        ("video,group,subject,day\nv1,a,m1,Monday", "'Monday' in study.csv is neither"),
        ("video,group,subject,day\nv1,a,m1,inf", "neither a number nor a date"),
        ("video,group,subject,value\nv1,a,m1,1", "'value', which the results have"),
        ("video,group,subject,sex,sex\nv1,a,m1,F,F", "two columns 'sex'"),
        ("video,group,subject,\nv1,a,m1,1", "without a name"),
        ("video,group,subject\nv1,a,m1,1", "has 4 cells and the header 3"),
        ('video,group,subject\nv1,"a,m1', "is no CSV"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PermanentProblem) as raised:
        read(tmp_path, text)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentProblem, match="cannot be read"):
        read_cohort(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("video,group,subject\nv1,a,Mäusle".encode("latin-1"))
    with pytest.raises(PermanentProblem, match="no UTF-8"):
        read_cohort(tmp_path / "latin.csv")
