"""A queue without a daemon: the real instance of dagster.yaml on a real PostgreSQL, moved by hand."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEvent, DagsterEventType
from dagster._core.code_pointer import CodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator.base import SubmitRunContext
from toy_services import new_home

from resources.database import engine_for, metadata, migrate
from resources.settings import PROJECT_ROOT
from run_queue.job_ledger import JobRequest, JobRow, accept, find_job
from run_queue.job_sync import follow_runs
from run_queue.job_tables import jobs_table
from run_queue.shares import Expectations
from tailor_assets.services.health import open_instance

_EVENTS = {
    "starting": DagsterEventType.PIPELINE_STARTING,
    "started": DagsterEventType.PIPELINE_START,
    "success": DagsterEventType.PIPELINE_SUCCESS,
}


# What is queued has to say where it is from.
_FROM = {
    "remote_job_origin": RemoteJobOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("tailor"), "__repository__"),
        "process_video",
    ),
    "job_code_origin": JobPythonOrigin(
        "process_video",
        RepositoryPythonOrigin("python", CodePointer.from_python_file(__file__, "some_job", None)),
    ),
}


@dg.op
def nothing() -> None:
    """Never runs here."""


@dg.job(name="process_video")
def some_job() -> None:
    """Any job."""
    nothing()


@dataclass
class QueueLab:
    """Submits runs as people and sensors do, and says what became of them as workers do."""

    url: str
    instance: dg.DagsterInstance
    expectations: Expectations

    def accept(self, key: str, tenant: str = "anna", **changes: Any) -> str | None:
        """A sensor's request; by default of a video of its own."""
        request = JobRequest(
            **{
                "request_key": key,
                "job_name": "process_video",
                "partition_key": f"{tenant}--{key}",
                "tenant": tenant,
                "queue": "gpu",
                **changes,
            }
        )
        return accept(self.url, request)

    def submit(self, tenant: str = "anna", partition: str = "", **tags: str) -> dg.DagsterRun:
        """A run by hand; names of tags with ``__`` for ``/``."""
        all_tags = {"tailor/tenant": tenant}
        if partition:
            all_tags["dagster/partition"] = partition
        all_tags |= {name.replace("__", "/"): value for name, value in tags.items()}
        run = self.instance.create_run_for_job(some_job, tags=all_tags, **_FROM)
        return self.come(run)

    def come(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """The run goes through the coordinator."""
        # The coordinator needs no workspace to queue.
        context: Any = SubmitRunContext(run, None)  # type: ignore[arg-type]
        return self.instance.run_coordinator.submit_run(context)

    def again(self, parent: dg.DagsterRun, *, by_itself: bool = True) -> dg.DagsterRun:
        """A re-execution, as the retry daemon or (not ``by_itself``) a person makes it."""
        tags = {**self.run(parent).tags}
        for name in ("dagster/parent_run_id", "dagster/root_run_id", "dagster/retry_number"):
            tags.pop(name, None)
        if by_itself:
            tags["dagster/retry_number"] = "1"
        root = parent.root_run_id or parent.run_id
        tags |= {"dagster/parent_run_id": parent.run_id, "dagster/root_run_id": root}
        run = self.instance.create_run_for_job(
            some_job, tags=tags, parent_run_id=parent.run_id, root_run_id=root, **_FROM
        )
        return self.come(run)

    def run(self, run: dg.DagsterRun) -> dg.DagsterRun:
        """As it is now."""
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def say(self, run: dg.DagsterRun, *words: str) -> None:
        """The run starts, succeeds and so on; the daemon looks after each."""
        for word in words:
            if word == "failure":
                self.instance.report_run_failed(self.run(run), "a passing trouble")
            elif word == "canceled":
                self.instance.report_run_canceled(self.run(run))
            else:
                event = DagsterEvent(_EVENTS[word].value, run.job_name)
                self.instance.report_dagster_event(event, run_id=run.run_id)
            self.look()

    def look(self) -> int:
        """What the daemon does each second."""
        return follow_runs(self.url, self.instance, self.expectations)

    def job(self, name: str) -> JobRow:
        """By id, run or video."""
        return find_job(self.url, name)

    def set(self, job_id: str, **values: Any) -> None:
        """As if it had come so."""
        with engine_for(self.url).begin() as connection:
            connection.execute(
                sa.update(jobs_table).where(jobs_table.c.job_id == job_id).values(**values)
            )


@contextmanager
def queue_lab(postgres_url: str, monkeypatch: Any) -> Iterator[QueueLab]:
    """One with an empty queue."""
    migrate(postgres_url)
    monkeypatch.setenv("TAILOR_POSTGRES_URL", postgres_url)
    with new_home() as home:
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
        with open_instance(Path(home), postgres_url) as instance:
            instance.upgrade()
            _empty(postgres_url)
            yield QueueLab(postgres_url, instance, Expectations(postgres_url))
            _empty(postgres_url)


def _empty(url: str) -> None:
    with engine_for(url).begin() as connection:
        there = sa.inspect(connection).get_table_names(schema="tailor")
        for table in reversed(metadata.sorted_tables):
            # What is written in it stays there: nobody can delete it, which is its purpose.
            if table.name in there and table.name != "audit_log":
                connection.execute(sa.delete(table))
        connection.execute(sa.text("DELETE FROM runs"))
