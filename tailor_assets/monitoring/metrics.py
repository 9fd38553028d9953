"""Everything that Prometheus is told, put together at each of its visits.

A visit answers within ``LIMIT_S`` whatever hangs: what could not be told is missing from it,
``tailor_up`` is 0, and ``tailor_scrape_errors_total`` says which part it was.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resources.settings import Settings
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.monitoring import database_metrics, machine_metrics
from tailor_assets.monitoring.bounded_calls import BoundedCalls
from tailor_assets.monitoring.database_look import (
    STATEMENT_LIMIT,
    database_url,
    looking,
    reason,
)

# Prometheus waits 10 s unless it is told otherwise.
LIMIT_S = 6.0
# A database that is slow but answers is not away: what it was asked for in time is told. The last
# question may take a statement's limit longer.
_ASKING_S = LIMIT_S - STATEMENT_LIMIT.total_seconds() - 0.5
_DATABASE = "database"

T = TypeVar("T")


class TailorCollector(Collector):
    """Answers Prometheus. Used by many threads."""

    def __init__(self, settings: Settings, report: Callable[[str], None] = lambda _: None) -> None:
        """``report`` hears a sentence when a part cannot be told, and when it can again."""
        self._settings = settings
        self._report = report
        self._calls = BoundedCalls()
        self._lock = threading.Lock()
        self._errors = dict.fromkeys(
            (_DATABASE, *database_metrics.PARTS, *machine_metrics.PARTS), 0
        )
        self._said: dict[str, str] = {}

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        deadline = time.monotonic() + LIMIT_S
        in_database = self._calls.begin(_DATABASE, self._ask_database)
        here = {
            name: self._calls.begin(name, partial(_all_of, part, self._settings))
            for name, part in machine_metrics.PARTS.items()
        }
        problems: dict[str, str] = {}
        for name, begun in here.items():
            yield from _result(begun, deadline, name, problems) or []
        answer = _result(in_database, deadline, _DATABASE, problems)
        if answer is not None:
            families, failed = answer
            problems |= failed
            yield from families
        self._note(problems)

        up = GaugeMetricFamily("tailor_up", "1 where every part could be told at this visit.")
        up.add_metric((), float(not problems))
        database_up = GaugeMetricFamily("tailor_database_up", "1 where the database answers.")
        database_up.add_metric((), float(_DATABASE not in problems))
        errors = CounterMetricFamily(
            "tailor_scrape_errors",
            "Visits at which a part could not be told, since this process began.",
            labels=("part",),
        )
        with self._lock:
            for name, count in self._errors.items():
                errors.add_metric((name,), count)
        yield from (up, database_up, errors)

    def _ask_database(self) -> tuple[list[Metric], dict[str, str]]:
        """What it says, and the problem of each part that it could not say."""
        url = database_url(self._settings)
        if url is None:
            raise PermanentProblem("no database runs here")
        families: list[Metric] = []
        problems: dict[str, str] = {}
        until = time.monotonic() + _ASKING_S
        with looking(url) as connection:
            for name, part in database_metrics.PARTS.items():
                if time.monotonic() > until:
                    problems[name] = "the database is too slow"
                    continue
                try:
                    families.extend(part(connection))
                except sa.exc.DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    problems[name] = reason(error)
        return families, problems

    def _note(self, problems: dict[str, str]) -> None:
        with self._lock:
            for name in problems:
                self._errors[name] += 1
            before, self._said = self._said, dict(problems)
        for name in problems.keys() - before.keys():
            self._report(f"{name} cannot be told: {problems[name]}")
        for name in before.keys() - problems.keys():
            self._report(f"{name} can be told again")


def _all_of(part: Callable[[Settings], Iterator[Metric]], settings: Settings) -> list[Metric]:
    return list(part(settings))


def _result(begun: "Future[T]", deadline: float, name: str, problems: dict[str, str]) -> T | None:
    """The call's result; None, with the problem noted, where it failed or takes too long."""
    try:
        return begun.result(max(0.0, deadline - time.monotonic()))
    except TooLate:
        problems[name] = f"no answer within {LIMIT_S:.0f} s"
    except sa.exc.SQLAlchemyError as error:
        problems[name] = reason(error)
    except Exception as error:  # whatever it is, the other parts are told
        problems[name] = f"{type(error).__name__}: {error}"
    return None
