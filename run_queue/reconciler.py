"""Finds what the event handlers missed, and mends it.

Each finding (run_queue/reconciling/) is a function of one look; it compares what ought to be with what
is, mends the difference, and returns what it mended as sentences. Nothing depends on what an earlier
look saw, so looking twice, or at once, or while everything works, changes nothing more.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

import sqlalchemy as sa

from resources.drive import DriveUnavailable
from run_queue.one_at_a_time import RECONCILER_LOCK, only_one
from run_queue.reconciling.left_behind import orphan_uploads, stray_files
from run_queue.reconciling.look import Look
from run_queue.reconciling.missed_jobs import (
    limits_of_the_day,
    lost_videos,
    overdue_retries,
    unstarted_runs,
    vanished_runs,
)
from run_queue.reconciling.missed_publications import (
    frames_that_did_not_follow,
    unpublished_results,
)
from tailor_assets.compute.errors import PermanentProblem

_FORESEEN = (OSError, sa.exc.SQLAlchemyError, DriveUnavailable, PermanentProblem)

logger = logging.getLogger("tailor.queue")


def mend(look: Look, *, sweep: bool, stray_age: timedelta = timedelta(hours=1)) -> list[str] | None:
    """Mend all that can be; sentences of what was, or could not be. None: another look is under way.

    ``sweep``: also look for files that were left behind, which takes longer. Those that are younger
    than ``stray_age`` are left alone. What was mended is in the audit log.
    """
    findings: list[Callable[[Look], list[str]]] = [
        lost_videos,
        vanished_runs,
        unstarted_runs,
        overdue_retries,
        limits_of_the_day,
        unpublished_results,
        frames_that_did_not_follow,
        orphan_uploads,
    ]
    if sweep:
        findings.append(lambda look: stray_files(look, stray_age))
    said = []
    with only_one(look.url, RECONCILER_LOCK) as alone:
        if not alone:
            return None
        for finding in findings:
            try:
                mended = finding(look)
            except Exception as error:
                # One that cannot be looked at must not hide the others, whatever it met.
                if not isinstance(error, _FORESEEN):
                    logger.exception("A finding of the reconciler's failed.")
                first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                said.append(f"Not all could be looked at: {first_line}")
                continue
            _audit(look.url, mended)
            said += mended
    return said


def _audit(url: str, mended: Sequence[str]) -> None:
    from resources.audit.log import record

    if mended:
        record(
            url,
            actor="reconciler",
            action="reconciler.mend",
            subject="what was missed",
            details={"mended": list(mended)},
        )
