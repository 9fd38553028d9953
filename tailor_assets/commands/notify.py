"""``tailor notify``: who is told what, and whether it arrives."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from resources.notifications.outbox import unsent
from resources.notifications.plain_text import one_line
from resources.notifications.preferences import (
    Preference,
    preference_of,
    preferences,
    remove_preference,
    set_preference,
)
from resources.notifications.recipients import (
    EMAIL_VARIABLE,
    OPERATORS,
    SLACK_VARIABLE,
    operator_channels,
)
from resources.notifications.sender import send_now
from resources.notifications.turns import Notification
from tailor_assets.commands.serve import running_registry
from tailor_assets.commands.terminal import whoever_types
from tailor_assets.compute.errors import PermanentProblem


def change_notifications(
    tenant: str,
    *,
    email: str | None = None,
    slack: str | None = None,
    events: str | None = None,
    off: bool = False,
) -> str:
    """Set or remove what a tenant is told; one line that says how it is now.

    ``events``: some of started, finished, failed, with commas. Raises PermanentProblem for what cannot
    be.
    """
    url = running_registry().url
    actor = whoever_types()
    if off:
        if email is not None or slack is not None or events is not None:
            raise PermanentProblem("--off tells the tenant nothing: leave the other options out.")
        was_told = remove_preference(url, tenant, actor=actor)
        return f"{tenant}\tis told nothing" + ("" if was_told else " (nor was it)")
    wanted = None
    if events is not None:
        wanted = [part.strip() for part in events.split(",") if part.strip()]
    changed = set_preference(
        url,
        tenant,
        actor=actor,
        email=email,
        slack=slack,
        events=wanted,  # type: ignore[arg-type]  # it refuses others in one sentence
    )
    return _line(changed)


def list_notifications(tenant: str | None = None) -> list[str]:
    """Whom tailor tells what, and what could not be sent, one line each."""
    url = running_registry().url
    if tenant is not None:
        preference = preference_of(url, tenant)
        lines = [_line(preference) if preference else f"{tenant}\tis told nothing"]
    else:
        to = operator_channels()
        nobody = f"nowhere: set {EMAIL_VARIABLE} or {SLACK_VARIABLE}"
        lines = [f"operators\talerts\t{' '.join(to) or nobody}"]
        lines += [_line(preference) for preference in preferences(url)]
    for one in unsent(url):
        if tenant is None or one.tenant == tenant:
            state = "given up" if one.given_up else f"unsent, {one.tries} tries"
            lines.append(
                f"{one.created_at.isoformat(timespec='seconds')}\t{one.tenant or 'operators'}\t"
                f"{one.channel}\t{state}\t{one.subject}\t{one.problem or ''}"
            )
    return lines


def try_notifications(tenant: str | None = None) -> tuple[list[str], bool]:
    """Send a message to try it, at once; a line per channel, and whether each went.

    To a tenant, or the operators. With the environment of this command, which may be another than
    that of ``tailor up``. Raises PermanentProblem where nobody is to be told.
    """
    url = running_registry().url
    if tenant is None:
        channels: Sequence[str] = operator_channels()
        nobody = f"Operators are told nothing: set {EMAIL_VARIABLE} or {SLACK_VARIABLE}."
    else:
        preference = preference_of(url, tenant)
        channels = preference.channels if preference else ()
        nobody = f"{tenant!r} is told nothing: give it --email or --slack first."
    if not channels:
        raise PermanentProblem(nobody)
    lines, all_went = [], True
    for channel in channels:
        message = Notification(
            id=0,
            tenant=OPERATORS if tenant is None else tenant,
            channel=channel,
            kind="alert",
            subject="A test message",
            body="Somebody has tried whether tailor's messages arrive here. They do.\n",
            created_at=datetime.now(UTC),
            tries=1,
            name=f"tailor.test.{uuid.uuid4().hex}",
        )
        try:
            lines.append(f"{channel}\t{send_now(url, message)}")
        except PermanentProblem as problem:
            lines.append(f"{channel}\tnot sent\t{problem}")
            all_went = False
    return lines, all_went


def _line(preference: Preference) -> str:
    where = []
    if preference.email is not None:
        where.append(preference.email)
    if preference.slack_webhook is not None:
        stored = preference.slack_webhook
        where.append(f"slack {stored}" if stored.startswith("env:") else "slack (webhook stored)")
    events = ",".join(preference.events)
    return f"{one_line(preference.tenant, 200)}\t{events}\t{' '.join(where)}"
