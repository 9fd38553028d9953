"""The audit log's mirrors get what they have not got yet; without a mirror nothing is done."""

import dagster as dg

from resources.audit.mirror_cursors import MirrorState, catch_up
from resources.audit.mirrors import BIGQUERY_VARIABLE, LOGGING_VARIABLE, configured_mirrors
from resources.video_registry import VideoRegistry
from tailor_assets.compute.errors import PermanentProblem


@dg.sensor(
    name="audit_mirrors",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Copies new records of the audit log to BigQuery and Cloud Logging, where configured.",
)
def audit_mirrors(context: dg.SensorEvaluationContext, registry: VideoRegistry) -> dg.SkipReason:
    """Launches nothing; says how far each mirror is."""
    try:
        mirrors = configured_mirrors()
    except PermanentProblem as problem:
        return dg.SkipReason(str(problem))
    if not mirrors:
        return dg.SkipReason(
            f"No mirror of the audit log is configured ({BIGQUERY_VARIABLE}, {LOGGING_VARIABLE})."
        )
    states = [catch_up(registry.database_url, mirror) for mirror in mirrors]
    return dg.SkipReason(" ".join(_in_words(state) for state in states))


def _in_words(state: MirrorState) -> str:
    if state.problem:
        return f"{state.mirror} is {state.behind} record(s) behind: {state.problem}"
    if state.behind:
        return f"{state.mirror} is {state.behind} record(s) behind and catching up."
    return f"{state.mirror} has all {state.seq} record(s)."
