"""Asks again for retries that Dagster lost (run_queue/lost_retries.py says how it loses them)."""

import dagster as dg

from run_queue.lost_retries import ask_again_for_lost_retries


@dg.sensor(
    name="lost_retries",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks again for retries of failed runs that were due and did not start.",
)
def lost_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Launches nothing itself: the retry comes from Dagster, with everything it brings along."""
    asked = ask_again_for_lost_retries(context.instance)
    if not asked:
        return dg.SkipReason("No retry is late.")
    return dg.SkipReason(f"Asked again for the retry of {', '.join(asked)}.")
