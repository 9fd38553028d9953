"""`tailor connect` and `tailor disconnect`, as people run them, against the test server."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
import sqlalchemy as sa
from cryptography.fernet import Fernet
from drive_trees import CLIENT, google_tree
from google_drive_server.oauth import Consent
from google_drive_server.server import DriveServer

from resources.artifact_store import ArtifactStore
from resources.database import engine_for
from resources.google_drive.accounts import DriveAccounts, accounts_table
from resources.publications import claim_publication
from resources.settings import load_settings
from resources.video_registry import VideoRegistry, VideoRow
from tailor_assets.commands.forget_tenant import forget_tenant
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos

EMAIL = "ben@lab.example"


@pytest.fixture
def server(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveServer]:
    with google_tree(url, tmp_path) as tree:
        assert tree.server is not None
        tree.server.people.add_person(EMAIL)
        tree.server.people.add_client(CLIENT.id, CLIENT.secret)
        monkeypatch.setenv("TAILOR_POSTGRES_URL", url)
        monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("TAILOR_TOKEN_KEYS", Fernet.generate_key().decode())
        yield tree.server
    with engine_for(url).begin() as connection:
        connection.execute(sa.delete(accounts_table))


def tailor(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tailor_assets.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "500"},
    )


def connect_and_consent(tenant: str) -> tuple[int, str]:
    """Run the command, open the address that it prints, and return its exit status and words."""
    process = tailor("connect", tenant, "--no-browser")
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("http"):
            threading.Thread(target=requests.get, args=(line.strip(),)).start()
    return process.wait(timeout=60), "".join(said)


def test_connecting_takes_a_consent_in_the_browser_and_makes_the_folders(
    server: DriveServer, url: str
) -> None:
    server.oauth.consent = Consent(EMAIL)
    status, said = connect_and_consent("ben")
    assert status == 0, said
    assert f"connected to the Drive of {EMAIL}" in said
    assert [f["path"] for f in server.people.tree(EMAIL)] == [
        ["tailor"],
        ["tailor", "results"],
        ["tailor", "videos"],
    ]
    account = DriveAccounts(url).get("ben")
    assert (account.kind, account.subject, account.state) == ("user", EMAIL, "connected")
    token = server.store.db.execute("SELECT token FROM refresh_tokens").fetchone()["token"]
    assert token not in said

    listed = tailor("drives").communicate(timeout=60)[0]
    assert listed.startswith(f"ben\t{EMAIL}\tuser\t")
    again, _ = connect_and_consent("ben")
    assert again == 0
    assert len(server.people.tree(EMAIL)) == 3, "connecting again makes nothing twice"

    process = tailor("disconnect", "ben")
    assert "not watched any more" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert DriveAccounts(url).all() == []
    left = server.store.db.execute("SELECT count(*) FROM refresh_tokens").fetchone()[0]
    assert left == 1, (
        "the token that was replaced is the person's to withdraw; the last one is gone"
    )


@pytest.mark.parametrize(
    ("consent", "sentence"),
    [
        ({"allow": False}, "gave no access .*access_denied"),
        (
            {"leave_out": ("https://www.googleapis.com/auth/drive.readonly",)},
            r"Not everything was allowed .*drive\.readonly.*tick every box",
        ),
    ],
)
def test_a_consent_that_is_not_enough_connects_nothing_and_says_what_to_do(
    server: DriveServer, url: str, consent: dict[str, Any], sentence: str
) -> None:
    server.oauth.consent = Consent(EMAIL, **consent)
    status, said = connect_and_consent("ben")
    assert status != 0
    assert re.search(sentence, said), said
    assert "Traceback" not in said
    assert DriveAccounts(url).all() == []
    assert server.people.tree(EMAIL) == []


@pytest.mark.parametrize("tenant", ["", " ", "two\nlines", "x" * 201, "a\0b"])
def test_what_is_no_tenants_name_is_not_connected(server: DriveServer, tenant: str) -> None:
    from tailor_assets.commands.connect import connect

    with pytest.raises(PermanentProblem, match="not a tenant's name"):
        connect(tenant, show=print)


def test_disconnecting_with_its_data_leaves_nothing_of_the_tenant_and_all_of_the_others(
    server: DriveServer, url: str, tmp_path: Path
) -> None:
    registry, store = VideoRegistry(url=url), ArtifactStore(root=str(tmp_path / "artifacts"))
    keys = {"ben": "ben--day--0a1b2c3d", "anna": "anna--day--0a1b2c3d"}

    @dg.asset(partitions_def=videos)
    def features() -> None:
        """Stands for any."""

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("videos", list(keys.values()))
        for tenant, key in keys.items():
            registry.save([VideoRow(key, tenant, f"folder {tenant}", "day", "day", "admitted",
                                    file_id=f"file {tenant}")])  # fmt: skip
            registry.set_publishes_frames(tenant, False)
            claim_publication(url, key, "results", run_id="r", created_at=1.0)
            with store.making(key, "features") as draft:
                draft.path("features.csv").write_text("x")
                draft.commit(version="1", made_from={}, details={}, run_id="r")
            dg.materialize(
                [features], partition_key=key, instance=instance, tags={"tailor/tenant": tenant}
            )
        labels = [
            tmp_path / place / f"{keys[tenant]}.{ending}"
            for tenant in keys
            for place, ending in (("labels", "csv"), ("review_labels/activity/run", "tsv"))
        ]
        for path in labels:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("behavior\tstart_s\tstop_s\n")
        settings = replace(load_settings(), home=tmp_path)
        assert forget_tenant("ben", instance, registry, store, settings) == 1
        assert [path.name[:3] for path in labels if path.exists()] == ["ann", "ann"]
        assert instance.get_dynamic_partitions("videos") == [keys["anna"]]
        (run,) = instance.get_runs()
        assert run.tags["tailor/tenant"] == "anna"
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [keys["anna"]]
    with engine_for(url).begin() as connection:
        for table in sa.inspect(connection).get_table_names("tailor"):
            rows = connection.execute(sa.text(f'SELECT t::text FROM tailor."{table}" t')).scalars()
            found = [row for row in rows if "ben" in row]
            if table == "audit_log":
                # Who was watched and forgotten stays there, by name and without an address.
                found = [row for row in found if "@" in row]
            assert not found, table
    registry.forget("anna")


def test_data_is_not_deleted_under_a_run_that_is_not_finished(
    server: DriveServer, url: str, tmp_path: Path
) -> None:
    registry = VideoRegistry(url=url)
    registry.save([VideoRow("ben--x--0a1b2c3d", "ben", "folder", "x", "x", "admitted")])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_run(
            dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED, tags={"tailor/tenant": "ben"})
        )
        with pytest.raises(PermanentProblem, match="1 runs of ben are not finished"):
            forget_tenant("ben", instance, registry, ArtifactStore(), load_settings())
    assert registry.partitions_of("ben") == ["ben--x--0a1b2c3d"]
    registry.forget("ben")


def test_the_client_is_asked_for_by_name_where_it_is_not_given(
    server: DriveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAILOR_GOOGLE_CLIENT")
    said = tailor("connect", "ben").communicate(timeout=60)[0]
    assert "TAILOR_GOOGLE_CLIENT is not set" in said
    assert json.dumps(CLIENT.secret) not in said
