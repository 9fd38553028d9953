"""Tells people: puts what is new into the outbox, and sends what is due."""

import threading
import time
from datetime import timedelta

import dagster as dg

from resources.notifications.outbox import forget_old
from resources.notifications.sender import CHANNELS, Sending, send_due
from resources.video_registry import VideoRegistry
from sensors.job_notifications import collect_job_news
from sensors.oldest_wait import watch_oldest_wait
from tailor_assets.compute.errors import PermanentProblem

# Nothing is begun after this; what is under way has timeouts of its own. Dagster stops a tick at 60 s.
_SECONDS_PER_TICK = 20.0
_LAST_MESSAGE_S = 15.0
# Longer than anything is asked about, and than a job that failed is kept.
_KEEP = timedelta(days=30)

# A server that answers a byte at a time holds its channel, and neither the tick nor the other channel.
_busy: dict[str, threading.Thread] = {}
_busy_lock = threading.Lock()


@dg.sensor(
    name="notifications",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells tenants of their jobs and operators of long waits, by e-mail and Slack.",
)
def notifications(registry: VideoRegistry) -> dg.SkipReason:
    """Launches nothing; says what was sent and what is in the way."""
    url = registry.database_url
    said = []
    collect_job_news(url)
    try:
        watch_oldest_wait(url)
    except PermanentProblem as problem:
        said.append(str(problem))
    forget_old(url, _KEEP)
    done = _send(url)
    for channel in CHANNELS:
        if channel not in done:
            said.append(f"{channel}: the server is slow, its message is still under way.")
            continue
        if done[channel].count:
            said.append(f"{channel}: {done[channel].count} sent.")
        said += [f"{channel}: {problem}" for problem in done[channel].problems]
    return dg.SkipReason(" ".join(said) or "Nothing to tell.")


def _send(url: str) -> dict[str, Sending]:
    """Each channel by itself; what came of those that are done in time."""
    until = time.monotonic() + _SECONDS_PER_TICK
    done: dict[str, Sending] = {}
    errors: list[Exception] = []

    def work(channel: str) -> None:
        try:
            done[channel] = send_due(url, channel, until)
        except Exception as error:
            errors.append(error)

    with _busy_lock:
        for channel in CHANNELS:
            if channel in _busy and _busy[channel].is_alive():
                continue
            _busy[channel] = threading.Thread(target=work, args=(channel,), daemon=True)
            _busy[channel].start()
        threads = list(_busy.values())
    for thread in threads:
        thread.join(max(0.0, until + _LAST_MESSAGE_S - time.monotonic()))
    if errors:
        raise errors[0]
    return dict(done)
