"""Everything that `tailor up` runs, as one context manager."""

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import yaml

from resources.audit.deployment import record_start
from resources.database import migrate, with_driver
from resources.settings import PROJECT_ROOT, log_format
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services.hang_watch import DaemonPulse, HangWatch, Question
from tailor_assets.services.health import (
    Health,
    code_server_answers,
    database_answers,
    open_instance,
)
from tailor_assets.services.postgres import embedded_postgres, running_url
from tailor_assets.services.processes import Service, Services
from tailor_assets.services.sockets import (
    make_socket_folder,
    remove_socket_folder,
    socket_folder,
)

if TYPE_CHECKING:
    from dagster import DagsterInstance

CODE_SERVER = "code server"
DAEMON = "daemon"
WEBSERVER = "webserver"
MONITORING = "monitoring"

TAILOR_CODE = ("--module-name", "tailor_assets.definitions")

_START_TIMEOUT_SECONDS = 180.0
_CODE_SERVER_THREADS = 32
_CODE_SOCKET = "code.sock"


@dataclass(frozen=True)
class RunningServices:
    """What ``start_services`` has started."""

    home: Path
    postgres_url: str
    dagster_home: Path
    """Folder of dagster.yaml and workspace.yaml; with ``environment``, stock dagster commands work
    beside the services."""
    environment: Mapping[str, str]
    """Environment of the children: TAILOR_HOME, TAILOR_POSTGRES_URL, DAGSTER_HOME and the rest."""
    web_url: str
    instance: "DagsterInstance"
    """Dagster's instance for this process, of the same database."""
    process_ids: Callable[[], dict[str, int]]
    """Process number of each service by name, at the moment of the call."""
    check: Callable[[], None]
    """Raises PermanentProblem once a service cannot be kept alive."""


@contextmanager
def start_services(
    home: Path,
    *,
    postgres_url: str | None = None,
    port: int = 3000,
    host: str = "127.0.0.1",
    gpus: int = 1,
    metrics_port: int = 0,
    code: Sequence[str] = TAILOR_CODE,
    environment: Mapping[str, str] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[RunningServices]:
    """Start PostgreSQL, code server, daemon and webserver; end them all when the block ends.

    ``home`` holds the database, the logs and Dagster's folder, and is locked. ``postgres_url``: use
    this server instead of one of our own. ``gpus``: places in the pool ``gpu``. ``metrics_port``: of
    the monitoring service, on the same host; 0: none. ``code``: options of ``dagster api grpc`` that
    name the definitions. ``environment``: additions for the children.
    ``report`` gets a few words at each stage. SIGTERM ends the block as Ctrl-C does
    (KeyboardInterrupt), where the caller is the main thread.

    Raises PermanentProblem, one sentence first: already running, port taken, a child that died.
    """
    home = home.expanduser().resolve()
    logs, dagster_home = home / "logs", home / "dagster"
    for folder in (home, logs, dagster_home):
        folder.mkdir(parents=True, exist_ok=True)
    web_url = f"http://{host}:{port}"
    with ExitStack() as stack:
        signals = _Signals()
        stack.enter_context(signals.handled())
        lock = stack.enter_context(_only_one(home, web_url))
        _require_free_port(host, port, "web page", "--port")
        if metrics_port:
            _require_free_port(host, metrics_port, "metrics page", "--metrics-port")
        sockets = socket_folder(dagster_home, _CODE_SOCKET)
        make_socket_folder(sockets)
        stack.callback(remove_socket_folder, sockets, dagster_home)
        grpc_socket = sockets / _CODE_SOCKET
        stack.callback(grpc_socket.unlink, missing_ok=True)
        _write_dagster_home(dagster_home, grpc_socket, gpus)

        children_environment = {
            **os.environ,
            **(environment or {}),
            "TAILOR_HOME": str(home),
            "DAGSTER_HOME": str(dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "PYTHONUNBUFFERED": "1",  # a log is read while the program runs
            # Else each of a service's many threads keeps freed memory of its own (glibc's default is
            # eight arenas a core), and a service grows for days.
            "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
            # A fixed limit: otherwise it rises with the largest block ever freed, and what is freed
            # stays with the process. The code server kept 23 MB more in twenty minutes by that.
            "MALLOC_TRIM_THRESHOLD_": os.environ.get("MALLOC_TRIM_THRESHOLD_", "131072"),
        }

        report("starting the database")
        embedded = None
        if not postgres_url:
            embedded = stack.enter_context(
                embedded_postgres(home / "postgres", logs / "postgres.log")
            )
            postgres_url = embedded.url
        postgres_url = with_driver(postgres_url)
        children_environment["TAILOR_POSTGRES_URL"] = postgres_url

        services = Services(
            environment=children_environment, folder=dagster_home, logs=logs, lock=lock
        )
        stack.callback(services.dismiss_watchdog)
        services.watch_workers(home / "locks")
        if embedded:
            services.keep_postgres(embedded.pid, embedded.start_again)
        has_database = partial(database_answers, postgres_url)
        services.wait_for_database(has_database)
        # The daemon first, so that nothing new begins while the rest is ended.
        stack.callback(services.stop, first=DAEMON)
        stack.callback(setattr, signals, "ending", True)

        # The slowest to start, and the only one that needs no tables to do so.
        from run_queue.gpu_pool import set_gpus
        from run_queue.pauses import pauses

        report("loading the pipeline")
        services.start(_code_server(code, grpc_socket, logs))
        migrate(postgres_url)
        record_start(postgres_url, dagster_home / "dagster.yaml")
        instance = stack.enter_context(open_instance(dagster_home, postgres_url))
        health = Health(instance, web_url)
        health.create_dagster_tables()
        # A pause for heat outlives a restart: its guard gives the places when the GPU is cool.
        set_gpus(instance, gpus, paused="heat" in pauses(postgres_url))
        started_at = time.time()
        _wait("code server", lambda: grpc_socket.exists(), services)
        report("starting the daemon and the web page")
        workspace = ["--workspace", str(dagster_home / "workspace.yaml")]
        services.start(
            Service(
                DAEMON,
                # At its usual level it writes two lines for each look of each sensor, 10 MB a day.
                _python(
                    "dagster._daemon", "run", "--log-level", "warning", *_log_options(), *workspace
                ),
                logs / "daemon.log",
            )
        )
        services.start(
            Service(
                WEBSERVER,
                _python(
                    "dagster_webserver",
                    "--host",
                    host,
                    "--port",
                    str(port),
                    *_log_options(),
                    *workspace,
                ),
                logs / "webserver.log",
            )
        )
        if metrics_port:
            services.start(
                Service(
                    MONITORING,
                    _python(
                        "tailor_assets.monitoring", "--host", host, "--port", str(metrics_port)
                    ),
                    logs / "monitoring.log",
                    is_vital=False,
                )
            )
        _wait("webserver", health.webserver_answers, services)
        health.require_loaded_code(logs / "code_server.log")
        _wait("daemon", lambda: health.daemon_is_alive(since=started_at), services)
        services.keep_alive()
        watch = HangWatch(
            services,
            [
                # A sensor may keep each of its threads for a minute.
                Question(CODE_SERVER, partial(code_server_answers, grpc_socket), 180),
                Question(WEBSERVER, health.webserver_answers, 120),
                # They write a heartbeat every half minute, between two looks; some looks take one.
                Question(DAEMON, DaemonPulse(health.daemon_beats).goes_on, 300),
            ],
            has_database,
            tell=partial(_tell_of_hang, postgres_url),
        )
        watch.start()
        stack.callback(watch.stop)
        yield RunningServices(
            home=home,
            postgres_url=postgres_url,
            dagster_home=dagster_home,
            environment=children_environment,
            web_url=web_url,
            instance=instance,
            process_ids=services.process_ids,
            check=services.check,
        )


def _tell_of_hang(url: str, sentence: str) -> None:
    import sqlalchemy as sa

    from resources.audit.log import record
    from resources.notifications.outbox import alert

    # It is in services.log already.
    with suppress(sa.exc.SQLAlchemyError):
        alert(
            url, key=f"hang:{time.time_ns()}", subject="A service of tailor's hung", text=sentence
        )
        record(url, actor="tailor up", action="service.killed", subject="services",
               details={"what": sentence})  # fmt: skip


def running_postgres_url(home: Path) -> str | None:
    """URL of the database that ``start_services`` runs on this home folder; None when it does not.

    For commands beside it. Where it uses somebody else's PostgreSQL, that one's URL is in the
    environment.
    """
    return running_url(home.expanduser().resolve() / "postgres")


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _log_options() -> list[str]:
    """How Dagster's services write their logs."""
    return ["--log-format", log_format()]


def _code_server(code: Sequence[str], grpc_socket: Path, logs: Path) -> Service:
    return Service(
        CODE_SERVER,
        # One, shared: left to themselves, daemon and webserver would each start one of their own.
        _python(
            "dagster",
            "api",
            "grpc",
            "--socket",
            str(grpc_socket),
            # Sensors that wait for a Drive must not keep runs from being launched; the default is few.
            "--max-workers",
            str(_CODE_SERVER_THREADS),
            *_log_options(),
            *code,
        ),
        logs / "code_server.log",
        # A killed server leaves its socket, and the next one cannot bind to it.
        before_start=lambda: grpc_socket.unlink(missing_ok=True),
    )


class _Signals:
    """SIGTERM and SIGINT raise KeyboardInterrupt once; from ``ending`` on they do nothing.

    The ending itself must not be cut short by an impatient second Ctrl-C.
    """

    def __init__(self) -> None:
        self.ending = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle them in this block, where the caller is the main thread; Python allows no other."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if not self.ending:
            self.ending = True
            raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def _only_one(home: Path, web_url: str) -> Iterator[int]:
    """Hold the lock on the home folder; its descriptor."""
    with (home / "tailor.lock").open("a+") as file:
        try:
            # The kernel lets go of it when the last holder dies, however it dies.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise PermanentProblem(
                f"tailor already runs on {home} ({holder}); stop that one first, or set "
                "TAILOR_HOME to another folder."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, {web_url}")
        file.flush()
        yield file.fileno()


def _require_free_port(host: str, port: int, what: str, option: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the webserver will: a port whose last connections are closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PermanentProblem(
                f"The {what} cannot use port {port} on {host} ({error.strerror}); "
                f"choose another with {option}."
            ) from None


def _write_dagster_home(folder: Path, grpc_socket: Path, gpus: int) -> None:
    text = (PROJECT_ROOT / "dagster.yaml").read_text()
    if gpus != 1:
        settings = yaml.safe_load(text)
        for limit in settings["run_coordinator"]["config"]["tag_concurrency_limits"]:
            if (limit["key"], limit["value"]) == ("tailor/queue", "gpu"):
                limit["limit"] += gpus - 1
        settings["run_coordinator"]["config"]["max_concurrent_runs"] += gpus - 1
        text = yaml.safe_dump(settings, sort_keys=False)
    workspace = {
        "load_from": [{"grpc_server": {"socket": str(grpc_socket), "location_name": "tailor"}}]
    }
    for name, content in {
        "dagster.yaml": text,
        "workspace.yaml": yaml.safe_dump(workspace),
    }.items():
        temporary = folder / f".{name}.new"
        temporary.write_text(content)
        os.replace(temporary, folder / name)


def _wait(name: str, ready: Callable[[], bool], services: Services) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while not ready():
        services.check()
        if time.monotonic() > deadline:
            raise PermanentProblem(
                f"The {name} was not ready after {_START_TIMEOUT_SECONDS:.0f} s; its log is in "
                "the folder logs of TAILOR_HOME."
            )
        time.sleep(0.1)
