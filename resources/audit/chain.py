"""The table ``tailor.audit_log`` and the hash that ties each record to the one before it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from resources.database import metadata, storable

audit_log_table = sa.Table(
    "audit_log",
    metadata,
    # Counted by whoever inserts: a sequence leaves gaps, and a gap is to mean a deletion.
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)

FIRST_PREVIOUS = "0" * 64
"""``previous`` of the first record."""

WRITER_ROLE = "tailor_audit_writer"
"""May insert and read records, and nothing else."""

INSERT_ONLY_TRIGGER = "audit_log_is_insert_only"
"""Refuses UPDATE, DELETE and TRUNCATE to everybody."""

_ISO_UTC = """'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'"""


def iso_utc(expression: str) -> str:
    """SQL for a timestamp as text: ISO 8601, UTC, microseconds, ``2026-03-01T12:00:00.000000+00:00``.

    PostgreSQL itself writes it, because it has times, such as infinity, that Python has not.
    """
    return f"to_char({expression} AT TIME ZONE 'UTC', {_ISO_UTC})"


@dataclass(frozen=True)
class Record:
    """One row of the log. ``at`` is text, see ``iso_utc``; ``details`` is canonical JSON."""

    seq: int
    at: str
    actor: str
    action: str
    subject: str
    details: str
    previous: str
    hash: str

    def expected_hash(self) -> str:
        """What ``hash`` has to be: SHA-256, in hexadecimal, of a JSON array in ASCII.

        The array is ``[seq, at, actor, action, subject, details, previous]``: seq a number, the
        others strings (``details`` too: the JSON text as it is stored); no spaces; everything beyond
        ASCII as ``\\uXXXX``, in lower case. In Python: ``json.dumps(list, separators=(",", ":"))``.
        ``previous`` is the hash of the record before, or 64 zeros in the first one.
        """
        fields = (
            self.seq, self.at, self.actor, self.action, self.subject, self.details, self.previous,
        )  # fmt: skip
        return sha256(json.dumps(fields, separators=(",", ":")).encode("ascii")).hexdigest()


def canonical_json(details: Mapping[str, Any] | None) -> str:
    """A mapping as JSON text that is always the same: keys sorted, no spaces.

    What JSON or PostgreSQL does not know is written as text: times as ISO 8601, NaN as "nan",
    anything else by ``str``; of strings only what PostgreSQL cannot hold is replaced.
    """
    return json.dumps(
        _plain(details or {}),
        sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False,
    )  # fmt: skip


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # Neither NaN nor the infinities are JSON.
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Mapping):
        return {str(storable(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    return storable(value.isoformat() if hasattr(value, "isoformat") else str(value))
