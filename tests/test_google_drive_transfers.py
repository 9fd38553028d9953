"""GoogleDrive's downloads and uploads, with a server that speaks the real protocol and misbehaves."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from drive_trees import CLIENT, GoogleTree, md5
from google_drive_parts import BEN, LARGE, a_file, fault, now, requests_since, results, server_of
from google_drive_server.faults import Chaos
from google_drive_server.server import DriveServer
from google_drive_server.uploads import PIECE

from resources.drive import DriveFull, DriveUnavailable, UserMustAct
from resources.google_drive.api import GoogleApi
from resources.google_drive.tree import find_or_make_tree
from resources.partial_file import PartialFile
from resources.publications import Superseded, claim_publication
from run_queue.failure_causes import kind_of
from tailor_assets.compute.errors import PermanentProblem

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
    with pytest.raises(OSError, match=r"needs 0\.0 GB, and .* left: make room") as full:
        google.drive.download("ben", file.id, tmp_path / "copy")
    assert "media.get" not in requests_since(google, start)
    # Everybody's trouble and none of the video's: it is tried again, and the queue pauses for it.
    assert kind_of(str(full.value)) == "disk_full"


def test_a_disk_that_fills_up_during_a_download_is_not_held_against_the_video(
    google: GoogleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(1 << 20)
    google.upload("ben", "d", "v.mp4", content)
    file = google.drive.video_folders("ben")[0].videos[0]
    append, full = PartialFile.append, [True]

    def fills_up(part: PartialFile, piece: bytes) -> None:
        if part.size > 100_000 and full:
            with part._problems():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(part, piece)

    monkeypatch.setattr(PartialFile, "append", fills_up)
    with pytest.raises(OSError, match="No space left on device") as refused:
        google.drive.download("ben", file.id, tmp_path / "copy")
    assert kind_of(str(refused.value)) == "disk_full"
    full.clear()
    assert google.drive.download("ben", file.id, tmp_path / "copy") == md5(content)


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


def test_a_drive_that_fills_up_during_an_upload_is_said_to_be_full(
    google: GoogleTree, tmp_path: Path
) -> None:
    content = os.urandom(LARGE)
    source = a_file(tmp_path / "out", "x", content)
    fault(google, method="upload.put", status=403, reason="storageQuotaExceeded")
    with pytest.raises(DriveFull, match="make room"):
        google.drive.publish("ben", "day 1", "x.npz", source)
    assert google.drive.publish("ben", "day 1", "x.npz", source) == md5(content)


@pytest.mark.parametrize("how", ["trash", "delete"])
def test_a_folder_of_all_results_that_was_thrown_away_is_asked_for_and_not_filled(
    google: GoogleTree, tmp_path: Path, how: str
) -> None:
    source = a_file(tmp_path / "out", "x", b"rows")
    people = server_of(google).people
    getattr(people, how)(people.folder(BEN, ["tailor", "results"]))
    with pytest.raises(
        UserMustAct, match=r"tailor/results of ben has been removed.*tailor connect"
    ):
        google.drive.publish("ben", "day 1", "x.csv", source)
    assert google.drive.tenants() == []
    # As `tailor connect` does.
    google.reconnect("ben")
    account = google.accounts.get("ben")
    tree = find_or_make_tree(google.drive._own("ben").api, None, own_only=True)
    assert tree.results != account.results_folder_id
    token = server_of(google).people.grant(BEN, CLIENT.id, account.scopes)
    google.accounts.connect(replace(account, results_folder_id=tree.results), token, google.box)
    google.drive.publish("ben", "day 1", "x.csv", source)
    assert results(google) == [("day 1/x.csv", md5(b"rows"))]


def test_the_key_of_an_upload_is_in_no_sentence(google: GoogleTree, tmp_path: Path) -> None:
    source = a_file(tmp_path / "out", "x", os.urandom(LARGE))
    fault(google, method="upload.put", cut_request_after=1 << 20)
    send, keys = GoogleApi.send, []

    def no_network(api: GoogleApi, method: str, address: str, **how: Any) -> Any:
        if "upload_id=" in address and keys:
            raise requests.ConnectionError(f"Max retries exceeded with url: {address}")
        if "upload_id=" in address:
            keys.append(address.split("upload_id=")[1].split("&")[0])
        return send(api, method, address, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GoogleApi, "send", no_network)
        with pytest.raises(DriveUnavailable) as problem:
            google.drive.publish("ben", "day 1", "x.npz", source)
    assert keys
    assert "Max retries" in str(problem.value)
    assert keys[0][:8] not in str(problem.value)


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
