"""Sends what is due on one channel, for as long as it may."""

import time
from dataclasses import dataclass

from resources.notifications.delivery import NotDelivered, Undeliverable
from resources.notifications.recipients import email_addresses, slack_webhook
from resources.notifications.slack import send_to_slack
from resources.notifications.smtp import (
    URL_VARIABLE,
    compose,
    is_configured,
    mail_server,
    send_mail,
)
from resources.notifications.turns import Notification, due, failed, given_up, sent, waiting
from tailor_assets.compute.errors import PermanentProblem

CHANNELS = ("email", "slack")


@dataclass(frozen=True)
class Sending:
    """How many were sent, and what was in the way of others."""

    count: int
    problems: tuple[str, ...] = ()


def send_due(url: str, channel: str, until: float) -> Sending:
    """Send what is due on a channel, beginning nothing after ``until`` (of time.monotonic).

    Stops early where the channel itself is out of order.
    """
    if channel == "email":
        if not is_configured():
            count = waiting(url, channel)
            none = f"{count} message(s) wait for a mail server: set {URL_VARIABLE}."
            return Sending(0, (none,) if count else ())
        try:
            mail_server()
        except PermanentProblem as problem:
            # Nothing is tried, so nothing is given up for it before its time.
            return Sending(0, (str(problem),))
    count, problems = 0, []
    while time.monotonic() < until:
        message = due(url, channel)
        if message is None:
            break
        try:
            sent(url, message, _deliver(url, message))
            count += 1
        except Undeliverable as problem:
            given_up(url, message, str(problem))
            problems.append(str(problem))
        except NotDelivered as problem:
            failed(url, message, str(problem), problem.wait)
            problems.append(str(problem))
            if problem.server:
                break
    return Sending(count, tuple(dict.fromkeys(problems)))


def _deliver(url: str, message: Notification) -> str | None:
    """Send one; what was amiss although it went. Raises NotDelivered and Undeliverable."""
    try:
        if message.channel == "email":
            recipients = email_addresses(url, message.tenant)
            if not recipients:
                raise Undeliverable("E-mail is not wanted there any more.")
            server = mail_server()
            mail = compose(
                server.sender,
                recipients,
                name=message.name,
                subject=f"[tailor] {message.subject}",
                body=message.body,
                date=message.created_at,
            )
            return send_mail(server, mail, recipients)
        webhook = slack_webhook(url, message.tenant)
        if webhook is None:
            raise Undeliverable("Slack is not wanted there any more.")
        send_to_slack(webhook, message.subject, message.body)
        return None
    except PermanentProblem as problem:
        # A setting is wrong or missing, which an operator mends.
        raise NotDelivered(str(problem)) from None


def send_now(url: str, message: Notification) -> str:
    """Send one that is in no outbox, to try the channel; one sentence that says how it went.

    Raises PermanentProblem where it did not go.
    """
    if message.channel == "email" and not is_configured():
        raise PermanentProblem(f"{URL_VARIABLE} is not set: give the mail server that takes mail.")
    try:
        amiss = _deliver(url, message)
    except (NotDelivered, Undeliverable) as problem:
        raise PermanentProblem(str(problem)) from None
    return amiss or "sent"
