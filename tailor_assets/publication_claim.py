"""A run's claim on a publication: in its turn, and parked where it cannot be for now."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg

from resources.drive import DriveFull, DriveMustWait, UserMustAct
from resources.publications import PublicationFence, claim_publication
from resources.video_registry import VideoRegistry
from run_queue.failure import permanent_failure

# Limits other than that of storage end at some hour, or by what somebody does; nobody says when.
_LONG_REST = timedelta(hours=1)
# Where there is said to be room, and there is none, it must not be tried every minute.
_SHORT_REST = timedelta(minutes=10)


@contextmanager
def publication(
    context: dg.AssetExecutionContext,
    registry: VideoRegistry,
    what: str,
    files: Mapping[str, Path],
) -> Iterator[PublicationFence]:
    """Claim the publication of ``what`` ("results", "frames") for this run, by when it was made.

    Where the Drive is full, gives no more today, or its owner has to do something, the publication
    is parked and the run fails without a retry: its results are kept, and published when it can be.
    Raises Superseded where a run that was made later has claimed it.
    """
    record = context.instance.get_run_record_by_id(context.run.run_id)
    fence = claim_publication(
        registry.database_url,
        context.partition_key,
        what,
        run_id=context.run.run_id,
        created_at=record.create_timestamp.timestamp() if record is not None else 0.0,
    )
    try:
        yield fence
    except (DriveFull, DriveMustWait, UserMustAct) as problem:
        size = sum(path.stat().st_size for path in files.values())
        if isinstance(problem, DriveFull) and problem.missing_bytes is not None:
            size = problem.missing_bytes
        fence.park(str(problem), size, _rest(problem))
        permanent_failure(
            context, f"{problem} The results are kept, and published as soon as it can be."
        )


def _rest(problem: Exception) -> timedelta:
    if isinstance(problem, UserMustAct):
        return timedelta()  # until it is connected again
    return _SHORT_REST if isinstance(problem, DriveFull) and problem.storage else _LONG_REST
