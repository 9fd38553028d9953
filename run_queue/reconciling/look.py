"""What a look of the reconciler has to look at, and what its findings share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from resources.artifact_store import ArtifactStore
from resources.database import engine_for
from resources.drive import Drive
from resources.publications import publications_table
from resources.video_registry import VideoRegistry
from run_queue.job_ledger import JobRow

# What is younger may be on its way.
SETTLED = timedelta(minutes=2)
# Of one kind, in one look.
AT_A_TIME = 500


@dataclass(frozen=True)
class Look:
    """What a look has to look at.

    ``memory``: for how long jobs that are over are still listed. What happened earlier cannot be
    told from what never happened, and is left alone. ``home`` is TAILOR_HOME.
    """

    instance: dg.DagsterInstance
    registry: VideoRegistry
    store: ArtifactStore
    drive: Drive
    home: Path
    memory: timedelta

    @property
    def url(self) -> str:
        """Of the database."""
        return self.registry.database_url


def parked_publications(url: str, keys: Sequence[str], what: str | None = None) -> set[str]:
    """Those of the videos ``keys`` whose publication waits, of ``what`` or of anything."""
    table = publications_table
    query = sa.select(table.c.partition_key).where(
        table.c.partition_key.in_(list(keys)),
        table.c.parked_at.is_not(None),
        sa.true() if what is None else table.c.what == what,
    )
    with engine_for(url).begin() as connection:
        return set(connection.execute(query).scalars())


def name_of(job: JobRow) -> str:
    """The job in words."""
    return f"{job.job_name} of {job.partition_key}" if job.partition_key else job.job_name
