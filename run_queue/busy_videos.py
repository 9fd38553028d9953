"""Which videos somebody works on or is about to: whose files and artifacts have to be left alone."""

from dataclasses import dataclass

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG

from resources.database import engine_for
from run_queue.job_tables import UNFINISHED_STATES, jobs_table


@dataclass(frozen=True)
class BusyVideos:
    """``in`` says whether a video, by its partition key, is one of them."""

    partitions: frozenset[str]
    every: bool
    """A run over a range of partitions is under way, and any may be in it."""

    def __contains__(self, partition_key: object) -> bool:
        return self.every or partition_key in self.partitions


def busy_videos(instance: dg.DagsterInstance, url: str) -> BusyVideos:
    """Videos with an unfinished job or run, as it is now."""
    query = sa.select(jobs_table.c.partition_key).where(
        jobs_table.c.state.in_(UNFINISHED_STATES), jobs_table.c.partition_key.is_not(None)
    )
    with engine_for(url).begin() as connection:
        partitions = set(connection.execute(query).scalars())
    # After the jobs: one that came to Dagster's queue meanwhile is then among the runs.
    runs = instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    partitions |= {run.tags[PARTITION_NAME_TAG] for run in runs if PARTITION_NAME_TAG in run.tags}
    every = any(ASSET_PARTITION_RANGE_START_TAG in run.tags for run in runs)
    return BusyVideos(frozenset(partitions), every)
