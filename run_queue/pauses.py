"""What holds the queue back, and why: the table ``tailor.queue_pauses``.

A pause is a row and nothing in a process, so it survives whatever is killed. Who paused for one
reason ends it for that reason only.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa

from resources.database import engine_for, insert_for, storable
from run_queue.job_tables import queue_pauses_table

# operator: somebody said so, and nothing starts. heat: the GPU pool has no places (queue_guard).
# depth: enough waits in Dagster's queue, nothing more is admitted. failures: whatever starts fails for
# a cause that is none of its own (breaker.py).
PauseReason = Literal["operator", "heat", "depth", "failures"]


@dataclass(frozen=True)
class Pause:
    """One reason; ``why`` is a sentence for people."""

    what: PauseReason
    since: datetime
    who: str
    why: str


def pause(url: str, what: PauseReason, *, who: str, why: str) -> bool:
    """Pause for this reason; whether it was not paused for it before.

    Of a pause that is there already only the sentence changes.
    """
    with engine_for(url).begin() as connection:
        is_new = (
            connection.execute(
                sa.select(queue_pauses_table.c.what).where(queue_pauses_table.c.what == what)
            ).first()
            is None
        )
        statement = insert_for(connection)(queue_pauses_table).values(
            what=what, since=datetime.now(UTC), who=storable(who), why=storable(why)
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["what"], set_={"why": statement.excluded.why}
            )
        )
    return is_new


def resume(url: str, what: PauseReason) -> bool:
    """End the pause for this reason; whether there was one."""
    with engine_for(url).begin() as connection:
        gone = connection.execute(
            sa.delete(queue_pauses_table).where(queue_pauses_table.c.what == what)
        )
    return gone.rowcount > 0


def pauses(url: str) -> dict[PauseReason, Pause]:
    """The pauses that hold, by reason."""
    with engine_for(url).begin() as connection:
        rows = connection.execute(sa.select(queue_pauses_table)).all()
    return {row.what: Pause(row.what, row.since, row.who, row.why) for row in rows}
