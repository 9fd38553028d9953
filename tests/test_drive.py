"""What every Drive promises, whatever is behind it; one suite for all of them."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from drive_trees import CREDENTIALS, DriveTree, GoogleTree, LocalTree, google_tree, md5
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.drive import SIDECAR_LIMIT_BYTES, DriveUnavailable
from resources.local_drive import LocalDriveFolder
from tailor_assets.compute.errors import PermanentProblem

HOSTILE_NAMES = [
    "a name with spaces",
    "new\nline",
    "tab\tand\rreturn",
    "100% of 50%25",
    "käfig ネズミ 🐭",
    "re\u0301sume\u0301",  # letters in two parts
    "\u202eright to left",
    "'; DROP TABLE videos; --",
    "$(touch hacked) `x`",
    "-rf",
    "back\\slash",
    "quote\"s'",
    "x" * 120,
]


@pytest.fixture(params=["local", "google"])
def tree(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DriveTree]:
    """Each kind of Drive; Google's is the test server, or a real account where one is given."""
    if request.param == "local":
        yield LocalTree(tmp_path / "drive")
        return
    url = request.getfixturevalue("url")
    if os.environ.get(CREDENTIALS):
        google = GoogleTree(url, tmp_path, None)
        monkeypatch.setenv("TAILOR_GOOGLE_CLIENT", google.environment["TAILOR_GOOGLE_CLIENT"])
        yield google
        google.disconnect_all()
        return
    with google_tree(url, tmp_path) as google:
        yield google


class TestEveryDrive:
    """The contract of ``Drive``."""

    def test_a_drive_without_tenants_is_empty_and_not_broken(self, tree: DriveTree) -> None:
        assert tree.drive.tenants() == []

    def test_the_listing_has_videos_and_the_sidecar_and_nothing_else(self, tree: DriveTree) -> None:
        tree.upload("ben", "day 2", "b.MP4", b"222")
        tree.upload("ben", "day 1", "a.avi", b"1")
        tree.upload("ben", "day 1", "tailor.json", b"{}")
        tree.upload("ben", "day 1", "notes.txt", b"fed at noon")
        tree.upload("ben", "day 1", ".a.avi.part", b"half")
        tree.upload("anna", "x", "x.mov", b"")
        tree.upload("ben", ".hidden", "x.mp4", b"1")
        assert tree.drive.tenants() == ["anna", "ben"]
        first, second = tree.drive.video_folders("ben")
        assert (first.name, second.name) == ("day 1", "day 2")
        assert [(f.name, f.size) for f in first.videos] == [("a.avi", 1)]
        assert first.sidecar is not None
        assert first.sidecar.name == "tailor.json"
        assert [(f.name, f.size) for f in second.videos] == [("b.MP4", 3)]
        assert second.sidecar is None
        assert {f.id for f in (*first.videos, *second.videos)}.isdisjoint({first.id, second.id})

    def test_ids_stay_and_fingerprints_follow_the_content(self, tree: DriveTree) -> None:
        tree.upload("ben", "d", "v.mp4", b"one")
        ((before,),) = (f.videos for f in tree.drive.video_folders("ben"))
        ((again,),) = (f.videos for f in tree.drive.video_folders("ben"))
        assert again == before
        tree.upload("ben", "d", "v.mp4", b"two")
        ((after,),) = (f.videos for f in tree.drive.video_folders("ben"))
        assert after.id == before.id
        assert after.fingerprint != before.fingerprint

    def test_md5_and_download_agree_with_the_content(self, tree: DriveTree, tmp_path: Path) -> None:
        content = os.urandom((2 << 20) + 17)
        tree.upload("ben", "d", "v.mp4", content)
        (folder,) = tree.drive.video_folders("ben")
        file = folder.videos[0]
        seen: list[tuple[int, int]] = []
        target = tmp_path / "copy"
        got = tree.drive.download("ben", file.id, target, lambda *p: seen.append(p))
        assert got == tree.drive.md5("ben", file.id) == md5(content)
        assert target.read_bytes() == content
        assert seen[-1] == (len(content), len(content))

    def test_a_checksum_that_takes_too_long_goes_on_where_it_stopped(self, tree: DriveTree) -> None:
        content = os.urandom(5 << 20)
        tree.upload("ben", "d", "v.mp4", content)
        file = tree.drive.video_folders("ben")[0].videos[0]
        past = time.monotonic() - 1
        answers = []
        while not answers or answers[-1] is None:
            answers.append(tree.drive.md5("ben", file.id, past))
            assert len(answers) < 20, "every call begins again"
        assert answers[-1] == md5(content)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_goes_in_and_out_unharmed(
        self, tree: DriveTree, tmp_path: Path, name: str
    ) -> None:
        tree.upload("ben", name, f"{name}.mp4", b"video")
        tree.upload("ben", name, "tailor.json", b'{"stride": 2}')
        (folder,) = tree.drive.video_folders("ben")
        assert folder.name == name
        (file,) = folder.videos
        assert file.name == f"{name}.mp4"
        assert tree.drive.download("ben", file.id, tmp_path / "copy") == md5(b"video")
        assert folder.sidecar is not None
        assert tree.drive.read_sidecar("ben", folder.sidecar.id) == '{"stride": 2}'
        for text in (folder.id, folder.name, file.id, file.name):
            text.encode()  # a database and JSON take it

    @pytest.mark.parametrize("name", [n for n in HOSTILE_NAMES if "\\" not in n])
    def test_results_of_a_hostile_name_come_back(
        self, tree: DriveTree, tmp_path: Path, name: str
    ) -> None:
        tree.add_tenant("ben")
        source = tmp_path / "source"
        source.write_bytes(b"rows")
        assert tree.drive.publish("ben", name, f"{name}.csv", source) == md5(b"rows")
        assert tree.drive.published("ben", name)[f"{name}.csv"].md5 == md5(b"rows")
        assert tree.drive.read_published("ben", name, f"{name}.csv") == b"rows"
        assert tree.drive.link("ben", name).startswith(("file://", "https://", "http://127.0.0.1:"))
        tree.drive.unpublish("ben", name, f"{name}.csv")
        assert tree.drive.published("ben", name) == {}

    @pytest.mark.parametrize(
        "file_id",
        ["", "/etc/passwd", "../ben", "anna/tailor/videos/d/v.mp4", "ben/tailor/videos/d",
         "ben/tailor/videos/../../../anna/tailor/videos/d/v.mp4", "ben/tailor/videos/../videos/v.mp4",
         "ben/tailor/videos/d/..", "ben/tailor/videos/d/%2e%2e", "ben/tailor/videos/d%2f..%2fd/v.mp4",
         "ben/tailor/videos/d/v.mp4%00"],
    )  # fmt: skip
    def test_no_id_leads_out_of_the_tenants_videos(
        self, tree: DriveTree, tmp_path: Path, file_id: str
    ) -> None:
        tree.upload("ben", "d", "other.mp4", b"ben's")
        tree.upload("anna", "d", "v.mp4", b"anna's")
        for act in (
            lambda: tree.drive.md5("ben", file_id),
            lambda: tree.drive.read_sidecar("ben", file_id),
            lambda: tree.drive.download("ben", file_id, tmp_path / "copy"),
        ):
            with pytest.raises(PermanentProblem):
                act()
        assert not (tmp_path / "copy").exists()

    @pytest.mark.parametrize("tenant", ["", ".", "..", "../ben", "a/b", "a\\b", ".ben", "x\0"])
    def test_what_is_no_tenants_name_is_refused(self, tree: DriveTree, tenant: str) -> None:
        tree.upload("ben", "d", "v.mp4", b"ben's")
        with pytest.raises(PermanentProblem):
            tree.drive.video_folders(tenant)
        with pytest.raises(PermanentProblem):
            tree.drive.published(tenant, "d")

    @pytest.mark.parametrize(
        ("results", "relative"),
        [("..", "x"), ("../ben2", "x"), ("", "x"), (".x", "x"), ("r", ""), ("r", "../x"),
         ("r", "/etc/x"), ("r", "watch/../../x"), ("r", ".."), ("r", "x\0y"), ("a/b", "x")],
    )  # fmt: skip
    def test_no_result_is_written_outside_its_folder(
        self, tree: DriveTree, tmp_path: Path, results: str, relative: str
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        tree.upload("ben", "d", "v.mp4", b"ben's")
        for act in (
            lambda: tree.drive.publish("ben", results, relative, source),
            lambda: tree.drive.unpublish("ben", results, relative),
            lambda: tree.drive.read_published("ben", results, relative),
        ):
            with pytest.raises(PermanentProblem):
                act()

    def test_publishing_replaces_and_lists_what_is_there(
        self, tree: DriveTree, tmp_path: Path
    ) -> None:
        tree.add_tenant("ben")
        source = tmp_path / "source"
        for content in (b"first", b"the second"):
            source.write_bytes(content)
            assert tree.drive.publish("ben", "day 1", "watch/000001.jpg", source) == md5(content)
        tree.put_result("ben", "day 1", "my notes.txt", b"mine")
        tree.put_result("anna", "day 1", "secret.csv", b"anna's")
        there = tree.drive.published("ben", "day 1")
        assert {name: (f.size, f.md5) for name, f in there.items()} == {
            "watch/000001.jpg": (10, md5(b"the second")),
            "my notes.txt": (4, md5(b"mine")),
        }
        tree.drive.unpublish("ben", "day 1", "watch/000001.jpg")
        tree.drive.unpublish("ben", "day 1", "watch/000001.jpg")
        tree.drive.unpublish("ben", "day 1", "my notes.txt/inside")
        assert list(tree.drive.published("ben", "day 1")) == ["my notes.txt"]
        assert tree.drive.published("ben", "never") == {}

    def test_a_listing_that_fails_is_not_an_empty_listing(self, tree: DriveTree) -> None:
        tree.upload("ben", "d", "v.mp4", b"1")
        tree.break_listing("ben")
        with pytest.raises(DriveUnavailable):
            tree.drive.video_folders("ben")

    def test_a_video_that_is_gone_is_said_and_what_to_do(self, tree: DriveTree) -> None:
        tree.upload("ben", "day 1", "v.mp4", b"1")
        tree.upload("ben", "day 1", "w.mp4", b"1")
        file_id = tree.drive.video_folders("ben")[0].videos[0].id
        tree.remove("ben", "day 1", "v.mp4")
        tree.drive.video_folders("ben")
        with pytest.raises(PermanentProblem, match=r"is no longer .*put it back"):
            tree.drive.md5("ben", file_id)

    def test_a_sidecar_of_64_kib_is_read_and_a_larger_one_refused(self, tree: DriveTree) -> None:
        tree.upload("ben", "d", "v.mp4", b"1")
        for size in (SIDECAR_LIMIT_BYTES, SIDECAR_LIMIT_BYTES + 1):
            tree.upload("ben", "d", "tailor.json", b" " * size)
            sidecar = tree.drive.video_folders("ben")[0].sidecar
            assert sidecar is not None
            if size == SIDECAR_LIMIT_BYTES:
                assert len(tree.drive.read_sidecar("ben", sidecar.id)) == size
            else:
                with pytest.raises(PermanentProblem, match="64 KiB"):
                    tree.drive.read_sidecar("ben", sidecar.id)


# What only a folder can have: links, pipes, bytes that are no text


@pytest.fixture
def local(tmp_path: Path) -> LocalTree:
    tree = LocalTree(tmp_path / "drive")
    tree.upload("ben", "d", "v.mp4", b"ben's")
    tree.upload("anna", "d", "v.mp4", b"anna's secret")
    tree.put_result("anna", "d", "d.csv", b"anna's result")
    return tree


def rooms(tree: LocalTree, tenant: str) -> Path:
    return tree.root / tenant / "tailor"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../anna/tailor/videos/d/v.mp4"])
def test_a_link_is_not_listed_and_not_read(local: LocalTree, tmp_path: Path, target: str) -> None:
    link = rooms(local, "ben") / "videos" / "d" / "w.mp4"
    link.symlink_to(target)
    (folder,) = local.drive.video_folders("ben")
    assert [file.name for file in folder.videos] == ["v.mp4"]
    with pytest.raises(PermanentProblem, match="link"):
        local.drive.download("ben", "ben/tailor/videos/d/w.mp4", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_became_a_link_after_the_listing_is_not_entered(local: LocalTree) -> None:
    folder = rooms(local, "ben") / "videos" / "d"
    (listed,) = local.drive.video_folders("ben")
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(rooms(local, "anna") / "videos" / "d")
    with pytest.raises(PermanentProblem, match="link"):
        local.drive.md5("ben", listed.videos[0].id)
    assert [f.name for f in local.drive.video_folders("ben")] == ["moved"]


@pytest.mark.parametrize("room", ["videos", "results"])
def test_a_tenant_whose_room_is_a_link_sees_nobody_elses(local: LocalTree, room: str) -> None:
    mine, theirs = rooms(local, "ben") / room, rooms(local, "anna") / room
    if mine.exists():
        mine.rename(mine.with_name("old"))
    mine.symlink_to(theirs)
    act = local.drive.video_folders if room == "videos" else local.drive.published
    arguments = ("ben",) if room == "videos" else ("ben", "d")
    with pytest.raises(PermanentProblem, match="link"):
        act(*arguments)


def test_a_results_folder_that_is_a_link_is_not_written_through(
    local: LocalTree, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"ben's")
    results = rooms(local, "ben") / "results"
    results.mkdir()
    (results / "d").symlink_to(rooms(local, "anna") / "results" / "d")
    for act in (
        lambda: local.drive.publish("ben", "d", "d.csv", source),
        lambda: local.drive.unpublish("ben", "d", "d.csv"),
        lambda: local.drive.read_published("ben", "d", "d.csv"),
        lambda: local.drive.published("ben", "d"),
    ):
        with pytest.raises(PermanentProblem, match="link"):
            act()
    (results / "e").mkdir()
    (results / "e" / "watch").symlink_to(rooms(local, "anna") / "results" / "d")
    with pytest.raises(PermanentProblem, match="link"):
        local.drive.publish("ben", "e", "watch/d.csv", source)
    assert local.drive.read_published("anna", "d", "d.csv") == b"anna's result"


def test_a_result_that_is_a_link_is_replaced_and_its_target_left_alone(
    local: LocalTree, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    results = rooms(local, "ben") / "results" / "d"
    results.mkdir(parents=True)
    secret = rooms(local, "anna") / "results" / "d" / "d.csv"
    (results / "d.csv").symlink_to(secret)
    assert local.drive.published("ben", "d") == {}
    with pytest.raises((PermanentProblem, DriveUnavailable)):
        local.drive.read_published("ben", "d", "d.csv")
    local.drive.publish("ben", "d", "d.csv", source)
    assert not (results / "d.csv").is_symlink()
    assert secret.read_bytes() == b"anna's result"


def test_links_in_a_circle_are_refused_and_not_followed_for_ever(local: LocalTree) -> None:
    results = rooms(local, "ben") / "results"
    results.symlink_to(results)
    with pytest.raises(PermanentProblem, match="link"):
        local.drive.published("ben", "d")


def test_a_pipe_is_not_waited_for(local: LocalTree) -> None:
    os.mkfifo(rooms(local, "ben") / "videos" / "d" / "w.mp4")
    assert [f.name for f in local.drive.video_folders("ben")[0].videos] == ["v.mp4"]
    with pytest.raises(PermanentProblem, match="not a file"):
        local.drive.md5("ben", "ben/tailor/videos/d/w.mp4")


def test_a_name_that_is_no_text_is_listed_readably_and_can_be_fetched(
    local: LocalTree, tmp_path: Path
) -> None:
    folder = os.fsencode(rooms(local, "ben") / "videos") + b"/K\xe4fig"
    os.mkdir(folder)
    with open(folder + b"/Tag\xff%41.mp4", "wb") as file:
        file.write(b"latin")
    found = next(f for f in local.drive.video_folders("ben") if f.name != "d")
    assert found.name == "K\ufffdfig"
    (video,) = found.videos
    for text in (found.id, found.name, video.id, video.name):
        text.encode()
    assert local.drive.download("ben", video.id, tmp_path / "copy") == md5(b"latin")


def test_a_tenant_nobody_may_enter_does_not_hide_the_others(
    local: LocalTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = os.scandir

    def refusing(path: object) -> object:
        if "ben" in os.fspath(path):  # type: ignore[call-overload]
            raise PermissionError(13, "Permission denied")
        return listing(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)
    assert local.drive.tenants() == ["anna", "ben"]
    with pytest.raises(DriveUnavailable, match="Permission denied"):
        local.drive.video_folders("ben")
    assert len(local.drive.video_folders("anna")) == 1


def test_a_file_that_changed_meanwhile_is_read_from_the_start(local: LocalTree) -> None:
    local.upload("ben", "d", "v.mp4", bytes(3 << 20))
    file = local.drive.video_folders("ben")[0].videos[0]
    assert local.drive.md5("ben", file.id, time.monotonic() - 1) is None
    local.upload("ben", "d", "v.mp4", b"other")
    assert local.drive.md5("ben", file.id) == md5(b"other")


def test_publishing_that_fails_leaves_the_old_file_and_no_half_one(
    local: LocalTree, tmp_path: Path
) -> None:
    with pytest.raises(DriveUnavailable):
        local.drive.publish("anna", "d", "d.csv", tmp_path / "not there")
    assert [p.name for p in (rooms(local, "anna") / "results" / "d").iterdir()] == ["d.csv"]
    # A person's file where a folder is to be.
    local.put_result("anna", "d", "watch", b"a file")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises((DriveUnavailable, PermanentProblem)):
        local.drive.publish("anna", "d", "watch/000000.jpg", source)
    assert (rooms(local, "anna") / "results" / "d" / "watch").read_bytes() == b"a file"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    results=st.text(max_size=12), relative=st.text(alphabet=st.sampled_from("./\\x%\0"), max_size=8)
)
def test_nothing_is_ever_written_elsewhere(tmp_path: Path, results: str, relative: str) -> None:
    drive = LocalDriveFolder(tmp_path / "drive")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with contextlib.suppress(PermanentProblem, DriveUnavailable, UnicodeEncodeError):
        drive.publish("ben", results, relative, source)
    allowed = tmp_path / "drive" / "ben" / "tailor" / "results"
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p != source]
    assert all(allowed in path.parents and path.parent != allowed for path in written)
