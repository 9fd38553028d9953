"""What is to be said: the table ``tailor.notifications``, written here, sent by ``sender.py``.

A message is a row before it is sent, so whatever is killed, it is said; and its key is unique, so
whoever says it twice says it once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata, storable
from resources.notifications.plain_text import one_line
from resources.notifications.recipients import (
    EMAIL_VARIABLE,
    OPERATORS,
    SLACK_VARIABLE,
    operator_channels,
)

_TIME = sa.DateTime(timezone=True)
_LONGEST_SUBJECT = 200
_LONGEST_BODY = 20_000
# Of an alert that nobody is to be sent.
NOWHERE = "none"

notifications_table = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("dedupe_key", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    # Empty: the operators.
    sa.Column("tenant", sa.Text, nullable=False),
    # started, finished, failed, alert, digest.
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", _TIME, nullable=False),
    sa.Column("not_before", _TIME, nullable=False),
    # Somebody is sending it; who was killed while doing so has let go of it by then.
    sa.Column("claimed_until", _TIME),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("sent_at", _TIME),
    sa.Column("given_up_at", _TIME),
    sa.Column("problem", sa.Text),
    # The digest that says it, with others, in its place.
    sa.Column("digest_id", sa.BigInteger),
    sa.UniqueConstraint("dedupe_key", "channel", name="notifications_dedupe_key"),
    sa.Index(
        "notifications_unsent",
        "channel",
        "tenant",
        "id",
        postgresql_where=sa.text("sent_at IS NULL AND given_up_at IS NULL AND digest_id IS NULL"),
    ),
    sa.Index("notifications_by_sending", "tenant", "channel", "sent_at"),
    sa.Index("notifications_by_digest", "digest_id"),
    sa.Index("notifications_by_creation", "created_at"),
)


@dataclass(frozen=True)
class Message:
    """Something for one tenant (empty: the operators), whatever the channels."""

    key: str
    tenant: str
    kind: str
    subject: str
    body: str
    job_id: str | None = None


def alert(url: str, *, key: str, subject: str, text: str) -> None:
    """Tell the operators. The same key is told once, whoever says it how often.

    Where no address of operators is set it is kept all the same, to be seen with ``tailor notify``.
    Does nothing in SQLite: `tailor run` has nobody but the person who typed it.
    """
    engine = engine_for(url)
    if engine.dialect.name == "sqlite":
        return
    with engine.begin() as connection:
        alert_within(connection, key=key, subject=subject, text=text)


def alert_within(connection: sa.Connection, *, key: str, subject: str, text: str) -> None:
    """Like ``alert``, in the caller's transaction."""
    channels = operator_channels()
    message = Message(f"alert:{key}", OPERATORS, "alert", subject, text)
    nobody = f"Nobody is told: set {EMAIL_VARIABLE} or {SLACK_VARIABLE}."
    put_in(connection, message, channels or (NOWHERE,), problem=None if channels else nobody)


def queue_for_tenant(
    url: str,
    tenant: str,
    *,
    key: str,
    kind: str,
    subject: str,
    text: str,
    job_id: str | None = None,
) -> None:
    """Tell a tenant, by the channels that it wants; nothing where it wants none. Once per key."""
    from resources.notifications.preferences import preference_of

    preference = preference_of(url, tenant)
    if preference is None:
        return
    with engine_for(url).begin() as connection:
        message = Message(key, tenant, kind, subject, text, job_id)
        put_in(connection, message, preference.channels)


def put_in(
    connection: sa.Connection,
    message: Message,
    channels: Sequence[str],
    problem: str | None = None,
) -> None:
    """One row per channel, unless its key is there already."""
    now = datetime.now(UTC)
    for channel in channels:
        connection.execute(
            insert_for(connection)(notifications_table)
            .values(
                dedupe_key=storable(message.key),
                channel=channel,
                tenant=storable(message.tenant),
                kind=message.kind,
                job_id=message.job_id,
                subject=one_line(message.subject, _LONGEST_SUBJECT),
                body=str(storable(message.body))[:_LONGEST_BODY],
                created_at=now,
                not_before=now,
                problem=problem,
            )
            .on_conflict_do_nothing(index_elements=["dedupe_key", "channel"])
        )


def has_been_said(key: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """For queries: whether there is a message with this key, sent or not."""
    return sa.exists().where(notifications_table.c.dedupe_key == key)


@dataclass(frozen=True)
class Unsent:
    """One that could not be sent yet, or was given up, for people to see."""

    tenant: str
    channel: str
    subject: str
    created_at: datetime
    tries: int
    given_up: bool
    problem: str | None


def unsent(url: str, *, limit: int = 100) -> list[Unsent]:
    """What waits or was given up, the latest first."""
    table = notifications_table
    query = (
        sa.select(table)
        .where(table.c.sent_at.is_(None), table.c.digest_id.is_(None))
        .order_by(table.c.id.desc())
        .limit(limit)
    )
    with engine_for(url).begin() as connection:
        return [
            Unsent(
                row.tenant,
                row.channel,
                row.subject,
                row.created_at,
                row.tries,
                row.given_up_at is not None,
                row.problem,
            )
            for row in connection.execute(query)
        ]


def forget_old(url: str, age: timedelta) -> int:
    """Delete messages older than that, sent or not; how many there were."""
    table = notifications_table
    with engine_for(url).begin() as connection:
        gone = connection.execute(
            sa.delete(table).where(table.c.created_at < datetime.now(UTC) - age)
        )
    return gone.rowcount


def forget_notifications(url: str, tenant: str) -> None:
    """Delete what a tenant wanted to hear and what was said to it."""
    from resources.notifications.preferences import preferences_table

    with engine_for(url).begin() as connection:
        for table in (preferences_table, notifications_table):
            connection.execute(sa.delete(table).where(table.c.tenant == storable(tenant)))
