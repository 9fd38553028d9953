"""Writing, reading and verifying the audit log.

Several processes write at once; an advisory lock puts them in a row for the moment in which one reads
the last record and adds its own. Writing is done as a role that can neither update nor delete, where
the database has it (migration r0004). In SQLite, which `tailor run` uses for its one video, there is
no log: nobody but the person who typed the command decides anything there.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from psycopg2.errors import InsufficientPrivilege

from resources.audit.chain import (
    FIRST_PREVIOUS,
    INSERT_ONLY_TRIGGER,
    WRITER_ROLE,
    Record,
    audit_log_table,
    canonical_json,
    iso_utc,
)
from resources.audit.head_file import Head, head_file, note_head, noted_head
from resources.database import engine_for, storable
from tailor_assets.compute.errors import PermanentProblem

# Any number of ours, as in database.migrate.
_LOCK = 0x7A111
# A writer that is stopped in its transaction holds up the others: PostgreSQL ends it before they
# give up.
_IDLE_LIMIT = "10s"
_LOCK_LIMIT = "30s"
_ROWS_AT_A_TIME = 200

_BECOME_WRITER = sa.text(
    f"""
    SELECT set_config('lock_timeout', '{_LOCK_LIMIT}', true),
           set_config('idle_in_transaction_session_timeout', '{_IDLE_LIMIT}', true),
           (SELECT set_config('role', rolname, true) FROM pg_roles
            WHERE rolname = '{WRITER_ROLE}' AND pg_has_role(oid, 'MEMBER')
              AND has_schema_privilege(oid, 'tailor', 'USAGE')
              AND has_table_privilege(oid, 'tailor.audit_log', 'SELECT')
              AND has_table_privilege(oid, 'tailor.audit_log', 'INSERT'))
    """
)
# The time is the database's, taken under the lock: one clock for all hosts, in the records' order.
_LAST = sa.text(
    f"""
    SELECT {iso_utc("clock_timestamp()")} AS at, last.seq, last.hash
    FROM (SELECT) AS one LEFT JOIN
         (SELECT seq, hash FROM tailor.audit_log ORDER BY seq DESC LIMIT 1) AS last ON true
    """
)
_NO_LOG = "This database has no audit log: `tailor up` makes it, if that is the right database."
# Of the connection and of the server, whatever the records are like.
_NOT_OF_THE_LOG = (sa.exc.OperationalError, sa.exc.InterfaceError)
_COLUMNS = f"seq, {iso_utc('at')} AS at, actor, action, subject, details, previous, hash"


@dataclass(frozen=True)
class Verified:
    """What ``verify`` found."""

    records: int
    """So many records, from the first on, are as they were written."""
    problem: str | None
    """The first thing that is wrong, in one sentence; None where nothing is."""
    notes: tuple[str, ...]
    """Protection that is missing here; the records may be all right."""


def record(
    url: str,
    *,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add one record, in a transaction of its own; it is there when this returns.

    ``actor``: who decided, ``action``: what, as ``noun.verb``, ``subject``: about which run, tenant or
    pool. ``details`` are what else will be asked one day; never secrets. Does nothing in SQLite.
    Where the database does not take it, SQLAlchemy's error says so, and nothing was written.
    """
    engine = engine_for(url)
    if engine.dialect.name == "sqlite":
        return
    with engine.connect() as connection:
        # The last record has to be read as it is once the lock is held, not as it was before.
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            connection.execute(_BECOME_WRITER)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            last = connection.execute(_LAST).one()
            row = _record_after(last, actor, action, subject, canonical_json(details))
            connection.execute(sa.insert(audit_log_table).values(row))
    _note(url, Head(row["seq"], row["hash"]))


def _record_after(
    last: sa.Row[Any], actor: str, action: str, subject: str, details: str
) -> dict[str, Any]:
    values = {
        "seq": (last.seq or 0) + 1,
        "at": last.at,
        "actor": str(storable(actor)),
        "action": str(storable(action)),
        "subject": str(storable(subject)),
        "details": details,
        "previous": last.hash or FIRST_PREVIOUS,
    }
    made = Record(**values, hash="").expected_hash()
    # Exactly this instant, whatever the time zone of the session.
    return values | {"at": sa.cast(last.at, sa.DateTime(timezone=True)), "hash": made}


def _note(url: str, head: Head) -> None:
    """In the head file, where there can be one; a head that lags behind is as good as none."""
    file = head_file()
    if file is None:
        return
    try:
        note_head(file, url, head, lambda noted: _is_there(url, noted))
    except (OSError, PermanentProblem) as problem:
        logging.getLogger("tailor").warning("The audit log's head is not noted: %s", problem)


def _is_there(url: str, head: Head) -> bool:
    query = sa.select(audit_log_table.c.hash).where(audit_log_table.c.seq == head.seq)
    with engine_for(url).connect() as connection:
        return connection.execute(query).scalar() == head.hash


def newest_records(url: str, last: int) -> Iterator[Record]:
    """The last so many records, the newest last, however many they are.

    Raises PermanentProblem where there is no log.
    """
    query = (
        f"SELECT * FROM (SELECT {_COLUMNS} FROM tailor.audit_log ORDER BY seq DESC LIMIT :last) "
        "AS newest ORDER BY seq"
    )
    with _reading(url) as connection:
        if not _has_log(connection):
            raise PermanentProblem(_NO_LOG)
        for row in connection.execute(sa.text(query), {"last": last}):
            yield Record(*row)


def verify(url: str, head_file: Path | None = None) -> Verified:
    """Read the whole log and see that every record is as written, in its place, and followed.

    ``head_file``: what ``record`` notes on this machine (``head_file.head_file()``); without it, or
    where it lags behind, nobody can see that the newest records are gone. Memory does not grow with
    the log. Records that are added meanwhile are not looked at.

    Raises PermanentProblem where the log, or the head file, cannot be read: a database that is away
    says nothing about the records in it.
    """
    if url.startswith("sqlite:"):
        return Verified(0, None, ("In SQLite there is no audit log.",))
    engine_for(url)  # a URL that cannot be read is refused before its name is looked up in the file
    head, notes = None, []
    if head_file is not None:
        # Before the records are: by then each record that it can note is visible.
        head = noted_head(head_file, url)
    if head is None:
        notes.append("No head is noted here: that the newest records are gone would not be seen.")
    good = 0
    try:
        with _reading(url) as connection:
            if not _has_log(connection):
                if head is None:
                    raise PermanentProblem(_NO_LOG)
                return Verified(0, "The table tailor.audit_log is not there.", ())
            notes += _missing_protection(connection)
            before = Head(0, FIRST_PREVIOUS)
            query = sa.text(f"SELECT {_COLUMNS} FROM tailor.audit_log ORDER BY seq")
            for row in connection.execute(query):
                found = Record(*row)
                problem = _problem_of(found, before, head)
                if problem:
                    return Verified(good, problem, tuple(notes))
                good, before = good + 1, Head(found.seq, found.hash)
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        if isinstance(error, _NOT_OF_THE_LOG) or isinstance(error.orig, InsufficientPrivilege):
            raise PermanentProblem(
                f"The audit log cannot be read ({reason}): nothing is known of it. Check that the "
                "database runs and that TAILOR_POSTGRES_URL names it, with a user who may read it."
            ) from None
        return Verified(good, f"The log cannot be read after record {good}: {reason}.", ())
    if head is not None and head.seq > before.seq:
        return Verified(
            good,
            f"Records {before.seq + 1} to {head.seq} are gone: record {head.seq} is noted in "
            f"{head_file}, and the log ends at {before.seq}.",
            tuple(notes),
        )
    return Verified(good, None, tuple(notes))


def _problem_of(found: Record, before: Head, head: Head | None) -> str | None:
    due = before.seq + 1
    if found.seq > due:
        missing = (
            f"Record {due} is" if found.seq == due + 1 else f"Records {due} to {found.seq - 1} are"
        )
        return f"{missing} missing: {found.seq} follows {before.seq}."
    if found.seq < due:
        return f"Record {found.seq} is there twice, or before the first."
    if found.hash != found.expected_hash():
        return f"Record {found.seq} is not as it was written: its content does not give its hash."
    if found.previous != before.hash:
        return (
            f"Record {found.seq} does not follow the record {before.seq} that is there: one of them "
            "was put in place of another."
        )
    if head is not None and found.seq == head.seq and found.hash != head.hash:
        return (
            f"Record {found.seq} is not the one that was noted: it, or something before it, was "
            "written anew."
        )
    return None


def _missing_protection(connection: sa.Connection) -> list[str]:
    notes = []
    trigger = sa.text(
        "SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'tailor.audit_log'::regclass AND tgname = :n"
    )
    # A: always, also in a session that replays another database's changes.
    if connection.execute(trigger, {"n": INSERT_ONLY_TRIGGER}).scalar() != "A":
        notes.append(f"The trigger {INSERT_ONLY_TRIGGER} is gone or switched off.")
    role = sa.text(
        """
        SELECT pg_has_role(oid, 'MEMBER')
           AND has_table_privilege(oid, 'tailor.audit_log', 'INSERT')
           AND NOT has_table_privilege(oid, 'tailor.audit_log', 'UPDATE, DELETE, TRUNCATE')
        FROM pg_roles WHERE rolname = :role
        """
    )
    if not connection.execute(role, {"role": WRITER_ROLE}).scalar():
        notes.append(
            f"The role {WRITER_ROLE} is missing, is not granted to this database user, or may do too "
            "much: records are written with the user's own rights (docs/operating.md)."
        )
    return notes


def _has_log(connection: sa.Connection) -> bool:
    found = connection.execute(sa.text("SELECT to_regclass('tailor.audit_log')")).scalar()
    return found is not None


@contextmanager
def _reading(url: str) -> Iterator[sa.Connection]:
    """A connection whose answers come a few rows at a time."""
    with engine_for(url).connect() as connection:
        yield connection.execution_options(yield_per=_ROWS_AT_A_TIME)
