"""Starting and ending what `tailor up` runs: nothing is left behind, and trouble is said clearly."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from toy_services import (
    TOY_CODE,
    done,
    drop_toy,
    finished_runs_of,
    free_port,
    new_home,
    processes_of,
    toy_services,
    wait_for,
)

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services import postgres
from tailor_assets.services.postgres import embedded_postgres
from tailor_assets.services.processes import Service, Services
from tailor_assets.services.sockets import socket_folder
from tailor_assets.services.start import running_postgres_url, start_services

pytestmark = pytest.mark.system

SCRIPT = """
import pathlib, sys
sys.path.insert(0, sys.argv[2])
from toy_services import toy_services
import time
with toy_services(pathlib.Path(sys.argv[1])) as services:
    pathlib.Path(sys.argv[1], "ready").touch()
    time.sleep(600)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with new_home() as folder:
        yield folder


def start_in_another_process(home: Path) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parent)
    starter = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(home), tests],
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: (home / "ready").exists() or starter.poll() is not None)
    assert starter.poll() is None
    return starter


def test_the_services_start_work_and_end_and_leave_no_process(home: Path) -> None:
    # Unix sockets cannot have a path this long: the database's and the code server's move aside.
    home = home / ("a folder with a very long name " * 3).strip() / "tailor's home"
    with toy_services(home) as services:
        assert len(str(home)) > 107
        drop_toy(services.home, "toy-1")
        finished_runs_of(services, "toy-1")
        assert [what for what, _ in done(services, "toy-1")][-1] == "scored"
        assert set(services.process_ids()) == {"code server", "daemon", "webserver"}
        with (
            pytest.raises(PermanentProblem, match=r"already runs .*TAILOR_HOME"),
            toy_services(home),
        ):
            raise AssertionError("a second one started on the same home")
        services.check()  # the first is none the worse
        assert running_postgres_url(home) == services.postgres_url
    assert running_postgres_url(home) is None
    assert processes_of(home) == []
    assert not socket_folder(home / "postgres", ".s.PGSQL.5432").exists()
    assert not socket_folder(home / "dagster", "code.sock").exists()


def test_sigterm_ends_everything(home: Path) -> None:
    starter = start_in_another_process(home)
    assert len(processes_of(home)) > 4
    starter.send_signal(signal.SIGTERM)
    starter.wait(timeout=30)
    assert processes_of(home) == []


def test_a_taken_port_is_said_before_anything_starts(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(PermanentProblem, match=rf"port {port} .*--port"),
            start_services(home, port=port, code=TOY_CODE),
        ):
            pass
    assert not (home / "postgres").exists()


def test_a_pipeline_that_does_not_load_is_said_with_the_end_of_its_log(
    tmp_path: Path, home: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_anywhere\n")
    with (
        pytest.raises(PermanentProblem, match="no_such_module_anywhere"),
        start_services(home, port=free_port(), code=("--python-file", str(broken))),
    ):
        pass
    assert processes_of(home) == []


def test_a_number_left_in_the_pid_file_by_a_power_cut_does_not_keep_the_database_from_starting(
    home: Path,
) -> None:
    data, log = home / "postgres", home / "postgres.log"
    with embedded_postgres(data, log):
        pass
    # After a reboot the number belongs to somebody else: here, to this test.
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    with embedded_postgres(data, log) as server:
        assert psutil.Process(server.pid).name() == "postgres"
    assert processes_of(data) == []


@pytest.mark.parametrize("stays_for", [1.0, float("inf")])
def test_what_a_killed_database_server_left_running_does_not_keep_the_next_from_starting(
    home: Path, stays_for: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_ORPHANS_TIMEOUT_SECONDS", 3)
    data, log = home / "postgres", home / "postgres.log"
    with embedded_postgres(data, log) as killed:
        server = psutil.Process(killed.pid)
        orphan = server.children()[0]
        orphan.suspend()  # else it would notice at once that its server is gone
        server.kill()
        waking = threading.Timer(min(stays_for, 60), orphan.resume)
        waking.start()
        with embedded_postgres(data, log) as started:
            assert started.pid != killed.pid
            assert not psutil.pid_exists(orphan.pid) or orphan.status() == psutil.STATUS_ZOMBIE
        waking.cancel()
    assert processes_of(data) == []


@pytest.mark.crash
def test_the_services_end_when_the_process_that_started_them_is_killed(home: Path) -> None:
    starter = start_in_another_process(home)
    starter.kill()
    starter.wait()
    wait_for(lambda: processes_of(home) == [], seconds=20)
    # The lock went with the last of them.
    with toy_services(home) as services:
        services.check()


@pytest.mark.crash
def test_a_killed_service_is_started_again(home: Path) -> None:
    with toy_services(home) as services:
        before = services.process_ids()
        for name, pid in before.items():
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda name=name, pid=pid: services.process_ids()[name] != pid)
        drop_toy(services.home, "toy-after")
        finished_runs_of(services, "toy-after")
        assert [what for what, _ in done(services, "toy-after")][-1] == "scored"
    assert processes_of(home) == []


@pytest.mark.crash
def test_a_service_that_cannot_be_kept_alive_is_said(home: Path) -> None:
    with toy_services(home) as services:
        (home / "dagster" / "workspace.yaml").write_text("this is: [not a workspace\n")
        os.kill(services.process_ids()["daemon"], signal.SIGKILL)

        def given_up() -> bool:
            try:
                services.check()
            except PermanentProblem as problem:
                return "daemon ended 5 times" in str(problem)
            return False

        wait_for(given_up)
    assert processes_of(home) == []


def test_a_log_that_cannot_be_kept_is_emptied_all_the_same_and_services_are_kept_alive(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(source: Path, target: Path) -> None:
        target.write_text("half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tailor_assets.services.processes._MAX_LOG_BYTES", 100)
    monkeypatch.setattr("tailor_assets.services.processes.shutil.copyfile", no_room)
    log = home / "mortal.log"
    program = "print('x' * 300, flush=True); import time; time.sleep(1)"
    with (home / "lock").open("w") as lock:
        services = Services(environment={}, folder=home, logs=home, lock=lock.fileno())
        try:
            services.start(Service("mortal", [sys.executable, "-c", program], log))
            first = services.process_ids()["mortal"]
            services.keep_alive()
            wait_for(lambda: log.exists() and log.stat().st_size == 0)
            wait_for(lambda: services.process_ids()["mortal"] != first)
        finally:
            services.stop(first="mortal")
            services.dismiss_watchdog()
    assert not log.with_suffix(".log.1").exists()


def test_a_log_that_grew_large_is_emptied_and_its_last_part_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailor_assets.services.processes._MAX_LOG_BYTES", 100)
    log = home / "chatter.log"
    program = "import time\nwhile True: print('x' * 60, flush=True); time.sleep(0.2)"
    with (home / "lock").open("w") as lock:
        services = Services(environment={}, folder=home, logs=home, lock=lock.fileno())
        try:
            services.start(Service("chatter", [sys.executable, "-c", program], log))
            services.keep_alive()
            wait_for(log.with_suffix(".log.1").exists)
            wait_for(lambda: 0 < log.stat().st_size < 1000)
        finally:
            services.stop(first="chatter")
            services.dismiss_watchdog()
    assert services.problem is None
