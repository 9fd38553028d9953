"""A server that speaks what the audit mirrors need of Google: tokens, BigQuery's tables and streaming
inserts with their insert ids, Cloud Logging's entries:write. Over real sockets.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_TOKEN = "a-token"
_INSERT_ALL = "/insertAll"


@dataclass
class GoogleAuditServer:
    """``tables`` and ``entries`` are what has arrived; ``faults`` what the next requests meet."""

    address: str = ""
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Path of a table -> insert id -> row."""
    schemas: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    entries: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    """Log, timestamp and insert id -> entry: what is equal in all three is one entry."""
    datasets: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    """``503``, ``403``, or ``lost``: done, but the answer does not arrive."""
    requests: int = 0

    def do(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """What a request is answered."""
        if path.endswith("/entries:write"):
            for entry in body["entries"]:
                key = (body["logName"], entry["timestamp"], entry["insertId"])
                self.entries[key] = {"resource": body["resource"], **entry}
            return 200, {}
        path = path.partition("?")[0]
        if path.endswith(_INSERT_ALL):
            table = path.removesuffix(_INSERT_ALL)
            if table not in self.tables:
                return 404, _error(404, "notFound", f"Not found: Table {table}")
            names = {column["name"] for column in self.schemas[table]}
            wrong = [
                {"index": i, "errors": [{"reason": "invalid", "message": "no such field"}]}
                for i, row in enumerate(body["rows"])
                if set(row["json"]) != names
            ]
            if wrong:
                return 200, {"insertErrors": wrong}
            for row in body["rows"]:
                self.tables[table].setdefault(row["insertId"], row["json"])
            return 200, {}
        dataset = path.removesuffix("/tables")
        if dataset not in self.datasets:
            return 404, _error(404, "notFound", f"Not found: Dataset {dataset}")
        table = f"{path}/{body['tableReference']['tableId']}"
        self.tables[table] = {}
        self.schemas[table] = body["schema"]["fields"]
        return 200, body


def _error(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "errors": [{"reason": reason}]}}


@contextmanager
def google_audit_server() -> Iterator[GoogleAuditServer]:
    state = GoogleAuditServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/token":
                self._answer(200, {"access_token": _TOKEN, "expires_in": 3600})
                return
            state.requests += 1
            if self.headers.get("Authorization") != f"Bearer {_TOKEN}":
                self._answer(401, _error(401, "authError", "no valid token"))
                return
            fault = state.faults.pop(0) if state.faults else ""
            if fault.isdigit():
                self._answer(int(fault), _error(int(fault), "fault", "a fault of the test"))
                return
            code, answer = state.do(self.path, json.loads(raw))
            if fault == "lost":
                self.close_connection = True
                return
            self._answer(code, answer)

        def _answer(self, code: int, body: Any) -> None:
            raw = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_key_file(file: Path, server: GoogleAuditServer) -> None:
    """A service account's key, whose tokens come from the server."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "lab",
                "private_key_id": "1",
                "private_key": key.decode(),
                "client_email": "tailor@lab.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": f"{server.address}/token",
            }
        )
    )
