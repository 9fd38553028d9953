"""The sensor that keeps videos off a GPU that is too hot or gone, until it is fit again.

Each tick compares what should hold (run_queue/heat.py) with what holds, and mends the difference; so
it does not matter who died or changed something in between. What it does first is what matters most:
the pool; then the pause is written down, with the audit, and told.
"""

from datetime import UTC, datetime

import dagster as dg

from resources.audit.log import record
from resources.gpu_readings import GpuState, read_gpus
from resources.video_registry import VideoRegistry
from run_queue.coordinator import GPU_POOL
from run_queue.gpu_pool import close_gpu_pool, open_gpu_pool, places, tag_waiting_runs
from run_queue.heat import Verdict, describe, judge
from run_queue.pauses import Pause, pause, pauses, resume

_WHO = "queue_guard"


@dg.sensor(
    name="queue_guard",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Lets no further video onto a GPU that is too hot (above 80 C, until below 70 C) or "
    "has dropped out. Its ticks say what the GPUs read.",
)
def queue_guard(context: dg.SensorEvaluationContext, registry: VideoRegistry) -> dg.SkipReason:
    """Launches nothing; what it says is the state."""
    return dg.SkipReason(guard_queue(context.instance, registry.database_url, read_gpus()))


def guard_queue(instance: dg.DagsterInstance, url: str, state: GpuState) -> str:
    """Make so what should hold with these readings; readings and state, for people."""
    pause_now = pauses(url).get("heat")
    verdict = judge(state, paused=pause_now is not None)
    if verdict.paused:
        close_gpu_pool(instance)
        if pause_now is None:
            _record(url, "queue.paused", verdict, state)
        # Each time: the sentence says what is now.
        pause(url, "heat", who=_WHO, why=verdict.why)
        key = _key(pause_now or pauses(url)["heat"], verdict.cause)
        _alert(url, key, "The GPU queue is paused", verdict.why)
    else:
        open_gpu_pool(instance)
        if pause_now is not None:
            _record(url, "queue.resumed", verdict, state)
            _alert(url, _key(pause_now, "end"), "The GPU queue goes on", describe(state))
            resume(url, "heat")
        if verdict.cause == "unreadable":
            # Not a pause, so nothing has written down since when: once a day, then.
            today = datetime.now(UTC).date().isoformat()
            _alert(url, f"{today}:unreadable", "The GPU cannot be watched", verdict.why)
    tag_waiting_runs(instance)
    return f"{describe(state)} {_state(instance, verdict)}"


def _state(instance: dg.DagsterInstance, verdict: Verdict) -> str:
    now, owed = places(instance)
    if verdict.paused:
        return f"Paused: {verdict.why}"
    sentence = f"{verdict.why} Videos on the GPU at a time: {now}."
    if owed > 0:
        sentence += f" {owed} more when videos from before the pause are done."
    return sentence


def _record(url: str, action: str, verdict: Verdict, state: GpuState) -> None:
    details = {"cause": verdict.cause, "why": verdict.why, "readings": describe(state)}
    record(url, actor=_WHO, action=action, subject=GPU_POOL, details=details)


def _key(of: Pause, what: str) -> str:
    """Once per pause and thing to say."""
    return f"{of.since.astimezone(UTC).isoformat()}:{what}"


def _alert(url: str, key: str, subject: str, text: str) -> None:
    from resources.notifications.outbox import alert

    alert(url, key=f"queue_guard:{key}", subject=subject, text=text)
