"""HTTP: requests to their rooms, answers back, and the misbehaviour in between."""

import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from google_drive_server.api import OF_A_CHANGE, UNITS, Answer, Api
from google_drive_server.bodies import Body, Cut, headed, parts
from google_drive_server.errors import ApiError
from google_drive_server.faults import Chaos, Fault, Faults
from google_drive_server.field_masks import checked_mask, masked
from google_drive_server.oauth import Consent, OAuth, OAuthError
from google_drive_server.people import People
from google_drive_server.store import Store, now_text
from google_drive_server.uploads import Uploads
from google_drive_server.who import Caller, caller

_BLOCK = 1 << 20
_NO_FAULT = Fault()


class DriveServer:
    """One world, and the port at which it is."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        latency_s: float = 0.0,
        token_life_s: float = 3600.0,
        units_per_minute: float | None = None,
    ) -> None:
        """Serve what lies in ``folder``. Answers take ``latency_s`` longer than they do.

        With ``units_per_minute`` each person's rate is limited, as Google limits it.
        """
        self.store = Store(folder)
        self.oauth = OAuth(self.store, token_life_s)
        self.people = People(self.store, self.oauth)
        self.api = Api(self.store)
        self.uploads = Uploads(self.store)
        self.faults = Faults()
        self.latency_s = latency_s
        self.units_per_minute = units_per_minute
        # Of contents, as far as this process has seen them.
        self.bytes_moved = {"up": 0, "down": 0}
        self._spent: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", port), _handler_for(self))
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def serve(self) -> None:
        """Until ``close``."""
        self._http.serve_forever(poll_interval=0.05)

    @contextmanager
    def running(self) -> Iterator["DriveServer"]:
        """In a thread of this process."""
        thread = threading.Thread(target=self.serve, name="drive server", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.close()
            thread.join()

    def close(self) -> None:
        """Stop; what was done stays on the disk."""
        self._http.shutdown()
        self._http.server_close()
        self.store.close()

    def do(self, name: str, arguments: dict[str, Any]) -> Any:
        """What a test or a benchmark asks for over HTTP."""
        if name == "fault":
            return self.faults.add(Fault(**arguments))
        if name == "chaos":
            return self.faults.set_chaos(Chaos(**arguments) if arguments else None)
        if name == "behave":
            return self.faults.clear()
        if name == "consent":
            self.oauth.consent = Consent(**arguments) if arguments else None
            return None
        if name == "forget_sessions":
            return self.uploads.forget_sessions()
        if name == "bytes_moved":
            return dict(self.bytes_moved)
        if name == "faults_done":
            return self.faults.done
        if name.startswith("_") or not hasattr(People, name):
            raise ApiError(400, "invalid", f"There is no {name!r} to do.")
        return getattr(self.people, name)(**arguments)

    def too_fast(self, email: str, units: float) -> bool:
        """Count units; whether they are more than this minute's."""
        if self.units_per_minute is None:
            return False
        with self._lock:
            began, spent = self._spent.get(email, (time.monotonic(), 0.0))
            if time.monotonic() - began >= 60:
                began, spent = time.monotonic(), 0.0
            over = spent + units > self.units_per_minute
            self._spent[email] = (began, spent if over else spent + units)
            return over

    def note(self, method: str, email: str, status: int, units: int) -> None:
        """Write a request down."""
        with self.store.transaction() as db:
            db.execute(
                "INSERT INTO requests (at, method, email, status, units) VALUES (?,?,?,?,?)",
                (now_text(), method, email, status, units),
            )


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is nothing to write about; anything else is."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | Cut | TimeoutError):
            super().handle_error(request, client_address)


def _handler_for(server: DriveServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        drive = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    drive: DriveServer
    protocol_version = "HTTP/1.1"
    # Otherwise headers and body wait for each other's acknowledgement, 40 ms a request.
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are in the state, not on the terminal."""

    def do_GET(self) -> None:
        self._request()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    # ------------------------------------------------------------------ where to

    def _request(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        self._body = Body(self.rfile, self.headers)  # type: ignore[arg-type]
        self._name, self._email = url.path, ""
        try:
            if url.path == "/_admin":
                self._admin()
            elif url.path == "/o/oauth2/v2/auth":
                status, headers, body = self.drive.oauth.authorise(query)
                self._send(status, headers, body)
            elif url.path in ("/token", "/revoke"):
                self._token(url.path)
            elif url.path == "/batch/drive/v3":
                self._batch()
            elif url.path.startswith("/upload/"):
                self._upload(url.path, query)
            elif url.path.startswith("/drive/v3/"):
                self._call(url.path.removeprefix("/drive/v3/"), query)
            elif page := re.fullmatch(r"/(?:drive/folders|file/d)/([\w-]+)(?:/view)?", url.path):
                self._page(page[1])
            else:
                raise ApiError(404, "notFound", f"There is nothing at {url.path}.")
        except ApiError as error:
            self._refuse(error)
        except Cut:
            self._cut()
        except AssertionError as error:
            self._refuse(ApiError(500, "testServer", str(error)))

    def _call(self, path: str, query: dict[str, str]) -> None:
        method, found = self.drive.api.discovery.method(self.command, path)
        name = "media.get" if query.get("alt") == "media" else method.id
        who, fault = self._admitted(name)
        raw = self._body.all()
        body = _json(raw) if raw else None
        answer = self.drive.api.answer(who, method, found, query, body)
        self._answer(name, who.email, answer, fault)

    # ------------------------------------------------------------------ contents

    def _upload(self, path: str, query: dict[str, str]) -> None:
        api, uploads = self.drive.api, self.drive.uploads
        session = query.get("upload_id")
        if session is not None:
            method, _ = api.discovery.upload(
                "PATCH" if re.fullmatch(r"/upload/drive/v3/files/.+", path) else "POST", path
            )
            who, fault = self._admitted("upload.put")
            self._body = Body(self.rfile, self.headers, fault.cut_request_after)  # type: ignore[arg-type]
            self._body.heard = self._moved_up
            try:
                reply = uploads.put(
                    who, method, session, self.headers.get("Content-Range"), self._body,
                    None if fault is _NO_FAULT else fault,
                )  # fmt: skip
            except Cut:
                self.drive.note("upload.put", who.email, 0, 0)
                raise
            answer = Answer(reply.status, headers=reply.headers)
            if reply.answer is not None:
                api.discovery.check_answer(method, reply.answer)
                answer.json = masked(
                    api.discovery, method, reply.answer, reply.parameters.get("fields")
                )
            self._answer("upload.put", who.email, answer, fault)
            return
        method, found = api.discovery.upload(self.command, path)
        who, fault = self._admitted(method.id)
        api.discovery.check_parameters(method, query)
        checked_mask(api.discovery, method, query.get("fields"))
        kind = query.get("uploadType")
        raw = self._body.all()
        if kind == "resumable":
            about = _json(raw) if raw else {}
            api.discovery.check_body(method, about)
            new = uploads.begin(who, method, found, query, about, self.headers)  # type: ignore[arg-type]
            where = f"{self.drive.address}{path}?uploadType=resumable&upload_id={new}"
            self._answer(method.id, who.email, Answer(headers={"Location": where}), fault)
            return
        about, content = {}, raw
        mime = self.headers.get("Content-Type", "")
        if kind == "multipart":
            pieces = parts(raw, mime)
            if len(pieces) != 2:
                raise ApiError(400, "parseError", "A multipart upload has two parts.")
            about, content = _json(pieces[0][1]), pieces[1][1]
            mime = pieces[1][0].get("content-type", "")
        elif kind != "media":
            raise ApiError(400, "invalid", f"There is no uploadType {kind!r}.")
        api.discovery.check_body(method, about)
        self._moved_up(len(content))
        if fault.corrupt and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        file = uploads.at_once(who, method, found, query, about, content, mime)
        self._answer(method.id, who.email, api.shown(method, file, query), fault)

    # ------------------------------------------------------------------ several at once

    def _batch(self) -> None:
        content_type = self.headers.get("Content-Type", "")
        pieces = parts(self._body.all(), content_type)
        if len(pieces) > 100:
            raise ApiError(400, "invalid", "A batch has at most 100 calls.")
        boundary = "batch_" + os.urandom(8).hex()
        out = b""
        for headers, content in pieces:
            inner = self._one_of_batch(content)
            answer_id = headers.get("content-id", "").replace("<", "<response-", 1)
            out += (
                f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {answer_id}\r\n\r\n"
            ).encode()
            out += inner + b"\r\n"
        out += f"--{boundary}--\r\n".encode()
        self._send(200, {"Content-Type": f"multipart/mixed; boundary={boundary}"}, out)

    def _one_of_batch(self, content: bytes) -> bytes:
        line, _, rest = content.partition(b"\n")
        verb, target, _ = line.decode().split()
        headers, body = headed(rest)
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        name, email = "batch", ""
        try:
            header = headers.get("authorization") or self.headers.get("Authorization")
            who = caller(self.drive.store, header)
            email = who.email
            method, found = self.drive.api.discovery.method(
                verb, url.path.removeprefix("/drive/v3/")
            )
            name = method.id
            self._spend(name, who)
            fault = self.drive.faults.of(name, email) or _NO_FAULT
            if fault.status is not None:
                raise ApiError(fault.status, fault.reason, headers=fault.headers)
            text = body.strip()
            answer = self.drive.api.answer(who, method, found, query, _json(text) if text else None)
        except ApiError as error:
            answer = Answer(error.status, json=error.body(), headers=error.headers)
        self.drive.note(name, email, answer.status, UNITS.get(name, OF_A_CHANGE))
        payload = b"" if answer.json is None else json.dumps(answer.json).encode()
        return (
            f"HTTP/1.1 {answer.status} OK\r\nContent-Type: application/json; charset=UTF-8\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        ).encode() + payload

    # ------------------------------------------------------------------ who, and what goes wrong

    def _admitted(self, name: str) -> tuple[Caller, Fault]:
        """Who asks; and what is to go wrong, of which the beginning goes wrong here."""
        if self.drive.latency_s:
            time.sleep(self.drive.latency_s)
        self._name, self._email = name, ""
        who = caller(self.drive.store, self.headers.get("Authorization"))
        self._email = who.email
        self._spend(name, who)
        fault = self.drive.faults.of(name, who.email) or _NO_FAULT
        if fault.slow_s:
            time.sleep(fault.slow_s)
        if fault.status is not None:
            raise ApiError(fault.status, fault.reason, headers=fault.headers)
        return who, fault

    def _moved_up(self, count: int) -> None:
        self.drive.bytes_moved["up"] += count

    def _spend(self, name: str, who: Caller) -> None:
        if self.drive.too_fast(who.email, UNITS.get(name, OF_A_CHANGE)):
            raise ApiError(403, "userRateLimitExceeded", "User rate limit exceeded.")

    # ------------------------------------------------------------------ answers

    def _answer(self, name: str, email: str, answer: Answer, fault: Fault) -> None:
        if fault.lose_answer:
            self.drive.note(name, email, 0, UNITS.get(name, OF_A_CHANGE))
            raise Cut
        if answer.content is not None:
            self._send_content(name, email, answer, fault)
            return
        self.drive.note(name, email, answer.status, UNITS.get(name, OF_A_CHANGE))
        body = b"" if answer.json is None else json.dumps(answer.json).encode()
        headers = {"Content-Type": "application/json; charset=UTF-8", **answer.headers}
        if fault.cut_after is not None:
            self._send(answer.status, headers, body[: fault.cut_after], len(body))
            raise Cut
        self._send(answer.status, headers, body, len(body) + fault.wrong_length)
        if fault.wrong_length:
            raise Cut

    def _send_content(self, name: str, email: str, answer: Answer, fault: Fault) -> None:
        assert answer.content is not None
        with open(answer.content, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start, end, status = 0, size, 200
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            # A range that ends before it starts is as none (RFC 9110).
            if wanted and int(wanted[1]) <= int(wanted[2] or wanted[1]):
                start = int(wanted[1])
                end = min(int(wanted[2]) + 1, size) if wanted[2] else size
                if start >= size:
                    raise ApiError(
                        416, "requestedRangeNotSatisfiable", "The range is not in the file.",
                        {"Content-Range": f"bytes */{size}"},
                    )  # fmt: skip
                status = 206
                answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            self.drive.note(name, email, status, UNITS[name])
            self.send_response(status)
            for header, value in answer.headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(end - start + fault.wrong_length))
            self.end_headers()
            stream.seek(start)
            left, sent = end - start, 0
            while left:
                block = stream.read(min(left, _BLOCK))
                if fault.corrupt:
                    fault.corrupt = False
                    block = bytes([block[0] ^ 1]) + block[1:]
                if fault.cut_after is not None and sent + len(block) >= fault.cut_after:
                    self.wfile.write(block[: fault.cut_after - sent])
                    self.drive.bytes_moved["down"] += fault.cut_after - sent
                    self.wfile.flush()
                    raise Cut
                self.wfile.write(block)
                self.drive.bytes_moved["down"] += len(block)
                left -= len(block)
                sent += len(block)
        if fault.wrong_length:
            raise Cut

    def _refuse(self, error: ApiError) -> None:
        self.drive.note(self._name, self._email, error.status, 0)
        with suppress(Cut):
            self._body.drain()
        self._send(
            error.status,
            {"Content-Type": "application/json; charset=UTF-8", **error.headers},
            json.dumps(error.body()).encode(),
        )

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, length: int | None = None
    ) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _cut(self) -> None:
        """End the connection as a broken network does."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    # ------------------------------------------------------------------ besides the API

    def _token(self, path: str) -> None:
        form = dict(parse_qsl(self._body.all().decode()))
        self._name, self._email = path.removeprefix("/"), ""
        fault = self.drive.faults.of(self._name, "") or _NO_FAULT
        if fault.status is not None:
            raise ApiError(fault.status, fault.reason, headers=fault.headers)
        try:
            if path == "/token":
                answer: Any = self.drive.oauth.token(form, f"{self.drive.address}/token")
            else:
                self.drive.oauth.revoke(form.get("token", ""))
                answer = {}
            status = 200
        except OAuthError as error:
            status, answer = error.status, error.body
        self.drive.note(self._name, "", status, 0)
        self._send(status, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _admin(self) -> None:
        asked = _json(self._body.all())
        result = self.drive.do(asked["do"], asked.get("with", {}))
        self._send(200, {"Content-Type": "application/json"}, json.dumps(result).encode())

    def _page(self, file_id: str) -> None:
        """A folder or a file as a person sees it: for a demonstration."""
        import html

        store = self.drive.store
        row = store.file(file_id)
        if row is None:
            raise ApiError(404, "notFound", "There is no such page.")
        if row["blob"] is not None:
            content = (store.contents / row["blob"]).read_bytes()
            self._send(200, {"Content-Type": row["mime"]}, content)
            return
        rows = store.db.execute(
            "SELECT id, name FROM files WHERE parent=? AND NOT trashed ORDER BY name", (file_id,)
        ).fetchall()
        items = "".join(
            f'<li><a href="/file/d/{r["id"]}/view">{html.escape(r["name"])}</a>' for r in rows
        )
        name = html.escape(row["name"])
        page = f"<!doctype html><title>{name}</title><h1>{name}</h1><ul>{items}</ul>".encode()
        self._send(200, {"Content-Type": "text/html; charset=utf-8"}, page)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise ApiError(400, "parseError", "Parse Error") from None
