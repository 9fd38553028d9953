"""Whether the services that were started do their work."""

import http.client
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.database import engine_for, with_driver
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services.processes import tail

_CODE_QUERY = """{ workspaceOrError { __typename ... on Workspace { locationEntries {
  name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def open_instance(dagster_home: Path, postgres_url: str) -> Iterator["DagsterInstance"]:
    """Dagster's instance as the services see it, for this process.

    ``dagster_home`` holds dagster.yaml; the URL is given rather than read from the environment.

    Raises PermanentProblem where there is no dagster.yaml, or for a URL that cannot be read, and
    sqlalchemy's OperationalError where no database answers.
    """
    if not (dagster_home / "dagster.yaml").is_file():
        # Without it Dagster would go on with settings that are not tailor's.
        raise PermanentProblem(
            f"There is no dagster.yaml in {dagster_home}: set TAILOR_HOME to the folder that "
            "`tailor up` uses."
        )
    from dagster import DagsterInstance
    from dagster._core.instance.ref import InstanceRef

    url = with_driver(postgres_url)
    # Dagster's storage would ask for 15 s, and then raise an error of its own.
    engine_for(url).connect().close()
    storage = {"storage": {"postgres": {"postgres_url": url}}}
    reference = InstanceRef.from_dir(str(dagster_home), overrides=storage)
    with DagsterInstance.from_ref(reference) as instance:
        yield instance


def database_answers(postgres_url: str) -> bool:
    """Whether the database takes a connection within two seconds."""
    import psycopg2
    import sqlalchemy as sa

    url = sa.make_url(postgres_url).set(drivername="postgresql")
    try:
        psycopg2.connect(url.render_as_string(hide_password=False), connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def code_server_answers(grpc_socket: Path, within_s: float = 30.0) -> bool:
    """Whether the code server answers in that time, its threads being as busy as they are."""
    import grpc
    from dagster._grpc.__generated__ import dagster_api_pb2
    from dagster._grpc.__generated__.dagster_api_pb2_grpc import DagsterApiStub

    with grpc.insecure_channel(f"unix:{grpc_socket}") as channel:
        try:
            DagsterApiStub(channel).Ping(
                dagster_api_pb2.PingRequest(echo="tailor"), timeout=within_s
            )
        except grpc.RpcError:
            return False
    return True


class Health:
    """Looks at Dagster's tables and its web page as an outsider would."""

    def __init__(self, instance: "DagsterInstance", web_url: str) -> None:
        self._instance = instance
        self._web_url = web_url

    def create_dagster_tables(self) -> None:
        """Create or migrate Dagster's own tables, here once rather than in three children at once."""
        self._instance.upgrade()

    def daemon_is_alive(self, *, since: float) -> bool:
        """Whether every daemon that the instance requires has said so since (Unix seconds)."""
        beats = self._instance.get_daemon_heartbeats()
        return all(
            name in beats and beats[name].timestamp >= since
            for name in self._instance.get_required_daemon_types()
        )

    def daemon_beats(self) -> dict[str, float]:
        """When each daemon that the instance requires has last said that it works (Unix seconds)."""
        beats = self._instance.get_daemon_heartbeats()
        required = self._instance.get_required_daemon_types()
        return {name: beats[name].timestamp if name in beats else 0.0 for name in required}

    def webserver_answers(self) -> bool:
        """Whether GraphQL answers."""
        try:
            self._ask("{ version }")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return True

    def require_loaded_code(self, log: Path) -> None:
        """Raise PermanentProblem if the pipeline's definitions have not loaded."""
        answer = self._ask(_CODE_QUERY)["data"]["workspaceOrError"]
        for entry in answer.get("locationEntries", []):
            loaded = entry["locationOrLoadError"]
            if loaded and loaded["__typename"] == "PythonError":
                raise PermanentProblem(
                    f"The pipeline did not load: {loaded['message'].strip()}\n{tail(log)}"
                )

    def _ask(self, query: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._web_url}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
