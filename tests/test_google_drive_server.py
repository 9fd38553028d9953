"""The Drive test server held to Drive's protocol: by Google's client library, and by plain HTTP."""

import base64
import hashlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from drive_trees import md5
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from google_drive_server.discovery import Discovery
from google_drive_server.faults import Chaos, Fault, Faults
from google_drive_server.oauth import Consent
from google_drive_server.remote import ServerProcess
from google_drive_server.server import DriveServer
from google_drive_server.store import FOLDER
from google_drive_server.uploads import PIECE
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest, MediaInMemoryUpload, build_http

ANNA, BEN = "anna@lab.example", "ben@lab.example"
ALL = "https://www.googleapis.com/auth/drive"
READ, OWN = f"{ALL}.readonly", f"{ALL}.file"
NOWHERE = "1" * 33  # of the form of an id
AAA = "QUFB"  # b"AAA", as the server's people give it
RESUMABLE = "/upload/drive/v3/files?uploadType=resumable&fields=id,md5Checksum"
INVALID = (400, "invalid")


class App:
    """An app that works for a person: the client library, and a session without it."""

    def __init__(self, server: Any, email: str, scopes: str = ALL, client: str = "app") -> None:
        self.people, self.address = server.people, server.address
        self.credentials = Credentials(
            None, self.people.grant(email=email, client=client, scopes=scopes),
            token_uri=f"{self.address}/token", client_id=client, client_secret="secret",
        )  # fmt: skip
        self.session = AuthorizedSession(self.credentials)
        self.http = AuthorizedHttp(self.credentials, http=build_http())
        document = json.loads(get_static_doc("drive", "v3")) | {"rootUrl": f"{self.address}/"}
        service = build_from_document(document, http=self.http)
        self.files, self.changes, self.about = service.files(), service.changes(), service.about()

    def ask(self, verb: str, path: str, **how: Any) -> requests.Response:
        """Send what the client library would not send."""
        return self.session.request(verb, f"{self.address}{path}", timeout=20, **how)

    def names(self, q: str = "", **how: Any) -> list[str]:
        found = self.files.list(q=q, orderBy="name", **how).execute()
        return [file["name"] for file in found["files"]]

    def upload(self, name: str, content: bytes, **about: Any) -> dict[str, Any]:
        media, body = MediaInMemoryUpload(content), {"name": name, **about}
        return dict(self.files.create(body=body, media_body=media, fields="*").execute())

    def begin(self, size: int | None) -> str:
        """The address of a new upload session."""
        told = {} if size is None else {"X-Upload-Content-Length": str(size)}
        return self.ask("POST", RESUMABLE, json={"name": "x"}, headers=told).headers["Location"]

    def send(self, to: str, content_range: str, piece: bytes = b"") -> tuple[int, str | None]:
        """Status and Range of the answer to a piece, or to the question how much is there."""
        headers = {"Content-Range": content_range}
        answer = self.session.put(to, data=piece, headers=headers, timeout=5)
        return answer.status_code, answer.headers.get("Range")


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
    with DriveServer(tmp_path).running() as server:
        for client in ("app", "another"):
            server.people.add_client(client, "secret")
        for email in (ANNA, BEN):
            server.people.add_person(email)
        yield server


@pytest.fixture
def anna(server: DriveServer) -> App:
    return App(server, ANNA)


# ---------------------------------------------------------------------- what is asked and answered


def test_a_mask_cuts_objects_and_lists_and_without_one_little_is_sent(anna: App) -> None:
    file = anna.upload("x", b"AAA", appProperties={"a": "1", "b": "2"})["id"]
    assert anna.files.get(fileId=file).execute().keys() == {"kind", "id", "name", "mimeType"}
    fields = "size,owners(me),appProperties/b"
    found = anna.files.get(fileId=file, fields=fields).execute()
    assert found == {"size": "3", "owners": [{"me": True}], "appProperties": {"b": "2"}}
    fields = "nextPageToken,files(name,owners/emailAddress)"
    found = anna.files.list(fields=fields).execute()
    assert found == {"files": [{"name": "x", "owners": [{"emailAddress": ANNA}]}]}
    assert why(anna.about.get()) == (400, "required")
    assert anna.about.get(fields="user/emailAddress").execute() == {"user": {"emailAddress": ANNA}}


@pytest.mark.parametrize("fields", ["nme", "name/first", "name)", "owners(me", "owners()", ","])
def test_fields_that_there_are_not_are_refused_and_nothing_is_done(anna: App, fields: str) -> None:
    for media in (None, MediaInMemoryUpload(b"AAA")):
        made = anna.files.create(body={"name": "x"}, media_body=media, fields=fields)
        assert why(made) == (400, "invalidParameter")
    assert anna.names() == []


@pytest.mark.parametrize(
    ("asked", "body"),
    [("files?colour=red", None), ("files?pageSize=many", None), ("files?pageSize=0", None),
     ("files?supportsAllDrives=yes", None), ("files?corpora=everything", None), ("changes", None),
     ("files", {"colour": "red"}), ("files", {"name": 3}), ("files", {"parents": "root"}),
     ("files", {"trashed": "yes"}), ("files", {"appProperties": {"a": 1}}), ("files", ["name"])],
    ids=str,
)  # fmt: skip
def test_what_the_discovery_document_lacks_is_refused(anna: App, asked: str, body: Any) -> None:
    answer = anna.ask("GET" if body is None else "POST", f"/drive/v3/{asked}", json=body)
    assert answer.status_code == 400
    assert anna.names() == []


def test_every_answer_is_as_the_discovery_document_has_it(anna: App) -> None:
    discovery, drive = Discovery(), anna.people.add_drive("Lab", {ANNA: "organizer"})
    made = anna.upload("x", b"AAA", appProperties={"a": "1"}, description="mine")["id"]

    def answer(verb: str, path: str, body: Any = None) -> Any:
        found = anna.ask(verb, f"/drive/v3/{path}", params={"fields": "*"}, json=body)
        answered = found.json() if found.status_code != 204 else None
        discovery.check_answer(discovery.method(verb, path.partition("?")[0])[0], answered)
        return answered

    for path in ("about", "drives", f"drives/{drive}", f"files/{made}", "files?pageSize=1",
                 "changes?pageToken=1", "changes/startPageToken", "files/generateIds"):  # fmt: skip
        assert answer("GET", path)
    assert answer("POST", "files", {"name": "y", "mimeType": FOLDER})["name"] == "y"
    file = answer("PATCH", f"files/{made}", {"trashed": True})
    assert answer("DELETE", f"files/{made}") is None
    method, _ = discovery.method("GET", "files/x")
    for wrong in ({"colour": "red"}, {"size": 3}, {"size": "big"}, {"trashed": "yes"},
                  {"parents": "root"}, {"owners": [{"nick": "Anna"}]}):  # fmt: skip
        with pytest.raises(AssertionError, match=next(iter(wrong))):
            discovery.check_answer(method, file | wrong)
    anna.ask("GET", "/drive/v3/nothing")
    asked = [(r["method"], r["email"], r["status"]) for r in anna.people.requests()]
    assert asked[-2:] == [("files.delete", ANNA, 204), ("/drive/v3/nothing", "", 404)]


@pytest.mark.parametrize(
    ("q", "names"),
    [("'DAY' in parents", "a b gone"), ("'root' in parents", "day it's on\\top"),
     ("'DAY' in parents and trashed = false", "a b"),
     ("('DAY' in parents or 'ROOT' in parents) and trashed = false", "a b day it's on\\top"),
     ("'DAY' in parents or name = 'it\\'s'", "a b gone it's"), ("name = 'on\\\\top'", "on\\top"),
     ("not 'DAY' in parents and not name = 'day'", "it's on\\top"),
     ("name = 'a' or name = ' in parents or '", "a"), ("name != 'a' and mimeType = 'FLD'", "day"),
     ("mimeType != 'FLD' and trashed != true", "a b it's on\\top"),
     ("name = 'a' or name = 'gone' and trashed = true", "gone"),  # from left to right
     ("name = 'a' or (name = 'gone' and trashed = true)", "a gone"),
     ("name contains 'ON' and modifiedTime > '2020-01-01T00:00:00'", "on\\top"),
     ("modifiedTime < '2020-01-01T00:00:00'", "")],
)  # fmt: skip
def test_a_search_finds_what_it_says(anna: App, q: str, names: str) -> None:
    people, root, day = anna.people, *(anna.people.folder(ANNA, path) for path in ([], ["day"]))
    for parent, name in ((root, "it's"), (root, "on\\top"), (day, "a"), (day, "b")):
        people.put(parent, name, AAA)
    people.trash(people.put(day, "gone", AAA))
    q = q.replace("DAY", day).replace("ROOT", root).replace("FLD", FOLDER)
    assert anna.names(q) == names.split()


@pytest.mark.parametrize(
    "wrong",
    [*({"q": q} for q in ("colour = 'red'", "name ~ 'x'", "name = x", "name < 'x'", "trashed = 1",
       "name = 'x' and", "(name = 'x'", "name = 'x')", "name = 'it's'", "'x' in colours")),
     {"pageToken": "no token"}, {"orderBy": "colour"}],
    ids=str,
)  # fmt: skip
def test_a_list_asked_for_wrongly_is_refused(anna: App, wrong: dict[str, str]) -> None:
    assert why(anna.files.list(**wrong)) == INVALID


def test_pages_lose_nothing_and_repeat_nothing_in_the_order_asked_for(anna: App) -> None:
    for name in "3160524":
        anna.people.put(anna.people.folder(ANNA, ["day"]), name, AAA)
    found, token = [], None
    while token is not None or not found:
        page = anna.files.list(orderBy="folder,name desc", pageSize=3, pageToken=token).execute()
        found.append([file["name"] for file in page["files"]])
        token = page.get("nextPageToken")
        assert token is None or why(anna.files.list(q="trashed = true", pageToken=token)) == INVALID
    assert found == [["day", "6", "5"], ["4", "3", "2"], ["1", "0"]]
    assert why(anna.files.list(q=f"'{NOWHERE}' in parents")) == (404, "notFound")


# ---------------------------------------------------------------------- whose files they are


def test_an_id_serves_whom_it_was_given_to_and_once(server: DriveServer, anna: App) -> None:
    first, second = anna.files.generateIds(count=2).execute()["ids"]
    for app, file in ((anna, NOWHERE), (App(server, BEN), first)):
        assert why(app.files.create(body={"id": file})) == INVALID
    assert anna.files.create(body={"id": first}).execute()["id"] == first
    assert why(anna.files.create(body={"id": first})) == (409, "fileIdInUse")
    assert why(anna.ask("POST", RESUMABLE, json={"id": first})) == (409, "fileIdInUse")
    assert anna.upload("x", b"AAA", id=second)["id"] == second
    assert len(anna.names()) == 2


def test_what_an_app_may_see_and_change_is_what_it_was_allowed(server: DriveServer) -> None:
    day = server.people.folder(ANNA, ["day"])
    theirs = server.people.put(day, "theirs", AAA)
    another = App(server, ANNA, OWN, "another").upload("another app's", b"AAA")["id"]
    app, own = App(server, ANNA, OWN), {"body": {"name": "own", "appProperties": {"a": "1"}}}
    made = app.files.create(**own).execute()["id"]
    assert app.names() == ["own"]
    for file in (theirs, another):
        assert why(app.files.get(fileId=file)) == (404, "notFound")
    seen = App(server, ANNA, ALL, "another").files.get(fileId=made, fields="*").execute()
    assert "appProperties" not in seen, "they are private to the app that made the file"

    app = App(server, ANNA, f"{READ} {OWN}")
    assert app.names() == ["another app's", "day", "own", "theirs"]
    body = {"name": "x", "parents": [day]}
    for request in (app.files.update(fileId=theirs, body={"name": "y"}),
                    app.files.delete(fileId=another), app.files.create(body=body)):  # fmt: skip
        assert why(request) == (403, "appNotAuthorizedToFile")
    app.files.delete(fileId=made).execute()
    reader = App(server, ANNA, READ).files.create(body={"name": "x"})
    assert why(reader) == (403, "insufficientPermissions")
    assert why(App(server, BEN).files.get(fileId=theirs)) == (404, "notFound")


@pytest.mark.parametrize(
    ("role", "may"), [("reader", 0), ("writer", 1), ("fileOrganizer", 2), ("organizer", 3)]
)
def test_a_role_in_a_shared_drive_is_what_one_may_do_there(anna: App, role: str, may: int) -> None:
    drive = anna.people.add_drive("Lab", {ANNA: role})
    file = {"fileId": anna.people.put(drive, "x", AAA)}
    assert why(anna.files.get(**file)) == (404, "notFound"), "supportsAllDrives is not said"
    assert why(anna.files.list(driveId=drive)) == (403, "teamDriveParametersRequired")
    assert anna.names() == []
    file["supportsAllDrives"] = True
    assert anna.files.get(**file, fields="driveId").execute() == {"driveId": drive}
    deeds = [*(anna.files.update(**file, body=body) for body in ({"name": "y"}, {"trashed": True})),
             anna.files.delete(**file)]  # fmt: skip
    for refused in deeds[may:]:
        assert why(refused) == (403, "insufficientFilePermissions")
    for allowed in deeds[:may]:
        allowed.execute()


def changes_since(app: App, token: int | str, **how: Any) -> list[tuple[str, bool]]:
    """(id, whether it was removed) of each change, over all pages."""
    page = app.changes.list(pageToken=token, **how).execute()
    found = [(change["fileId"], change["removed"]) for change in page["changes"]]
    further = page.get("nextPageToken")
    return found + (changes_since(app, further, **how) if further else [])


def test_a_file_is_in_its_owners_feed_once_however_often_it_changed(anna: App) -> None:
    people, root = anna.people, anna.people.folder(ANNA, [])
    token = anna.changes.getStartPageToken().execute()["startPageToken"]
    assert changes_since(anna, token) == []
    often, once, gone = (people.put(root, name, AAA) for name in ("often", "once", "gone"))
    people.put(people.folder(BEN, []), "another person's", AAA)
    people.rename(often, "more often")
    people.delete(gone)
    expected = [(once, False), (often, False), (gone, True)]
    assert changes_since(anna, token) == changes_since(anna, token, pageSize=1) == expected
    assert changes_since(anna, token, includeRemoved=False) == expected[:2]
    for odd in (str(int(token) + 1000), "no token"):
        assert why(anna.changes.list(pageToken=odd)) == INVALID


def test_a_folder_in_the_trash_is_a_change_and_what_is_in_it_is_none(anna: App) -> None:
    folder = anna.people.folder(ANNA, ["day"])
    file = anna.people.put(folder, "x", AAA)
    for trashed in (True, False):
        token = anna.changes.getStartPageToken().execute()["startPageToken"]
        anna.files.update(fileId=folder, body={"trashed": trashed}).execute()
        assert changes_since(anna, token) == [(folder, False)]
        found = anna.files.get(fileId=file, fields="trashed,explicitlyTrashed").execute()
        assert found == {"trashed": trashed, "explicitlyTrashed": False}


def test_a_session_says_how_much_it_has_until_it_has_everything(anna: App) -> None:
    content = os.urandom(2 * PIECE + 100)
    size, session = len(content), anna.begin(len(content))
    assert anna.send(session, f"bytes */{size}") == (308, None), "nothing has arrived"
    first = anna.send(session, f"bytes 0-{PIECE - 1}/{size}", content[:PIECE])
    assert first == anna.send(session, f"bytes */{size}") == (308, f"bytes=0-{PIECE - 1}")
    second = anna.send(session, f"bytes 0-{2 * PIECE - 1}/*", content[: 2 * PIECE])
    assert second == (308, f"bytes=0-{2 * PIECE - 1}"), "what overlaps is taken once"
    assert anna.names() == []
    for piece, of in ((content[2 * PIECE :], f"{2 * PIECE}-{size - 1}"), (b"", "*")):
        done = anna.session.put(session, piece, headers={"Content-Range": f"bytes {of}/{size}"})
        assert (done.status_code, done.json()["md5Checksum"]) == (200, md5(content))
    assert anna.names() == ["x"]


def test_a_piece_that_does_not_fit_is_refused_and_what_was_there_is_kept(anna: App) -> None:
    content, size = os.urandom(3 * PIECE), 3 * PIECE
    session, held = anna.begin(size), (308, f"bytes=0-{PIECE - 1}")
    assert anna.send(session, f"bytes 0-{PIECE - 1}/{size}", content[:PIECE]) == held
    for content_range, length in (
        (f"bytes {PIECE}-{PIECE + 999}/{size}", 1000),  # no multiple of 256 KiB
        (f"bytes {2 * PIECE}-{size - 1}/{size}", PIECE),  # a gap
        (f"bytes {PIECE}-{2 * PIECE - 1}/{size + 1}", PIECE),  # of another size than was said
        ("bytes one to three", PIECE),
    ):
        assert anna.send(session, content_range, bytes(length)) == (400, None), content_range
        assert anna.send(session, f"bytes */{size}") == held
    assert anna.send(session, f"bytes {PIECE}-{size - 1}/{size}", content[PIECE:])[0] == 200
    assert anna.files.list(fields="files/md5Checksum").execute()["files"] == [
        {"md5Checksum": md5(content)}
    ]


@pytest.mark.parametrize("how", ["Content-Length", "Transfer-Encoding"])
def test_a_cut_connection_leaves_whole_pieces(anna: App, how: str) -> None:
    size, session, sent = 3 * PIECE, anna.begin(3 * PIECE), 2 * PIECE + 1000
    headers = {"Authorization": f"Bearer {anna.credentials.token}", how: str(size)}
    body = bytes(sent)
    if how == "Transfer-Encoding":
        headers[how], body = "chunked", b"%x\r\n%b\r\n" % (sent, body)
    connection = http.client.HTTPConnection(urlsplit(session).netloc)
    connection.request("PUT", session.removeprefix(anna.address), body, headers)
    connection.close()
    end = time.monotonic() + 10
    while (found := anna.send(session, f"bytes */{size}")) == (308, None):
        assert time.monotonic() < end, "the server has to notice"
    assert found == (308, f"bytes=0-{2 * PIECE - 1}")


def test_a_session_is_its_owners_and_goes_on_in_another_server(
    server: DriveServer, anna: App, tmp_path: Path
) -> None:
    of, session = f"/{PIECE + 1}", anna.begin(PIECE + 1)
    anna.send(session, f"bytes 0-{PIECE - 1}{of}", bytes(PIECE))
    assert App(server, BEN).send(session, f"bytes *{of}") == (404, None)
    assert anna.send(f"{session}x", f"bytes *{of}") == (404, None)
    update = RESUMABLE.replace("files", f"files/{NOWHERE}")
    assert why(anna.ask("PATCH", update, json={})) == (404, "notFound")
    server.close()
    with DriveServer(tmp_path).running() as another:
        anna, session = App(another, ANNA), session.replace(server.address, another.address)
        assert anna.send(session, f"bytes *{of}") == (308, f"bytes=0-{PIECE - 1}")
        assert anna.send(session, f"bytes {PIECE}-{PIECE}{of}", b"\0") == (200, None)
        assert anna.names() == ["x"]
        assert another.uploads.forget_sessions() == 1
        assert anna.send(session, f"bytes *{of}") == (404, None)


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("size", [0, 10, PIECE])
def test_a_session_takes_everything_in_one_request(anna: App, size: int, promised: bool) -> None:
    done = anna.session.put(anna.begin(size if promised else None), data=bytes(size), timeout=5)
    assert done.json()["md5Checksum"] == md5(bytes(size))
    assert size or anna.send(anna.begin(None), "bytes */0") == (200, None)


def test_googles_client_sends_a_large_file_in_pieces(anna: App) -> None:
    content, file = os.urandom(2 * PIECE + 1), anna.upload("x", b"old")["id"]
    media = MediaInMemoryUpload(content, chunksize=PIECE, resumable=True)
    request = anna.files.update(fileId=file, media_body=media, fields="id,md5Checksum")
    assert [request.next_chunk()[0].resumable_progress for _ in "12"] == [PIECE, 2 * PIECE]
    assert request.next_chunk()[1] == {"id": file, "md5Checksum": md5(content)}


# ---------------------------------------------------------------------- contents


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"ends\r", b"ends\r\n", b"\r\n\r\nbegins", b"--\r\n--x\n--x--\r\n",
     b"a\n--cut\nb\n--cut--", bytes(range(256))],
    ids=repr,
)  # fmt: skip
def test_a_content_arrives_as_it_was_whatever_it_looks_like(anna: App, content: bytes) -> None:
    made = anna.upload("by the client", content)
    assert anna.files.get_media(fileId=made["id"]).execute() == content
    assert (made["md5Checksum"], made["size"]) == (md5(content), str(len(content)))
    # RFC 2046: where lines end with CRLF, what follows a mere LF is no boundary.
    body = b'--cut\r\nContent-Type: application/json\r\n\r\n{"name": "by the RFC"}\r\n'
    body += b"--cut\r\nContent-Type: video/mp4\r\n\r\n" + content + b"\r\n--cut--\r\n"
    kind = {"Content-Type": "multipart/related; boundary=cut"}
    path = "/upload/drive/v3/files?uploadType=multipart&fields=md5Checksum,mimeType"
    sent = anna.ask("POST", path, data=body, headers=kind).json()
    assert sent == {"md5Checksum": md5(content), "mimeType": "video/mp4"}


def test_a_part_of_a_content_can_be_asked_for(anna: App) -> None:
    path = f"/drive/v3/files/{anna.upload('x', b'0123456789')['id']}?alt=media"
    for asked, status, said, content in (
        (None, 200, None, b"0123456789"),
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=8-99", 206, "bytes 8-9/10", b"89"),
        ("bytes=4-2", 200, None, b"0123456789"),  # RFC 9110: as if it were not there
    ):
        found = anna.ask("GET", path, headers={"Range": asked})
        assert (found.status_code, found.headers.get("Content-Range")) == (status, said)
        assert found.content == content
    beyond = anna.ask("GET", path, headers={"Range": "bytes=10-"})
    assert why(beyond) == (416, "requestedRangeNotSatisfiable")
    assert beyond.headers["Content-Range"] == "bytes */10"


def test_every_call_of_a_batch_has_an_outcome_of_its_own(anna: App) -> None:
    there, leaves = (anna.upload(name, b"AAA")["id"] for name in ("there", "leaves"))
    heard: dict[str, Any] = {}
    batch = BatchHttpRequest(
        lambda name, answer, error: heard.update({name: int(error.resp.status) if error else answer}),
        batch_uri=f"{anna.address}/batch/drive/v3",
    )  # fmt: skip
    batch.add(anna.files.get(fileId=there, fields="name"), request_id="get")
    batch.add(anna.files.delete(fileId=leaves), request_id="delete")
    batch.add(anna.files.delete(fileId=NOWHERE), request_id="gone")
    batch.add(anna.files.create(body={"colour": "red"}), request_id="odd")
    batch.execute(http=anna.http)
    assert heard == {"get": {"name": "there"}, "delete": "", "gone": 404, "odd": 400}
    assert anna.names() == ["there"]


# ---------------------------------------------------------------------- tokens

VERIFIER = "v" * 43


def consent(server: DriveServer, **what: Any) -> dict[str, str]:
    """What the token endpoint is to be sent, but for the verifier; or the refusal."""
    server.oauth.consent = Consent(ANNA, **what)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
    app = {"client_id": "app", "redirect_uri": "http://127.0.0.1:1/"}
    asked = {"response_type": "code", "scope": f"{READ} {OWN}", "state": "s",
             "code_challenge": challenge, "code_challenge_method": "S256"}  # fmt: skip
    page = f"{server.address}/o/oauth2/v2/auth"
    answer = requests.get(page, params=asked | app, allow_redirects=False, timeout=5)
    found = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    assert found.pop("state") == "s"
    return found | app | {"grant_type": "authorization_code", "client_secret": "secret"}


def test_a_code_is_redeemed_once_and_by_whoever_asked_for_it(server: DriveServer) -> None:
    def token(form: dict[str, str], **other: str) -> Any:
        form = form | {"code_verifier": VERIFIER} | other
        return requests.post(f"{server.address}/token", data=form, timeout=5).json()

    for wrong in ({"code_verifier": "w" * 43}, {"client_id": "another"}):
        form = consent(server)
        assert token(form, **wrong)["error"] == "invalid_grant"
        assert token(form)["error"] == "invalid_grant", "it is spent"
    form = consent(server, leave_out=(READ,))
    assert token(form, client_secret="x")["error"] == "invalid_client"
    assert token(form)["scope"] == OWN, "what was not ticked is not given"
    assert token(form)["error"] == "invalid_grant"
    assert consent(server, allow=False)["error"] == "access_denied"


def test_an_access_token_ends_with_its_time_or_with_the_consent(anna: App) -> None:
    def status_with(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{anna.address}/drive/v3/files", headers=headers).status_code

    assert anna.names() == []
    first = anna.credentials.token
    assert (status_with(first), status_with("ya29.made-up")) == (200, 401)
    anna.people.expire_access_tokens()
    assert status_with(first) == 401
    assert anna.names() == [], "the client library has it renewed"
    for status in (200, 400):
        form = {"token": anna.credentials.refresh_token}
        assert requests.post(f"{anna.address}/revoke", form).status_code == status
    assert status_with(anna.credentials.token) == 401
    with pytest.raises(RefreshError, match="invalid_grant"):
        anna.names()


def test_a_service_account_speaks_for_those_whose_domain_trusts_it(server: DriveServer) -> None:
    robot, eve = "robot@tailor.example", "eve@other.example"
    key = server.people.add_service_account(robot, delegates=["lab.example"])
    forged = server.people.add_service_account(eve)["private_key"]

    def who(subject: str | None, **other: str) -> str:
        info = key | {"token_uri": f"{server.address}/token"} | other
        made = service_account.Credentials.from_service_account_info(info, scopes=[ALL])
        session = AuthorizedSession(made.with_subject(subject))
        answer = session.get(f"{server.address}/drive/v3/about?fields=user")
        return str(answer.json()["user"]["emailAddress"])

    assert [who(ANNA), who(None)] == [ANNA, robot]
    with pytest.raises(RefreshError, match="unauthorized_client"):
        who(eve)
    with pytest.raises(RefreshError, match="invalid_grant"):
        who(ANNA, private_key=forged)


# ---------------------------------------------------------------------- limits and misbehaviour


def test_a_full_drive_takes_no_more_by_any_way(anna: App) -> None:
    anna.people.set_limit(ANNA, 10)
    anna.upload("fits", b"0123456")
    quota = anna.about.get(fields="storageQuota(limit,usage)").execute()["storageQuota"]
    assert quota == {"limit": "10", "usage": "7"}
    told = {"X-Upload-Content-Length": "4"}
    for refused in (
        anna.files.create(media_body=MediaInMemoryUpload(b"0123")),
        anna.ask("POST", RESUMABLE, json={}, headers=told),
        anna.session.put(anna.begin(None), data=b"0123", timeout=5),  # had not said its size
    ):
        assert why(refused) == (403, "storageQuotaExceeded")
    assert anna.names() == ["fits"]


def test_whoever_asks_too_fast_is_told_so_and_nobody_else(server: DriveServer, anna: App) -> None:
    server.units_per_minute = 250
    assert [anna.names(), anna.names()] == [[], []]
    assert why(anna.files.list()) == (403, "userRateLimitExceeded")
    assert anna.files.generateIds(count=1).execute()["ids"], "for this one there is room"
    assert App(server, BEN).names() == []


def test_a_fault_hits_what_it_is_meant_for_as_often_as_it_says(
    server: DriveServer, anna: App
) -> None:
    file, wait = anna.upload("x", b"AAA")["id"], {"Retry-After": "7"}
    server.faults.add(Fault(method="files.*", person=BEN, times=9, status=500))
    server.faults.add(Fault(method="files.list", after=1, status=429, headers=wait))
    server.faults.add(Fault(method="media.get", times=2, corrupt=True))
    assert anna.names() == ["x"]
    refused = anna.ask("GET", "/drive/v3/files")
    assert (why(refused), refused.headers["Retry-After"]) == ((429, "rateLimitExceeded"), "7")
    assert anna.names() == ["x"]
    contents = [anna.files.get_media(fileId=file).execute() for _ in range(3)]
    assert contents == [b"@AA", b"@AA", b"AAA"]
    assert server.faults.done == 3


def test_a_cut_answer_is_short_and_a_lost_one_was_carried_out(
    server: DriveServer, anna: App
) -> None:
    path = f"/drive/v3/files/{anna.upload('x', bytes(100_000))['id']}?alt=media"
    server.faults.add(Fault(method="media.get", cut_after=50_000))
    answer = anna.ask("GET", path, stream=True)
    assert answer.headers["Content-Length"] == "100000"
    with pytest.raises(requests.RequestException):
        b"".join(answer.iter_content(1000))
    assert answer.raw.tell() <= 50_000
    server.faults.add(Fault(method="files.create", lose_answer=True))
    with pytest.raises(requests.ConnectionError):
        anna.ask("POST", "/drive/v3/files", json={"name": "y"})
    assert anna.names() == ["x", "y"]


def test_chaos_is_the_same_for_the_same_seed() -> None:
    def outcomes(seed: int) -> list[Fault | None]:
        faults = Faults()
        faults.set_chaos(Chaos(rate=0.5, seed=seed))
        return [faults.of("files.list", ANNA) for _ in range(100)]

    first = outcomes(1)
    assert outcomes(1) == first != outcomes(2)
    assert 30 < first.count(None) < 70


def test_a_killed_server_that_is_started_again_has_forgotten_nothing(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path)
    try:
        process.people.add_client(client="app", secret="secret")
        process.people.add_person(email=ANNA)
        anna = App(process, ANNA)
        file, session = anna.upload("x", b"AAA")["id"], anna.begin(PIECE + 1)
        start = process.people.last_request()
        anna.send(session, f"bytes 0-{PIECE - 1}/*", bytes(PIECE))
        process.kill()
        with pytest.raises(requests.ConnectionError):
            anna.ask("GET", "/drive/v3/files")
        process.start()
        assert anna.files.get_media(fileId=file).execute() == b"AAA"
        assert anna.send(session, f"bytes */{PIECE + 1}") == (308, f"bytes=0-{PIECE - 1}")
        asked = [request["method"] for request in process.people.requests(since=start)]
        assert asked == ["upload.put", "media.get", "upload.put"]
    finally:
        process.stop()
