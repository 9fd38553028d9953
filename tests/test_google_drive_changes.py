"""GoogleDrive sees what people do, in few requests, on a server that misbehaves on purpose."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from drive_trees import GoogleTree, md5
from google.auth.exceptions import RefreshError
from google_drive_parts import BEN, fault, now, requests_since, server_of

from resources.database import engine_for
from resources.drive import DriveUnavailable, UserMustAct
from resources.google_drive.api import GoogleApi
from resources.google_drive.drive import GoogleDrive
from resources.google_drive.inbox import cursors_table
from resources.google_drive.units_spent import units_table

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


@pytest.mark.parametrize(
    ("error", "description"),
    [
        ("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)."),
        ("invalid_client", "The OAuth client was not found."),
    ],
    ids=["a clock that is wrong", "another client's name"],
)
def test_a_token_refused_for_no_fault_of_the_drive_pauses_no_tenant(
    google: GoogleTree, monkeypatch: pytest.MonkeyPatch, error: str, description: str
) -> None:
    google.upload("ben", "day 1", "v.mp4", b"1")

    def refused(*_: Any, **__: Any) -> Any:
        said = {"error": error, "error_description": description}
        raise RefreshError(f"{error}: {description}", said)

    with monkeypatch.context() as patch:
        patch.setattr(GoogleApi, "send", refused)
        patch.setattr(GoogleApi, "call", lambda api, *_, **__: api.retried("files.list", refused))
        with pytest.raises(DriveUnavailable, match=error):
            google.another(Path("/nowhere")).video_folders("ben")
    assert google.drive.tenants() == ["ben"]
    assert len(google.drive.video_folders("ben")) == 1


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
