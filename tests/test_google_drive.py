"""GoogleDrive against a server that speaks the real protocol and misbehaves on purpose."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from drive_trees import CLIENT, GoogleTree, email_of, google_tree, md5
from google_drive_server.faults import Chaos, Fault
from google_drive_server.server import DriveServer
from google_drive_server.uploads import PIECE

from resources.database import engine_for, migrate
from resources.drive import DriveFull, DriveUnavailable, UserMustAct
from resources.google_drive.accounts import DriveAccount
from resources.google_drive.addresses import addresses
from resources.google_drive.api import GoogleApi
from resources.google_drive.credentials import service_credentials
from resources.google_drive.drive import GoogleDrive
from resources.google_drive.inbox import cursors_table
from resources.google_drive.tree import find_or_make_tree
from resources.google_drive.units_spent import units_table
from resources.publications import Superseded, claim_publication
from tailor_assets.compute.errors import PermanentProblem

BEN = email_of("ben")
LARGE = 7 << 20  # more than fits into one request


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    migrate(postgres_url)
    return postgres_url


@pytest.fixture
def google(url: str, tmp_path: Path) -> Iterator[GoogleTree]:
    with google_tree(url, tmp_path) as tree:
        tree.add_tenant("ben")
        yield tree


def server_of(google: GoogleTree) -> DriveServer:
    assert google.server is not None
    return google.server


def fault(google: GoogleTree, **what: Any) -> None:
    server_of(google).faults.add(Fault(**what))


def results(google: GoogleTree, tenant: str = "ben") -> list[tuple[str, str]]:
    """(path below tailor/results, md5) of every file there, doubles and all."""
    return [
        ("/".join(file["path"][2:]), file["md5"])
        for file in server_of(google).people.tree(email_of(tenant))
        if file["path"][:2] == ["tailor", "results"] and file["md5"] is not None
    ]


def requests_since(google: GoogleTree, start: int, tenant: str = "ben") -> list[str]:
    asked = server_of(google).people.requests(since=start, email=email_of(tenant))
    return [request["method"] for request in asked]


def now(google: GoogleTree) -> int:
    return server_of(google).people.last_request()


def a_file(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------------- detection


def test_a_look_at_a_drive_in_which_nothing_has_changed_is_one_request(google: GoogleTree) -> None:
    google.upload("ben", "day 1", "v.mp4", b"1")
    google.drive.video_folders("ben")
    for _ in range(3):
        start = now(google)
        (folder,) = google.drive.video_folders("ben")
        assert [video.name for video in folder.videos] == ["v.mp4"]
        assert requests_since(google, start) == ["changes.list"]


def test_a_quiet_drive_is_asked_for_seldom_and_a_busy_one_at_every_look(
    google: GoogleTree, tmp_path: Path
) -> None:
    drive = GoogleDrive(
        google.url, tmp_path, box=google.box, pauses_s=google.pauses_s, look_every_s=1.0
    )
    drive.video_folders("ben")
    start = now(google)
    for _ in range(3):
        drive.video_folders("ben")
    assert requests_since(google, start) == []
    google.upload("ben", "day 1", "v.mp4", b"1")
    time.sleep(1.0)
    start = now(google)
    assert len(drive.video_folders("ben")) == 1
    assert len(drive.video_folders("ben")) == 1
    assert requests_since(google, start).count("changes.list") == 2


def test_what_people_do_with_folders_and_files_is_seen_by_the_change_feed(
    google: GoogleTree,
) -> None:
    people, videos = server_of(google).people, google.trees["ben"].videos
    seen: list[str] = []

    def look() -> dict[str, list[str]]:
        start = now(google)
        found = {f.name: [v.name for v in f.videos] for f in google.drive.video_folders("ben")}
        seen.extend(requests_since(google, start))
        return found

    assert look() == {}
    day = people.make_folder(videos, "day 1")
    video = people.put(day, "v.mp4", "AAAA")
    assert look() == {"day 1": ["v.mp4"]}
    people.rename(day, "day one")
    people.rename(video, "w.mp4")
    assert look() == {"day one": ["w.mp4"]}
    elsewhere = people.make_folder(people.folder(BEN, []), "elsewhere")
    people.move(day, elsewhere)
    assert look() == {}
    people.move(day, videos)
    assert look() == {"day one": ["w.mp4"]}, "what is in a folder that comes back has not changed"
    people.trash(day)
    assert look() == {}
    people.restore(day)
    assert look() == {"day one": ["w.mp4"]}
    people.move(video, videos)
    assert look() == {"day one": []}, "a file beside the folders is no video"
    people.move(video, day)
    people.delete(day)
    assert look() == {}
    assert seen.count("changes.getStartPageToken") == 1, "everything is listed once only"


def test_a_video_that_google_has_not_done_with_is_not_the_one_it_becomes(
    google: GoogleTree,
) -> None:
    people = server_of(google).people
    day = people.make_folder(google.trees["ben"].videos, "day 1")
    video = people.put(day, "v.mp4", "AAAA", with_md5=False)
    (before,) = google.drive.video_folders("ben")[0].videos
    assert google.drive.md5("ben", video) is None
    people.finish(video)
    (after,) = google.drive.video_folders("ben")[0].videos
    assert before.fingerprint != after.fingerprint
    assert google.drive.md5("ben", video) == md5(b"\0\0\0")


def test_a_failed_look_moves_no_cursor(google: GoogleTree) -> None:
    google.drive.video_folders("ben")
    google.upload("ben", "day 1", "v.mp4", b"1")
    fault(google, method="changes.list", times=50, status=500)
    with pytest.raises(DriveUnavailable, match="500"):
        google.drive.video_folders("ben")
    server_of(google).faults.clear()
    assert [f.name for f in google.drive.video_folders("ben")] == ["day 1"]


def test_a_cursor_that_google_no_longer_knows_has_everything_listed_anew(
    google: GoogleTree,
) -> None:
    google.drive.video_folders("ben")
    google.upload("ben", "day 1", "v.mp4", b"1")
    fault(google, method="changes.list", status=400, reason="invalid")
    assert [f.name for f in google.drive.video_folders("ben")] == ["day 1"]


def test_what_the_change_feed_has_missed_is_found_once_a_day(google: GoogleTree) -> None:
    google.drive.video_folders("ben")
    server = server_of(google)
    google.upload("ben", "day 1", "v.mp4", b"1")
    with server.store.transaction() as db:  # as if Google had lost it
        db.execute("DELETE FROM changes WHERE corpus = ?", (BEN,))
    server.people.make_folder(server.people.folder(BEN, []), "later")
    assert google.drive.video_folders("ben") == []
    with engine_for(google.url).begin() as connection:
        connection.execute(
            sa.update(cursors_table).values(listed_at=sa.text("listed_at - interval '25 hours'"))
        )
    start = now(google)
    assert [f.name for f in google.drive.video_folders("ben")] == ["day 1"]
    assert "files.list" in requests_since(google, start)
    start = now(google)
    google.drive.video_folders("ben")
    assert requests_since(google, start) == ["changes.list"], "not at every look"


def test_two_folders_and_two_files_of_one_name_are_kept_apart(google: GoogleTree) -> None:
    people, videos = server_of(google).people, google.trees["ben"].videos
    first, second = people.make_folder(videos, "day"), people.make_folder(videos, "day")
    people.put(first, "v.mp4", "AAAA")
    people.put(second, "v.mp4", "AAAB")
    people.put(second, "v.mp4", "AAAC")
    found = google.drive.video_folders("ben")
    assert [folder.name for folder in found] == ["day", "day"]
    assert sorted(len(folder.videos) for folder in found) == [1, 2]


def test_a_revoked_token_pauses_that_tenant_alone_until_it_is_connected_again(
    google: GoogleTree,
) -> None:
    google.upload("ben", "day 1", "v.mp4", b"1")
    google.upload("anna", "day 1", "v.mp4", b"1")
    server_of(google).people.revoke(BEN)
    with pytest.raises(UserMustAct, match=r"invalid_grant.*tailor connect"):
        google.another(Path("/nowhere")).video_folders("ben")
    assert google.drive.tenants() == ["anna"]
    assert len(google.drive.video_folders("anna")) == 1
    start = now(google)
    with pytest.raises(UserMustAct, match="tailor connect"):
        google.drive.video_folders("ben")
    assert now(google) == start, "a tenant who rests costs no request"
    google.reconnect("ben")
    assert google.drive.tenants() == ["anna", "ben"]
    assert len(google.drive.video_folders("ben")) == 1


@pytest.mark.parametrize(
    "trouble",
    [{"status": 403, "reason": "rateLimitExceeded"}, {"status": 429}, {"status": 500},
     {"status": 503}],
    ids=str,
)  # fmt: skip
def test_a_token_server_that_is_busy_pauses_nobody(
    google: GoogleTree, tmp_path: Path, trouble: dict[str, Any]
) -> None:
    fault(google, method="token", times=8, **trouble)
    drive = google.another(tmp_path)
    for _ in range(2):
        with contextlib.suppress(DriveUnavailable):
            drive.video_folders("ben")
    assert google.drive.tenants() == ["ben"]
    server_of(google).faults.clear()
    assert drive.video_folders("ben") == []


def test_an_expired_token_is_renewed_without_anybody_noticing(google: GoogleTree) -> None:
    google.upload("ben", "day 1", "v.mp4", b"1")
    google.drive.video_folders("ben")
    server_of(google).people.expire_access_tokens()
    assert len(google.drive.video_folders("ben")) == 1


def test_units_are_counted_per_tenant_as_the_server_counts_them(
    google: GoogleTree, url: str
) -> None:
    google.upload("ben", "day 1", "v.mp4", b"1")
    with engine_for(url).begin() as connection:
        connection.execute(sa.delete(units_table))
    start = now(google)
    google.drive.video_folders("ben")
    google.drive.video_folders("ben")
    asked = server_of(google).people.requests(since=start, email=BEN)
    with engine_for(url).begin() as connection:
        row = connection.execute(sa.select(units_table)).one()
    # The server knows of a token's renewal, too, but not whose it is.
    assert (row.tenant, row.units) == ("ben", sum(request["units"] for request in asked))


# ---------------------------------------------------------------------- downloads


def test_a_download_that_is_cut_goes_on_where_it_was_cut(
    google: GoogleTree, tmp_path: Path
) -> None:
    content = os.urandom(3 << 20)
    google.upload("ben", "d", "v.mp4", content)
    file = google.drive.video_folders("ben")[0].videos[0]
    for _ in range(4):
        fault(google, method="media.get", cut_after=700_000)
    start = now(google)
    assert google.drive.download("ben", file.id, tmp_path / "copy") == md5(content)
    assert (tmp_path / "copy").read_bytes() == content
    asked = server_of(google).people.requests(since=start, email=BEN)
    assert [r["status"] for r in asked if r["method"] == "media.get"] == [200, 206, 206, 206, 206]


@pytest.mark.parametrize(
    "trouble",
    [{"corrupt": True}, {"wrong_length": -1000}, {"wrong_length": 1000}, {"status": 503},
     {"status": 403, "reason": "userRateLimitExceeded"}, {"status": 401},
     {"status": 429, "headers": {"Retry-After": "0.1"}}],
    ids=str,
)  # fmt: skip
def test_what_goes_wrong_with_a_download_is_mended(
    google: GoogleTree, tmp_path: Path, trouble: dict[str, Any]
) -> None:
    content = os.urandom(1 << 20)
    google.upload("ben", "d", "v.mp4", content)
    file = google.drive.video_folders("ben")[0].videos[0]
    fault(google, method="media.get", **trouble)
    assert google.drive.download("ben", file.id, tmp_path / "copy") == md5(content)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_video_that_the_disk_has_no_room_for_is_not_begun(
    google: GoogleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    google.upload("ben", "d", "v.mp4", b"1" * 1000)
    file = google.drive.video_folders("ben")[0].videos[0]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 500, 500))
    start = now(google)
    with pytest.raises(PermanentProblem, match=r"needs 0\.0 GB, and .* left: make room"):
        google.drive.download("ben", file.id, tmp_path / "copy")
    assert "media.get" not in requests_since(google, start)


def test_a_video_replaced_during_its_download_comes_whole(
    google: GoogleTree, tmp_path: Path
) -> None:
    google.upload("ben", "d", "v.mp4", b"a" * (2 << 20))
    file = google.drive.video_folders("ben")[0].videos[0]
    fault(google, method="media.get", cut_after=1 << 20)
    replaced = []

    def progress(done: int, total: int) -> None:
        if not replaced:
            replaced.append(google.upload("ben", "d", "v.mp4", b"b" * (3 << 20)))

    google.drive.download("ben", file.id, tmp_path / "copy", progress)
    assert (tmp_path / "copy").read_bytes() == b"b" * (3 << 20)


@pytest.mark.parametrize(
    ("reason", "error", "sentence"),
    [("cannotDownloadAbusiveFile", PermanentProblem, "malware"),
     ("downloadQuotaExceeded", DriveUnavailable, "no more today")],
)  # fmt: skip
def test_what_google_will_not_hand_out_is_not_asked_for_again(
    google: GoogleTree, tmp_path: Path, reason: str, error: type[Exception], sentence: str
) -> None:
    google.upload("ben", "d", "v.mp4", b"1")
    file = google.drive.video_folders("ben")[0].videos[0]
    fault(google, method="media.get", times=5, status=403, reason=reason)
    start = now(google)
    with pytest.raises(error, match=sentence):
        google.drive.download("ben", file.id, tmp_path / "copy")
    assert requests_since(google, start).count("media.get") == 1
    assert not (tmp_path / "copy").exists()


# ---------------------------------------------------------------------- uploads


@pytest.mark.parametrize(
    "trouble",
    [{"lose_answer": True}, {"status": 500}, {"status": 403, "reason": "rateLimitExceeded"},
     {"status": 429, "headers": {"Retry-After": "0.1"}}, {"corrupt": True}, {"cut_after": 3},
     {"wrong_length": 20}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("size", [1000, LARGE])
def test_what_goes_wrong_with_an_upload_leaves_one_file_that_is_right(
    google: GoogleTree, tmp_path: Path, size: int, trouble: dict[str, Any]
) -> None:
    content = os.urandom(size)
    source = a_file(tmp_path / "out", "x", content)
    fault(google, method="files.create", after=1, **trouble)  # the first makes the folder
    if size == LARGE:
        fault(google, method="upload.put", **trouble)
    assert google.drive.publish("ben", "day 1", "x.npz", source) == md5(content)
    assert results(google) == [("day 1/x.npz", md5(content))]


def test_an_upload_whose_connection_is_cut_sends_only_what_is_missing(
    google: GoogleTree, tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    source = a_file(tmp_path / "out", "x", content)
    for _ in range(5):
        fault(google, method="upload.put", cut_request_after=(1 << 20) + 1000)
    fault(google, method="upload.put", forget_bytes=300_000)
    assert google.drive.publish("ben", "day 1", "x.npz", source) == md5(content)
    assert results(google) == [("day 1/x.npz", md5(content))]


def test_a_session_that_has_expired_begins_again_with_the_same_id(
    google: GoogleTree, tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    source = a_file(tmp_path / "out", "x", content)
    fault(google, method="upload.put", cut_request_after=2 << 20)
    fault(google, method="upload.put", status=404)
    assert google.drive.publish("ben", "day 1", "x.npz", source) == md5(content)
    assert results(google) == [("day 1/x.npz", md5(content))]


_UPLOADER = """
import sys
from pathlib import Path
from resources.google_drive.drive import GoogleDrive
url, incoming, source = sys.argv[1:]
GoogleDrive(url, Path(incoming)).publish("ben", "day 1", "x.npz", Path(source))
"""


def test_an_upload_goes_on_in_another_process_after_the_first_was_killed(
    google: GoogleTree, tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    source = a_file(tmp_path / "out", "x", content)
    server = server_of(google)
    # The bytes arrive, and no answer comes.
    fault(google, method="upload.put", slow_s=60)
    process = subprocess.Popen(
        [sys.executable, "-c", _UPLOADER, google.url, str(tmp_path), str(source)]
    )
    end = time.monotonic() + 30
    while not server.store.db.execute("SELECT 1 FROM sessions").fetchone():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (session,) = [row["id"] for row in server.store.db.execute("SELECT id FROM sessions")]
    (server.store.contents / f"session-{session}").write_bytes(content[: 8 * PIECE])

    start = now(google)
    assert google.drive.publish("ben", "day 1", "x.npz", source) == md5(content)
    assert results(google) == [("day 1/x.npz", md5(content))]
    asked = requests_since(google, start)
    assert "files.create" not in asked, "the session of the first goes on"
    assert asked.count("upload.put") == 2


def test_a_second_publication_writes_nothing(google: GoogleTree, tmp_path: Path) -> None:
    files = {f"watch/{n}.jpg": a_file(tmp_path / "out", f"{n}", b"%d" % n) for n in range(30)}
    sums = {name: md5(path.read_bytes()) for name, path in files.items()}
    google.drive.publish_all("ben", "day 1", files, sums)
    start = now(google)
    there = google.another(tmp_path).published("ben", "day 1")
    assert {name: file.md5 for name, file in there.items()} == sums
    assert set(requests_since(google, start)) == {"files.get", "files.list"}


def test_a_new_content_takes_the_place_of_the_old_and_a_persons_file_stays(
    google: GoogleTree, tmp_path: Path
) -> None:
    for content in (b"old", b"new"):
        google.drive.publish("ben", "day 1", "x.csv", a_file(tmp_path / "out", "x", content))
    folder = google.person("ben").folder(google.trees["ben"].results, ["day 1"])
    server_of(google).people.put(folder, "x.csv", "AAAA")
    assert {digest for _, digest in results(google)} == {md5(b"\0\0\0"), md5(b"new")}
    assert google.drive.published("ben", "day 1")["x.csv"].md5 == md5(b"new")
    google.drive.unpublish("ben", "day 1", "x.csv")
    assert results(google) == [("day 1/x.csv", md5(b"\0\0\0"))], "what people put there is theirs"


def test_a_publication_that_died_between_the_new_and_the_old_is_mended(
    google: GoogleTree, tmp_path: Path
) -> None:
    google.drive.publish("ben", "day 1", "x.csv", a_file(tmp_path / "out", "x", b"old"))
    new = a_file(tmp_path / "out", "y", b"new")
    fault(google, method="files.delete", times=100, status=500)
    with pytest.raises(DriveUnavailable):
        google.drive.publish("ben", "day 1", "x.csv", new)
    server_of(google).faults.clear()
    assert len(results(google)) == 2
    assert google.drive.published("ben", "day 1")["x.csv"].md5 not in (md5(b"old"), md5(b"new"))
    google.drive.publish("ben", "day 1", "x.csv", new)
    assert results(google) == [("day 1/x.csv", md5(b"new"))]


@pytest.mark.parametrize("how", ["trash", "delete", "move", "rename"])
def test_a_results_folder_that_somebody_has_taken_away_is_made_anew(
    google: GoogleTree, tmp_path: Path, how: str
) -> None:
    source = a_file(tmp_path / "out", "x", b"rows")
    google.drive.publish("ben", "day 1", "watch/x.csv", source)
    people = server_of(google).people
    folder = people.folder(BEN, ["tailor", "results", "day 1"])
    if how == "move":
        people.move(folder, people.folder(BEN, ["mine"]))
    elif how == "rename":
        people.rename(folder, "kept")
    else:
        getattr(people, how)(folder)
    google.drive.video_folders("ben")  # as the sensor does every few seconds
    assert google.drive.published("ben", "day 1") == {}
    google.drive.publish("ben", "day 1", "watch/x.csv", source)
    assert ("day 1/watch/x.csv", md5(b"rows")) in results(google)
    everything = ["/".join(f["path"]) for f in people.tree(BEN) if f["md5"]]
    kept = {"move": "mine/day 1/watch/x.csv", "rename": "tailor/results/kept/watch/x.csv"}
    assert (kept[how] in everything) if how in kept else len(everything) == 1


def test_a_full_drive_is_said_as_such_and_nothing_is_tried_again(
    google: GoogleTree, tmp_path: Path
) -> None:
    server_of(google).people.set_limit(BEN, 100)
    start = now(google)
    for size in (1000, LARGE):
        with pytest.raises(DriveFull, match="make room"):
            google.drive.publish(
                "ben", "day 1", "x.csv", a_file(tmp_path / "out", "x", os.urandom(size))
            )
    assert requests_since(google, start).count("files.create") == 3  # the folder is one of them
    assert google.drive.tenants() == ["ben"]
    server_of(google).people.set_limit(BEN, None)
    google.drive.publish("ben", "day 1", "x.csv", a_file(tmp_path / "out", "x", b"1"))
    assert results(google) == [("day 1/x.csv", md5(b"1"))]


def test_many_files_go_in_few_batches(google: GoogleTree, tmp_path: Path) -> None:
    files = {f"frames/{n}.jpg": a_file(tmp_path / "out", f"{n}", b"%d" % n) for n in range(230)}
    google.drive.publish_all(
        "ben", "day 1", files, {name: md5(path.read_bytes()) for name, path in files.items()}
    )
    assert len(results(google)) == 230
    fault(google, method="files.delete", after=120, times=3, status=429, reason="rateLimitExceeded")
    batches = []
    post = DriveServer.note

    def note(server: DriveServer, method: str, *rest: Any) -> None:
        batches.append(method)
        post(server, method, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DriveServer, "note", note)
        google.drive.unpublish_all("ben", "day 1", list(files))
    assert results(google) == []
    assert batches.count("files.delete") == 233, "only the three that were refused are repeated"


def test_a_random_fault_in_every_fifth_request_loses_and_doubles_nothing(
    google: GoogleTree, tmp_path: Path
) -> None:
    files = {
        f"watch/{n}.jpg": a_file(tmp_path / "out", f"{n}", os.urandom(2000)) for n in range(120)
    }
    files["x.npz"] = a_file(tmp_path / "out", "large", os.urandom(LARGE))
    sums = {name: md5(path.read_bytes()) for name, path in files.items()}
    server_of(google).faults.set_chaos(Chaos(rate=0.2, seed=5))
    google.drive.publish_all("ben", "day 1", files, sums)
    server_of(google).faults.set_chaos(None)
    assert server_of(google).faults.done > 20
    assert sorted(results(google)) == sorted((f"day 1/{n}", s) for n, s in sums.items())


def test_two_processes_that_publish_the_same_make_one_of_each(
    google: GoogleTree, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = {f"{n}.jpg": a_file(tmp_path / "out", f"{n}", b"%d" % n) for n in range(40)}
    sums = {name: md5(path.read_bytes()) for name, path in files.items()}
    drives = [google.another(tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda drive: drive.publish_all("ben", "day 1", files, sums), drives))
    assert sorted(results(google)) == sorted((f"day 1/{n}", s) for n, s in sums.items())


# ---------------------------------------------------------------------- late runs


def test_a_late_run_cannot_overwrite_what_its_successor_has_published(
    google: GoogleTree, tmp_path: Path, url: str
) -> None:
    early = claim_publication(url, "late", "results", run_id="a", created_at=100.0)
    old, new = (a_file(tmp_path / "out", name, name.encode()) for name in ("old", "new"))
    same = a_file(tmp_path / "out", "same", b"same")

    def publish(files: dict[str, Path], fence: Any) -> None:
        sums = {name: md5(path.read_bytes()) for name, path in files.items()}
        google.drive.publish_all("ben", "day 1", files, sums, fence=fence)

    later = claim_publication(url, "late", "results", run_id="b", created_at=200.0)
    publish({"x.csv": new, "y.csv": same}, later)
    start = now(google)
    with pytest.raises(Superseded, match="newer run"):
        publish({"x.csv": old, "y.csv": same}, early)
    assert not {"files.create", "upload.put", "files.delete"} & set(requests_since(google, start))
    with pytest.raises(Superseded):
        claim_publication(url, "late", "results", run_id="a", created_at=100.0)
    assert sorted(results(google)) == [("day 1/x.csv", md5(b"new")), ("day 1/y.csv", md5(b"same"))]


def test_a_run_that_is_overtaken_while_it_sends_takes_back_what_nobody_wants(
    google: GoogleTree, tmp_path: Path, url: str
) -> None:
    old, same = (a_file(tmp_path / "out", name, name.encode()) for name in ("old", "same"))
    early = claim_publication(url, "overtaken", "results", run_id="a", created_at=100.0)

    class Overtaken:
        attempt = early.attempt
        asked = 0

        def check(self) -> None:
            self.asked += 1
            if self.asked == 2:  # the file is there, and has not been noted
                later = claim_publication(url, "overtaken", "results", run_id="b", created_at=200.0)
                google.another(tmp_path).publish_all(
                    "ben", "day 1", {"y.csv": same}, {"y.csv": md5(b"same")}, fence=later
                )
            early.check()

        held = early.held

    for name, source in (("x.csv", old), ("y.csv", same)):
        with pytest.raises(Superseded):
            google.drive.publish_all(
                "ben", "day 1", {name: source}, {name: md5(source.read_bytes())}, fence=Overtaken()
            )
        early = (
            claim_publication(
                url, "overtaken", "results", run_id=f"c{name}", created_at=300.0 + len(name)
            )
            if name == "x.csv"
            else early
        )
    assert results(google) == [("day 1/y.csv", md5(b"same"))]


# ---------------------------------------------------------------------- other kinds of account


@pytest.mark.parametrize("kind", ["delegation", "shared_drive"])
def test_a_service_account_works_for_a_person_or_in_a_shared_drive(
    google: GoogleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    people, robot = server_of(google).people, f"robot-{kind}@tailor.example"
    key = people.add_service_account(robot, delegates=["lab.example"])
    monkeypatch.setenv("TAILOR_GOOGLE_SERVICE_ACCOUNT", json.dumps(key))
    drive_id = people.add_drive("Lab", {robot: "fileOrganizer"}) if kind == "shared_drive" else None
    subject = BEN if kind == "delegation" else None
    api = GoogleApi(service_credentials(subject, addresses()), pauses_s=())
    tree = find_or_make_tree(api, drive_id)
    google.accounts.connect(
        DriveAccount("lab", kind, subject or robot, "", tree.videos, tree.results, drive_id),  # type: ignore[arg-type]
        None,
        google.box,
    )
    day = people.make_folder(tree.videos, "day 1")
    people.put(day, "v.mp4", "AAAA")
    (folder,) = google.drive.video_folders("lab")
    people.rename(day, "day one")
    (folder,) = google.drive.video_folders("lab")
    assert folder.name == "day one"
    assert google.drive.download("lab", folder.videos[0].id, tmp_path / "c") == md5(b"\0\0\0")
    for content in (b"old", b"new"):
        google.drive.publish("lab", "day 1", "x.csv", a_file(tmp_path / "out", "x", content))
    there = [f for f in people.tree(drive_id or BEN) if f["path"][-1] == "x.csv"]
    assert [f["md5"] for f in there] == [md5(b"new")]
    google.drive.unpublish("lab", "day 1", "x.csv")
    assert google.drive.published("lab", "day 1") == {}
    google.accounts.disconnect("lab")


def test_a_folder_that_was_made_by_hand_is_said_so(google: GoogleTree) -> None:
    people = server_of(google).people
    people.add_person("carl@lab.example")
    people.folder("carl@lab.example", ["tailor"])
    from resources.google_drive.credentials import USER_SCOPES, user_credentials

    token = people.grant("carl@lab.example", CLIENT.id, " ".join(USER_SCOPES))
    api = GoogleApi(user_credentials(token, CLIENT, addresses()), pauses_s=())
    with pytest.raises(PermanentProblem, match="made by hand: rename it"):
        find_or_make_tree(api, None)


# ---------------------------------------------------------------------- secrets


def test_tokens_are_in_no_log_no_error_and_nowhere_in_the_database_in_clear(
    google: GoogleTree, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    said: list[str] = []
    google.upload("ben", "d", "v.mp4", b"1")
    file = google.drive.video_folders("ben")[0].videos[0]
    google.drive.download("ben", file.id, tmp_path / "copy")
    large = a_file(tmp_path / "out", "large", os.urandom(LARGE))
    fault(google, method="upload.put", times=40, cut_request_after=1000)
    with pytest.raises(DriveUnavailable) as problem:
        google.drive.publish("ben", "day 1", "x.npz", large)
    said.append(str(problem.value))
    server = server_of(google)
    secrets = [
        row[0]
        for table, column in (("refresh_tokens", "token"), ("access_tokens", "token"),
                              ("sessions", "id"), ("clients", "secret"))
        for row in server.store.db.execute(f"SELECT {column} FROM {table}")
    ]  # fmt: skip
    assert len(secrets) >= 5
    server.people.revoke(BEN)
    with pytest.raises(UserMustAct) as lost:
        google.another(tmp_path).video_folders("ben")
    said.append(str(lost.value))
    with engine_for(url).begin() as connection:
        for table in sa.inspect(connection).get_table_names("tailor"):
            rows = connection.execute(sa.text(f'SELECT t::text FROM tailor."{table}" t'))
            said.extend(str(row[0]) for row in rows)
        kept = connection.execute(sa.text("SELECT session FROM tailor.drive_uploads")).scalars()
        said.extend(bytes(value).decode("latin-1") for value in kept if value is not None)
    everything = " ".join([*said, caplog.text, *map(str, caplog.records)])
    assert [secret for secret in secrets if secret in everything] == []


def test_google_drive_is_one_per_process(
    google: GoogleTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.configured_drive import ConfiguredDrive

    monkeypatch.setenv("TAILOR_DRIVE", "google")
    monkeypatch.setenv("TAILOR_POSTGRES_URL", google.url)
    first, second = ConfiguredDrive().open(), ConfiguredDrive().open()
    assert first is second
    assert isinstance(first, GoogleDrive)


# ---------------------------------------------------------------------- what is theirs


def test_what_somebody_took_out_of_the_results_is_left_alone_for_ever(
    google: GoogleTree, tmp_path: Path
) -> None:
    people = server_of(google).people
    for content in (b"old", b"new"):
        google.drive.publish("ben", "day 1", "x.csv", a_file(tmp_path / "out", "x", content))
        google.drive.publish(
            "ben", "day 1", "manifest.json", a_file(tmp_path / "out", "m", content)
        )
        folder = people.folder(BEN, ["tailor", "results", "day 1"])
        people.move(folder, people.make_folder(people.folder(BEN, []), content.decode()))
        google.drive.video_folders("ben")
        google.drive.unpublish_all("ben", "day 1", ["manifest.json"])
    kept = {"/".join(f["path"]): f["md5"] for f in people.tree(BEN) if f["md5"]}
    assert kept == {
        "old/day 1/x.csv": md5(b"old"),
        "old/day 1/manifest.json": md5(b"old"),
        "new/day 1/x.csv": md5(b"new"),
        "new/day 1/manifest.json": md5(b"new"),
    }


def test_files_of_peoples_own_among_the_results_stay_and_stop_nothing(
    google: GoogleTree, tmp_path: Path
) -> None:
    people = server_of(google).people
    google.drive.publish("ben", "day 1", "frames/0.jpg", a_file(tmp_path / "out", "x", b"1"))
    frames = people.folder(BEN, ["tailor", "results", "day 1", "frames"])
    people.put(frames, "mine.jpg", "AAAA")
    people.put(people.folder(BEN, ["tailor", "results", "day 1"]), "manifest.json", "AAAA")
    google.drive.unpublish_all("ben", "day 1", ["frames/mine.jpg", "frames/0.jpg", "manifest.json"])
    google.drive.publish("ben", "day 1", "manifest.json", a_file(tmp_path / "out", "x", b"{}"))
    assert sorted(results(google)) == sorted(
        [("day 1/frames/mine.jpg", md5(b"\0\0\0")), ("day 1/manifest.json", md5(b"\0\0\0")),
         ("day 1/manifest.json", md5(b"{}"))]
    )  # fmt: skip
    assert google.drive.published("ben", "day 1")["manifest.json"].md5 == md5(b"{}")
    assert google.drive.tenants() == ["ben"]


def test_one_video_that_google_takes_for_malware_stops_no_other(
    google: GoogleTree, tmp_path: Path
) -> None:
    google.upload("ben", "d", "v.mp4", b"1")
    file = google.drive.video_folders("ben")[0].videos[0]
    fault(google, method="media.get", status=403, reason="cannotDownloadAbusiveFile")
    with pytest.raises(PermanentProblem, match="malware"):
        google.drive.download("ben", file.id, tmp_path / "copy")
    assert google.drive.tenants() == ["ben"]


def test_a_folder_of_videos_that_was_thrown_away_is_waited_for(google: GoogleTree) -> None:
    google.upload("ben", "d", "v.mp4", b"1")
    google.drive.video_folders("ben")
    people, videos = server_of(google).people, google.trees["ben"].videos
    people.trash(videos)
    for _ in range(2):
        with pytest.raises(DriveUnavailable, match="put it back from the trash"):
            google.drive.video_folders("ben")
    people.restore(videos)
    assert [f.name for f in google.drive.video_folders("ben")] == ["d"]


def test_keys_change_while_an_upload_is_under_way(google: GoogleTree, tmp_path: Path) -> None:
    from cryptography.fernet import Fernet

    from resources.google_drive.token_box import TokenBox
    from resources.google_drive.upload_ledger import relock_sessions

    source = a_file(tmp_path / "out", "x", os.urandom(LARGE))
    fault(google, method="upload.put", times=40, cut_request_after=1000)
    with pytest.raises(DriveUnavailable):
        google.drive.publish("ben", "day 1", "x.npz", source)
    server_of(google).faults.clear()
    new = Fernet.generate_key().decode()
    old_key = os.environ["TAILOR_TOKEN_KEYS"]
    both, only_new = TokenBox(f"{new},{old_key}"), TokenBox(new)
    google.accounts.relock(both)
    relock_sessions(google.url, both)
    google.box = only_new
    start = now(google)
    google.another(tmp_path).publish("ben", "day 1", "x.npz", source)
    assert "files.create" not in requests_since(google, start), "the session goes on"
    # A key that is lost costs an upload its session, and a tenant its token, and nobody else.
    lost = TokenBox(Fernet.generate_key().decode())
    assert google.accounts.relock(lost) == 0
    assert google.drive.tenants() == []
    assert "cannot be decrypted" in str(google.accounts.get("ben").problem)


def test_results_folders_that_were_made_by_hand_are_said_so(google: GoogleTree) -> None:
    from resources.google_drive.credentials import USER_SCOPES, user_credentials

    people = server_of(google).people
    people.add_person("dora@lab.example")
    token = people.grant("dora@lab.example", CLIENT.id, " ".join(USER_SCOPES))
    api = GoogleApi(user_credentials(token, CLIENT, addresses()), pauses_s=())
    tree = find_or_make_tree(api, None, own_only=True)
    people.delete(tree.results)
    people.folder("dora@lab.example", ["tailor", "results"])
    with pytest.raises(UserMustAct, match="made by hand: rename it"):
        find_or_make_tree(api, None, own_only=True)


def test_tokens_are_in_no_event_no_metadata_and_no_run_config(
    google: GoogleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster as dg

    from resources.artifact_store import ArtifactStore
    from resources.google_drive.drive import GoogleDriveResource
    from resources.video_registry import VideoRegistry
    from run_queue.job_ledger import find_job
    from sensors.drive_inbox import accept_wanted, look_at_tenant
    from tailor_assets.compute.simulation.simulate import simulate_video
    from tailor_assets.video import video

    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    clip = tmp_path / "clip.mp4"
    simulate_video(clip, seed=1, duration_s=1, width=160, height=120)
    google.upload("ben", "day 1", "v.mp4", clip.read_bytes())
    registry = VideoRegistry(url=google.url)
    for _ in range(2):
        look_at_tenant(google.drive, registry, "ben", 5.0)
    (key,) = registry.partitions_of("ben")
    row = registry.get(key)
    registry.save([replace(row, admitted_at=datetime.now(UTC))])  # its run has been seen
    store = ArtifactStore(root=str(tmp_path / "artifacts"))
    said = []
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        instance.add_dynamic_partitions("videos", [key])
        # Once well, and once with a token that was withdrawn, which is when errors are written.
        for turn in range(2):
            result = dg.materialize(
                [video],
                partition_key=key,
                instance=instance,
                raise_on_error=False,
                resources={
                    "drive": GoogleDriveResource(postgres_url=google.url),
                    "registry": registry,
                    "store": store,
                },
            )
            assert result.success == (turn == 0)
            run = instance.get_run_by_id(result.run_id)
            said += [str(event) for event in instance.all_logs(result.run_id)]
            said += [str(run), str(run and run.run_config)]
            secrets = [
                str(row[0])
                for table in ("refresh_tokens", "access_tokens")
                for row in server_of(google).store.db.execute(f"SELECT token FROM {table}")
            ] + [CLIENT.secret]  # fmt: skip
            if turn == 0:
                before = secrets
                server_of(google).people.revoke(BEN)
                server_of(google).people.expire_access_tokens()
            else:
                # When the Drive is connected again, the video is made without anybody's asking.
                assert accept_wanted(registry, store, google.drive.tenants()) == []
                google.reconnect("ben")
                assert accept_wanted(registry, store, google.drive.tenants()) == [key]
                assert find_job(google.url, key).assets is None, "the whole of it"
    for path in (tmp_path / "dagster").rglob("*"):
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
    registry.forget("ben")
    everything = " ".join(said)
    assert "recording" in everything or "v.mp4" in everything, "there is something to search"
    assert len(before) >= 3
    assert [secret for secret in before if secret in everything] == []


# ---------------------------------------------------------------------- names

HOSTILE = [
    "../../etc",
    "..",
    "/etc/passwd",
    "new\nline",
    "ä" * 127,  # 254 bytes
    "\u202etxt.4pm",
    "🐭🧀",
    "Day",
    "day",
    "résumé",
    "re\u0301sume\u0301",
    "'; DROP TABLE tailor.videos; --",
    "$(touch hacked) `id`",
    "C:\\con",
    "%2e%2e%2f",
    " ",
]


def test_hostile_names_of_tenants_and_folders_escape_nowhere_and_collide_with_nothing(
    google: GoogleTree, tmp_path: Path
) -> None:
    import re

    from resources.artifact_store import ArtifactStore
    from resources.video_registry import VideoRegistry
    from sensors.drive_inbox import look_at_tenant

    registry, store = VideoRegistry(url=google.url), ArtifactStore(root=str(tmp_path / "artifacts"))
    people, keys = server_of(google).people, []
    for tenant in HOSTILE[:12]:
        google.add_tenant(tenant)
        videos = google.trees[tenant].videos
        for name in [*HOSTILE, "nul\0nul"]:
            people.put(people.make_folder(videos, name), f"{name}.mp4", "AAAA")
        for _ in range(2):
            assert look_at_tenant(google.drive, registry, tenant, 30.0) == []
        rows = sorted(registry.of_tenant(tenant).values(), key=lambda row: row.partition_key)
        # A name that begins with a dot is a hidden folder, as everywhere.
        assert len(rows) == len([name for name in HOSTILE if not name.startswith(".")]) + 1
        assert all(row.state == "admitted" for row in rows)
        assert len({row.results_name for row in rows}) == len(rows)
        for row in rows:
            keys.append(row.partition_key)
            assert re.fullmatch(r"[a-z0-9-]{1,100}", row.partition_key)
            assert store.folder(row.partition_key).parent == store.folder("x").parent
        row = rows[3]
        content = tenant.encode()
        google.drive.publish(
            tenant, row.results_name, "x.csv", a_file(tmp_path / "out", "x", content)
        )
        there = [f for f in people.tree(email_of(tenant)) if f["path"][:2] == ["tailor", "results"]]
        assert [(f["path"][2:], f["md5"]) for f in there if f["md5"]] == [
            ([row.results_name, "x.csv"], md5(content))
        ]
    assert len(set(keys)) == len(keys)
    # Nobody has what another published.
    for tenant in HOSTILE[:12]:
        rows = sorted(registry.of_tenant(tenant).values(), key=lambda row: row.partition_key)
        row = rows[3]
        there = google.drive.published(tenant, row.results_name)
        assert [f.md5 for f in there.values()] == [md5(tenant.encode())]
        registry.forget(tenant)
