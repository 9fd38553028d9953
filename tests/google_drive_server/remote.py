"""The server as a process of its own, and people in it over HTTP."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class RemotePeople:
    """``people.add_person(email=...)`` and so on, at an address. Arguments by name only."""

    def __init__(self, address: str) -> None:
        """``address`` as ``http://127.0.0.1:PORT``."""
        self.address = address

    def __getattr__(self, name: str) -> Any:
        def ask(**arguments: Any) -> Any:
            request = urllib.request.Request(
                f"{self.address}/_admin",
                data=json.dumps({"do": name, "with": arguments}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        return ask


class ServerProcess:
    """``python -m google_drive_server``, which can be killed and started again."""

    def __init__(self, folder: Path, port: int = 0, latency_s: float = 0.0) -> None:
        """Start it and wait until it answers. With port 0 it chooses one, and keeps it."""
        self._folder, self._latency_s = folder, latency_s
        self.port = port
        self.start()

    def start(self) -> None:
        """Start it, again on the port it had."""
        here = Path(__file__).parent.parent
        self.process = subprocess.Popen(
            [sys.executable, "-m", "google_drive_server", str(self._folder), "--port",
             str(self.port), "--latency", str(self._latency_s), "--while-stdin"],
            # Ctrl-C is for whoever started it, who then stops it.
            cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("The Drive test server did not start.")
        self.address = line.strip()
        self.port = int(self.address.rpartition(":")[2])
        self.people = RemotePeople(self.address)
        end = time.monotonic() + 10
        while True:
            try:
                self.people.last_request()
                return
            except urllib.error.URLError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """As ``kill -9``."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
