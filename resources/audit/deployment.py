"""The deployment journal: with what tailor was started, in the audit log."""

import getpass
import platform
import socket
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from resources.audit.chain import audit_log_table, canonical_json
from resources.audit.head_file import database_of
from resources.audit.log import record
from resources.database import engine_for
from resources.settings import PROJECT_ROOT, load_settings
from tailor_assets.version import TAILOR_VERSION

_DEPLOYED = "deployment.started"
_STARTED = "services.started"
# By name, so that a setting that is added and is a secret stays out.
_SETTINGS = (
    "home", "drive", "drive_root", "artifacts", "models_folder", "sam2_python", "templates_file",
    "segmenter",
)  # fmt: skip


def record_start(url: str, dagster_yaml: Path = PROJECT_ROOT / "dagster.yaml") -> None:
    """Record that the services start on this host, as ``deployment.started`` where anything is not as
    at the last one of this host, else as ``services.started``.

    ``dagster_yaml``: the instance settings in effect. The details are versions, commit and settings;
    no secrets, and of the database's address neither user nor password.
    """
    host = socket.gethostname()
    now = _deployment(url, dagster_yaml)
    as_before = _last_of(url, host) == canonical_json(now)
    record(
        url,
        actor=_user(),
        action=_STARTED if as_before else _DEPLOYED,
        subject=host,
        details={} if as_before else now,
    )


def _deployment(url: str, dagster_yaml: Path) -> dict[str, Any]:
    settings = load_settings()
    return {
        "tailor": TAILOR_VERSION,
        "commit": git_commit(PROJECT_ROOT),
        "python": platform.python_version(),
        "dagster": version("dagster"),
        "system": platform.platform(),
        "dagster_yaml_sha256": _sha256(dagster_yaml),
        "database": database_of(url),
        "settings": {name: str(getattr(settings, name)) for name in _SETTINGS},
    }


def git_commit(root: Path) -> str | None:
    """The commit that is checked out, read from git's files; None where there are none.

    Without starting git, which may be missing, and on a slow file system may take its time.
    """
    git = root / ".git"
    try:
        if git.is_file():  # a work tree of a repository elsewhere
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        branch = head.removeprefix("ref: ")
        common = git / "commondir"
        shared = git / common.read_text().strip() if common.is_file() else git
        if (shared / branch).is_file():
            return (shared / branch).read_text().strip()
        for line in (shared / "packed-refs").read_text().splitlines():
            commit, _, name = line.partition(" ")
            if name == branch:
                return commit
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _sha256(file: Path) -> str | None:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _last_of(url: str, host: str) -> str | None:
    if url.startswith("sqlite:"):
        return None
    log = audit_log_table.c
    query = (
        sa.select(log.details)
        .where(log.action == _DEPLOYED, log.subject == host)
        .order_by(log.seq.desc())
        .limit(1)
    )
    with engine_for(url).connect() as connection:
        return connection.execute(query).scalar()
