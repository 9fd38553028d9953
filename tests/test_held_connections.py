"""Dagster's storages with connections that are kept, on a real PostgreSQL."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from queue_lab import QueueLab, queue_lab

from resources.database import engine_for
from run_queue.held_connections import hold_connections


@pytest.fixture
def lab(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueLab]:
    with queue_lab(postgres_url, monkeypatch) as lab:
        yield lab
        for storage in storages(lab):
            storage._engine.dispose()


def storages(lab: QueueLab) -> list[Any]:
    instance = lab.instance
    return [instance.run_storage, instance.event_log_storage, instance.schedule_storage]


def ask(lab: QueueLab) -> None:
    """A question to each of the three storages."""
    lab.instance.get_runs(limit=1)
    lab.instance.event_log_storage.get_dynamic_partitions("videos")
    lab.instance.all_instigator_state()


def opened(lab: QueueLab) -> int:
    """How many connections this database has been asked for so far."""
    query = sa.text("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
    with engine_for(lab.url).begin() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
        return connection.execute(query).scalar_one()


def test_no_connection_is_opened_for_what_is_asked_again(lab: QueueLab) -> None:
    ask(lab)
    before = opened(lab)
    ask(lab)
    assert opened(lab) > before, "Dagster opens one for each question, which is what this is about"
    hold_connections(lab.instance)
    ask(lab)
    before = opened(lab)
    for _ in range(20):
        ask(lab)
    assert opened(lab) == before


def test_a_database_that_was_started_anew_is_met_as_before(lab: QueueLab) -> None:
    hold_connections(lab.instance)
    ask(lab)
    end = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with engine_for(lab.url).begin() as connection:
        assert connection.execute(end).scalar_one() >= 3
    ask(lab)
