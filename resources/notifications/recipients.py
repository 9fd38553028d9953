"""To whom a message goes: looked up when it is sent, so that a change counts at once."""

import os

from resources.notifications.preferences import open_webhook, preference_of
from resources.notifications.slack import check_webhook
from resources.notifications.smtp import check_address

# The tenant that stands for the operators.
OPERATORS = ""
EMAIL_VARIABLE = "TAILOR_OPERATOR_EMAIL"
SLACK_VARIABLE = "TAILOR_OPERATOR_SLACK_WEBHOOK"


def operator_channels() -> tuple[str, ...]:
    """The channels by which operators want to hear; none where nothing is set."""
    variables = (("email", EMAIL_VARIABLE), ("slack", SLACK_VARIABLE))
    return tuple(channel for channel, name in variables if os.environ.get(name, "").strip())


def email_addresses(url: str, tenant: str) -> list[str]:
    """Where mail to a tenant or the operators goes; none where it is not wanted any more.

    Raises PermanentProblem for what is no address.
    """
    if tenant == OPERATORS:
        given = os.environ.get(EMAIL_VARIABLE, "").split(",")
        return [check_address(one.strip(), EMAIL_VARIABLE) for one in given if one.strip()]
    preference = preference_of(url, tenant)
    return [preference.email] if preference and preference.email else []


def slack_webhook(url: str, tenant: str) -> str | None:
    """The webhook of a tenant or the operators; None where Slack is not wanted any more.

    Raises PermanentProblem where it cannot be had.
    """
    if tenant == OPERATORS:
        given = os.environ.get(SLACK_VARIABLE, "").strip()
        return check_webhook(given, SLACK_VARIABLE) if given else None
    preference = preference_of(url, tenant)
    if preference is None or preference.slack_webhook is None:
        return None
    return open_webhook(preference.slack_webhook)
