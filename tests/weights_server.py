"""A real HTTPS server with one file, that misbehaves in the ways in which servers do.

Its certificate is made on the spot; ``SSL_CERT_FILE`` has clients trust it, so what is tested is the
address form and the verification that people get.
"""

import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LAST_MODIFIED = "Mon, 29 Jul 2024 20:00:00 GMT"


@dataclass
class Answer:
    """How one request is answered; the server takes them in order, then answers well."""

    status: int | None = None
    """Instead of the file."""
    headers: dict[str, str] = field(default_factory=dict)
    """In addition, or in place of its own; an empty text leaves one out."""
    cut_after: int | None = None
    """End the connection after so many bytes of the body."""
    reset: bool = False
    """With a TCP reset instead of a quiet end."""
    ignores_range: bool = False
    ignores_if_range: bool = False
    sends: bytes | None = None
    """Other bytes than the file's."""
    wait: threading.Event | None = None
    """Before the last byte of what is sent."""
    pause_s: float = 0.0
    """After every 16 KiB."""


@dataclass
class WeightsServer:
    """What it serves, what it was asked, and where it is."""

    body: bytes
    port: int
    etag: str = '"v1"'
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/weights.pt"

    @property
    def ranges(self) -> list[str | None]:
        """The header Range of every request so far."""
        return [request.get("Range") for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        weights: WeightsServer = self.server.weights  # type: ignore[attr-defined]
        with weights.lock:
            weights.requests.append(dict(self.headers))
            answer = weights.answers.pop(0) if weights.answers else Answer()
        if answer.status is not None:
            self._respond(answer.status, {"Content-Length": "0"} | answer.headers)
            return
        body = weights.body if answer.sends is None else answer.sends
        start = self._start(weights, answer)
        headers = {
            "ETag": weights.etag,
            "Last-Modified": LAST_MODIFIED,
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(body) - start),
        }
        if start >= len(body) and start:
            self._respond(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._respond(206 if start else 200, headers | answer.headers)
        self._send(body[start:], answer)

    def _start(self, weights: WeightsServer, answer: Answer) -> int:
        asked = self.headers.get("Range")
        if asked is None or answer.ignores_range:
            return 0
        same = self.headers.get("If-Range", weights.etag) in (weights.etag, LAST_MODIFIED)
        if not same and not answer.ignores_if_range:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _respond(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes, answer: Answer) -> None:
        if answer.cut_after is not None:
            body = body[: answer.cut_after]
        last = b""
        if answer.wait is not None:
            body, last = body[:-1], body[-1:]
        try:
            for i in range(0, len(body), 1 << 14):
                self.wfile.write(body[i : i + (1 << 14)])
                time.sleep(answer.pause_s)
            if answer.wait is not None:
                answer.wait.wait(60)
                self.wfile.write(last)
        except OSError:
            return  # the client is gone
        if answer.reset:
            time.sleep(0.2)  # a reset overtakes what has not been read
            at_once = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are what is tested


def write_certificate(folder: Path) -> Path:
    """A certificate for localhost and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@contextmanager
def serve_weights(body: bytes, certificate: Path) -> Iterator[WeightsServer]:
    """Serve ``body`` at ``.url`` until the end of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake belongs to the connection's own thread: a client may fail or never end it.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    weights = WeightsServer(body, server.server_address[1])
    server.weights = weights  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield weights
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def connect_proxy() -> Iterator[tuple[int, list[str]]]:
    """An HTTP proxy that passes TLS on (CONNECT); yields its port and what it was asked for."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            place = lines.readline().split()[1].decode()
            while lines.readline().strip():
                pass
            asked.append(place)
            host, _, port = place.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pass_on, args=(server, client), daemon=True)
                back.start()
                pass_on(client, server)
                back.join()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
