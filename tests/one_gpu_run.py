"""A run in a process of its own: a step without a pool, then one that holds the GPU until told.

Dagster's logging stops for good where two threads of a process run something. Arguments: the folder
of dagster.yaml, the database's URL, the run's id, and a folder: the step makes the file ``on_gpu`` in
it, and ends when ``may_end`` is there.
"""

import sys
import time
from pathlib import Path

import dagster as dg

from run_queue.pool_polling import poll_pools_every_second
from tailor_assets.services.health import open_instance

dagster_home, url, run_id, folder = sys.argv[1:]


@dg.asset
def decoded() -> None:
    """Needs no pool."""


@dg.asset(deps=[decoded], pool="gpu")
def segmented() -> None:
    """Holds the GPU."""
    (Path(folder) / "on_gpu").touch()
    while not (Path(folder) / "may_end").exists():
        time.sleep(0.1)


poll_pools_every_second()
definitions = dg.Definitions([decoded, segmented], jobs=[dg.define_asset_job("video")])
with open_instance(Path(dagster_home), url) as instance:
    definitions.resolve_job_def("video").execute_in_process(instance=instance, run_id=run_id)
