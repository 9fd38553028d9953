"""Helpers of the tests that run the real services on the toy pipeline: start, ask, wait, look."""

import json
import os
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from run_queue.job_ledger import JobRow, find_job
from run_queue.job_tables import FINISHED_STATES
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services.start import RunningServices, start_services

TOY_CODE = ("--python-file", str(Path(__file__).with_name("toy_definitions.py")))
SELECTOR = {"repositoryLocationName": "tailor", "repositoryName": "__repository__"}

LAUNCH_RUN = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
REEXECUTE = """mutation($p: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
BACKFILL = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


@contextmanager
def new_home() -> Iterator[Path]:
    """A new folder, in place of ``tmp_path``.

    As root, PostgreSQL runs as another user, who has to pass through the folders above its data;
    pytest takes that permission from its own folders whenever another session starts.
    """
    folder = tempfile.mkdtemp(prefix="tailor-test-")
    try:
        yield Path(folder).resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def toy_services(home: Path, **options: Any) -> Iterator[RunningServices]:
    """The services on the toy pipeline."""
    options = {"port": free_port(), "code": TOY_CODE, **options}
    with start_services(home, **options) as services:
        yield services


def ask(web_url: str, query: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a mutation as the Dagster UI does; its one answer."""
    body = json.dumps({"query": query, "variables": {"p": parameters}}).encode()
    request = urllib.request.Request(
        f"{web_url}/graphql", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = json.load(answer)
    assert "errors" not in content, content
    (result,) = content["data"].values()
    assert "Success" in result["__typename"], result
    return result


def launch_backfill(
    web_url: str, assets: Sequence[str], partitions: Sequence[str], run_config: Mapping[str, Any]
) -> str:
    """Select assets and partitions and launch them, as the Dagster UI does; the backfill's id."""
    answer = ask(
        web_url,
        BACKFILL,
        {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": list(partitions),
            **({"runConfigData": run_config} if run_config else {}),
        },
    )
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def wait_for(what: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """The first true answer of ``what``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"still waiting after {seconds:.0f} s")


def add_toy(services: RunningServices, name: str) -> None:
    """Make the partition and put it in the inbox's place, known already: no sensor run."""
    services.instance.add_dynamic_partitions("toys", [name])


def drop_toy(home: Path, name: str, tenant: str = "anna") -> None:
    """Put a file into the inbox; the sensor accepts its job."""
    inbox = home / "inbox"
    inbox.mkdir(exist_ok=True)
    whole = home / f".{name}"
    whole.write_text(tenant)
    os.replace(whole, inbox / name)


def launch_job(services: RunningServices, name: str, tags: dict[str, str] | None = None) -> str:
    """Launch the job for a toy, as the Launchpad does; the run's id."""
    add_toy(services, name)
    all_tags = {"dagster/partition": name, **(tags or {})}
    parameters = {
        "selector": {**SELECTOR, "pipelineName": "process_toy"},
        "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in all_tags.items()]},
    }
    return ask(services.web_url, LAUNCH_RUN, parameters)["run"]["runId"]


def runs_of(services: RunningServices, name: str) -> list[dg.DagsterRun]:
    """All runs of a toy, oldest first."""
    runs = services.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": name}))
    return list(reversed(runs))


def job_of(services: RunningServices, name: str) -> JobRow | None:
    """The latest job of a toy."""
    try:
        return find_job(services.postgres_url, name)
    except PermanentProblem:
        return None


def finished_runs_of(services: RunningServices, name: str) -> list[dg.DagsterRun]:
    """All runs of a toy once its job is over for good, retries included."""

    def settled() -> list[dg.DagsterRun]:
        job = job_of(services, name)
        runs = runs_of(services, name)
        is_over = job is not None and job.state in FINISHED_STATES
        return runs if is_over and all(run.is_finished for run in runs) else []

    return wait_for(settled, seconds=120)


def done(services: RunningServices, name: str) -> list[tuple[str, int]]:
    """What was done for a toy, in order: (what, process number)."""
    file = services.home / "done.txt"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(what, int(pid)) for key, what, pid, _ in lines if key == name]


def processes_of(home: Path) -> list[psutil.Process]:
    """Processes that have to do with this home folder, by command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.environ().get("TAILOR_HOME", "")]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(word == str(home) or word.startswith(f"{home}/") for word in words):
            found.append(process)
    return found
