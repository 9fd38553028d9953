"""Whether the services that were started do their work."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """
    from dagster import DagsterInstance
    from dagster._core.instance.ref import InstanceRef

    storage = {"storage": {"postgres": {"postgres_url": postgres_url}}}
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

    def webserver_answers(self) -> bool:
        """Whether GraphQL answers."""
        try:
            self._ask("{ version }")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
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
