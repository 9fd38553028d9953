"""What a run costs and when it did what, kept in its row of ``tailor.job_runs`` while it works.

Asset modules wrap what costs something: transfers in ``metered``, segmentation in ``gpu_time``. Each
adds to the row of its run, however the step ends, and every ten seconds meanwhile, so that of a run
that is killed only the last seconds are missing. A run that no queue has submitted (``tailor run``)
has no row, and then nothing is written. Keeping accounts never makes a run fail.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import sqlalchemy as sa

from resources.database import engine_for
from resources.usage_meter import DriveUsage, drive_meter
from run_queue.job_tables import job_runs_table
from sam2_worker.request import DeviceInUse

_WRITTEN_EVERY_S = 10.0


class _RunRow:
    """The row of the run that a step belongs to."""

    def __init__(self, context: dg.AssetExecutionContext, url: str) -> None:
        self._run_id, self._log, self._url = context.run.run_id, context.log, url
        # An SQLite registry is `tailor run`'s: it has no queue.
        self.is_kept = bool(url) and not url.startswith("sqlite:")

    def update(self, values: Mapping[str, Any]) -> bool:
        """Set columns; whether it could be done."""
        if not self.is_kept or not values:
            return True
        query = sa.update(job_runs_table).where(job_runs_table.c.run_id == self._run_id)
        try:
            with engine_for(self._url).begin() as connection:
                connection.execute(query.values(**values))
        except sa.exc.SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            self._log.warning(f"what this run costs could not be written down ({reason})")
            return False
        return True


class _Amounts:
    """Amounts that ``read`` tells as they grow, and what of them the row has already."""

    def __init__(self, row: _RunRow, read: Callable[[], Mapping[str, float]]) -> None:
        self._row, self._read = row, read
        self._written: Mapping[str, float] = {}

    def write(self, also: Mapping[str, Any] | None = None) -> None:
        """Add what has grown since, and set what is given besides."""
        amounts = self._read()
        grown = {
            name: job_runs_table.c[name] + (amount - self._written.get(name, 0))
            for name, amount in amounts.items()
            if amount != self._written.get(name, 0)
        }
        if self._row.update({**grown, **(also or {})}):
            self._written = amounts

    @contextmanager
    def kept_up(self, at_end: Callable[[], Mapping[str, Any]] = dict) -> Iterator[None]:
        """Write every ten seconds, and when the block ends, however it does; then ``at_end``, too."""
        done = threading.Event()

        def keep_up() -> None:
            while not done.wait(_WRITTEN_EVERY_S):
                self.write()

        thread = threading.Thread(target=keep_up, name="usage of the run", daemon=True)
        if self._row.is_kept:
            thread.start()
        try:
            yield
        finally:
            done.set()
            if thread.is_alive():
                thread.join()
            self.write(at_end())


class StepUsage:
    """What a step has used of Drives so far."""

    def __init__(self, row: _RunRow) -> None:
        """From now on."""
        self._row, self._before = row, drive_meter.reading()

    def so_far(self) -> DriveUsage:
        """Since the step began."""
        return drive_meter.reading() - self._before

    def metadata(self) -> dict[str, int]:
        """The same for an asset's metadata."""
        return {name.replace("_", " "): n for name, n in asdict(self.so_far()).items()}

    def note_published(self) -> None:
        """The results are in the Drive, with their manifest: now."""
        self._row.update({"published_at": datetime.now(UTC)})


@contextmanager
def metered(context: dg.AssetExecutionContext, url: str) -> Iterator[StepUsage]:
    """Add the API units and bytes that the block uses to the run's row.

    ``url`` is the registry's database. For processes that work for one run: the block is charged
    with all that its process uses meanwhile.
    """
    row = _RunRow(context, url)
    usage = StepUsage(row)
    with _Amounts(row, lambda: asdict(usage.so_far())).kept_up():
        yield usage


class GpuClock:
    """How long a segmentation has taken, without its wait for a GPU that somebody else held."""

    def __init__(self, row: _RunRow) -> None:
        """Starts now."""
        self._row, self._began = row, time.monotonic()
        self._waited = 0.0
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """So far."""
        end = time.monotonic() if self._ended is None else self._ended
        return max(end - self._began - self._waited, 0.0)

    def runs_on(self, device: DeviceInUse) -> None:
        """Hear what is segmented on, and how long that was waited for."""
        self._waited += device.waited_s
        self._row.update({"gpu_uuid": device.gpu_uuid, "gpu_name": device.gpu_name})

    def stop(self) -> None:
        """The segmentation has ended."""
        self._ended = time.monotonic()


@contextmanager
def gpu_time(context: dg.AssetExecutionContext, url: str) -> Iterator[GpuClock]:
    """Keep when the block began and ended, and add its seconds, in the run's row.

    The seconds are those in which the run segments and nobody else can have its place in the pool
    ``gpu``, whether a GPU does it or not; ``gpu_uuid`` is null where none does. Several segmentations
    of a run add up, from the start of the first to the end of the last.
    """
    row = _RunRow(context, url)
    started = sa.func.coalesce(job_runs_table.c.gpu_started_at, datetime.now(UTC))
    row.update({"gpu_started_at": started, "gpu_finished_at": None})
    clock = GpuClock(row)

    def ended() -> dict[str, Any]:
        return {"gpu_finished_at": datetime.now(UTC)}

    with _Amounts(row, lambda: {"gpu_seconds": clock.seconds}).kept_up(ended):
        try:
            yield clock
        finally:
            clock.stop()
