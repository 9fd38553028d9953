"""Which message is sent next, and what becomes of it: turns, rates, digests, second tries.

A recipient is a tenant (or the operators) on one channel. Within an hour it gets its first messages
one by one; what exceeds them is put together into digests, one every quarter of an hour. So nobody
gets more than ``MOST_PER_HOUR``, and nothing is dropped. The outbox itself is what is counted, so the
limit holds for any number of senders, and over restarts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for, storable
from resources.notifications.outbox import Message, notifications_table, put_in
from resources.notifications.templates import digest

SINGLES_PER_HOUR = 16
BETWEEN_DIGESTS = timedelta(minutes=15)
MOST_PER_HOUR = SINGLES_PER_HOUR + 4
# What cannot be sent is tried again after this, doubled each time up to the longest wait, ...
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(minutes=15)
# ... for as long as this, over a long weekend.
PATIENCE = timedelta(days=3)
# Longer than any sending takes, its timeouts one after another. Who is killed between sending and
# noting it leaves a message that is sent again after this.
_CLAIM = timedelta(minutes=5)
# One at a time takes a turn (PostgreSQL advisory lock), or two would both count the same room.
_TURNS_LOCK = 0x7A117

_table = notifications_table
_WAITS = sa.and_(
    _table.c.sent_at.is_(None), _table.c.given_up_at.is_(None), _table.c.digest_id.is_(None)
)


@dataclass(frozen=True)
class Notification:
    """A message whose turn it is, claimed by who got it."""

    id: int
    tenant: str
    channel: str
    kind: str
    subject: str
    body: str
    created_at: datetime
    tries: int
    name: str
    """The same whenever it is sent, and no other message's, here or in another tailor."""


def due(url: str, channel: str) -> Notification | None:
    """Claim the next message of a channel; None where none may be sent now.

    It has to be answered with ``sent``, ``failed`` or ``given_up``. Claiming is noted before anything
    is sent: a message is sent at least once, and a second time only if its sender died in between.
    """
    with engine_for(url).begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_TURNS_LOCK)))
        now = datetime.now(UTC)
        _give_up_old(connection, channel, now)
        for tenant in _tenants_in_turn(connection, channel, now):
            chosen = _choose(connection, tenant, channel, now)
            if chosen is not None:
                return _claim(connection, chosen, now)
    return None


def _tenants_in_turn(connection: sa.Connection, channel: str, now: datetime) -> Sequence[str]:
    query = (
        sa.select(_table.c.tenant)
        .where(_can_be_sent(channel, now))
        .group_by(_table.c.tenant)
        .order_by(sa.func.min(_table.c.id))
    )
    return connection.execute(query).scalars().all()


def _can_be_sent(channel: str, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        _WAITS,
        _table.c.channel == channel,
        _table.c.not_before <= now,
        sa.or_(_table.c.claimed_until.is_(None), _table.c.claimed_until < now),
    )


def _choose(connection: sa.Connection, tenant: str, channel: str, now: datetime) -> int | None:
    in_last_hour, last = _told(connection, tenant, channel, now)
    waiting = (
        sa.select(_table.c.id, _table.c.kind)
        .where(_can_be_sent(channel, now), _table.c.tenant == tenant)
        .order_by(_table.c.id)
        .with_for_update(skip_locked=True)
    )
    if in_last_hour < SINGLES_PER_HOUR:
        return connection.execute(waiting.limit(1)).scalar()
    if last is not None and now - last < BETWEEN_DIGESTS:
        return None
    rows = connection.execute(waiting).all()
    # A digest that could not be sent is not put into another one.
    digests = [row.id for row in rows if row.kind == "digest"]
    if digests or len(rows) == 1:
        return digests[0] if digests else rows[0].id
    return _fold(connection, tenant, channel, [row.id for row in rows]) if rows else None


def _told(
    connection: sa.Connection, tenant: str, channel: str, now: datetime
) -> tuple[int, datetime | None]:
    """How many messages the recipient got within the hour, and when the last; those on their way
    count."""
    query = sa.select(sa.func.count(), sa.func.max(sa.func.coalesce(_table.c.sent_at, now))).where(
        _table.c.tenant == tenant,
        _table.c.channel == channel,
        _table.c.digest_id.is_(None),
        sa.or_(
            _table.c.sent_at > now - timedelta(hours=1),
            sa.and_(_WAITS, _table.c.claimed_until >= now),
        ),
    )
    count, last = connection.execute(query).one()
    return count, last


def _fold(connection: sa.Connection, tenant: str, channel: str, ids: Sequence[int]) -> int:
    """One message in the place of these; its id."""
    rows = connection.execute(
        sa.select(_table.c.kind, _table.c.subject).where(_table.c.id.in_(ids)).order_by(_table.c.id)
    ).all()
    subject, body = digest([(row.kind, row.subject) for row in rows])
    key = f"digest:{ids[0]}"
    put_in(connection, Message(key, tenant, "digest", subject, body), [channel])
    made = connection.execute(
        sa.select(_table.c.id).where(_table.c.dedupe_key == key, _table.c.channel == channel)
    ).scalar_one()
    connection.execute(sa.update(_table).where(_table.c.id.in_(ids)).values(digest_id=made))
    return int(made)


def _claim(connection: sa.Connection, id_: int, now: datetime) -> Notification:
    row = (
        connection.execute(
            sa.update(_table)
            .where(_table.c.id == id_)
            .values(claimed_until=now + _CLAIM, tries=_table.c.tries + 1)
            .returning(_table)
        )
        .mappings()
        .one()
    )
    made = f"{row['dedupe_key']} {row['channel']} {row['created_at'].isoformat()}"
    return Notification(
        id=row["id"],
        tenant=row["tenant"],
        channel=row["channel"],
        kind=row["kind"],
        subject=row["subject"],
        body=row["body"],
        created_at=row["created_at"],
        tries=row["tries"],
        name=f"tailor.{row['id']}.{hashlib.sha256(made.encode()).hexdigest()[:24]}",
    )


def _give_up_old(connection: sa.Connection, channel: str, now: datetime) -> None:
    days = PATIENCE.days
    late = sa.and_(
        _can_be_sent(channel, now),
        _table.c.created_at < now - PATIENCE,
    )
    why = sa.func.coalesce(_table.c.problem, "No way to send it was set.")
    connection.execute(
        sa.update(_table)
        .where(late)
        .values(given_up_at=now, problem=sa.func.concat(f"Given up after {days} days. ", why))
    )


def waiting(url: str, channel: str) -> int:
    """How many messages of a channel are still to be sent."""
    query = sa.select(sa.func.count()).where(_WAITS, _table.c.channel == channel)
    with engine_for(url).begin() as connection:
        return connection.execute(query).scalar_one()


def sent(url: str, message: Notification, problem: str | None = None) -> None:
    """Note that it was sent; ``problem``: what was amiss all the same."""
    now = datetime.now(UTC)
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(_table)
            .where(_table.c.id == message.id)
            .values(sent_at=now, claimed_until=None, given_up_at=None, problem=storable(problem))
        )
        connection.execute(
            sa.update(_table).where(_table.c.digest_id == message.id).values(sent_at=now)
        )


def failed(
    url: str, message: Notification, problem: str, wait: timedelta = timedelta(0)
) -> datetime:
    """Note why it could not be sent, and let its recipient rest; until when.

    All of the recipient's messages rest, so that one whose address is dead holds up nobody else.
    ``wait``: at least so long.
    """
    now = datetime.now(UTC)
    rest = min(_FIRST_WAIT * 2 ** min(message.tries - 1, 10), _LONGEST_WAIT)
    until = now + max(rest, wait)
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(_table)
            .where(_table.c.id == message.id, _table.c.sent_at.is_(None))
            .values(claimed_until=None, problem=storable(problem))
        )
        connection.execute(
            sa.update(_table)
            .where(
                _WAITS,
                _table.c.tenant == message.tenant,
                _table.c.channel == message.channel,
                _table.c.not_before < until,
            )
            .values(not_before=until)
        )
    return until


def given_up(url: str, message: Notification, problem: str) -> None:
    """Note why it will never be sent; what a digest stood for goes with it."""
    now = datetime.now(UTC)
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(_table)
            .where(_table.c.sent_at.is_(None))
            .where(sa.or_(_table.c.id == message.id, _table.c.digest_id == message.id))
            .values(given_up_at=now, claimed_until=None, problem=storable(problem))
        )
