"""Whose Drive a tenant's is, and that nobody reads its token out of the database."""

import base64
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from google_drive_server.server import DriveServer

from resources.database import engine_for
from resources.google_drive.accounts import DriveAccount, DriveAccounts, accounts_table
from resources.google_drive.addresses import GOOGLE, addresses
from resources.google_drive.credentials import (
    credentials_of,
    oauth_client,
    service_account_address,
)
from resources.google_drive.token_box import TokenBox, token_box
from tailor_assets.compute.errors import PermanentProblem

TOKEN = "1//a-refresh-token-nobody-may-see"


@pytest.fixture
def accounts(url: str) -> Iterator[DriveAccounts]:
    yield DriveAccounts(url)
    with engine_for(url).begin() as connection:
        connection.execute(sa.delete(accounts_table))


def account(tenant: str, **other: object) -> DriveAccount:
    about = {
        "kind": "user",
        "subject": f"{tenant}@lab.example",
        "scopes": "drive.file",
        "videos_folder_id": "V",
        "results_folder_id": "R",
    }
    return DriveAccount(tenant=tenant, **{**about, **other})  # type: ignore[arg-type]


def test_a_token_lies_in_the_database_encrypted_and_comes_back_for_its_tenant_alone(
    accounts: DriveAccounts, url: str
) -> None:
    box = TokenBox(Fernet.generate_key().decode())
    accounts.connect(account("ben"), TOKEN, box)
    accounts.connect(account("anna"), "another", box)
    with engine_for(url).begin() as connection:
        rows = connection.execute(sa.select(accounts_table)).all()
        text = connection.execute(sa.text("SELECT d::text FROM tailor.drive_accounts d")).scalars()
        assert TOKEN not in " ".join(text)
    assert len(rows) == 2
    assert not any(TOKEN.encode() in bytes(row.secret) for row in rows)
    assert accounts.refresh_token("ben", box) == TOKEN
    assert accounts.refresh_token("anna", box) == "another"
    ben = accounts.get("ben")
    assert ben == account("ben", connected_at=ben.connected_at)
    assert ben.connected_at is not None


def test_a_key_is_changed_while_tokens_are_stored(accounts: DriveAccounts) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    accounts.connect(account("ben"), TOKEN, TokenBox(old))
    accounts.connect(account("shared", kind="shared_drive", drive_id="D"), None, TokenBox(old))
    both = TokenBox(f"{new}, {old}")
    assert accounts.refresh_token("ben", both) == TOKEN
    assert accounts.relock(both) == 1
    assert accounts.refresh_token("ben", TokenBox(new)) == TOKEN
    with pytest.raises(PermanentProblem):
        accounts.refresh_token("ben", TokenBox(old))


def test_a_key_that_was_lost_pauses_those_whose_token_it_held_and_nobody_else(
    accounts: DriveAccounts,
) -> None:
    kept, lost = (TokenBox(Fernet.generate_key().decode()) for _ in range(2))
    accounts.connect(account("ben"), TOKEN, lost)
    accounts.connect(account("anna"), TOKEN, kept)
    assert accounts.relock(kept) == 1
    assert accounts.get("anna").state == "connected"
    assert accounts.get("ben").state == "paused"
    assert "cannot be decrypted" in str(accounts.get("ben").problem)
    assert TOKEN not in str(accounts.get("ben").problem)


def test_a_paused_tenant_rests_until_it_is_connected_again(accounts: DriveAccounts) -> None:
    box = TokenBox(Fernet.generate_key().decode())
    accounts.connect(account("ben"), TOKEN, box)
    accounts.connect(account("anna"), TOKEN, box)
    assert accounts.pause("ben", "withdrawn") is True
    assert accounts.pause("ben", "said again") is False, "one message, not one per tick"
    assert (accounts.get("ben").state, accounts.get("ben").problem) == ("paused", "withdrawn")
    assert accounts.get("anna").state == "connected"
    accounts.connect(account("ben"), "a new one", box)
    assert accounts.get("ben").state == "connected"
    assert accounts.refresh_token("ben", box) == "a new one"
    assert accounts.disconnect("ben") is True
    assert accounts.disconnect("ben") is False
    with pytest.raises(PermanentProblem, match="tailor connect"):
        accounts.get("ben")


@pytest.mark.parametrize("keys", ["", "  ,", "not a key", "c2hvcnQ="])
def test_without_a_key_nothing_is_stored_and_the_sentence_says_how_to_make_one(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_TOKEN_KEYS", keys)
    with pytest.raises(PermanentProblem, match="tailor token-key") as problem:
        token_box()
    assert not keys.strip() or keys not in str(problem.value)


def test_credentials_need_what_their_kind_needs(
    accounts: DriveAccounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = TokenBox(Fernet.generate_key().decode())
    monkeypatch.delenv("TAILOR_GOOGLE_CLIENT", raising=False)
    monkeypatch.delenv("TAILOR_GOOGLE_SERVICE_ACCOUNT", raising=False)
    accounts.connect(account("ben"), TOKEN, box)
    with pytest.raises(PermanentProblem, match="TAILOR_GOOGLE_CLIENT is not set"):
        credentials_of(accounts.get("ben"), accounts, box, GOOGLE)
    file = tmp_path / "client.json"
    file.write_text(json.dumps({"installed": {"client_id": "id", "client_secret": "s3cret"}}))
    monkeypatch.setenv("TAILOR_GOOGLE_CLIENT", str(file))
    assert oauth_client().id == "id"
    credentials = credentials_of(accounts.get("ben"), accounts, box, GOOGLE)
    assert credentials.refresh_token == TOKEN
    with pytest.raises(PermanentProblem, match="TAILOR_GOOGLE_SERVICE_ACCOUNT is not set"):
        service_account_address()
    monkeypatch.setenv("TAILOR_GOOGLE_SERVICE_ACCOUNT", '{"client_email": "x@y.example"}')
    assert service_account_address() == "x@y.example"
    with pytest.raises(PermanentProblem, match="no service account's key"):
        credentials_of(account("d", kind="delegation"), accounts, box, GOOGLE)


@pytest.mark.parametrize("value", ["/nowhere/client.json", "[1]", "{", "{}"])
def test_a_client_that_is_none_is_named_and_not_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_GOOGLE_CLIENT", value)
    with pytest.raises(PermanentProblem, match="TAILOR_GOOGLE_CLIENT"):
        oauth_client()


@pytest.mark.parametrize("address", ["http://drive.example", "ftp://localhost", "drive.example"])
def test_tokens_are_sent_to_nobody_over_a_network_in_clear(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_GOOGLE_ADDRESS", address)
    with pytest.raises(PermanentProblem, match="https"):
        addresses()


def test_without_an_address_it_is_google_and_on_this_machine_it_may_be_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.delenv("TAILOR_GOOGLE_ADDRESS", raising=False)
    assert addresses() is GOOGLE
    monkeypatch.setenv("TAILOR_GOOGLE_ADDRESS", "http://127.0.0.1:8123/")
    assert addresses().token == "http://127.0.0.1:8123/token"
    assert TOKEN not in caplog.text


class _Secrets(BaseHTTPRequestHandler):
    """Secret Manager's ``versions.access``, for whoever has a token of this world."""

    kept: ClassVar[dict[str, str]] = {}
    tokens: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self.tokens.append(self.headers.get("Authorization", ""))
        name = self.path.removeprefix("/v1/").removesuffix(":access")
        found = self.kept.get(name)
        body = b'{"error": {"code": 404}}'
        if found is not None:
            data = base64.b64encode(found.encode()).decode()
            body = json.dumps({"name": name, "payload": {"data": data}}).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_keys_and_clients_may_lie_in_secret_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Fernet.generate_key().decode()
    _Secrets.kept = {
        "projects/lab/secrets/keys/versions/latest": f"{key}\n",
        "projects/lab/secrets/client/versions/3": json.dumps(
            {"installed": {"client_id": "a", "client_secret": "b"}}
        ),
    }
    secrets = ThreadingHTTPServer(("127.0.0.1", 0), _Secrets)
    threading.Thread(target=secrets.serve_forever, daemon=True).start()
    with DriveServer(tmp_path / "server").running() as server:
        about = server.people.add_service_account("robot@lab.example")
        about["token_uri"] = f"{server.address}/token"
        (tmp_path / "robot.json").write_text(json.dumps(about))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "robot.json"))
        monkeypatch.setenv(
            "TAILOR_SECRET_MANAGER_ADDRESS", f"http://127.0.0.1:{secrets.server_port}/v1"
        )
        monkeypatch.setenv(
            "TAILOR_TOKEN_KEYS", "gcp-secret://projects/lab/secrets/keys/versions/latest"
        )
        monkeypatch.setenv(
            "TAILOR_GOOGLE_CLIENT", "gcp-secret://projects/lab/secrets/client/versions/3"
        )
        assert TokenBox(key).open(token_box().lock("x")) == "x"
        assert (oauth_client().id, oauth_client().secret) == ("a", "b")
        assert all(token.startswith("Bearer ya29.") for token in _Secrets.tokens)
        for wrong, sentence in (
            (
                "gcp-secret://projects/lab/secrets/none/versions/latest",
                "cannot be read .*check that",
            ),
            ("gcp-secret://keys", "names no secret: write it as"),
        ):
            monkeypatch.setenv("TAILOR_TOKEN_KEYS", wrong)
            with pytest.raises(PermanentProblem, match=sentence) as problem:
                token_box()
            assert key not in str(problem.value)
        monkeypatch.setenv("TAILOR_SECRET_MANAGER_ADDRESS", "http://elsewhere.example/v1")
        with pytest.raises(PermanentProblem, match="give an https:// address"):
            oauth_client()
    secrets.shutdown()
    secrets.server_close()
