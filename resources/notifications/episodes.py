"""Alerts about something that lasts, told once each time it begins: ``tailor.alert_episodes``."""

from datetime import UTC, datetime

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata
from resources.notifications.outbox import alert_within

episodes_table = sa.Table(
    "alert_episodes",
    metadata,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
)


def begin_episode(url: str, what: str, *, subject: str, text: str) -> bool:
    """Alert the operators that it has begun, unless it has already; whether it had not."""
    now = datetime.now(UTC)
    with engine_for(url).begin() as connection:
        begun = connection.execute(
            insert_for(connection)(episodes_table)
            .values(what=what, began_at=now)
            .on_conflict_do_nothing(index_elements=["what"])
        )
        if not begun.rowcount:
            return False
        # In one transaction: it is never begun and untold.
        alert_within(connection, key=f"{what}:{now.isoformat()}", subject=subject, text=text)
    return True


def end_episode(url: str, what: str) -> bool:
    """It is over; whether it was going on."""
    with engine_for(url).begin() as connection:
        gone = connection.execute(sa.delete(episodes_table).where(episodes_table.c.what == what))
    return gone.rowcount > 0
