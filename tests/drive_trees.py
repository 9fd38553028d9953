"""Drives with people in them: what each does is done as people do it, not by way of tailor."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from google_drive_server.server import DriveServer

from resources.drive import Drive
from resources.google_drive.accounts import DriveAccount, DriveAccounts
from resources.google_drive.addresses import addresses
from resources.google_drive.api import PAUSES_S, GoogleApi
from resources.google_drive.credentials import USER_SCOPES, OAuthClient, user_credentials
from resources.google_drive.drive import GoogleDrive
from resources.google_drive.folders import FOLDER_TYPE
from resources.google_drive.token_box import TokenBox
from resources.google_drive.tree import Tree, find_or_make_tree
from resources.local_drive import LocalDriveFolder

CREDENTIALS = "TAILOR_TEST_DRIVE_CREDENTIALS"
CLIENT = OAuthClient("tailor-app", "the app's secret")
# With which people work on the test server: what they make is not tailor's.
THEIR_CLIENT = OAuthClient("somebodys-app", "its secret")
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
QUICK = (0.01, 0.01, 0.02, 0.05, 0.1)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class DriveTree(Protocol):
    """A Drive, and what people do with the files in it."""

    drive: Drive

    def add_tenant(self, tenant: str) -> None:
        """Somebody whose Drive is empty."""

    def upload(self, tenant: str, folder: str, name: str, content: bytes) -> None:
        """Put a file into a video's folder, or a new content into the file that is there."""

    def remove(self, tenant: str, folder: str, name: str) -> None:
        """Take a file away."""

    def put_result(self, tenant: str, name: str, relative: str, content: bytes) -> None:
        """Put a file of one's own among the results."""

    def break_listing(self, tenant: str) -> None:
        """Have the Drive answer no more."""


class LocalTree:
    """Puts files into a ``LocalDriveFolder`` as people do: with a file manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.drive: Drive = LocalDriveFolder(root)

    def add_tenant(self, tenant: str) -> None:
        (self.root / tenant / "tailor" / "videos").mkdir(parents=True, exist_ok=True)

    def upload(self, tenant: str, folder: str, name: str, content: bytes) -> None:
        path = self.root / tenant / "tailor" / "videos" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)

    def remove(self, tenant: str, folder: str, name: str) -> None:
        (self.root / tenant / "tailor" / "videos" / folder / name).unlink()

    def put_result(self, tenant: str, name: str, relative: str, content: bytes) -> None:
        path = self.root / tenant / "tailor" / "results" / name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def break_listing(self, tenant: str) -> None:
        """As a share that has gone away: the name is there, listing it fails."""
        videos = self.root / tenant / "tailor" / "videos"
        videos.rename(videos.with_name("gone"))
        videos.write_bytes(b"")


class Person:
    """Somebody who works in their own Drive, by the API, with all rights and without tailor."""

    def __init__(self, api: GoogleApi) -> None:
        self._api = api
        self._known: dict[tuple[str, str], str] = {}

    def folder(self, parent: str, path: list[str]) -> str:
        """Id of a folder, made where it is not there."""
        for name in path:
            parent = self._child(parent, name) or self._create(parent, name, FOLDER_TYPE)
        return parent

    def put(self, parent: str, name: str, content: bytes) -> str:
        """Have a file of this name and content in a folder."""
        from googleapiclient.http import MediaInMemoryUpload

        media = MediaInMemoryUpload(content, mimetype="application/octet-stream")
        there = self._child(parent, name)
        if there is None:
            there = self._create(parent, name, "application/octet-stream", media_body=media)
        else:
            self._api.call("files.update", fileId=there, media_body=media, fields="id")
        return there

    def trash(self, file_id: str) -> None:
        """Throw it away."""
        self._api.call("files.update", fileId=file_id, body={"trashed": True}, fields="id")
        self._known = {k: v for k, v in self._known.items() if v != file_id}

    def id_of(self, parent: str, name: str) -> str:
        """Id of a file that is there."""
        found = self._child(parent, name)
        assert found is not None, f"{name} is not there"
        return found

    def _child(self, parent: str, name: str) -> str | None:
        if (parent, name) not in self._known:
            quoted = name.replace("\\", "\\\\").replace("'", "\\'")
            found = self._api.call(
                "files.list",
                q=f"'{parent}' in parents and name = '{quoted}' and trashed = false",
                fields="files(id)",
            )["files"]
            if not found:
                return None
            self._known[parent, name] = found[0]["id"]
        return self._known[parent, name]

    def _create(self, parent: str, name: str, mime: str, **content: Any) -> str:
        made = self._api.call(
            "files.create",
            body={"name": name, "mimeType": mime, "parents": [parent]},
            fields="id",
            **content,
        )
        self._known[parent, name] = made["id"]
        return str(made["id"])


class GoogleTree:
    """Tenants with a ``GoogleDrive``: people of the test server, or folders of a real account."""

    def __init__(self, url: str, folder: Path, server: DriveServer | None) -> None:
        """``url`` is the database's. Without a server: the real account of the environment."""
        self.url, self.server = url, server
        self.box = TokenBox(KEY)
        self.accounts = DriveAccounts(url)
        self.pauses_s = PAUSES_S if server is None else QUICK
        self.drive: Drive = self.another(folder)
        self.trees: dict[str, Tree] = {}
        self._people: dict[str, Person] = {}
        self._made: list[str] = []

    @property
    def client(self) -> OAuthClient:
        """The app: the test server's, or the real account's."""
        if self.server is not None:
            return CLIENT
        found = json.loads(Path(os.environ[CREDENTIALS]).read_text())
        return OAuthClient(found["client_id"], found["client_secret"])

    @property
    def environment(self) -> dict[str, str]:
        """What tailor has to have in its environment."""
        client = {"client_id": self.client.id, "client_secret": self.client.secret}
        found = {"TAILOR_GOOGLE_CLIENT": json.dumps(client), "TAILOR_TOKEN_KEYS": KEY}
        if self.server is not None:
            found["TAILOR_GOOGLE_ADDRESS"] = self.server.address
        return found

    def another(self, folder: Path) -> GoogleDrive:
        """As another process has it."""
        return GoogleDrive(self.url, folder / "incoming", box=self.box, pauses_s=self.pauses_s)

    def connect(self, tenant: str) -> None:
        """What ``tailor connect`` does after the consent."""
        app, person = self._tokens(tenant)
        client = self.client
        api = GoogleApi(user_credentials(app, client, addresses()), pauses_s=self.pauses_s)
        within = "root"
        if self.server is None:
            made = api.call(
                "files.create",
                body={"name": f"tailor test {uuid.uuid4()}", "mimeType": FOLDER_TYPE},
                fields="id",
            )
            within = made["id"]
            self._made.append(within)
        tree = find_or_make_tree(api, None, within)
        about = DriveAccount(
            tenant=tenant,
            kind="user",
            subject=email_of(tenant),
            scopes=" ".join(USER_SCOPES),
            videos_folder_id=tree.videos,
            results_folder_id=tree.results,
        )
        self.accounts.connect(about, app, self.box)
        self.trees[tenant] = tree
        their_client = client if self.server is None else THEIR_CLIENT
        theirs = GoogleApi(
            user_credentials(person, their_client, addresses()), pauses_s=self.pauses_s
        )
        self._people[tenant] = Person(theirs)

    def reconnect(self, tenant: str) -> None:
        """They give tailor access again."""
        assert self.server is not None
        token = self.server.people.grant(email_of(tenant), CLIENT.id, " ".join(USER_SCOPES))
        account = replace(self.accounts.get(tenant), state="connected", problem=None)
        self.accounts.connect(account, token, self.box)

    def disconnect_all(self) -> None:
        """Forget the tenants; a real account's folders go."""
        for tenant in self.trees:
            self.accounts.disconnect(tenant)
        for person, folder in zip(self._people.values(), self._made, strict=False):
            person.trash(folder)

    def person(self, tenant: str) -> Person:
        """The tenant's owner; connected when they are first needed."""
        if tenant not in self.trees:
            self.connect(tenant)
        return self._people[tenant]

    def add_tenant(self, tenant: str) -> None:
        self.person(tenant)

    def upload(self, tenant: str, folder: str, name: str, content: bytes) -> None:
        person = self.person(tenant)
        person.put(person.folder(self.trees[tenant].videos, [folder]), name, content)

    def remove(self, tenant: str, folder: str, name: str) -> None:
        person = self.person(tenant)
        within = person.folder(self.trees[tenant].videos, [folder])
        person.trash(person.id_of(within, name))

    def put_result(self, tenant: str, name: str, relative: str, content: bytes) -> None:
        person = self.person(tenant)
        *above, last = relative.split("/")
        person.put(person.folder(self.trees[tenant].results, [name, *above]), last, content)

    def break_listing(self, tenant: str) -> None:
        """Every answer about this tenant's changes is an error of the server's."""
        if self.server is None:
            pytest.skip("a real Drive does not break on request")
        self.server.do(
            "fault",
            {"method": "changes.*", "person": email_of(tenant), "times": 1000, "status": 503},
        )

    def _tokens(self, tenant: str) -> tuple[str, str]:
        """A token as people give it to tailor, and one for all that they can do themselves."""
        if self.server is None:
            found = json.loads(Path(os.environ[CREDENTIALS]).read_text())
            return found["app_refresh_token"], found["person_refresh_token"]
        people, email = self.server.people, email_of(tenant)
        for client in (CLIENT, THEIR_CLIENT):
            people.add_client(client.id, client.secret)
        people.add_person(email)
        return (
            people.grant(email, CLIENT.id, " ".join(USER_SCOPES)),
            people.grant(email, THEIR_CLIENT.id, "https://www.googleapis.com/auth/drive"),
        )


@contextmanager
def google_tree(url: str, folder: Path, **options: Any) -> Iterator[GoogleTree]:
    """A tree on a test server of its own, with what tailor needs in the environment."""
    with (
        DriveServer(folder / "server", **options).running() as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        tree = GoogleTree(url, folder, server)
        for name, value in tree.environment.items():
            patch.setenv(name, value)
        yield tree
        tree.disconnect_all()


def email_of(tenant: str) -> str:
    """A tenant's address on the test server."""
    return f"{tenant.encode().hex()}@lab.example"
