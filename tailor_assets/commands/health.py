"""``tailor health``: one line for each thing that tailor needs, and an exit status for programs."""

import json

from rich.console import Console

from resources.settings import load_settings
from tailor_assets.monitoring.health_checks import HealthChecks, worst

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def health(*, as_json: bool) -> int:
    """Print how tailor is; 0 where nothing is a problem, else 1. Answers within 10 s."""
    results = HealthChecks(load_settings()).run()
    state = worst(results)
    if as_json:
        print(
            json.dumps(
                {"state": state, "checks": [result.as_json() for result in results]}, indent=2
            )
        )
    else:
        # Markup off: sentences have paths and other people's words in them.
        out = Console(markup=False, highlight=False, soft_wrap=True)
        for result in results:
            out.print(f"{result.name:<9}", end=" ")
            out.print(f"{result.state:<8}", style=_STYLES[result.state], end=" ")
            out.print(result.sentence)
    return 1 if state == "problem" else 0
