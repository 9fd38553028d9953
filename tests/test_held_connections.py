"""Dagster's storages with connections that are kept, on a real PostgreSQL."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from queue_lab import QueueLab, queue_lab

from resources.database import engine_for
from run_queue.executor import leased_executor
from run_queue.held_connections import hold_connections
from run_queue.launcher import WORKER_HOST_TAG
from run_queue.machine import host_name


@pytest.fixture
def lab(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueLab]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab
        for storage in storages(lab):
            storage._engine.dispose()


def storages(lab: QueueLab) -> list[Any]:
    instance = lab.instance
    return [instance.run_storage, instance.event_log_storage, instance.schedule_storage]


def ask(instance: dg.DagsterInstance) -> None:
    """A question to each of the three storages."""
    instance.get_runs(limit=1)
    instance.event_log_storage.get_dynamic_partitions("videos")
    instance.all_instigator_state()


def opened(url: str) -> int:
    """How many connections this database has been asked for so far."""
    query = sa.text("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
    with engine_for(url).begin() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
        return connection.execute(query).scalar_one()


def test_no_connection_is_opened_for_what_is_asked_again(lab: QueueLab) -> None:
    ask(lab.instance)
    before = opened(lab.url)
    ask(lab.instance)
    assert opened(lab.url) > before, (
        "Dagster opens one for each question, which is what this is about"
    )
    hold_connections(lab.instance)
    ask(lab.instance)
    before = opened(lab.url)
    for _ in range(20):
        ask(lab.instance)
    assert opened(lab.url) == before


def test_a_database_that_was_started_anew_is_met_as_before(lab: QueueLab) -> None:
    hold_connections(lab.instance)
    ask(lab.instance)
    end = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with engine_for(lab.url).begin() as connection:
        assert connection.execute(end).scalar_one() >= 3
    ask(lab.instance)


@dg.op
def three_questions(context: dg.OpExecutionContext) -> int:
    """How many connections were opened for questions that have been asked before."""
    storage: Any = context.instance.run_storage
    ask(context.instance)
    before = opened(storage.postgres_url)
    for _ in range(3):
        ask(context.instance)
    return opened(storage.postgres_url) - before


@dg.job(executor_def=leased_executor)
def questions() -> None:
    """Of one step."""
    three_questions()


@pytest.mark.parametrize("launched", [True, False], ids=["a worker's own", "somebody else's"])
def test_a_worker_keeps_the_connections_of_the_instance_that_is_its_own(
    lab: QueueLab, launched: bool
) -> None:
    tags = {WORKER_HOST_TAG: host_name()} if launched else {}
    with dg.execute_job(dg.reconstructable(questions), lab.instance, tags=tags) as result:
        assert result.success
        opened_again = result.output_for_node("three_questions")
    # The heartbeat may have opened one meanwhile.
    assert opened_again <= 1 if launched else opened_again >= 9
