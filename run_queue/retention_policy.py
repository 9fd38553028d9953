"""How long what is over is kept, read from the environment when something asks."""

import os
from dataclasses import dataclass
from datetime import timedelta

from tailor_assets.compute.errors import PermanentProblem


@dataclass(frozen=True)
class RetentionPolicy:
    """The environment's answers; ``docs/operating.md`` lists the variables for people."""

    finished: timedelta = timedelta(hours=24)
    """TAILOR_KEEP_FINISHED_HOURS: completed and cancelled jobs, and at least as long as this ..."""
    finished_jobs: int = 100
    """TAILOR_KEEP_FINISHED_JOBS: ... the last so many of them, however old."""
    failed: timedelta = timedelta(days=7)
    """TAILOR_KEEP_FAILED_DAYS: jobs that were parked, and runs that failed."""
    artifacts: timedelta | None = None
    """TAILOR_KEEP_ARTIFACTS_DAYS: working copies of what is published; None: for ever."""
    timeline: timedelta = timedelta(days=400)
    """TAILOR_KEEP_TIMELINE_DAYS: when each run did what, and what it cost."""

    @property
    def memory(self) -> timedelta:
        """For so long it is known of every job, however it ended, that there was one."""
        return min(self.finished, self.failed)


def load_retention_policy() -> RetentionPolicy:
    """Read the environment now. Raises PermanentProblem for what is no whole number of 1 or more."""
    artifacts = os.environ.get("TAILOR_KEEP_ARTIFACTS_DAYS")
    return RetentionPolicy(
        finished=timedelta(hours=_number("TAILOR_KEEP_FINISHED_HOURS", 24)),
        finished_jobs=_number("TAILOR_KEEP_FINISHED_JOBS", 100, least=0),
        failed=timedelta(days=_number("TAILOR_KEEP_FAILED_DAYS", 7)),
        artifacts=timedelta(days=_number("TAILOR_KEEP_ARTIFACTS_DAYS", 0)) if artifacts else None,
        timeline=timedelta(days=_number("TAILOR_KEEP_TIMELINE_DAYS", 400)),
    )


# Ten centuries of days; beyond that dates end.
_MOST = 365_000


def _number(name: str, default: int, *, least: int = 1) -> int:
    text = (os.environ.get(name) or str(default)).strip()
    if not (text.isascii() and text.isdigit() and least <= int(text) <= _MOST):
        raise PermanentProblem(
            f"{name} is {text!r}: give a whole number from {least} to {_MOST}, or leave it empty for "
            "what docs/operating.md says."
        )
    return int(text)
