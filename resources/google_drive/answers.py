"""What an error of the Drive means: a pure function from what came back to what is to be done.

The reasons are those of the Drive v3 documentation ("Resolve errors"); the same status stands for
things that pass by themselves and for things that only a person can mend, so the reason decides.
"""

import json
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from time import time


class Kind(Enum):
    """What is to be done about an error."""

    RETRY = "try again in a moment"
    WAIT = "try again in hours"
    PARK = "keep the results here and go on when there is room"
    ASK = "the user must do something"
    GIVE_UP = "this request will never be answered"
    GONE = "there is no such thing, or it may not be seen"
    DONE_BEFORE = "an earlier request has done it"


@dataclass(frozen=True)
class Answer:
    """An error, understood.

    ``reason`` is Google's word (``storageQuotaExceeded``); ``message`` Google's sentence;
    ``retry_after_s`` what the server asks for, where it does.
    """

    kind: Kind
    status: int
    reason: str
    message: str
    retry_after_s: float | None = None


# Rates: of the user, of the project, of sharing.
_TOO_FAST = {
    "userRateLimitExceeded",
    "rateLimitExceeded",
    "sharingRateLimitExceeded",
    "quotaExceeded",
    "backendError",
    "internalError",
    "transientError",
}
_TOMORROW = {"dailyLimitExceeded", "downloadQuotaExceeded", "dailyLimitExceededUnreg"}
_FULL = {
    "storageQuotaExceeded",
    "teamDriveFileLimitExceeded",
    "numChildrenInNonRootLimitExceeded",
    "activeItemCreationLimitExceeded",
}
_RETRIED = {408, 429, 500, 502, 503, 504}


def understand(status: int, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Say what an error response means. ``headers`` with names in lower case."""
    reason, message = _reason_of(body)
    kind = _kind_of(status, reason)
    return Answer(kind, status, reason, message, _retry_after(headers or {}))


def _kind_of(status: int, reason: str) -> Kind:
    if reason in _FULL:
        return Kind.PARK
    if reason in _TOMORROW:
        return Kind.WAIT
    if status in _RETRIED or (status == 403 and reason in _TOO_FAST):
        return Kind.RETRY
    if status in (404, 410):
        return Kind.GONE
    if status == 409:
        return Kind.DONE_BEFORE
    if status in (401, 403):
        return Kind.ASK
    return Kind.GIVE_UP


def _reason_of(body: bytes) -> tuple[str, str]:
    try:
        error = json.loads(body)["error"]
        if isinstance(error, str):  # the token endpoint's form, RFC 6749
            return error, str(json.loads(body).get("error_description", ""))
        details = (error.get("errors") or [{}])[0]
        return str(details.get("reason", "")), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "", body[:200].decode("utf-8", "replace")


def _retry_after(headers: dict[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, TypeError):
        return None
