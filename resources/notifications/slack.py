"""Messages into a Slack channel, through an incoming webhook (api.slack.com/messaging/webhooks)."""

import json
import urllib.error
import urllib.request
from datetime import timedelta
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from resources.notifications.delivery import NotDelivered, Undeliverable
from resources.notifications.plain_text import one_line
from tailor_assets.compute.errors import PermanentProblem

_TIMEOUT_S = 10
_LOCAL = ("127.0.0.1", "localhost", "::1")
# Slack cuts texts at 40,000 characters.
_LONGEST_TEXT = 12_000
_LONGEST_WAIT = timedelta(hours=1)


def check_webhook(webhook: str, where: str = "That") -> str:
    """The webhook. Raises PermanentProblem for what is none; it is a secret and never repeated."""
    try:
        parts = urlsplit(webhook)
        is_one = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        is_one = is_one and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not webhook.isascii() or any(char.isspace() for char in webhook):
        raise PermanentProblem(
            f"{where} is not a Slack webhook: give its address, which begins with "
            "https://hooks.slack.com/, or env:NAME for the environment variable that holds it."
        )
    return webhook


def escaped(text: str) -> str:
    """Text that Slack shows as it is: no mention, no link under another name."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        # What is written is for that address alone.
        return None


def send_to_slack(webhook: str, subject: str, body: str) -> None:
    """Write one message into the channel.

    Raises NotDelivered where it may work later, Undeliverable where it will not.
    """
    text = f"*{escaped(subject)}*\n{escaped(body[:_LONGEST_TEXT])}"
    payload = {"text": text, "unfurl_links": False, "unfurl_media": False, "link_names": False}
    request = urllib.request.Request(
        webhook,
        data=json.dumps(payload).encode(),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=_TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        with error:
            said = _first_words(error)
        problem = f"Slack refuses the message ({error.code} {said})."
        if error.code == 429 or error.code >= 500:
            raise NotDelivered(problem, wait=_wait(error.headers.get("Retry-After"))) from None
        raise Undeliverable(problem) from None
    except (OSError, HTTPException, ValueError) as error:
        # Without the error's own words, which may hold the address.
        reason = getattr(error, "reason", error)
        raise NotDelivered(f"Slack cannot be reached ({type(reason).__name__}).") from None


def _first_words(error: urllib.error.HTTPError) -> str:
    try:
        return one_line(error.read(1000).decode(errors="replace"), 100)
    except (OSError, HTTPException):
        return ""


def _wait(seconds: str | None) -> timedelta:
    if seconds is None or not seconds.isascii() or not seconds.isdigit():
        return timedelta(0)
    return min(timedelta(seconds=min(int(seconds), 100_000)), _LONGEST_WAIT)
