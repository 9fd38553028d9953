"""``python -m google_drive_server FOLDER``: serve until stopped; the address goes to the output."""

import argparse
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from google_drive_server.server import DriveServer


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="google_drive_server")
    parser.add_argument("folder", type=Path, help="where its state lies, or is to lie")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--while-stdin", action="store_true", help="end when the input does")
    asked = parser.parse_args()
    server = DriveServer(asked.folder, port=asked.port, latency_s=asked.latency)
    print(server.address, flush=True)
    if asked.while_stdin:
        threading.Thread(target=_end_with_the_input, daemon=True).start()
    with suppress(KeyboardInterrupt):
        server.serve()


def _end_with_the_input() -> None:
    """Whoever started this process is gone, killed perhaps."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
