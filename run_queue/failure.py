"""Failing for good: the one way for an asset to say that trying again will not help."""

from typing import NoReturn

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

MAX_RETRIES_TAG = "dagster/max_retries"
PERMANENT_FAILURE_TAG = "tailor/permanent_failure"


def no_retry_follows(instance: dg.DagsterInstance, run_id: str | None) -> None:
    """Say of a failed run that Dagster announced a retry for that there will be none.

    A backfill waits for what is announced, for ever.
    """
    run = instance.get_run_by_id(run_id) if run_id is not None else None
    if run is not None and run.is_complete_and_waiting_to_retry:
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})


def permanent_failure(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, sentence: str
) -> NoReturn:
    """Fail this step, and its run, without any retry.

    ``sentence`` says in plain words what is wrong, why, and what to do; it is what the UI shows.
    Call it after the other partitions of a range run have emitted their materializations: those
    stay. Works in every kind of instance, in ``tailor run``'s ephemeral one too.

    Raises ``dagster.Failure`` always.
    """
    # Failure(allow_retries=False) stops step retries only; run retries would still run the whole
    # thing twice more. The run's own limit is what they look at when the run has failed, so it has
    # to be there before that.
    context.instance.add_run_tags(
        context.run.run_id, {MAX_RETRIES_TAG: "0", PERMANENT_FAILURE_TAG: "yes"}
    )
    raise dg.Failure(description=sentence, allow_retries=False)
