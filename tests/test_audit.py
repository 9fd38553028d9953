"""The audit log: whole whatever is killed, closed to changes, and any change of it is found."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_services import new_home

from resources.audit import deployment
from resources.audit.chain import FIRST_PREVIOUS, Record
from resources.audit.deployment import git_commit, record_start
from resources.audit.head_file import Head, database_of, head_file, note_head, noted_head
from resources.audit.log import newest_records, record, verify
from resources.database import engine_for, migrate
from resources.settings import PROJECT_ROOT
from resources.video_registry import VideoRegistry
from tailor_assets.commands import audit as audit_command
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.services.postgres import embedded_postgres

WRITER = Path(__file__).with_name("audit_writer.py")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    """Of its own: a role is the whole server's, and here it is dropped."""
    with (
        new_home() as folder,
        embedded_postgres(folder / "postgres", folder / "postgres.log") as server,
    ):
        yield server.url


@pytest.fixture
def url(postgres_url: str, home: Path) -> Iterator[str]:
    """A database whose log is empty."""
    migrate(postgres_url)
    yield postgres_url
    engine_for(postgres_url).dispose()
    as_superuser(postgres_url, "TRUNCATE tailor.audit_log")


def as_superuser(url: str, *statements: str) -> None:
    """As somebody does who may do everything, and switches the trigger off before."""
    with engine_for(url).begin() as connection:
        connection.execute(sa.text("ALTER TABLE tailor.audit_log DISABLE TRIGGER ALL"))
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.execute(
            sa.text("ALTER TABLE tailor.audit_log ENABLE ALWAYS TRIGGER audit_log_is_insert_only")
        )


def write(url: str, count: int) -> None:
    for number in range(1, count + 1):
        record(
            url, actor="ann", action="queue.pause", subject=f"pool {number}", details={"n": number}
        )


def writer(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WRITER), url, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
    )


def test_records_are_there_in_order_with_what_was_given(url: str) -> None:
    before = datetime.now(UTC)
    record(url, actor="ann", action="run.cancel", subject="run 7", details={"why": "wrong", "b": 1})
    record(url, actor="tailor", action="queue.pause", subject="gpu")
    first, second = newest_records(url, 10)
    assert (first.seq, first.actor, first.action, first.subject) == (
        1,
        "ann",
        "run.cancel",
        "run 7",
    )
    assert first.details == '{"b":1,"why":"wrong"}'
    assert second.details == "{}"
    assert (first.previous, second.previous) == (FIRST_PREVIOUS, first.hash)
    assert abs((datetime.fromisoformat(first.at) - before).total_seconds()) < 60
    assert verify(url, head_file()).problem is None
    assert verify(url, head_file()).notes == ()


def test_the_hash_is_what_the_documentation_says() -> None:
    one = Record(1, "2026-03-01T12:00:00.000000+00:00", "ä", "b", "c", '{"d":"é"}', "0" * 64, "")
    text = (
        r'[1,"2026-03-01T12:00:00.000000+00:00","\u00e4","b","c","{\"d\":\"\u00e9\"}","'
        + "0" * 64
        + '"]'
    )
    import hashlib

    assert one.expected_hash() == hashlib.sha256(text.encode()).hexdigest()


def test_processes_and_threads_that_write_at_once_make_one_whole_chain(url: str) -> None:
    processes = [writer(url, "many", f"process {n}", "40") for n in range(3)]
    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(lambda _: write(url, 20), range(4)):
            pass
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    found = verify(url, head_file())
    assert (found.records, found.problem) == (200, None)
    assert noted_head(home_file(), url) == last(url)


def home_file() -> Path:
    file = head_file()
    assert file is not None
    return file


def last(url: str) -> Head:
    (newest,) = newest_records(url, 1)
    return Head(newest.seq, newest.hash)


def test_a_writer_killed_in_its_transaction_leaves_a_whole_chain_and_holds_up_nobody(
    url: str,
) -> None:
    write(url, 2)
    process = writer(url, "hang", "killed")
    assert process.stdout is not None
    assert process.stdout.readline() == "inserted\n"
    process.kill()
    process.wait()
    write(url, 1)
    found = verify(url, head_file())
    assert (found.records, found.problem) == (3, None)
    assert "killed" not in {one.actor for one in newest_records(url, 10)}


def test_writers_killed_anywhere_leave_a_whole_chain_with_everything_they_were_told_is_there(
    url: str, home: Path
) -> None:
    for n in range(4):
        process = writer(url, "many", f"writer {n}")
        assert process.stdout is not None
        for _ in range(5 + 7 * n):
            acknowledged = int(process.stdout.readline())
        process.kill()
        acknowledged = max([acknowledged, *map(int, process.stdout.read().split("\n")[:-1])])
        process.wait()
        there = [one for one in newest_records(url, 10_000) if one.actor == f"writer {n}"]
        assert len(there) in (acknowledged, acknowledged + 1), "done, and not yet said"
    write(url, 1)
    assert verify(url, head_file()).problem is None
    assert len([path for path in home.iterdir() if path.name.endswith(".new")]) <= 1


# What somebody does -> the number in the sentence that finds it.
CHANGES = {
    "another time": ("UPDATE tailor.audit_log SET at = at + interval '1 us' WHERE seq = 4", "4"),
    "no time at all": ("UPDATE tailor.audit_log SET at = 'infinity' WHERE seq = 4", "4"),
    "another actor": ("UPDATE tailor.audit_log SET actor = 'bob' WHERE seq = 4", "4"),
    "another action": ("UPDATE tailor.audit_log SET action = 'x' WHERE seq = 4", "4"),
    "another subject": ("UPDATE tailor.audit_log SET subject = subject || ' ' WHERE seq = 4", "4"),
    "other details": ("UPDATE tailor.audit_log SET details = '{}' WHERE seq = 4", "4"),
    "another previous": ("UPDATE tailor.audit_log SET previous = repeat('0', 64) WHERE seq = 4", "4"),
    "another hash": ("UPDATE tailor.audit_log SET hash = repeat('0', 64) WHERE seq = 4", "4"),
    "another number": ("UPDATE tailor.audit_log SET seq = 99 WHERE seq = 4", "4"),
    "all one later": (
        "UPDATE tailor.audit_log SET seq = -seq; UPDATE tailor.audit_log SET seq = 1 - seq",
        "1",
    ),
    "first gone": ("DELETE FROM tailor.audit_log WHERE seq = 1", "1"),
    "middle gone": ("DELETE FROM tailor.audit_log WHERE seq IN (4, 5)", "4"),
    "middle gone, the rest moved up": (
        "DELETE FROM tailor.audit_log WHERE seq = 4; "
        "UPDATE tailor.audit_log SET seq = -seq WHERE seq > 4; "
        "UPDATE tailor.audit_log SET seq = -seq - 1 WHERE seq < 0",
        "4",
    ),
    "last gone": ("DELETE FROM tailor.audit_log WHERE seq = 8", "8"),
    "all gone": ("TRUNCATE tailor.audit_log", "1"),
    "two swapped": (
        "UPDATE tailor.audit_log SET seq = -4 WHERE seq = 4; "
        "UPDATE tailor.audit_log SET seq = 4 WHERE seq = 6; "
        "UPDATE tailor.audit_log SET seq = 6 WHERE seq = -4",
        "4",
    ),
    "one put in at the end": (
        "INSERT INTO tailor.audit_log SELECT 9, at, actor, action, subject, details, hash, hash "
        "FROM tailor.audit_log WHERE seq = 8",
        "9",
    ),
    "one put in before": (
        "INSERT INTO tailor.audit_log SELECT 0, at, actor, action, subject, details, previous, hash "
        "FROM tailor.audit_log WHERE seq = 1",
        "0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_superuser_changes_is_found_and_where_it_begins(url: str, change: str) -> None:
    write(url, 8)
    statement, seq = CHANGES[change]
    as_superuser(url, statement)
    found = verify(url, head_file())
    assert found.problem is not None
    assert seq in found.problem, found.problem
    assert found.records == (7 if change == "last gone" else max(int(seq) - 1, 0))
    print(found.problem)


def forge(url: str, seq: int, subject: str) -> None:
    """Give one record another subject, and the hash that goes with it."""
    (one,) = [one for one in newest_records(url, 1000) if one.seq == seq]
    forged = Record(**(one.__dict__ | {"subject": subject})).expected_hash()
    as_superuser(
        url,
        f"UPDATE tailor.audit_log SET subject = '{subject}', hash = '{forged}' WHERE seq = {seq}",
    )


def test_a_record_forged_with_its_hash_is_found_by_the_next_one(url: str) -> None:
    write(url, 8)
    forge(url, 4, "another")
    found = verify(url, head_file())
    assert found.problem is not None
    assert "Record 5 does not follow the record 4" in found.problem


def test_a_last_record_forged_with_its_hash_is_found_by_the_noted_head(url: str) -> None:
    write(url, 8)
    forge(url, 8, "another")
    assert verify(url).problem is None, "inside the database nothing speaks against it"
    found = verify(url, head_file())
    assert found.problem is not None
    assert "Record 8 is not the one that was noted" in found.problem


def test_that_the_newest_are_gone_stays_found_after_new_ones_have_taken_their_numbers(
    url: str,
) -> None:
    write(url, 8)
    as_superuser(url, "DELETE FROM tailor.audit_log WHERE seq > 6")
    found = verify(url, head_file())
    assert found.problem is not None
    assert "Records 7 to 8 are gone" in found.problem
    write(url, 5)
    found = verify(url, head_file())
    assert found.problem is not None
    assert "Record 8 is not the one that was noted" in found.problem


def test_a_head_that_lags_behind_is_no_finding(url: str) -> None:
    write(url, 2)
    saved = home_file().read_bytes()
    write(url, 2)
    home_file().write_bytes(saved)  # as if another host had written the last two
    assert verify(url, head_file()).problem is None
    write(url, 1)
    assert noted_head(home_file(), url) == last(url)


def test_a_head_file_that_cannot_be_read_is_said_and_does_not_keep_anybody_from_recording(
    url: str,
) -> None:
    write(url, 1)
    for content in ("{", "[]", '{"a": 1}', '{"a": {"seq": 1}}'):
        home_file().write_text(content)
        write(url, 1)
        with pytest.raises(PermanentProblem, match=r"cannot be read .*: restore it from a backup"):
            verify(url, head_file())
        assert home_file().read_text() == content
    home_file().unlink()
    home_file().mkdir()
    write(url, 1)
    with pytest.raises(PermanentProblem, match=r"cannot be read .*: restore it from a backup"):
        verify(url, head_file())


NOTHING_KNOWN = r"The audit log cannot be read \(.*\): nothing is known of it"


def test_a_database_that_is_away_is_no_finding(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(PermanentProblem, match=NOTHING_KNOWN):
        verify(away, head_file())
    monkeypatch.setattr(audit_command, "running_registry", lambda: VideoRegistry(url=away))
    with pytest.raises(PermanentProblem, match=NOTHING_KNOWN):
        audit_command.verify_audit()
    assert "BROKEN" not in capsys.readouterr().out


def test_a_log_that_this_user_may_not_read_is_no_finding(
    url: str, own_database: Callable[[str], str]
) -> None:
    own = own_database("NOCREATEROLE")
    migrate(own)
    write(own, 3)
    with engine_for(own).begin() as connection:
        connection.exec_driver_sql(
            f"REVOKE SELECT ON tailor.audit_log FROM {sa.make_url(own).username}"
        )
    with pytest.raises(PermanentProblem, match=NOTHING_KNOWN):
        verify(own, head_file())


def test_a_database_that_never_had_a_log_is_no_finding(
    url: str, own_database: Callable[[str], str]
) -> None:
    with pytest.raises(PermanentProblem, match="has no audit log"):
        verify(own_database("NOCREATEROLE"), head_file())


def test_heads_of_two_databases_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "head.json"
    one, two = "postgresql://u:secret@a/x", "postgresql+psycopg2://v@b:5433/x"
    note_head(file, one, Head(1, "a"), lambda _: True)
    note_head(file, two, Head(5, "b"), lambda _: True)
    note_head(file, one, Head(2, "c"), lambda _: True)
    assert noted_head(file, one) == Head(2, "c")
    assert noted_head(file, two) == Head(5, "b")
    assert "secret" not in file.read_text()
    assert database_of(one) == "a:5432/x"


def test_without_a_home_folder_records_are_made_and_verify_says_what_it_cannot_see(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(home / "nowhere"))
    write(url, 1)
    found = verify(url, head_file())
    assert (found.records, found.problem) == (1, None)
    assert "newest records are gone would not be seen" in found.notes[0]


CHANGING = (
    "UPDATE tailor.audit_log SET actor = 'bob'",
    "UPDATE tailor.audit_log SET actor = 'bob' WHERE false",
    "DELETE FROM tailor.audit_log",
    "TRUNCATE tailor.audit_log",
)


@pytest.mark.parametrize("statement", CHANGING)
def test_the_writers_role_may_not_change_anything_even_without_the_trigger(
    url: str, statement: str
) -> None:
    write(url, 1)
    with engine_for(url).connect() as connection, connection.begin() as transaction:
        connection.execute(sa.text("ALTER TABLE tailor.audit_log DISABLE TRIGGER ALL"))
        connection.execute(sa.text("SET LOCAL ROLE tailor_audit_writer"))
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied for table audit_log"):
            connection.execute(sa.text(statement))
        transaction.rollback()


@pytest.mark.parametrize("statement", CHANGING)
@pytest.mark.parametrize("setting", ["SELECT 1", "SET LOCAL session_replication_role = replica"])
def test_the_trigger_refuses_changes_even_to_a_superuser(
    url: str, statement: str, setting: str
) -> None:
    write(url, 1)
    with engine_for(url).connect() as connection:
        connection.execute(sa.text(setting))
        with pytest.raises(sa.exc.ProgrammingError) as refused:
            connection.execute(sa.text(statement))
    assert isinstance(refused.value.orig, psycopg2.errors.InsufficientPrivilege)
    assert "can only be added to" in str(refused.value)
    assert verify(url, head_file()).problem is None


def test_the_role_may_do_nothing_else_and_nobody_can_sign_in_as_it(url: str) -> None:
    with engine_for(url).connect() as connection:
        rights = connection.execute(
            sa.text(
                "SELECT table_name, privilege_type FROM information_schema.role_table_grants "
                "WHERE grantee = 'tailor_audit_writer'"
            )
        ).all()
        may_sign_in = connection.execute(
            sa.text("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'tailor_audit_writer'")
        ).scalar()
    assert set(rights) == {("audit_log", "INSERT"), ("audit_log", "SELECT")}
    assert may_sign_in is False


def test_a_connection_that_has_recorded_has_its_own_rights_back(url: str) -> None:
    write(url, 1)
    with engine_for(url).begin() as connection:
        assert connection.execute(sa.text("SELECT current_user")).scalar() == "postgres"
        assert connection.execute(sa.text("SHOW lock_timeout")).scalar() == "0"


def test_records_are_written_as_the_writers_role(url: str) -> None:
    as_superuser(
        url,
        "CREATE FUNCTION tailor.note_user() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'written as %%', current_user; END $$",
        "CREATE TRIGGER note_user BEFORE INSERT ON tailor.audit_log FOR EACH ROW "
        "EXECUTE FUNCTION tailor.note_user()",
    )
    try:
        as_superuser(url, "ALTER TABLE tailor.audit_log ENABLE TRIGGER note_user")
        with pytest.raises(sa.exc.DatabaseError, match="written as tailor_audit_writer"):
            write(url, 1)
    finally:
        as_superuser(url, "DROP FUNCTION tailor.note_user CASCADE")
    write(url, 1)
    assert verify(url, head_file()).records == 1, "what was refused has taken no number"


def test_what_protects_the_log_and_is_gone_is_said(url: str) -> None:
    write(url, 1)
    with engine_for(url).begin() as connection:
        connection.execute(sa.text("ALTER TABLE tailor.audit_log DISABLE TRIGGER ALL"))
        connection.execute(sa.text("GRANT UPDATE ON tailor.audit_log TO tailor_audit_writer"))
    try:
        found = verify(url, head_file())
    finally:
        as_superuser(url, "REVOKE UPDATE ON tailor.audit_log FROM tailor_audit_writer")
    assert found.problem is None
    assert "trigger" in found.notes[0]
    assert "may do too much" in found.notes[1]


@pytest.fixture
def own_database(postgres_url: str) -> Iterator[Callable[[str], str]]:
    """Makes a database of its own for a user with these rights; its URL."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(rights: str) -> str:
        name = f"audit_{len(made)}"
        made.append(name)
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN {rights}")
            connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {name}")
        url = sa.make_url(postgres_url).set(database=name, username=name)
        return url.render_as_string(hide_password=False)

    yield make
    with server.connect() as connection:
        for name in made:
            url = sa.make_url(postgres_url).set(database=name, username=name)
            engine_for(url.render_as_string(hide_password=False)).dispose()
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
            connection.exec_driver_sql(f"DROP ROLE {name}")
    server.dispose()


def test_a_database_user_that_may_not_create_roles_has_the_trigger_and_is_told(
    url: str, own_database: Callable[[str], str]
) -> None:
    own = own_database("NOCREATEROLE")
    migrate(own)
    write(own, 3)
    found = verify(own, head_file())
    assert (found.records, found.problem) == (3, None)
    assert ["tailor_audit_writer" in note for note in found.notes] == [True]
    with (
        pytest.raises(sa.exc.ProgrammingError, match="can only be added to"),
        engine_for(own).begin() as connection,
    ):
        connection.execute(sa.text("DELETE FROM tailor.audit_log"))


def test_the_role_can_be_given_later_by_somebody_who_may(
    url: str, own_database: Callable[[str], str]
) -> None:
    own = own_database("NOCREATEROLE")
    migrate(own)
    name = sa.make_url(own).username
    with engine_for(url).begin() as connection:
        connection.exec_driver_sql(f"GRANT tailor_audit_writer TO {name}")
    with engine_for(own).begin() as connection:
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA tailor TO tailor_audit_writer")
        connection.exec_driver_sql(
            "GRANT SELECT, INSERT ON tailor.audit_log TO tailor_audit_writer"
        )
    write(own, 3)
    assert verify(own, head_file()).notes == ()


def test_a_database_user_that_may_create_roles_but_no_more_needs_nobody(
    url: str, own_database: Callable[[str], str]
) -> None:
    own = own_database("CREATEROLE")
    with engine_for(url).begin() as connection:
        connection.exec_driver_sql(
            "DROP OWNED BY tailor_audit_writer; DROP ROLE tailor_audit_writer"
        )
    try:
        migrate(own)
        write(own, 3)
        found = verify(own, head_file())
        assert (found.problem, found.notes) == (None, ())
        write(url, 1)  # the other database lost its rights; recording goes on
    finally:
        with engine_for(own).begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY tailor_audit_writer")
        with engine_for(url).begin() as connection:
            connection.exec_driver_sql("DROP ROLE tailor_audit_writer")
            connection.exec_driver_sql("CREATE ROLE tailor_audit_writer NOLOGIN")
            connection.exec_driver_sql("GRANT USAGE ON SCHEMA tailor TO tailor_audit_writer")
            connection.exec_driver_sql(
                "GRANT SELECT, INSERT ON tailor.audit_log TO tailor_audit_writer"
            )


ODD = st.text(st.characters(), max_size=40)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    actor=ODD, action=ODD, subject=ODD, details=st.dictionaries(ODD, ODD | st.floats() | st.none())
)
def test_odd_text_is_recorded_and_verified(
    url: str, actor: str, action: str, subject: str, details: dict[str, object]
) -> None:
    record(url, actor=actor, action=action, subject=subject, details=details)
    assert verify(url, head_file()).problem is None


def test_the_oddest_text_is_recorded_and_verified(url: str) -> None:
    odd = "\0 \ud800 \udfff 🐭 \n\r\t \x1b[31m \u202e \\u0000 \"'"
    details = {
        odd: odd,
        "nan": float("nan"),
        "at": datetime.now(UTC),
        "path": Path("/a"),
        "s": {2, 1},
    }
    record(url, actor=odd, action=odd, subject=odd, details=details | {"nested": [details]})
    record(url, actor="ann", action="long", subject="x" * 1_000_000, details={"y": "é" * 1_000_000})
    found = verify(url, head_file())
    assert (found.records, found.problem) == (2, None)
    (newest,) = newest_records(url, 1)
    assert len(newest.subject) == 1_000_000
    with engine_for(url).connect() as connection:
        query = sa.text("SELECT details::jsonb ->> 'nan' FROM tailor.audit_log WHERE seq = 1")
        assert connection.execute(query).scalar() == "nan"


def insert_many(url: str, count: int) -> None:
    """A whole chain, as ``record`` would make it, in one go."""
    rows, previous = [], FIRST_PREVIOUS
    for seq in range(1, count + 1):
        at = f"2026-03-01T12:00:00.{seq:06d}+00:00"
        one = Record(seq, at, "ann", "a.b", "x" * 200, "{}", previous, "")
        previous = one.expected_hash()
        rows.append(one.__dict__ | {"hash": previous})
    columns = ", ".join(rows[0])
    values = ", ".join(f":{name}" for name in rows[0])
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.text(f"INSERT INTO tailor.audit_log ({columns}) VALUES ({values})"), rows
        )


def test_verifying_a_long_log_takes_the_memory_of_a_short_one(url: str) -> None:
    insert_many(url, 5_000)
    verify(url)  # what is loaded once
    tracemalloc.start()
    try:
        assert verify(url).records == 5_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000, "5,000 rows together take 4 MB and more"


def test_a_table_that_is_gone_or_is_another_is_a_finding_and_no_traceback(
    url: str, home: Path
) -> None:
    write(url, 2)
    for change in (
        "ALTER TABLE tailor.audit_log RENAME TO elsewhere",
        "ALTER TABLE tailor.audit_log RENAME details TO elsewhere",
    ):
        with engine_for(url).begin() as connection:
            connection.exec_driver_sql(change)
        try:
            found = verify(url, head_file())
        finally:
            back = change.replace("audit_log RENAME TO elsewhere", "elsewhere RENAME TO audit_log")
            back = back.replace("RENAME details TO elsewhere", "RENAME elsewhere TO details")
            with engine_for(url).begin() as connection:
                connection.exec_driver_sql(back)
        assert found.problem is not None
        assert found.records == 0
        print(found.problem)


def test_in_sqlite_nothing_is_recorded_and_nothing_breaks(home: Path) -> None:
    url = f"sqlite:///{home}/one.db"
    VideoRegistry(url=url).create_in_sqlite()
    write(url, 1)
    record_start(url)
    assert verify(url, head_file()).problem is None
    assert head_file() is not None
    assert not home_file().exists()


def test_a_start_is_a_deployment_where_anything_has_changed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_start(url)
    record_start(url)
    monkeypatch.setattr(deployment, "TAILOR_VERSION", "9.9.9")
    record_start(url)
    monkeypatch.setenv("TAILOR_SEGMENTER", "another")
    record_start(url)
    record_start(url)
    assert [one.action for one in newest_records(url, 10)] == [
        "deployment.started",
        "services.started",
        "deployment.started",
        "deployment.started",
        "services.started",
    ]
    *_, newest, _ = newest_records(url, 10)
    assert '"segmenter":"another"' in newest.details
    assert '"tailor":"9.9.9"' in newest.details


def test_the_commit_is_read_however_git_keeps_it(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert git_commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) is None, "nothing has been committed"
    (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/main\n")
    assert git_commit(tmp_path) == commit
    (git / "refs" / "heads" / "main").write_text("f" * 40 + "\n")
    assert git_commit(tmp_path) == "f" * 40
    (git / "HEAD").write_text(commit)
    assert git_commit(tmp_path) == commit


def test_the_commands_show_and_verify(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_command, "running_registry", lambda: VideoRegistry(url=url))
    write(url, 3)
    record(url, actor="bob", action="run.cancel", subject="two\nlines \x1b[31m", details={"n": 1})
    audit_command.show_audit(last=2, as_json=False)
    third, fourth = capsys.readouterr().out.splitlines()
    assert third.startswith("3  2")
    assert fourth.endswith(r'Z  bob  run.cancel  two\nlines \x1b[31m  {"n":1}')
    audit_command.show_audit(last=2, as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert audit_command.verify_audit() == 0
    assert "The audit log is whole: 4 record(s)." in capsys.readouterr().out
    as_superuser(url, "DELETE FROM tailor.audit_log WHERE seq = 2")
    assert audit_command.verify_audit() == 1
    assert "BROKEN: Record 2 is missing" in capsys.readouterr().out
    with pytest.raises(PermanentProblem, match="give 1 or more"):
        audit_command.show_audit(last=0, as_json=False)
