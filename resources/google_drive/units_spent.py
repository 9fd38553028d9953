"""Units and requests per tenant and day: the table ``tailor.drive_units``.

Counted in memory and written now and then: a row per request would cost more than the request.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata
from resources.usage_meter import drive_meter

units_table = sa.Table(
    "drive_units",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
)

_WRITTEN_EVERY_S = 10.0


class UnitsSpent:
    """Counts one tenant's requests; used by many threads. ``flush`` when they are done."""

    def __init__(
        self, url: str, tenant: str, *, today: Callable[[], date] = lambda: datetime.now(UTC).date()
    ) -> None:
        """``url`` is the database's. A day begins at midnight UTC."""
        self._url, self._tenant, self._today = url, tenant, today
        self._lock = threading.Lock()
        self._units = self._requests = 0
        self._written_at = time.monotonic()

    def count(self, method: str, units: int) -> None:
        """Hear of a request (``GoogleApi``'s ``count``)."""
        drive_meter.add(api_units=units)
        with self._lock:
            self._units += units
            self._requests += 1
            due = time.monotonic() - self._written_at > _WRITTEN_EVERY_S
        if due:
            self.flush()

    def flush(self) -> None:
        """Add what was counted to the table."""
        with self._lock:
            units, requests = self._units, self._requests
            self._units = self._requests = 0
            self._written_at = time.monotonic()
        if not requests:
            return
        with engine_for(self._url).begin() as connection:
            statement = insert_for(connection)(units_table).values(
                tenant=self._tenant, day=self._today(), units=units, requests=requests
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["tenant", "day"],
                    set_={
                        "units": units_table.c.units + units,
                        "requests": units_table.c.requests + requests,
                    },
                )
            )


def units_of_day(url: str, day: date) -> dict[str, tuple[int, int]]:
    """(units, requests) of every tenant that asked for anything on ``day``."""
    query = sa.select(units_table).where(units_table.c.day == day)
    with engine_for(url).begin() as connection:
        return {row.tenant: (row.units, row.requests) for row in connection.execute(query).all()}
