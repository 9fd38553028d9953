"""Is tailor well? One look at each thing that it needs, each with a limit of time.

For ``tailor health`` and for ``/health``. Whether the services that ``tailor up`` has just started
are ready is another question: tailor_assets/services/health.py.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as TooLate
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import sqlalchemy as sa

from resources.database import schema_versions
from resources.drive import DriveUnavailable
from resources.settings import Settings
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.monitoring.bounded_calls import BoundedCalls
from tailor_assets.monitoring.database_look import (
    HEARTBEAT_AGES,
    database_url,
    looking,
    reason,
)
from tailor_assets.monitoring.machine_metrics import disk_usage, places
from tailor_assets.monitoring.running_here import (
    problem_of_code_server,
    problem_of_web_page,
    web_url_here,
)

# All looks are made at once, so this is also the whole's; who asks wants an answer within 10 s.
LIMIT_S = 8.0
DAEMON_SILENT_AFTER_S = 60.0
_DISK_SHARES = (0.10, 0.02)
_MEMORY_SHARES = (0.10, 0.03)
_GPU_LIMIT_S = 3.0

State = Literal["ok", "warning", "problem"]
_ORDER: tuple[State, ...] = ("ok", "warning", "problem")


@dataclass(frozen=True)
class CheckResult:
    """What one look found; ``sentence`` is for people, and says what to do where something is."""

    name: str
    state: State
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def worst(results: Sequence[CheckResult]) -> State:
    """The worst state among the results."""
    return max((result.state for result in results), key=_ORDER.index, default="ok")


class HealthChecks:
    """The looks, and those of them that still hang. Used by many threads."""

    def __init__(self, settings: Settings, *, limit_s: float = LIMIT_S) -> None:
        """No look takes longer than ``limit_s`` seconds; one that does is a problem."""
        self._settings = settings
        self._limit_s = limit_s
        self._calls = BoundedCalls()

    def run(self) -> list[CheckResult]:
        """Look at everything, at the same time."""
        deadline = time.monotonic() + self._limit_s
        begun = {
            name: self._calls.begin(name, partial(look, self._settings))
            for name, look in CHECKS.items()
        }
        results = []
        for name, call in begun.items():
            try:
                state, sentence = call.result(max(0.0, deadline - time.monotonic()))
            except TooLate:
                state, sentence = "problem", f"No answer within {self._limit_s:.0f} s."
            except Exception as error:  # a look that breaks says so; the others are told
                state, sentence = "problem", f"Cannot be looked at: {type(error).__name__}: {error}"
            results.append(CheckResult(name, state, sentence))
        return results


_Found = tuple[State, str]


def _database(settings: Settings) -> _Found:
    url = database_url(settings)
    if url is None:
        return "problem", "tailor is not up here: start it with `tailor up`."
    try:
        with looking(url) as connection:
            version = connection.execute(sa.text("SHOW server_version")).scalar_one()
            try:
                here = connection.execute(
                    sa.text("SELECT version_num FROM tailor.alembic_version")
                ).scalar()
            except sa.exc.ProgrammingError:
                here = None
    except sa.exc.SQLAlchemyError as error:
        return "problem", (
            f"The database does not answer ({reason(error)}): check that it runs and that "
            "TAILOR_POSTGRES_URL names it."
        )
    except PermanentProblem as problem:
        return "problem", str(problem)
    known = schema_versions()
    if here is not None and here not in known:
        return "problem", (
            f"The tables are of a newer tailor (version {here}; this one's are {known[0]}): use that "
            "one, or restore the database of before."
        )
    if here != known[0]:
        return "problem", (
            f"The tables are of version {here or 'none'} and this tailor's are {known[0]}: start "
            "`tailor up` of this version, which brings them up to date."
        )
    return "ok", f"PostgreSQL {version.split()[0]} answers, and the tables are up to date."


def _in_database(look: Callable[[sa.Connection], _Found]) -> Callable[[Settings], _Found]:
    """The look ``database`` says what is wrong with it; the others then know nothing."""

    def found(settings: Settings) -> _Found:
        url = database_url(settings)
        if url is None:
            return "warning", "Not known: no database runs here."
        try:
            with looking(url) as connection:
                return look(connection)
        except (sa.exc.SQLAlchemyError, PermanentProblem):
            return "warning", "Not known: the database does not say."

    return found


def _daemons(connection: sa.Connection) -> _Found:
    ages = {row.daemon: float(row.age) for row in connection.execute(HEARTBEAT_AGES)}
    if not ages:
        return "problem", "No daemon has ever run on this database: start tailor with `tailor up`."
    silent = {name: age for name, age in ages.items() if age > DAEMON_SILENT_AFTER_S}
    if silent:
        longest = max(silent.values())
        return "problem", (
            f"{len(silent)} of {len(ages)} daemons are silent for up to {_duration(longest)} "
            f"({', '.join(sorted(silent))}): nothing new starts. See daemon.log, and whether "
            "`tailor up` runs."
        )
    return "ok", f"All {len(ages)} daemons live."


def _queue(connection: sa.Connection) -> _Found:
    paused = connection.execute(
        sa.text("SELECT what, who, why FROM tailor.queue_pauses ORDER BY what")
    ).all()
    if paused:
        return "warning", " ".join(
            f"Paused ({row.what}, by {row.who}): {row.why.rstrip('.')}." for row in paused
        )
    waiting = connection.execute(
        sa.text("SELECT count(*) FROM tailor.jobs WHERE state IN ('pending', 'queued', 'retrying')")
    ).scalar_one()
    return "ok", f"Not paused; jobs that wait: {waiting:,}."


def _drive(settings: Settings) -> _Found:
    if settings.drive == "google":
        return _google_drive(settings)
    try:
        tenants = sum(1 for entry in settings.drive_root.iterdir() if entry.is_dir())
    except OSError as error:
        return "problem", (
            f"The Drive's folder {settings.drive_root} cannot be listed ({error.strerror}): check "
            "TAILOR_DRIVE_ROOT, and that the disk it is on is there."
        )
    return "ok", f"{settings.drive_root} can be listed; tenants: {tenants}."


def _google_drive(settings: Settings) -> _Found:
    from resources.google_drive.accounts import DriveAccounts
    from resources.google_drive.drive import GoogleDriveResource

    url = database_url(settings)
    if url is None:
        return "warning", "Not known: no database runs here."
    try:
        accounts = DriveAccounts(url).all()
        if not accounts:
            return "warning", "No Drive is connected, so Google was not asked: `tailor connect`."
        connected = [account.tenant for account in accounts if account.state == "connected"]
        if connected:
            # The cheapest question that needs Google, the network and a token that holds.
            GoogleDriveResource(postgres_url=url).open().has_room(connected[0], 0)
    except sa.exc.SQLAlchemyError:
        return "warning", "Not known: the database does not say."
    except (DriveUnavailable, PermanentProblem) as error:
        return "problem", str(error)
    paused = len(accounts) - len(connected)
    if paused:
        return "warning", (
            f"{paused} of {len(accounts)} tenants' Drives are paused: `tailor drives` says why."
        )
    return "ok", f"Google answers; {len(connected)} tenants' Drives are connected."


def _gpu(_settings: Settings) -> _Found:
    from resources.gpu_readings import read_gpus
    from run_queue.heat import describe, judge

    state = read_gpus(time_limit_s=_GPU_LIMIT_S)
    verdict = judge(state, paused=False)
    if verdict.cause == "fine":
        return "ok", describe(state)
    return ("warning" if verdict.cause == "unreadable" else "problem"), verdict.why


_WITHOUT_ROOM = {
    "home": "retention will not keep up",
    "artifacts": "retention will not keep up",
    "drive": "no results can be put there",
}


def _disk(settings: Settings) -> _Found:
    found: list[_Found] = []
    for place, folder in places(settings).items():
        try:
            free, size = disk_usage(folder)
        except OSError as error:
            found.append(("problem", f"The disk of {folder} does not answer ({error.strerror})."))
            continue
        state = _by_share(free / size, _DISK_SHARES)
        remedy = "" if state == "ok" else f": make room, or {_WITHOUT_ROOM[place]}"
        found.append((state, f"{place}: {free / 1e9:.1f} GB free of {size / 1e9:.1f} GB{remedy}."))
    return max((state for state, _ in found), key=_ORDER.index), " ".join(
        sentence for _, sentence in found
    )


def _memory(_settings: Settings) -> _Found:
    import psutil

    memory = psutil.virtual_memory()
    state = _by_share(memory.available / memory.total, _MEMORY_SHARES)
    remedy = "" if state == "ok" else ": end what else runs here, or give the machine more"
    return state, (
        f"{memory.available / 1e9:.1f} GB available of {memory.total / 1e9:.1f} GB{remedy}."
    )


_NOT_HERE = "`tailor up` does not run on this machine, so there is none to look at."


def _code_server(settings: Settings) -> _Found:
    if web_url_here(settings.home) is None:
        return "ok", _NOT_HERE
    problem = problem_of_code_server(settings.home)
    if problem is not None:
        return "problem", f"{problem} Nothing starts meanwhile: see code_server.log."
    return "ok", "It answers."


def _web_page(settings: Settings) -> _Found:
    url = web_url_here(settings.home)
    if url is None:
        return "ok", _NOT_HERE
    try:
        problem = problem_of_web_page(url)
    except (OSError, ValueError, KeyError) as error:
        return "problem", f"{url} does not answer ({error}): see webserver.log."
    return (
        ("ok", f"{url} answers, and the pipeline is loaded.")
        if problem is None
        else (
            "problem",
            f"{problem.rstrip('.')}. See code_server.log.",
        )
    )


def _by_share(share: float, limits: tuple[float, float]) -> State:
    warning, problem = limits
    return "problem" if share < problem else "warning" if share < warning else "ok"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


# In the order in which people read them.
CHECKS: Mapping[str, Callable[[Settings], _Found]] = {
    "database": _database,
    "daemons": _in_database(_daemons),
    "queue": _in_database(_queue),
    "code": _code_server,
    "web page": _web_page,
    "drive": _drive,
    "gpu": _gpu,
    "disk": _disk,
    "memory": _memory,
}
