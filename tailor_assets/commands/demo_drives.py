"""Where a demonstration's videos are put, and where their results appear: a folder, or a Google Drive.

The Google Drive is the test server of ``tests/``, which speaks the real protocol, so that all of it
can be seen without an account.
"""

import base64
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.settings import PROJECT_ROOT, Settings
from tailor_assets.compute.errors import PermanentProblem

TENANTS = ("demo-lab-a", "demo-lab-b")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Dropped:
    """A video that was put into a tenant's Drive, in a folder called ``name``."""

    tenant: str
    name: str


class DemoDrive(ABC):
    """A Drive with people in it."""

    environment: Mapping[str, str]
    """What the services need."""

    @abstractmethod
    def connect(self, postgres_url: str) -> None:
        """Let tailor see it, once the database is there."""

    @abstractmethod
    def drop(self, video: Path, sidecar: str, tenant: str, stem: str) -> Dropped:
        """Put a video and its tailor.json there, under a name not used yet."""

    @abstractmethod
    def is_done(self, dropped: Dropped) -> bool:
        """Whether its results are complete."""

    @abstractmethod
    def where(self, dropped: Dropped) -> str:
        """Where a person finds the results."""


class DemoFolder(DemoDrive):
    """The folder that stands for everybody's Drive."""

    def __init__(self, settings: Settings) -> None:
        """``settings`` name the folder."""
        self._root = settings.drive_root
        self.environment = {"TAILOR_DRIVE": "local"}

    def connect(self, postgres_url: str) -> None:
        """A folder needs no access."""

    def drop(self, video: Path, sidecar: str, tenant: str, stem: str) -> Dropped:
        """As a file manager does it: the name appears when the file is whole."""
        videos = self._root / tenant / "tailor" / "videos"
        name = _unused(stem, lambda candidate: (videos / candidate).exists())
        folder = videos / name
        folder.mkdir(parents=True)
        shutil.copyfile(video, folder / f"{video.name}.part")
        (folder / "tailor.json").write_text(sidecar)
        (folder / f"{video.name}.part").rename(folder / video.name)
        return Dropped(tenant, name)

    def is_done(self, dropped: Dropped) -> bool:
        """The manifest comes last."""
        return (self._results(dropped) / MANIFEST).exists()

    def where(self, dropped: Dropped) -> str:
        """The results folder."""
        return str(self._results(dropped))

    def _results(self, dropped: Dropped) -> Path:
        return self._root / dropped.tenant / "tailor" / "results" / dropped.name


class DemoGoogle(DemoDrive):
    """Google Drives of two people on the test server."""

    def __init__(self, server: Any) -> None:
        """``server`` is a ``ServerProcess``."""
        from cryptography.fernet import Fernet

        self._server, self._people = server, server.people
        self._people.add_client(client="tailor-demo", secret="no secret")
        for tenant in TENANTS:
            self._people.add_person(email=_email(tenant))
        self.environment = {
            "TAILOR_DRIVE": "google",
            "TAILOR_GOOGLE_ADDRESS": server.address,
            "TAILOR_GOOGLE_CLIENT": '{"client_id": "tailor-demo", "client_secret": "no secret"}',
            "TAILOR_TOKEN_KEYS": Fernet.generate_key().decode(),
        }

    def connect(self, postgres_url: str) -> None:
        """As ``tailor connect`` does, with somebody who allows what is asked for."""
        import threading
        import urllib.request

        from tailor_assets.commands.connect import connect

        os.environ.update(self.environment)
        for tenant in TENANTS:
            self._people.consent(email=_email(tenant))
            connect(
                tenant,
                url=postgres_url,
                show=lambda address: threading.Thread(
                    target=urllib.request.urlopen, args=(address,)
                ).start(),
            )

    def drop(self, video: Path, sidecar: str, tenant: str, stem: str) -> Dropped:
        """As a person does it in the Drive's own pages."""
        there = {file["path"][-1] for file in self._people.tree(corpus=_email(tenant))}
        name = _unused(stem, there.__contains__)
        folder = self._people.folder(corpus=_email(tenant), path=["tailor", "videos", name])
        content = base64.b64encode(sidecar.encode()).decode()
        self._people.put(parent=folder, name="tailor.json", content=content)
        self._people.put_local(parent=folder, name=video.name, path=str(video))
        return Dropped(tenant, name)

    def is_done(self, dropped: Dropped) -> bool:
        """The manifest comes last."""
        return self._id(["tailor", "results", dropped.name, MANIFEST], dropped.tenant) is not None

    def where(self, dropped: Dropped) -> str:
        """The results folder's page."""
        folder = self._id(["tailor", "results", dropped.name], dropped.tenant)
        return f"{self._server.address}/drive/folders/{folder}"

    def _id(self, path: list[str], tenant: str) -> str | None:
        tree = self._people.tree(corpus=_email(tenant))
        return next((file["id"] for file in tree if file["path"] == path), None)


@contextmanager
def demo_drive(kind: str, settings: Settings) -> Iterator[DemoDrive]:
    """The Drive of a demonstration: ``local`` or ``google-test``.

    Raises PermanentProblem where the test server is not there.
    """
    if kind == "local":
        yield DemoFolder(settings)
        return
    tests = PROJECT_ROOT / "tests"
    if not (tests / "google_drive_server").is_dir():
        raise PermanentProblem(
            "The server that stands for Google's is not installed: it is in the project's tests/ "
            "folder. Clone the project, or leave --drive out."
        )
    sys.path.insert(0, str(tests))
    from google_drive_server.remote import ServerProcess

    server = ServerProcess(settings.home / "google_drive_server")
    try:
        yield DemoGoogle(server)
    finally:
        server.stop()


def _email(tenant: str) -> str:
    return f"{tenant}@example.org"


def _unused(stem: str, is_used: Callable[[str], bool]) -> str:
    number, name = 1, stem
    while is_used(name):
        number += 1
        name = f"{stem} again {number}"
    return name
