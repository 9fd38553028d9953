"""What operators do to the queue without a shell: jobs for the Launchpad, each with a small form.

They have places of their own, so that they neither wait in the queue that they are about nor stop
when it is paused. What they do is in run_queue/operations.py, and in the audit.
"""

from collections.abc import Callable
from typing import Literal

import dagster as dg
from pydantic import Field

from resources.video_registry import VideoRegistry
from run_queue import operations
from run_queue.failure import permanent_failure
from tailor_assets.compute.errors import PermanentProblem

_MOST_JOBS = 1000


class _Signed(dg.Config):
    """Who does it and why; both are kept in the audit."""

    who: str = Field(description="Your name.")
    why: str = Field(description="Why, in a few words.")

    def require_sense(self) -> None:
        """Raises PermanentProblem. A check of the field's would end in a traceback, and be retried."""
        for name, text, longest in (("who", self.who, 100), ("why", self.why, 500)):
            if not 0 < len(text.strip()) <= longest:
                raise PermanentProblem(
                    f"`{name}` is empty or longer than {longest} characters: it is kept in the audit, "
                    "so say it in a few words."
                )


class _SomeJobs(_Signed):
    jobs: list[str] = Field(
        description="Ids of runs or jobs (8 characters are enough), or partition keys of videos.",
    )


class CancelRuns(_SomeJobs):
    """Config of ``cancel_runs``."""


class RetryRuns(_SomeJobs):
    """Config of ``retry_runs``."""


class ReprioritiseRuns(_SomeJobs):
    """Config of ``reprioritise_runs``."""

    priority: Literal["1", "5", "10"] = Field(description="1: urgent, 5: normal, 10: low.")


class PauseQueue(_Signed):
    """Config of ``pause_queue``."""


class ResumeQueue(_Signed):
    """Config of ``resume_queue``."""

    what: Literal["operator", "heat", "depth", "failures"] = Field(
        default="operator", description="Which pause; heat and depth begin again where they hold."
    )


@dg.op(name="cancel_runs_op")
def _cancel(context: dg.OpExecutionContext, config: CancelRuns, registry: VideoRegistry) -> None:
    _each(
        context,
        config,
        lambda name: operations.cancel(
            registry.database_url, context.instance, name, who=config.who, why=config.why
        ),
    )


@dg.op(name="retry_runs_op")
def _retry(context: dg.OpExecutionContext, config: RetryRuns, registry: VideoRegistry) -> None:
    _each(
        context,
        config,
        lambda name: operations.retry(registry.database_url, name, who=config.who, why=config.why),
    )


@dg.op(name="reprioritise_runs_op")
def _reprioritise(
    context: dg.OpExecutionContext, config: ReprioritiseRuns, registry: VideoRegistry
) -> None:
    _each(
        context,
        config,
        lambda name: operations.reprioritise(
            registry.database_url,
            context.instance,
            name,
            int(config.priority),
            who=config.who,
            why=config.why,
        ),
    )


@dg.op(name="pause_queue_op")
def _pause(context: dg.OpExecutionContext, config: PauseQueue, registry: VideoRegistry) -> None:
    _check(context, config)
    said = operations.pause_queue(registry.database_url, who=config.who, why=config.why)
    context.log.info(said)


@dg.op(name="resume_queue_op")
def _resume(context: dg.OpExecutionContext, config: ResumeQueue, registry: VideoRegistry) -> None:
    _check(context, config)
    said = operations.resume_queue(
        registry.database_url, who=config.who, why=config.why, what=config.what
    )
    context.log.info(said)


def _each(context: dg.OpExecutionContext, config: _SomeJobs, do: Callable[[str], str]) -> None:
    """Do it to all of them; what could not be done is said at the end, and fails the run."""
    _check(context, config)
    if not 0 < len(config.jobs) <= _MOST_JOBS:
        permanent_failure(
            context, f"`jobs` has {len(config.jobs)} entries: give 1 to {_MOST_JOBS} of them."
        )
    problems = []
    for name in config.jobs:
        try:
            context.log.info(do(name))
        except PermanentProblem as problem:
            problems.append(str(problem))
            context.log.error(str(problem))
    if problems:
        permanent_failure(
            context,
            f"{len(config.jobs) - len(problems)} of {len(config.jobs)} were done. "
            f"{' '.join(problems)}",
        )


def _check(context: dg.OpExecutionContext, config: _Signed) -> None:
    try:
        config.require_sense()
    except PermanentProblem as problem:
        permanent_failure(context, str(problem))


@dg.job(description="Cancel jobs that wait or run: what they hold is free within a minute.")
def cancel_runs() -> None:
    """By run, job or video."""
    _cancel()


@dg.job(description="Try parked or cancelled jobs again, from where they had come.")
def retry_runs() -> None:
    """By run, job or video."""
    _retry()


@dg.job(description="Give waiting jobs another priority: 1 urgent, 5 normal, 10 low.")
def reprioritise_runs() -> None:
    """By run, job or video."""
    _reprioritise()


@dg.job(description="Start nothing more; what is under way goes on. Uploads are still noticed.")
def pause_queue() -> None:
    """Until resume_queue."""
    _pause()


@dg.job(description="End the pause that an operator began.")
def resume_queue() -> None:
    """After pause_queue."""
    _resume()


QUEUE_JOBS = [cancel_runs, retry_runs, reprioritise_runs, pause_queue, resume_queue]
