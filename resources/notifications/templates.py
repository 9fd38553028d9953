"""The words: subject and text of every kind of message."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from resources.notifications.plain_text import one_line

WEB_VARIABLE = "TAILOR_WEB_URL"
_LONGEST_NAME = 100
_LONGEST_CAUSE = 1000
_DIGEST_LINES = 100


@dataclass(frozen=True)
class JobNews:
    """What there is to say of a job. ``video``: what its owner calls it. ``waiting_for``: what the
    video still waits for, although the job is done."""

    tenant: str
    job_name: str
    video: str
    run_id: str | None = None
    results_name: str | None = None
    attempts: int = 1
    cause: str | None = None
    action: str | None = None
    waiting_for: str | None = None


_TEXTS = {
    "started": (
        "$video: started",
        "The job $job of the video \"$video\" of $tenant has started.\n$link",
    ),
    "finished": (
        "$video: finished",
        "The job $job of the video \"$video\" of $tenant is finished.\n"
        "Results: tailor/results/$results/ in the Drive.\n$link",
    ),
    "waiting": (
        "$video: waits for $waiting",
        "The video \"$video\" of $tenant waits for $waiting: give them in a tailor.json beside the "
        "video; it goes on by itself then.\n$link",
    ),
    "failed": (
        "$video: failed",
        "The job $job of the video \"$video\" of $tenant has failed for good$tries.\n"
        "Why: $cause\nWhat to do: $action\n$link",
    ),
}  # fmt: skip
_NO_ACTION = "have it tried again with `tailor queue retry` or the job retry_runs."

_COUNTED = {
    "failed": ("job failed", "jobs failed"),
    "finished": ("job finished", "jobs finished"),
    "started": ("job started", "jobs started"),
    "alert": ("alert", "alerts"),
}


def job_message(kind: str, news: JobNews) -> tuple[str, str]:
    """Subject and text. ``kind``: started, finished or failed."""
    form = "waiting" if kind == "finished" and news.waiting_for else kind
    subject, body = _TEXTS[form]
    values = {
        "tenant": one_line(news.tenant, _LONGEST_NAME),
        "job": one_line(news.job_name, _LONGEST_NAME),
        "video": one_line(news.video, _LONGEST_NAME),
        "results": one_line(news.results_name or news.video, _LONGEST_NAME),
        "waiting": one_line(news.waiting_for or "", _LONGEST_NAME),
        "tries": f", after {news.attempts} attempts" if news.attempts > 1 else "",
        "cause": one_line(news.cause or "not known", _LONGEST_CAUSE),
        "action": one_line(news.action or _NO_ACTION, _LONGEST_CAUSE),
        "link": run_link(news.run_id),
    }
    return _filled(subject, values), _filled(body, values).rstrip() + "\n"


def _filled(text: str, values: dict[str, str]) -> str:
    # In one pass: a name with a dollar sign in it is not filled in again.
    return Template(text).substitute(values)


def run_link(run_id: str | None) -> str:
    """Where the web page shows the run, where TAILOR_WEB_URL says where the web page is."""
    page = os.environ.get(WEB_VARIABLE, "").strip().rstrip("/")
    return f"Run: {page}/runs/{run_id}" if page and run_id else ""


def digest(messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """One message in the place of many, given as kind and subject; failures come first."""
    counts = Counter(kind for kind, _ in messages)
    parts = [
        f"{counts[kind]} more {names[0] if counts[kind] == 1 else names[1]}"
        for kind, names in _COUNTED.items()
        if counts[kind]
    ]
    subject = ", ".join(parts)
    order = list(_COUNTED)
    lines = [
        line
        for _, line in sorted(messages, key=lambda m: order.index(m[0]) if m[0] in order else -1)
    ]
    left_out = len(lines) - _DIGEST_LINES
    if left_out > 0:
        lines = [*lines[:_DIGEST_LINES], f"... and {left_out} more"]
    body = "So much happened that it is said in one message:\n" + "".join(
        f"- {line}\n" for line in lines
    )
    return subject, body
