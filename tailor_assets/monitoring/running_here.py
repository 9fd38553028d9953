"""What ``tailor up`` on this machine says of itself, asked from another process."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import psutil

_LIMIT_S = 4.0
# A process begins before it writes the file; clocks of files are coarse.
_SLACK_S = 5.0
_QUERY = """{ version workspaceOrError { __typename ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } }
  ... on PythonError { message } } }"""


def web_url_here(home: Path) -> str | None:
    """The web page of the tailor that runs on this home folder; None where none does.

    Read from ``tailor.lock``, which names its holder; to try the lock itself would keep a tailor
    that starts at this moment from taking it.
    """
    lock = home / "tailor.lock"
    try:
        found = re.fullmatch(r"process (\d+), (\S+)", lock.read_text().strip())
        written = lock.stat().st_mtime
    except OSError:
        return None
    if found is None:
        return None
    try:
        began = psutil.Process(int(found[1])).create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    # The number may have been given to another process since.
    return found[2] if began <= written + _SLACK_S else None


def problem_of_web_page(url: str) -> str | None:
    """A sentence where the web page does not show the pipeline; None where all is well.

    Raises OSError where it does not answer, ValueError where something else does.
    """
    request = urllib.request.Request(
        f"{url}/graphql",
        data=json.dumps({"query": _QUERY}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
        workspace: dict[str, Any] = json.load(answer)["data"]["workspaceOrError"]
    entries = workspace.get("locationEntries") or []
    for entry in entries:
        loaded = entry["locationOrLoadError"] or {}
        if loaded.get("__typename") == "PythonError":
            first = str(loaded["message"]).strip().splitlines()[0]
            return f"The pipeline is not loaded: {first}"
    if not entries:
        return "The web page knows no pipeline: its code server may be starting."
    return None


def problem_of_code_server(home: Path) -> str | None:
    """A sentence where the code server, which runs need to start, does not answer; else None.

    The web page remembers what it was told before a code server began to hang.
    """
    import grpc
    import yaml
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    workspace = yaml.safe_load((home / "dagster" / "workspace.yaml").read_text())
    socket = workspace["load_from"][0]["grpc_server"]["socket"]
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            answer = HealthStub(channel).Check(
                HealthCheckRequest(service="DagsterApi"), timeout=_LIMIT_S
            )
        except grpc.RpcError as error:
            return f"The code server does not answer ({error.code().name.lower()})."
    if answer.status != HealthCheckResponse.SERVING:
        return "The code server is not ready."
    return None
