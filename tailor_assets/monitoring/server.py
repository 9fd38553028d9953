"""The monitoring service: ``/metrics`` for Prometheus, ``/health`` for whoever asks by HTTP."""

import json
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from resources.settings import Settings
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.monitoring.health_checks import HealthChecks, worst
from tailor_assets.monitoring.metrics import TailorCollector

_CLIENT_LIMIT_S = 10.0


class MonitoringServer(ThreadingHTTPServer):
    """Serves until ``shutdown``. What it cannot find out it says; it does not end."""

    daemon_threads = True

    def __init__(self, host: str, port: int, settings: Settings) -> None:
        """Raises PermanentProblem where the port is taken. Port 0 is any that is free."""
        self.registry = CollectorRegistry()
        self.registry.register(TailorCollector(settings, report=say))
        ProcessCollector(registry=self.registry)
        self.checks = HealthChecks(settings)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise PermanentProblem(
                f"The metrics page cannot use port {port} on {host} ({error.strerror}); choose "
                "another with --metrics-port, or 0 for none."
            ) from None

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor that went away in the middle is nobody's trouble."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: MonitoringServer
    timeout = _CLIENT_LIMIT_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(self.server.registry))
        elif path == "/health":
            results = self.server.checks.run()
            body = {
                "state": worst(results),
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "checks": [result.as_json() for result in results],
            }
            status = 503 if body["state"] == "problem" else 200
            self._answer(status, "application/json", json.dumps(body, indent=2).encode())
        else:
            self._answer(404, "text/plain", b"There are /metrics and /health here.\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a visit every few seconds is no news."""


def say(sentence: str) -> None:
    """A line of the service's log."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"{now} {sentence}", file=sys.stderr, flush=True)
