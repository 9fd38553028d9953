"""The Drive test server held to Drive's protocol: by Google's client library, and by plain HTTP."""

import base64
import hashlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from importlib import resources as package_files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth.exceptions
import httplib2
import pytest
import requests
from drive_trees import md5
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from google_drive_server.discovery import Discovery
from google_drive_server.faults import Chaos, Fault
from google_drive_server.oauth import Consent
from google_drive_server.remote import ServerProcess
from google_drive_server.server import DriveServer
from google_drive_server.store import FOLDER
from google_drive_server.uploads import PIECE
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest, MediaInMemoryUpload

ANNA, BEN = "anna@lab.example", "ben@lab.example"
ALL, READ, OWN = (
    f"https://www.googleapis.com/auth/{scope}"
    for scope in ("drive", "drive.readonly", "drive.file")
)
NOWHERE = "1" * 33  # of the form of an id
AAA = "QUFB"  # b"AAA", as the server's people give it


class App:
    """An app that works for a person: the client library, and a session without it."""

    def __init__(self, address: str, refresh_token: str, client: str = "app") -> None:
        self.credentials = Credentials(
            None, refresh_token=refresh_token, token_uri=f"{address}/token", client_id=client,
            client_secret="secret",
        )  # fmt: skip
        self.address = address
        self.session = AuthorizedSession(self.credentials)
        self.http = AuthorizedHttp(self.credentials, http=httplib2.Http(timeout=20))
        found = package_files.files("googleapiclient.discovery_cache.documents") / "drive.v3.json"
        document = json.loads(found.read_text(encoding="utf-8")) | {"rootUrl": f"{address}/"}
        document.pop("mtlsRootUrl", None)
        service = build_from_document(document, http=self.http)
        self.files, self.changes = service.files(), service.changes()
        self.about, self.drives = service.about(), service.drives()

    def ask(self, verb: str, path: str, **how: Any) -> requests.Response:
        """Without the client library, which would not send everything."""
        return self.session.request(verb, f"{self.address}{path}", timeout=20, **how)

    def names(self, q: str, **how: Any) -> list[str]:
        found = self.files.list(q=q, orderBy="name", **how).execute()["files"]
        return [file["name"] for file in found]

    def upload(self, name: str, content: bytes, **about: Any) -> dict[str, Any]:
        media = MediaInMemoryUpload(content, mimetype="application/octet-stream")
        made = self.files.create(body={"name": name, **about}, media_body=media, fields="*")
        return dict(made.execute())

    def session_for(self, size: int | None, name: str = "x") -> str:
        """The address of a new upload session."""
        told = {} if size is None else {"X-Upload-Content-Length": str(size)}
        path = "/upload/drive/v3/files?uploadType=resumable&fields=id,md5Checksum"
        return self.ask("POST", path, json={"name": name}, headers=told).headers["Location"]

    def send(
        self, session: str, content_range: str, content: bytes = b""
    ) -> tuple[int, str | None]:
        """Status and Range of the answer to a piece, or to the question how much is there."""
        answer = self.session.put(
            session, data=content, headers={"Content-Range": content_range}, timeout=5
        )
        return answer.status_code, answer.headers.get("Range")


def app_of(server: DriveServer, email: str, scopes: str = ALL, client: str = "app") -> App:
    return App(server.address, server.people.grant(email, client, scopes), client)


def why(answer: Any) -> tuple[int, str]:
    """(status, reason) of an answer that is an error, or of a request to which it is the answer."""
    if isinstance(answer, requests.Response):
        return answer.status_code, answer.json()["error"]["errors"][0]["reason"]
    with pytest.raises(HttpError) as problem:
        answer.execute()
    reason = json.loads(problem.value.content)["error"]["errors"][0]["reason"]
    return int(problem.value.resp.status), reason


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DriveServer]:
    with DriveServer(tmp_path / "world").running() as server:
        for client in ("app", "another"):
            server.people.add_client(client, "secret")
        for email in (ANNA, BEN):
            server.people.add_person(email)
        yield server


@pytest.fixture
def anna(server: DriveServer) -> App:
    return app_of(server, ANNA)


# ---------------------------------------------------------------------- what is asked and answered


def test_a_mask_cuts_objects_and_lists_and_without_one_little_is_sent(anna: App) -> None:
    made = anna.upload("x", b"AAA", appProperties={"a": "1", "b": "2"})
    assert made["md5Checksum"] == md5(b"AAA")
    assert anna.files.get(fileId=made["id"]).execute().keys() == {"kind", "id", "name", "mimeType"}
    assert anna.files.list(fields="nextPageToken,files(name,owners/emailAddress)").execute() == {
        "files": [{"name": "x", "owners": [{"emailAddress": ANNA}]}]
    }
    fields = "size,owners(me),appProperties/b"
    found = anna.files.get(fileId=made["id"], fields=fields).execute()
    assert found == {"size": "3", "owners": [{"me": True}], "appProperties": {"b": "2"}}
    assert why(anna.about.get()) == (400, "required")
    assert anna.about.get(fields="user/emailAddress").execute() == {"user": {"emailAddress": ANNA}}


@pytest.mark.parametrize("fields", ["nme", "name/first", "name)", "owners(me", "owners()", ","])
def test_fields_that_there_are_not_are_refused_before_anything_is_done(
    anna: App, fields: str
) -> None:
    assert why(anna.files.create(body={"name": "x"}, fields=fields)) == (400, "invalidParameter")
    media = MediaInMemoryUpload(b"AAA")
    upload = anna.files.create(body={"name": "x"}, media_body=media, fields=fields)
    assert why(upload) == (400, "invalidParameter")
    assert anna.names("") == []


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [("GET", "files?colour=red", None), ("GET", "files?pageSize=many", None),
     ("GET", "files?pageSize=0", None), ("GET", "files?supportsAllDrives=yes", None),
     ("GET", "files?corpora=everything", None), ("GET", "changes", None),
     ("POST", "files", {"colour": "red"}), ("POST", "files", {"name": 3}),
     ("POST", "files", {"trashed": "yes"}), ("POST", "files", {"parents": "root"}),
     ("POST", "files", {"appProperties": {"a": 1}}), ("POST", "files", ["name"])],
    ids=str,
)  # fmt: skip
def test_what_the_discovery_document_does_not_have_is_refused(
    anna: App, verb: str, path: str, body: Any
) -> None:
    assert anna.ask(verb, f"/drive/v3/{path}", json=body).status_code == 400
    assert anna.ask("GET", "/drive/v3/file").status_code == 404
    assert anna.names("") == []


def test_every_answer_is_as_the_discovery_document_has_it(server: DriveServer, anna: App) -> None:
    discovery = Discovery()
    drive = server.people.add_drive("Lab", {ANNA: "organizer"})
    made = anna.upload("x", b"AAA", appProperties={"a": "1"}, description="mine")["id"]

    def answer(verb: str, path: str, body: Any = None) -> Any:
        mark = "&" if "?" in path else "?"
        found = anna.ask(verb, f"/drive/v3/{path}{mark}fields=*", json=body)
        assert found.status_code in (200, 204), found.text
        method, _ = discovery.method(verb, path.partition("?")[0])
        answered = found.json() if found.content else None
        discovery.check_answer(method, answered)
        return answered

    for path in ("about", "drives", f"drives/{drive}", f"files/{made}", "changes?pageToken=1"):
        assert answer("GET", path)
    assert answer("GET", "files?pageSize=1")["files"]
    assert answer("GET", "changes/startPageToken")["startPageToken"]
    assert len(answer("GET", "files/generateIds?count=3")["ids"]) == 3
    assert answer("POST", "files", {"name": "y", "mimeType": FOLDER})["name"] == "y"
    file = answer("PATCH", f"files/{made}", {"trashed": True})
    assert answer("DELETE", f"files/{made}") is None

    get, _ = discovery.method("GET", "files/x")
    for wrong in ({"colour": "red"}, {"size": 3}, {"size": "big"}, {"trashed": "yes"},
                  {"parents": "root"}, {"owners": [{"nick": "Anna"}]}):  # fmt: skip
        with pytest.raises(AssertionError, match=next(iter(wrong))):
            discovery.check_answer(get, file | wrong)
    with pytest.raises(AssertionError, match="answers nothing"):
        discovery.check_answer(discovery.method("DELETE", "files/x")[0], {})


def test_requests_are_written_down_under_their_own_names(server: DriveServer, anna: App) -> None:
    anna.names("")
    start = server.people.last_request()
    anna.ask("GET", "/drive/v3/files")
    anna.ask("GET", "/drive/v3/nothing")  # over the same connection
    found = [
        (r["method"], r["email"], r["status"], r["units"]) for r in server.people.requests(start)
    ]
    assert found[1:] == [("files.list", ANNA, 200, 100), ("/drive/v3/nothing", "", 404, 0)]


# ---------------------------------------------------------------------- searches


@pytest.mark.parametrize(
    ("q", "names"),
    [("'DAY' in parents", ["a", "b", "gone"]),
     ("'root' in parents", ["day", "it's", "on \\ top"]),
     ("'DAY' in parents and trashed = false", ["a", "b"]),
     ("('DAY' in parents or 'ROOT' in parents) and not name = 'b' and trashed = false",
      ["a", "day", "it's", "on \\ top"]),
     ("'DAY' in parents or name = 'it\\'s'", ["a", "b", "gone", "it's"]),
     ("not 'DAY' in parents", ["day", "it's", "on \\ top"]),
     ("name = 'on \\\\ top'", ["on \\ top"]),
     ("name = 'a' or name = ' in parents or '", ["a"]),
     ("name != 'a' and mimeType = 'FOLDER'", ["day"]),
     ("mimeType != 'FOLDER' and trashed != true", ["a", "b", "it's", "on \\ top"]),
     ("name = 'a' or name = 'gone' and trashed = true", ["gone"]),
     ("name = 'a' or (name = 'gone' and trashed = true)", ["a", "gone"]),
     ("name contains 'TO' and modifiedTime > '2020-01-01T00:00:00'", ["on \\ top"]),
     ("modifiedTime < '2020-01-01T00:00:00'", [])],
)  # fmt: skip
def test_a_search_finds_what_it_says(
    server: DriveServer, anna: App, q: str, names: list[str]
) -> None:
    people, root = server.people, server.people.folder(ANNA, [])
    day = people.folder(ANNA, ["day"])
    for parent, name in ((root, "it's"), (root, "on \\ top"), (day, "a"), (day, "b")):
        people.put(parent, name, AAA)
    people.trash(people.put(day, "gone", AAA))
    for word, meant in (("DAY", day), ("ROOT", root), ("FOLDER", FOLDER)):
        q = q.replace(word, meant)
    assert anna.names(q) == names


@pytest.mark.parametrize(
    "q",
    ["colour = 'red'", "name ~ 'x'", "name = x", "name < 'x'", "name = 'x' and", "(name = 'x'",
     "name = 'x')", "name = 'it's'", "trashed = 'true'", "trashed = maybe", "'x' in colours"],
)  # fmt: skip
def test_a_search_that_is_not_understood_is_refused(anna: App, q: str) -> None:
    assert why(anna.files.list(q=q)) == (400, "invalid")


def test_a_parent_that_there_is_not_is_an_error_and_not_an_empty_folder(anna: App) -> None:
    assert why(anna.files.list(q=f"'{NOWHERE}' in parents")) == (404, "notFound")


def test_pages_lose_nothing_and_repeat_nothing_in_the_order_asked_for(
    server: DriveServer, anna: App
) -> None:
    for number in (3, 1, 6, 0, 5, 2, 4):
        server.people.put(server.people.folder(ANNA, ["day"]), f"{number}", AAA)
    found, token = [], None
    while token is not None or not found:
        page = anna.files.list(orderBy="folder,name desc", pageSize=3, pageToken=token).execute()
        found.append([file["name"] for file in page["files"]])
        token = page.get("nextPageToken")
        if token:
            assert why(anna.files.list(q="name = 'x'", pageToken=token)) == (400, "invalid")
    assert found == [["day", "6", "5"], ["4", "3", "2"], ["1", "0"]]
    assert why(anna.files.list(pageToken="no token")) == (400, "invalid")
    assert why(anna.files.list(orderBy="colour")) == (400, "invalid")


# ---------------------------------------------------------------------- whose files they are


def test_an_id_serves_whom_it_was_given_to_and_once(server: DriveServer, anna: App) -> None:
    first, second = anna.files.generateIds(count=2).execute()["ids"]
    assert why(anna.files.create(body={"id": NOWHERE})) == (400, "invalid")
    assert why(app_of(server, BEN).files.create(body={"id": first})) == (400, "invalid")
    assert anna.files.create(body={"id": first}).execute()["id"] == first
    assert why(anna.files.create(body={"id": first})) == (409, "fileIdInUse")
    path = "/upload/drive/v3/files?uploadType=resumable"
    assert why(anna.ask("POST", path, json={"id": first})) == (409, "fileIdInUse")
    assert anna.upload("x", b"AAA", id=second)["id"] == second
    assert len(anna.names("")) == 2


def test_an_app_with_drive_file_sees_what_it_has_made_and_nothing_else(
    server: DriveServer,
) -> None:
    theirs = server.people.put(server.people.folder(ANNA, []), "a person's", AAA)
    another = app_of(server, ANNA, OWN, "another").upload("another app's", b"AAA")["id"]
    app = app_of(server, ANNA, OWN)
    own = app.upload("own", b"AAA", appProperties={"a": "1"})["id"]
    assert app.names("") == ["own"]
    for file in (theirs, another):
        assert why(app.files.get(fileId=file)) == (404, "notFound")
        assert why(app.files.update(fileId=file, body={"name": "y"})) == (404, "notFound")
    seen = app_of(server, ANNA, ALL, "another").files.get(fileId=own, fields="*").execute()
    assert "appProperties" not in seen, "they are private to the app that made the file"


def test_an_app_that_reads_everything_writes_only_what_it_has_made(server: DriveServer) -> None:
    theirs = server.people.put(server.people.folder(ANNA, ["day"]), "theirs", AAA)
    day = server.people.folder(ANNA, ["day"])
    app = app_of(server, ANNA, f"{READ} {OWN}")
    assert app.files.get_media(fileId=theirs).execute() == b"AAA"
    for request in (app.files.update(fileId=theirs, body={"name": "y"}),
                    app.files.delete(fileId=theirs),
                    app.files.create(body={"name": "x", "parents": [day]})):  # fmt: skip
        assert why(request) == (403, "appNotAuthorizedToFile")
    app.files.delete(fileId=app.upload("own", b"AAA")["id"]).execute()
    reader = app_of(server, ANNA, READ)
    assert why(reader.files.create(body={"name": "x"})) == (403, "insufficientPermissions")
    assert why(app_of(server, BEN).files.get(fileId=theirs)) == (404, "notFound")


@pytest.mark.parametrize(
    ("role", "may"),
    [("reader", ""), ("writer", "write"), ("fileOrganizer", "write trash"),
     ("organizer", "write trash delete")],
)  # fmt: skip
def test_what_a_member_of_a_shared_drive_may_do_is_their_roles(
    server: DriveServer, anna: App, role: str, may: str
) -> None:
    drive = server.people.add_drive("Lab", {ANNA: role, BEN: "organizer"})
    file = server.people.put(drive, "x", AAA)
    assert why(anna.files.get(fileId=file)) == (404, "notFound"), "supportsAllDrives is not said"
    everywhere = {"fileId": file, "supportsAllDrives": True}
    assert anna.files.get(**everywhere, fields="driveId").execute() == {"driveId": drive}
    deeds = {
        "write": anna.files.update(**everywhere, body={"name": "y"}),
        "trash": anna.files.update(**everywhere, body={"trashed": True}),
        "delete": anna.files.delete(**everywhere),
    }
    for deed, request in deeds.items():
        if deed in may.split():
            request.execute()
        else:
            assert why(request) == (403, "insufficientFilePermissions")


def test_a_shared_drive_is_listed_where_it_is_asked_for_and_for_its_members(
    server: DriveServer, anna: App
) -> None:
    drive = server.people.add_drive("Lab", {ANNA: "reader"})
    server.people.put(drive, "x", AAA)
    where = {"corpora": "drive", "driveId": drive, "supportsAllDrives": True}
    assert anna.names("") == []
    assert why(anna.files.list(**where)) == (403, "teamDriveParametersRequired")
    where["includeItemsFromAllDrives"] = True
    assert anna.names("", **where) == ["x"]
    assert why(app_of(server, BEN).files.list(**where)) == (404, "notFound")
    start = {"driveId": drive, "supportsAllDrives": True}
    del where["corpora"]
    token = anna.changes.getStartPageToken(**start).execute()["startPageToken"]
    file = server.people.put(drive, "y", AAA)
    changes = anna.changes.list(pageToken=token, **where).execute()["changes"]
    assert [change["fileId"] for change in changes] == [file]


# ---------------------------------------------------------------------- changes


def changes_since(app: App, token: str, **how: Any) -> list[tuple[str, bool]]:
    """(id, whether it was removed) of each change, over all pages."""
    found = []
    while True:
        page = app.changes.list(pageToken=token, **how).execute()
        found += [(change["fileId"], change["removed"]) for change in page["changes"]]
        if "newStartPageToken" in page:
            return found
        token = page["nextPageToken"]


def test_a_file_is_in_the_feed_once_however_often_it_changed(
    server: DriveServer, anna: App
) -> None:
    people, root = server.people, server.people.folder(ANNA, [])
    token = anna.changes.getStartPageToken().execute()["startPageToken"]
    assert changes_since(anna, token) == []
    often, once, gone = (people.put(root, name, AAA) for name in ("often", "once", "gone"))
    people.put(people.folder(BEN, []), "another person's", AAA)
    people.rename(often, "more often")
    people.delete(gone)
    expected = [(once, False), (often, False), (gone, True)]
    assert changes_since(anna, token) == expected
    assert changes_since(anna, token, pageSize=1) == expected
    assert changes_since(anna, token, includeRemoved=False) == expected[:2]
    for odd in (str(int(token) + 1000), "no token"):
        assert why(anna.changes.list(pageToken=odd)) == (400, "invalid")


def test_a_folder_in_the_trash_is_a_change_and_what_is_in_it_is_none(
    server: DriveServer, anna: App
) -> None:
    people = server.people
    folder, file = people.folder(ANNA, ["day"]), people.put(people.folder(ANNA, ["day"]), "x", AAA)
    token = anna.changes.getStartPageToken().execute()["startPageToken"]
    anna.files.update(fileId=folder, body={"trashed": True}).execute()
    assert changes_since(anna, token) == [(folder, False)]
    fields = "trashed,explicitlyTrashed"
    assert anna.files.get(fileId=file, fields=fields).execute() == {
        "trashed": True, "explicitlyTrashed": False,
    }  # fmt: skip
    token = anna.changes.getStartPageToken().execute()["startPageToken"]
    people.restore(folder)
    assert changes_since(anna, token) == [(folder, False)]
    assert anna.names("trashed = false") == ["day", "x"]


# ---------------------------------------------------------------------- upload sessions


def test_a_session_says_how_much_it_has_until_it_has_everything(anna: App) -> None:
    content = os.urandom(2 * PIECE + 100)
    size, session = len(content), anna.session_for(len(content))
    assert anna.send(session, f"bytes */{size}") == (308, None), "nothing has arrived"
    first = anna.send(session, f"bytes 0-{PIECE - 1}/{size}", content[:PIECE])
    assert first == (308, f"bytes=0-{PIECE - 1}")
    assert anna.send(session, f"bytes */{size}") == first
    assert anna.names("") == []
    twice = anna.send(session, f"bytes 0-{2 * PIECE - 1}/*", content[: 2 * PIECE])
    assert twice == (308, f"bytes=0-{2 * PIECE - 1}"), "what overlaps is there once"
    last = {"Content-Range": f"bytes {2 * PIECE}-{size - 1}/{size}"}
    done = anna.session.put(session, data=content[2 * PIECE :], headers=last)
    assert done.json()["md5Checksum"] == md5(content)
    again = anna.session.put(session, headers={"Content-Range": f"bytes */{size}"})
    assert (again.status_code, again.json()) == (200, done.json())
    assert anna.names("") == ["x"]


def test_a_piece_that_does_not_fit_is_refused_and_the_rest_is_kept(anna: App) -> None:
    content = os.urandom(3 * PIECE)
    size, session = len(content), anna.session_for(len(content))
    held = (308, f"bytes=0-{PIECE - 1}")
    assert anna.send(session, f"bytes 0-{PIECE - 1}/{size}", content[:PIECE]) == held
    for content_range, piece in (
        (f"bytes {PIECE}-{PIECE + 999}/{size}", content[:1000]),  # no multiple of 256 KiB
        (f"bytes {2 * PIECE}-{size - 1}/{size}", content[:PIECE]),  # a gap
        (f"bytes {PIECE}-{2 * PIECE - 1}/{size + 1}", content[:PIECE]),  # another size
        ("bytes one to three", content[:PIECE]),
    ):
        assert anna.send(session, content_range, piece) == (400, None), content_range
        assert anna.send(session, f"bytes */{size}") == held
    assert anna.send(session, f"bytes {PIECE}-{size - 1}/{size}", content[PIECE:])[0] == 200


def test_a_cut_connection_leaves_whole_pieces(server: DriveServer, anna: App) -> None:
    content = os.urandom(3 * PIECE)
    size, session = len(content), anna.session_for(len(content))
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.address).port, timeout=5)
    connection.putrequest("PUT", session.removeprefix(server.address))
    connection.putheader("Authorization", f"Bearer {anna.credentials.token}")
    connection.putheader("Content-Length", str(size))
    connection.endheaders(content[: 2 * PIECE + 1000])
    connection.close()
    end = time.monotonic() + 10
    while (found := anna.send(session, f"bytes */{size}")) == (308, None):
        assert time.monotonic() < end, "the server has to notice"
        time.sleep(0.02)
    assert found == (308, f"bytes=0-{2 * PIECE - 1}")


def test_a_session_is_its_owners_and_there_until_it_is_forgotten(
    server: DriveServer, anna: App
) -> None:
    session = anna.session_for(10)
    assert app_of(server, BEN).send(session, "bytes 0-9/10", b"0123456789") == (404, None)
    assert anna.send(f"{session}x", "bytes */10") == (404, None)
    assert server.uploads.forget_sessions() == 1
    assert anna.send(session, "bytes 0-9/10", b"0123456789") == (404, None)
    path = f"/upload/drive/v3/files/{NOWHERE}?uploadType=resumable"
    assert why(anna.ask("PATCH", path, json={})) == (404, "notFound")


@pytest.mark.parametrize("size", [0, 10, PIECE])
@pytest.mark.parametrize("promised", [True, False])
def test_a_content_may_come_in_one_request_of_its_session(
    anna: App, size: int, promised: bool
) -> None:
    session = anna.session_for(size if promised else None)
    done = anna.session.put(session, data=b"x" * size, timeout=5)
    assert done.json()["md5Checksum"] == md5(b"x" * size)


def test_a_session_for_nothing_is_done_when_it_is_asked(anna: App) -> None:
    assert anna.send(anna.session_for(None), "bytes */0") == (200, None)
    assert anna.names("") == ["x"]


def test_googles_client_sends_a_large_file_in_pieces(anna: App) -> None:
    content = os.urandom(2 * PIECE + 1)
    media = MediaInMemoryUpload(content, chunksize=PIECE, resumable=True)
    there = anna.upload("x", b"old")["id"]
    request = anna.files.update(fileId=there, media_body=media, fields="id,md5Checksum")
    seen, done = [], None
    while done is None:
        status, done = request.next_chunk()
        seen.append(status and status.resumable_progress)
    assert seen == [PIECE, 2 * PIECE, None]
    assert done == {"id": there, "md5Checksum": md5(content)}


def test_a_session_goes_on_after_the_server_was_started_again(tmp_path: Path) -> None:
    with DriveServer(tmp_path / "world").running() as server:
        server.people.add_client("app", "secret")
        server.people.add_person(ANNA)
        refresh_token = server.people.grant(ANNA, "app", ALL)
        app = App(server.address, refresh_token)
        old, session = server.address, app.session_for(PIECE + 1)
        app.send(session, f"bytes 0-{PIECE - 1}/{PIECE + 1}", bytes(PIECE))
    with DriveServer(tmp_path / "world").running() as server:
        app, session = App(server.address, refresh_token), session.replace(old, server.address)
        assert app.send(session, f"bytes */{PIECE + 1}") == (308, f"bytes=0-{PIECE - 1}")
        assert app.send(session, f"bytes {PIECE}-{PIECE}/{PIECE + 1}", b"\0") == (200, None)
        assert app.files.list(fields="files/md5Checksum").execute() == {
            "files": [{"md5Checksum": md5(bytes(PIECE + 1))}]
        }


# ---------------------------------------------------------------------- contents


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\r", b"ends\r", b"ends\r\n", b"\r\n\r\nbegins", b"--\r\n--x\n--x--\r\n",
     b"a\n--cut\nb\n--cut--", bytes(range(256))],
    ids=repr,
)  # fmt: skip
def test_a_content_arrives_as_it_was_whatever_it_looks_like(anna: App, content: bytes) -> None:
    made = anna.upload("by the client", content)
    assert anna.files.get_media(fileId=made["id"]).execute() == content
    assert (made["md5Checksum"], made["size"]) == (md5(content), str(len(content)))
    # As RFC 2046 has it: lines of a body of several parts end with CRLF, so LF begins no boundary.
    body = b"\r\n".join(
        [b"--cut", b"Content-Type: application/json", b"", b'{"name": "by the RFC"}',
         b"--cut", b"Content-Type: video/mp4", b"", content, b"--cut--", b""]
    )  # fmt: skip
    sent = anna.ask(
        "POST", "/upload/drive/v3/files?uploadType=multipart&fields=md5Checksum,mimeType",
        data=body, headers={"Content-Type": "multipart/related; boundary=cut"},
    )  # fmt: skip
    assert sent.json() == {"md5Checksum": md5(content), "mimeType": "video/mp4"}


def test_a_part_of_a_content_can_be_asked_for(anna: App) -> None:
    path = f"/drive/v3/files/{anna.upload('x', b'0123456789')['id']}?alt=media"
    for asked, status, said, content in (
        (None, 200, None, b"0123456789"),
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=8-99", 206, "bytes 8-9/10", b"89"),
        ("bytes=4-2", 200, None, b"0123456789"),  # RFC 9110: no valid range is as none
    ):
        found = anna.ask("GET", path, headers={"Range": asked})
        assert (found.status_code, found.headers.get("Content-Range")) == (status, said)
        assert found.content == content
    beyond = anna.ask("GET", path, headers={"Range": "bytes=10-"})
    assert why(beyond) == (416, "requestedRangeNotSatisfiable")
    assert beyond.headers["Content-Range"] == "bytes */10"
    folder = anna.files.create(body={"mimeType": FOLDER}).execute()["id"]
    assert why(anna.files.get_media(fileId=folder)) == (403, "fileNotDownloadable")


def test_every_call_of_a_batch_has_an_outcome_of_its_own(anna: App) -> None:
    there, leaves = (anna.upload(name, b"AAA")["id"] for name in ("there", "leaves"))
    heard: dict[str, Any] = {}
    batch = BatchHttpRequest(
        callback=lambda name, answer, error: heard.update({name: error or answer}),
        batch_uri=f"{anna.address}/batch/drive/v3",
    )
    batch.add(anna.files.get(fileId=there, fields="name"), request_id="get")
    batch.add(anna.files.delete(fileId=leaves), request_id="delete")
    batch.add(anna.files.delete(fileId=NOWHERE), request_id="nobody's")
    batch.add(anna.files.create(body={"colour": "red"}), request_id="odd")
    batch.execute(http=anna.http)
    assert (heard["get"], heard["delete"]) == ({"name": "there"}, "")
    assert [int(heard[name].resp.status) for name in ("nobody's", "odd")] == [404, 400]
    assert anna.names("") == ["there"]


# ---------------------------------------------------------------------- tokens


def code_for(server: DriveServer, verifier: str) -> dict[str, str]:
    """What the token endpoint wants, after a consent."""
    redirect = "http://127.0.0.1:1/"
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    answer = requests.get(
        f"{server.address}/o/oauth2/v2/auth", allow_redirects=False, timeout=5,
        params={"client_id": "app", "redirect_uri": redirect, "response_type": "code",
                "scope": f"{READ} {OWN}", "state": "s", "code_challenge_method": "S256",
                "code_challenge": challenge},
    )  # fmt: skip
    found = {name: v[0] for name, v in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert found.pop("state") == "s"
    return found | {"grant_type": "authorization_code", "client_id": "app",
                    "client_secret": "secret", "redirect_uri": redirect}  # fmt: skip


def token(server: DriveServer, form: dict[str, str], **rest: str) -> tuple[int, dict[str, Any]]:
    answer = requests.post(f"{server.address}/token", data=form | rest, timeout=5)
    return answer.status_code, answer.json()


def test_a_code_is_redeemed_once_and_by_whoever_asked_for_it(server: DriveServer) -> None:
    server.oauth.consent = Consent(ANNA, leave_out=(READ,))
    form = code_for(server, "v" * 43)
    for wrong in ({"client_secret": "x"}, {"client_id": "another"}, {"code_verifier": "w" * 43}):
        assert token(server, code_for(server, "v" * 43), **wrong)[0] in (400, 401), wrong
    assert token(server, form, code_verifier="w" * 43)[1]["error"] == "invalid_grant"
    assert token(server, form, code_verifier="v" * 43)[1]["error"] == "invalid_grant", "it is spent"
    form = code_for(server, "v" * 43)
    status, given = token(server, form, code_verifier="v" * 43)
    assert (status, given["scope"]) == (200, OWN), "what was not ticked is not given"
    assert App(server.address, given["refresh_token"]).names("") == []
    assert token(server, form, code_verifier="v" * 43)[1]["error"] == "invalid_grant"
    server.oauth.consent = Consent(ANNA, allow=False)
    assert code_for(server, "v" * 43)["error"] == "access_denied"


def test_a_revoked_token_takes_its_access_tokens_with_it(server: DriveServer, anna: App) -> None:
    refresh_token = server.people.grant(ANNA, "app", ALL)
    app = App(server.address, refresh_token)
    assert app.names("") == []
    headers = {"Authorization": f"Bearer {app.credentials.token}"}
    assert requests.get(f"{server.address}/drive/v3/files", headers=headers).status_code == 200
    for status in (200, 400):
        form = {"token": refresh_token}
        assert requests.post(f"{server.address}/revoke", data=form).status_code == status
    answer = requests.get(f"{server.address}/drive/v3/files", headers=headers)
    assert why(answer) == (401, "authError")
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
        app.names("")
    assert anna.names("") == [], "another token is none of its"


def test_an_access_token_that_has_expired_is_refused_and_another_is_given(
    server: DriveServer, anna: App
) -> None:
    anna.names("")
    headers = {"Authorization": f"Bearer {anna.credentials.token}"}
    server.people.expire_access_tokens()
    answer = requests.get(f"{server.address}/drive/v3/files", headers=headers)
    assert why(answer) == (401, "authError")
    assert anna.names("") == [], "the client library has it renewed"


def test_a_service_account_speaks_for_those_whose_domain_trusts_it(server: DriveServer) -> None:
    people, robot = server.people, "robot@tailor.example"
    info = people.add_service_account(robot, delegates=["lab.example"])
    info |= {"token_uri": f"{server.address}/token"}
    people.add_person("eve@other.example")

    def who(subject: str | None, info: dict[str, str] = info) -> str:
        made = service_account.Credentials.from_service_account_info(
            info, scopes=[ALL], subject=subject
        )
        answer = AuthorizedSession(made).get(f"{server.address}/drive/v3/about?fields=user")
        return str(answer.json()["user"]["emailAddress"])

    assert [who(ANNA), who(None)] == [ANNA, robot]
    with pytest.raises(google.auth.exceptions.RefreshError, match="unauthorized_client"):
        who("eve@other.example")
    forged = people.add_service_account("eve@tailor.example")["private_key"]
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
        who(ANNA, info | {"private_key": forged})


# ---------------------------------------------------------------------- limits


def test_a_full_drive_takes_no_more_by_any_way(server: DriveServer, anna: App) -> None:
    server.people.set_limit(ANNA, 10)
    full = (403, "storageQuotaExceeded")
    anna.upload("fits", b"0123456")
    quota = anna.about.get(fields="storageQuota(limit,usage)").execute()["storageQuota"]
    assert quota == {"limit": "10", "usage": "7"}
    assert why(anna.files.create(body={}, media_body=MediaInMemoryUpload(b"0123"))) == full
    path = "/upload/drive/v3/files?uploadType=resumable"
    told = {"X-Upload-Content-Length": "4"}
    assert why(anna.ask("POST", path, json={}, headers=told)) == full
    surprise = anna.session.put(anna.session_for(None), data=b"0123", timeout=5)
    assert why(surprise) == full, "a session that did not say its size"
    assert anna.names("") == ["fits"]


def test_whoever_asks_too_fast_is_told_so_and_nobody_else(tmp_path: Path) -> None:
    with DriveServer(tmp_path / "world", units_per_minute=250).running() as server:
        server.people.add_client("app", "secret")
        for email in (ANNA, BEN):
            server.people.add_person(email)
        anna, ben = app_of(server, ANNA), app_of(server, BEN)
        assert [anna.names(""), anna.names("")] == [[], []]
        assert why(anna.files.list()) == (403, "userRateLimitExceeded")
        assert anna.files.generateIds(count=1).execute()["ids"], "there is room for this one"
        assert ben.names("") == []


# ---------------------------------------------------------------------- misbehaviour


def test_a_fault_hits_whom_it_is_meant_for_as_often_as_it_says(
    server: DriveServer, anna: App
) -> None:
    server.faults.add(Fault(method="files.*", person=BEN, times=9, status=500))
    server.faults.add(
        Fault(method="files.list", after=1, status=429, reason="rateLimitExceeded",
              headers={"Retry-After": "7"})
    )  # fmt: skip
    assert anna.names("") == []
    refused = anna.ask("GET", "/drive/v3/files")
    assert (why(refused), refused.headers["Retry-After"]) == ((429, "rateLimitExceeded"), "7")
    assert anna.names("") == []
    assert server.faults.done == 1
    file = anna.upload("x", b"AAA")["id"]
    server.faults.add(Fault(method="media.get", times=2, corrupt=True))
    contents = [anna.files.get_media(fileId=file).execute() for _ in range(3)]
    assert contents == [b"@AA", b"@AA", b"AAA"]


def test_a_cut_answer_is_shorter_than_it_says_and_a_lost_one_was_carried_out(
    server: DriveServer, anna: App
) -> None:
    file = anna.upload("x", bytes(100_000))["id"]
    server.faults.add(Fault(method="media.get", cut_after=50_000))
    answer = anna.ask("GET", f"/drive/v3/files/{file}?alt=media", stream=True)
    assert answer.headers["Content-Length"] == "100000"
    got = 0
    with pytest.raises(requests.RequestException):
        for block in answer.iter_content(1000):
            got += len(block)
    assert got <= 50_000
    server.faults.add(Fault(method="files.create", lose_answer=True))
    with pytest.raises(requests.ConnectionError):
        anna.ask("POST", "/drive/v3/files", json={"name": "y"})
    assert anna.names("") == ["x", "y"]


def test_chaos_is_the_same_for_the_same_seed(server: DriveServer, anna: App) -> None:
    anna.names("")

    def outcomes(seed: int) -> list[int]:
        server.faults.set_chaos(Chaos(rate=0.5, seed=seed, methods="files.list"))
        found = []
        for _ in range(30):
            try:
                found.append(anna.ask("GET", "/drive/v3/files").status_code)
            except requests.RequestException:
                found.append(0)
        return found

    first = outcomes(1)
    assert outcomes(1) == first
    assert outcomes(2) != first
    assert {0, 200, 403, 500} <= set(first)


def test_a_killed_server_that_is_started_again_has_forgotten_nothing(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "world")
    try:
        people = process.people
        people.add_client(client="app", secret="secret")
        people.add_person(email=ANNA)
        app = App(process.address, people.grant(email=ANNA, client="app", scopes=ALL))
        made = app.upload("x", b"AAA")["id"]
        session, start = app.session_for(PIECE + 1), people.last_request()
        app.send(session, f"bytes 0-{PIECE - 1}/{PIECE + 1}", bytes(PIECE))
        process.kill()
        with pytest.raises(requests.ConnectionError):
            app.ask("GET", "/drive/v3/files")
        process.start()
        assert process.address == app.address
        assert app.files.get_media(fileId=made).execute() == b"AAA"
        assert app.send(session, f"bytes */{PIECE + 1}") == (308, f"bytes=0-{PIECE - 1}")
        asked = [request["method"] for request in process.people.requests(since=start)]
        assert asked == ["upload.put", "media.get", "upload.put"]
    finally:
        process.stop()
