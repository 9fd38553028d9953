"""``python -m tailor_assets.monitoring``: the monitoring service, until it is ended."""

import argparse
import signal
import sys
from types import FrameType

from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.monitoring.server import MonitoringServer

DEFAULT_PORT = 9464


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; 1 where it cannot."""
    parser = argparse.ArgumentParser(prog="tailor_assets.monitoring", description=__doc__)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        with MonitoringServer(options.host, options.port, load_settings()) as server:
            server.serve_forever()
    except PermanentProblem as problem:
        print(f"tailor: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _end(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
