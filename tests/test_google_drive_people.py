"""Whose account a Google Drive is, what stays secret, and what is theirs, whatever they name it."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from drive_trees import CLIENT, GoogleTree, email_of, md5
from google_drive_parts import BEN, LARGE, a_file, fault, now, requests_since, results, server_of

from resources.database import engine_for
from resources.drive import DriveUnavailable, UserMustAct
from resources.google_drive.accounts import DriveAccount
from resources.google_drive.addresses import addresses
from resources.google_drive.api import GoogleApi
from resources.google_drive.credentials import service_credentials
from resources.google_drive.drive import GoogleDrive
from resources.google_drive.tree import find_or_make_tree
from tailor_assets.compute.errors import PermanentProblem

# ---------------------------------------------------------------------- other kinds of account


@pytest.mark.parametrize("kind", ["delegation", "shared_drive"])
def test_a_service_account_works_for_a_person_or_in_a_shared_drive(
    google: GoogleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    people, robot = server_of(google).people, f"robot-{kind}@tailor.example"
    key = people.add_service_account(robot, delegates=["lab.example"])
    monkeypatch.setenv("TAILOR_GOOGLE_SERVICE_ACCOUNT", json.dumps(key))
    drive_id = people.add_drive("Lab", {robot: "fileOrganizer"}) if kind == "shared_drive" else None
    subject = BEN if kind == "delegation" else None
    api = GoogleApi(service_credentials(subject, addresses()), pauses_s=())
    tree = find_or_make_tree(api, drive_id)
    google.accounts.connect(
        DriveAccount("lab", kind, subject or robot, "", tree.videos, tree.results, drive_id),  # type: ignore[arg-type]
        None,
        google.box,
    )
    day = people.make_folder(tree.videos, "day 1")
    people.put(day, "v.mp4", "AAAA")
    (folder,) = google.drive.video_folders("lab")
    people.rename(day, "day one")
    (folder,) = google.drive.video_folders("lab")
    assert folder.name == "day one"
    assert google.drive.download("lab", folder.videos[0].id, tmp_path / "c") == md5(b"\0\0\0")
    for content in (b"old", b"new"):
        google.drive.publish("lab", "day 1", "x.csv", a_file(tmp_path / "out", "x", content))
    there = [f for f in people.tree(drive_id or BEN) if f["path"][-1] == "x.csv"]
    assert [f["md5"] for f in there] == [md5(b"new")]
    google.drive.unpublish("lab", "day 1", "x.csv")
    assert google.drive.published("lab", "day 1") == {}
    google.accounts.disconnect("lab")


def test_a_folder_that_was_made_by_hand_is_said_so(google: GoogleTree) -> None:
    people = server_of(google).people
    people.add_person("carl@lab.example")
    people.folder("carl@lab.example", ["tailor"])
    from resources.google_drive.credentials import USER_SCOPES, user_credentials

    token = people.grant("carl@lab.example", CLIENT.id, " ".join(USER_SCOPES))
    api = GoogleApi(user_credentials(token, CLIENT, addresses()), pauses_s=())
    with pytest.raises(PermanentProblem, match="made by hand: rename it"):
        find_or_make_tree(api, None)


# ---------------------------------------------------------------------- secrets


def test_tokens_are_in_no_log_no_error_and_nowhere_in_the_database_in_clear(
    google: GoogleTree, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    said: list[str] = []
    google.upload("ben", "d", "v.mp4", b"1")
    file = google.drive.video_folders("ben")[0].videos[0]
    google.drive.download("ben", file.id, tmp_path / "copy")
    large = a_file(tmp_path / "out", "large", os.urandom(LARGE))
    fault(google, method="upload.put", times=40, cut_request_after=1000)
    with pytest.raises(DriveUnavailable) as problem:
        google.drive.publish("ben", "day 1", "x.npz", large)
    said.append(str(problem.value))
    server = server_of(google)
    secrets = [
        row[0]
        for table, column in (("refresh_tokens", "token"), ("access_tokens", "token"),
                              ("sessions", "id"), ("clients", "secret"))
        for row in server.store.db.execute(f"SELECT {column} FROM {table}")
    ]  # fmt: skip
    assert len(secrets) >= 5
    server.people.revoke(BEN)
    with pytest.raises(UserMustAct) as lost:
        google.another(tmp_path).video_folders("ben")
    said.append(str(lost.value))
    with engine_for(url).begin() as connection:
        for table in sa.inspect(connection).get_table_names("tailor"):
            rows = connection.execute(sa.text(f'SELECT t::text FROM tailor."{table}" t'))
            said.extend(str(row[0]) for row in rows)
        kept = connection.execute(sa.text("SELECT session FROM tailor.drive_uploads")).scalars()
        said.extend(bytes(value).decode("latin-1") for value in kept if value is not None)
    everything = " ".join([*said, caplog.text, *map(str, caplog.records)])
    assert [secret for secret in secrets if secret in everything] == []


def test_google_drive_is_one_per_process(
    google: GoogleTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.configured_drive import ConfiguredDrive

    monkeypatch.setenv("TAILOR_DRIVE", "google")
    monkeypatch.setenv("TAILOR_POSTGRES_URL", google.url)
    first, second = ConfiguredDrive().open(), ConfiguredDrive().open()
    assert first is second
    assert isinstance(first, GoogleDrive)


# ---------------------------------------------------------------------- what is theirs


def test_what_somebody_took_out_of_the_results_is_left_alone_for_ever(
    google: GoogleTree, tmp_path: Path
) -> None:
    people = server_of(google).people
    for content in (b"old", b"new"):
        google.drive.publish("ben", "day 1", "x.csv", a_file(tmp_path / "out", "x", content))
        google.drive.publish(
            "ben", "day 1", "manifest.json", a_file(tmp_path / "out", "m", content)
        )
        folder = people.folder(BEN, ["tailor", "results", "day 1"])
        people.move(folder, people.make_folder(people.folder(BEN, []), content.decode()))
        google.drive.video_folders("ben")
        google.drive.unpublish_all("ben", "day 1", ["manifest.json"])
    kept = {"/".join(f["path"]): f["md5"] for f in people.tree(BEN) if f["md5"]}
    assert kept == {
        "old/day 1/x.csv": md5(b"old"),
        "old/day 1/manifest.json": md5(b"old"),
        "new/day 1/x.csv": md5(b"new"),
        "new/day 1/manifest.json": md5(b"new"),
    }


def test_files_of_peoples_own_among_the_results_stay_and_stop_nothing(
    google: GoogleTree, tmp_path: Path
) -> None:
    people = server_of(google).people
    google.drive.publish("ben", "day 1", "frames/0.jpg", a_file(tmp_path / "out", "x", b"1"))
    frames = people.folder(BEN, ["tailor", "results", "day 1", "frames"])
    people.put(frames, "mine.jpg", "AAAA")
    people.put(people.folder(BEN, ["tailor", "results", "day 1"]), "manifest.json", "AAAA")
    google.drive.unpublish_all("ben", "day 1", ["frames/mine.jpg", "frames/0.jpg", "manifest.json"])
    google.drive.publish("ben", "day 1", "manifest.json", a_file(tmp_path / "out", "x", b"{}"))
    assert sorted(results(google)) == sorted(
        [("day 1/frames/mine.jpg", md5(b"\0\0\0")), ("day 1/manifest.json", md5(b"\0\0\0")),
         ("day 1/manifest.json", md5(b"{}"))]
    )  # fmt: skip
    assert google.drive.published("ben", "day 1")["manifest.json"].md5 == md5(b"{}")
    assert google.drive.tenants() == ["ben"]


def test_one_video_that_google_takes_for_malware_stops_no_other(
    google: GoogleTree, tmp_path: Path
) -> None:
    google.upload("ben", "d", "v.mp4", b"1")
    file = google.drive.video_folders("ben")[0].videos[0]
    fault(google, method="media.get", status=403, reason="cannotDownloadAbusiveFile")
    with pytest.raises(PermanentProblem, match="malware"):
        google.drive.download("ben", file.id, tmp_path / "copy")
    assert google.drive.tenants() == ["ben"]


def test_a_folder_of_videos_that_was_thrown_away_is_waited_for(google: GoogleTree) -> None:
    google.upload("ben", "d", "v.mp4", b"1")
    google.drive.video_folders("ben")
    people, videos = server_of(google).people, google.trees["ben"].videos
    people.trash(videos)
    for _ in range(2):
        with pytest.raises(DriveUnavailable, match="put it back from the trash"):
            google.drive.video_folders("ben")
    people.restore(videos)
    assert [f.name for f in google.drive.video_folders("ben")] == ["d"]


def test_keys_change_while_an_upload_is_under_way(google: GoogleTree, tmp_path: Path) -> None:
    from cryptography.fernet import Fernet

    from resources.google_drive.token_box import TokenBox
    from resources.google_drive.upload_ledger import relock_sessions

    source = a_file(tmp_path / "out", "x", os.urandom(LARGE))
    fault(google, method="upload.put", times=40, cut_request_after=1000)
    with pytest.raises(DriveUnavailable):
        google.drive.publish("ben", "day 1", "x.npz", source)
    server_of(google).faults.clear()
    new = Fernet.generate_key().decode()
    old_key = os.environ["TAILOR_TOKEN_KEYS"]
    both, only_new = TokenBox(f"{new},{old_key}"), TokenBox(new)
    google.accounts.relock(both)
    relock_sessions(google.url, both)
    google.box = only_new
    start = now(google)
    google.another(tmp_path).publish("ben", "day 1", "x.npz", source)
    assert "files.create" not in requests_since(google, start), "the session goes on"
    # A key that is lost costs an upload its session, and a tenant its token, and nobody else.
    lost = TokenBox(Fernet.generate_key().decode())
    assert google.accounts.relock(lost) == 0
    assert google.drive.tenants() == []
    assert "cannot be decrypted" in str(google.accounts.get("ben").problem)


def test_results_folders_that_were_made_by_hand_are_said_so(google: GoogleTree) -> None:
    from resources.google_drive.credentials import USER_SCOPES, user_credentials

    people = server_of(google).people
    people.add_person("dora@lab.example")
    token = people.grant("dora@lab.example", CLIENT.id, " ".join(USER_SCOPES))
    api = GoogleApi(user_credentials(token, CLIENT, addresses()), pauses_s=())
    tree = find_or_make_tree(api, None, own_only=True)
    people.delete(tree.results)
    people.folder("dora@lab.example", ["tailor", "results"])
    with pytest.raises(UserMustAct, match="made by hand: rename it"):
        find_or_make_tree(api, None, own_only=True)


def test_tokens_are_in_no_event_no_metadata_and_no_run_config(
    google: GoogleTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster as dg

    from resources.artifact_store import ArtifactStore
    from resources.google_drive.drive import GoogleDriveResource
    from resources.video_registry import VideoRegistry
    from run_queue.job_ledger import find_job
    from sensors.drive_inbox import accept_wanted, look_at_tenant
    from tailor_assets.compute.simulation.simulate import simulate_video
    from tailor_assets.video import video

    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    clip = tmp_path / "clip.mp4"
    simulate_video(clip, seed=1, duration_s=1, width=160, height=120)
    google.upload("ben", "day 1", "v.mp4", clip.read_bytes())
    registry = VideoRegistry(url=google.url)
    for _ in range(2):
        look_at_tenant(google.drive, registry, "ben", 5.0)
    (key,) = registry.partitions_of("ben")
    row = registry.get(key)
    registry.save([replace(row, admitted_at=datetime.now(UTC))])  # its run has been seen
    store = ArtifactStore(root=str(tmp_path / "artifacts"))
    said = []
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        instance.add_dynamic_partitions("videos", [key])
        # Once well, and once with a token that was withdrawn, which is when errors are written.
        for turn in range(2):
            result = dg.materialize(
                [video],
                partition_key=key,
                instance=instance,
                raise_on_error=False,
                resources={
                    "drive": GoogleDriveResource(postgres_url=google.url),
                    "registry": registry,
                    "store": store,
                },
            )
            assert result.success == (turn == 0)
            run = instance.get_run_by_id(result.run_id)
            said += [str(event) for event in instance.all_logs(result.run_id)]
            said += [str(run), str(run and run.run_config)]
            secrets = [
                str(row[0])
                for table in ("refresh_tokens", "access_tokens")
                for row in server_of(google).store.db.execute(f"SELECT token FROM {table}")
            ] + [CLIENT.secret]  # fmt: skip
            if turn == 0:
                before = secrets
                server_of(google).people.revoke(BEN)
                server_of(google).people.expire_access_tokens()
            else:
                # When the Drive is connected again, the video is made without anybody's asking.
                assert accept_wanted(registry, store, google.drive.tenants()) == []
                google.reconnect("ben")
                assert accept_wanted(registry, store, google.drive.tenants()) == [key]
                assert find_job(google.url, key).assets is None, "the whole of it"
    for path in (tmp_path / "dagster").rglob("*"):
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
    registry.forget("ben")
    everything = " ".join(said)
    assert "recording" in everything or "v.mp4" in everything, "there is something to search"
    assert len(before) >= 3
    assert [secret for secret in before if secret in everything] == []


# ---------------------------------------------------------------------- names

HOSTILE = [
    "../../etc",
    "..",
    "/etc/passwd",
    "new\nline",
    "ä" * 127,  # 254 bytes
    "\u202etxt.4pm",
    "🐭🧀",
    "Day",
    "day",
    "résumé",
    "re\u0301sume\u0301",
    "'; DROP TABLE tailor.videos; --",
    "$(touch hacked) `id`",
    "C:\\con",
    "%2e%2e%2f",
    " ",
]


def test_hostile_names_of_tenants_and_folders_escape_nowhere_and_collide_with_nothing(
    google: GoogleTree, tmp_path: Path
) -> None:
    import re

    from resources.artifact_store import ArtifactStore
    from resources.video_registry import VideoRegistry
    from sensors.drive_inbox import look_at_tenant

    registry, store = VideoRegistry(url=google.url), ArtifactStore(root=str(tmp_path / "artifacts"))
    people, keys = server_of(google).people, []
    for tenant in HOSTILE[:12]:
        google.add_tenant(tenant)
        videos = google.trees[tenant].videos
        for name in [*HOSTILE, "nul\0nul"]:
            people.put(people.make_folder(videos, name), f"{name}.mp4", "AAAA")
        for _ in range(2):
            assert look_at_tenant(google.drive, registry, tenant, 30.0) == []
        rows = sorted(registry.of_tenant(tenant).values(), key=lambda row: row.partition_key)
        # A name that begins with a dot is a hidden folder, as everywhere.
        assert len(rows) == len([name for name in HOSTILE if not name.startswith(".")]) + 1
        assert all(row.state == "admitted" for row in rows)
        assert len({row.results_name for row in rows}) == len(rows)
        for row in rows:
            keys.append(row.partition_key)
            assert re.fullmatch(r"[a-z0-9-]{1,100}", row.partition_key)
            assert store.folder(row.partition_key).parent == store.folder("x").parent
        row = rows[3]
        content = tenant.encode()
        google.drive.publish(
            tenant, row.results_name, "x.csv", a_file(tmp_path / "out", "x", content)
        )
        there = [f for f in people.tree(email_of(tenant)) if f["path"][:2] == ["tailor", "results"]]
        assert [(f["path"][2:], f["md5"]) for f in there if f["md5"]] == [
            ([row.results_name, "x.csv"], md5(content))
        ]
    assert len(set(keys)) == len(keys)
    # Nobody has what another published.
    for tenant in HOSTILE[:12]:
        rows = sorted(registry.of_tenant(tenant).values(), key=lambda row: row.partition_key)
        row = rows[3]
        there = google.drive.published(tenant, row.results_name)
        assert [f.md5 for f in there.values()] == [md5(tenant.encode())]
        registry.forget(tenant)
