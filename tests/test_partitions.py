"""Partition keys and results names, from whatever people call their folders."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailor_assets.partitions import partition_key, results_name, slug

HOSTILE = [
    "../..", "/etc/passwd", "..", ".", "", " ", ".hidden", "a/b", "a\\b", "new\nline", "nul\0byte",
    "日本語", "🐭", "café", "\u202efdp.exe", "'; DROP TABLE videos; --", "$(rm -rf /)", "CON",
    "aux.mp4", "x" * 300, "é" * 300, "--", "a--b", "trailing. ", "half \ud800 a pair",
    "line\u2028separator",
]  # fmt: skip
KEY = re.compile(r"[a-z0-9][a-z0-9-]*--[a-z0-9-]+--[0-9a-f]{8}")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def test_a_person_recognises_the_video_in_its_key() -> None:
    assert partition_key("anna", "Day 1 (cage 3)", "id").startswith("anna--day-1-cage-3--")
    assert slug("Käfig Ångström", 50) == "kafig-angstrom"


def test_two_folders_of_one_name_are_two_partitions() -> None:
    assert partition_key("anna", "day 1", "a") != partition_key("anna", "day 1", "b")
    assert partition_key("anna", "day 1", "a") == partition_key("anna", "day 1", "a")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_key_of_a_hostile_name_is_one_harmless_path_component(name: str) -> None:
    key = partition_key(name, name, "some id")
    assert KEY.fullmatch(key)
    assert len(key) <= 100


@given(tenant=names, folder=names, folder_id=names)
def test_every_key_is_harmless_and_at_most_100_characters(
    tenant: str, folder: str, folder_id: str
) -> None:
    key = partition_key(tenant, folder, folder_id)
    assert KEY.fullmatch(key)
    assert len(key) <= 100


def is_safe(name: str) -> bool:
    return (
        0 < len(name.encode()) <= 175
        and not set(name) & set('/\\:*?"<>|\0\n\r\t\x7f')
        and name not in {".", ".."}
        and not name.startswith((".", " "))
        and not name.endswith((".", " "))
    )


@pytest.mark.parametrize("name", ["day 1", "Käfig 3 (Mutter)", "2026-11-20_m3v1", "ネズミ"])
def test_a_plain_name_is_its_own_results_name(name: str) -> None:
    assert results_name(name, set(), "id") == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_results_name_of_a_hostile_name_is_safe_on_any_file_system(name: str) -> None:
    assert is_safe(results_name(name, set(), "id"))
    assert results_name(name, set(), "id").upper() not in {"CON", "AUX.MP4", "NUL"}


@given(name=st.text(max_size=400), taken=st.lists(names, max_size=5))
def test_every_results_name_is_safe_and_free(name: str, taken: list[str]) -> None:
    first = results_name(name, set(), "id")
    second = results_name(name, {first, *taken}, "id")
    assert is_safe(first)
    assert is_safe(second)
    assert second not in {first, *taken}


def test_two_videos_never_share_a_results_folder_even_on_a_disk_that_ignores_case() -> None:
    taken: set[str] = set()
    for number, name in enumerate(["Day:1", "Day?1", "day_1", "day_1", "DAY_1"]):
        free = results_name(name, taken, f"folder {number}")
        assert free.casefold() not in {other.casefold() for other in taken}
        taken.add(free)


def test_somebody_who_took_the_next_name_already_does_not_get_in_the_way() -> None:
    second = results_name("day", {"day"}, "id")
    third = results_name("day", {"day", second}, "id")
    assert third not in {"day", second}
