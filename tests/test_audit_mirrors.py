"""Mirrors of the audit log get every record once, later if they were away, and hold up nobody."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from google_audit_server import GoogleAuditServer, google_audit_server, write_key_file
from test_audit import as_superuser, write

from resources.audit.log import newest_records, record
from resources.audit.mirror_cursors import audit_mirrors_table, catch_up, mirror_states
from resources.audit.mirrors import (
    AuditMirror,
    BigQueryMirror,
    CloudLoggingMirror,
    configured_mirrors,
)
from resources.database import engine_for, migrate
from resources.video_registry import VideoRegistry
from sensors.audit_mirrors import audit_mirrors
from tailor_assets.compute.errors import PermanentProblem

DATASET = "/bigquery/v2/projects/lab/datasets/tailor"
TABLE = f"{DATASET}/tables/audit"
LOG = "projects/lab/logs/tailor-audit"


@pytest.fixture
def url(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database whose log is empty and has no mirrors."""
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path))
    migrate(postgres_url)
    yield postgres_url
    as_superuser(postgres_url, "TRUNCATE tailor.audit_log")
    with engine_for(postgres_url).begin() as connection:
        connection.execute(sa.delete(audit_mirrors_table))


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleAuditServer]:
    """Google, as far as mirrors need it; the dataset is there, the table is not."""
    with google_audit_server() as server:
        server.datasets.add(DATASET)
        write_key_file(tmp_path / "key.json", server)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.address)
        # google-auth asks Google beside the way where a service account may be used from; a test
        # asks nobody.
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        yield server


@pytest.fixture(params=["bigquery", "logging"])
def mirror(request: pytest.FixtureRequest, google: GoogleAuditServer) -> AuditMirror:
    """Each kind; BigQuery's table is there."""
    if request.param == "logging":
        return CloudLoggingMirror(LOG, address=google.address)
    google.do(
        f"{DATASET}/tables",
        {
            "tableReference": {"tableId": "audit"},
            "schema": {
                "fields": [
                    {"name": name}
                    for name in (
                        "seq", "at", "actor", "action", "subject", "details", "previous", "hash",
                    )
                ]
            },
        },
    )  # fmt: skip
    return BigQueryMirror("lab.tailor.audit")


def arrived(google: GoogleAuditServer) -> list[int]:
    """Numbers of the records that the mirror has, as often as it has them."""
    rows = [row for table in google.tables.values() for row in table.values()]
    rows += [entry["jsonPayload"] for entry in google.entries.values()]
    return sorted(int(row["seq"]) for row in rows)


def test_a_mirror_gets_every_record_and_later_only_the_new_ones(
    url: str, google: GoogleAuditServer, mirror: AuditMirror
) -> None:
    write(url, 250)
    state = catch_up(url, mirror)
    assert (state.seq, state.behind, state.problem) == (250, 0, None)
    assert google.requests == 3
    write(url, 2)
    assert mirror_states(url)[0].behind == 2
    catch_up(url, mirror)
    catch_up(url, mirror)
    assert google.requests == 4
    assert arrived(google) == list(range(1, 253))


def test_what_arrives_is_the_record(
    url: str, google: GoogleAuditServer, mirror: AuditMirror
) -> None:
    record(url, actor="änn 🐭", action="a.b", subject="x\ny", details={"n": 1})
    catch_up(url, mirror)
    (one,) = newest_records(url, 1)
    rows = [row for table in google.tables.values() for row in table.values()]
    for (log, at, identity), entry in google.entries.items():
        assert (log, at, entry["resource"]) == (LOG, one.at, {"type": "global"})
        assert identity == f"{1:019d}-{one.hash[:16]}"
        rows.append(entry["jsonPayload"])
    assert [{**row, "seq": int(row["seq"])} for row in rows] == [one.__dict__]


@pytest.mark.parametrize("fault", ["503", "403", "lost"])
def test_a_mirror_that_fails_is_noted_loses_nothing_and_doubles_nothing(
    url: str, google: GoogleAuditServer, mirror: AuditMirror, fault: str
) -> None:
    write(url, 120)
    google.faults += ["", fault]
    state = catch_up(url, mirror)
    assert (state.seq, state.behind) == (100, 20)
    assert state.problem is not None
    assert "cannot be used" in state.problem or "answered" in state.problem
    record(url, actor="ann", action="a.b", subject="goes on")
    state = catch_up(url, mirror)
    assert (state.seq, state.behind, state.problem) == (121, 0, None)
    assert arrived(google) == list(range(1, 122))


def test_a_mirror_that_has_got_the_records_and_whose_cursor_is_lost_gets_them_again_as_the_same(
    url: str, google: GoogleAuditServer, mirror: AuditMirror
) -> None:
    write(url, 5)
    catch_up(url, mirror)
    with engine_for(url).begin() as connection:  # killed between sending and noting
        connection.execute(sa.update(audit_mirrors_table).values(seq=2))
    catch_up(url, mirror)
    assert google.requests == 2
    assert arrived(google) == [1, 2, 3, 4, 5]


def test_nothing_listens_and_no_credentials_are_sentences(
    url: str, google: GoogleAuditServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(url, 1)
    state = catch_up(url, CloudLoggingMirror(LOG, address="http://127.0.0.1:9"))
    assert state.problem is not None
    assert state.problem.startswith("Cloud Logging cannot be used: ")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    for mirror in (BigQueryMirror("lab.tailor.audit"), CloudLoggingMirror(LOG)):
        state = catch_up(url, mirror)
        assert state.problem is not None
        assert "nothing.json was not found" in state.problem
        assert (state.seq, state.behind) == (0, 1)


def test_a_table_that_is_not_there_is_made_and_filled_at_the_next_look(
    url: str, google: GoogleAuditServer
) -> None:
    write(url, 3)
    mirror = BigQueryMirror("lab.tailor.audit")
    state = catch_up(url, mirror)
    assert state.problem is not None
    assert "has been made" in state.problem
    assert {column["name"]: column["type"] for column in google.schemas[TABLE]} == {
        "seq": "INT64",
        "at": "TIMESTAMP",
        **dict.fromkeys(("actor", "action", "subject", "details", "previous", "hash"), "STRING"),
    }
    assert catch_up(url, mirror).problem is None
    assert arrived(google) == [1, 2, 3]


def test_a_dataset_that_is_not_there_and_a_table_of_other_columns_are_sentences(
    url: str, google: GoogleAuditServer
) -> None:
    write(url, 1)
    state = catch_up(url, BigQueryMirror("lab.nowhere.audit"))
    assert state.problem is not None
    assert "Not found: Dataset" in state.problem
    google.tables[TABLE] = {}
    google.schemas[TABLE] = [{"name": "other", "type": "STRING"}]
    state = catch_up(url, BigQueryMirror("lab.tailor.audit"))
    assert state.problem is not None
    assert "BigQuery refused 1 record(s)" in state.problem
    assert "no such field" in state.problem


def test_a_record_that_is_too_long_for_a_mirror_is_shortened_there(
    url: str, google: GoogleAuditServer, mirror: AuditMirror
) -> None:
    record(url, actor="ann", action="a.b", subject="s" * 5_000, details={"x": "🐭" * 1_000_000})
    assert catch_up(url, mirror).problem is None
    rows = [row for table in google.tables.values() for row in table.values()]
    rows += [entry["jsonPayload"] for entry in google.entries.values()]
    (row,) = rows
    assert row["details"].endswith("(shortened; whole in tailor.audit_log)")
    assert len(json.dumps(rows)) < 256_000


def test_that_the_log_has_lost_what_a_mirror_has_is_said(
    url: str, google: GoogleAuditServer, mirror: AuditMirror
) -> None:
    write(url, 5)
    catch_up(url, mirror)
    as_superuser(url, "DELETE FROM tailor.audit_log WHERE seq > 3")
    state = catch_up(url, mirror)
    assert state.problem is not None
    assert "has got record 5, but the log ends at 3" in state.problem


def tick(url: str) -> str:
    context = dg.build_sensor_context(resources={"registry": VideoRegistry(url=url)})
    answer = audit_mirrors(context)
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


def test_the_sensor_does_nothing_without_mirrors_and_says_how_far_they_are(
    url: str, google: GoogleAuditServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(url, 2)
    assert "No mirror of the audit log is configured" in tick(url)
    monkeypatch.setenv("TAILOR_AUDIT_BIGQUERY", "lab.tailor.audit")
    assert "2 record(s) behind: The table lab.tailor.audit was not there" in tick(url)
    assert tick(url) == "bigquery:lab.tailor.audit has all 2 record(s)."
    monkeypatch.setenv("TAILOR_AUDIT_LOGGING", "tailor-audit")
    assert "give a log as projects/PROJECT/logs/NAME" in tick(url)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TAILOR_AUDIT_BIGQUERY", "tailor.audit"),
        ("TAILOR_AUDIT_BIGQUERY", "lab.tailor.audit; DROP"),
        ("TAILOR_AUDIT_LOGGING", "logs/audit"),
        ("TAILOR_AUDIT_LOGGING", "projects/lab/logs/"),
    ],
)
def test_a_name_that_cannot_be_a_mirror_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(PermanentProblem, match=f"{variable} is .*: give a "):
        configured_mirrors()


def test_both_kinds_can_be_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILOR_AUDIT_BIGQUERY", "example.com:lab.tailor.audit")
    monkeypatch.setenv("TAILOR_AUDIT_LOGGING", LOG)
    assert [mirror.name for mirror in configured_mirrors()] == [
        "bigquery:example.com:lab.tailor.audit",
        f"logging:{LOG}",
    ]
