"""What each tenant wants to hear, and where: the table ``tailor.notification_preferences``.

A Slack webhook is an address and a secret in one: who has it may write into the channel. It lies in
the database encrypted with ``TAILOR_TOKEN_KEYS``, like the tokens of Drives; or not at all, as
``env:NAME``, the name of the environment variable that holds it.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa

from resources.database import engine_for, insert_for, metadata, storable
from resources.notifications.slack import check_webhook
from resources.notifications.smtp import check_address
from tailor_assets.compute.errors import PermanentProblem

_TIME = sa.DateTime(timezone=True)

preferences_table = sa.Table(
    "notification_preferences",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("email", sa.Text),
    # env:NAME, or encrypted.
    sa.Column("slack_webhook", sa.Text),
    # Since when it is wanted, so that switching it on does not tell what is past; null: not wanted.
    sa.Column("started_since", _TIME),
    sa.Column("finished_since", _TIME),
    sa.Column("failed_since", _TIME),
)

Event = Literal["started", "finished", "failed"]
EVENTS: tuple[Event, ...] = ("started", "finished", "failed")
DEFAULT_EVENTS: tuple[Event, ...] = ("finished", "failed")

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Preference:
    """One tenant's. ``slack_webhook`` as it is stored: ``env:NAME``, or encrypted."""

    tenant: str
    email: str | None = None
    slack_webhook: str | None = None
    started_since: datetime | None = None
    finished_since: datetime | None = None
    failed_since: datetime | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """What it wants to hear."""
        return tuple(event for event in EVENTS if getattr(self, f"{event}_since") is not None)

    @property
    def channels(self) -> tuple[str, ...]:
        """Where it wants to hear it."""
        return tuple(
            channel
            for channel, address in (("email", self.email), ("slack", self.slack_webhook))
            if address is not None
        )


def preference_of(url: str, tenant: str) -> Preference | None:
    """A tenant's, or None where it wants to hear nothing."""
    query = sa.select(preferences_table).where(preferences_table.c.tenant == storable(tenant))
    with engine_for(url).begin() as connection:
        row = connection.execute(query).mappings().first()
    return Preference(**row) if row is not None else None


def preferences(url: str) -> list[Preference]:
    """Every tenant's, by tenant."""
    query = sa.select(preferences_table).order_by(preferences_table.c.tenant)
    with engine_for(url).begin() as connection:
        return [Preference(**row) for row in connection.execute(query).mappings()]


def set_preference(
    url: str,
    tenant: str,
    *,
    actor: str,
    email: str | None = None,
    slack: str | None = None,
    events: Collection[Event] | None = None,
) -> Preference:
    """Change what is given and leave the rest; ``off`` takes a channel away.

    Who says nothing of ``events`` hears of what finished and failed. Only what happens from now on is
    told. Raises PermanentProblem for what is no address, no webhook, no event or no tenant, and where
    no channel would be left.
    """
    if not tenant.strip():
        raise PermanentProblem(
            "A tenant has a name: operators' own addresses are TAILOR_OPERATOR_EMAIL and "
            "TAILOR_OPERATOR_SLACK_WEBHOOK."
        )
    unknown = sorted(set(events or ()) - set(EVENTS))
    if unknown or (events is not None and not events):
        raise PermanentProblem(
            f"{', '.join(map(repr, unknown)) or 'Nothing'} is not what can be told: give some of "
            f"{', '.join(EVENTS)}, with commas; or --off."
        )
    before = preference_of(url, tenant) or Preference(tenant)
    address = before.email
    if email is not None:
        address = None if email == "off" else check_address(email)
    webhook = before.slack_webhook
    if slack is not None:
        webhook = None if slack == "off" else _locked(slack)
    if address is None and webhook is None:
        raise PermanentProblem(
            f"Nothing says where to tell {tenant!r}: give --email or --slack; or --off, to tell it "
            "nothing."
        )
    wanted = events if events is not None else before.events or DEFAULT_EVENTS
    now = datetime.now(UTC)
    since = {
        f"{event}_since": (getattr(before, f"{event}_since") or now) if event in wanted else None
        for event in EVENTS
    }
    after = Preference(str(storable(tenant)), address, webhook, **since)
    values = {"email": after.email, "slack_webhook": after.slack_webhook, **since}
    with engine_for(url).begin() as connection:
        connection.execute(
            insert_for(connection)(preferences_table)
            .values(tenant=after.tenant, **values)
            .on_conflict_do_update(index_elements=["tenant"], set_=values)
        )
    _note(url, actor, "notifications.set", after)
    return after


def remove_preference(url: str, tenant: str, *, actor: str) -> bool:
    """Tell the tenant nothing any more; whether anything was told before."""
    with engine_for(url).begin() as connection:
        gone = connection.execute(
            sa.delete(preferences_table).where(preferences_table.c.tenant == storable(tenant))
        )
    if gone.rowcount:
        _note(url, actor, "notifications.off", Preference(tenant))
    return gone.rowcount > 0


def _note(url: str, actor: str, action: str, preference: Preference) -> None:
    from resources.audit.log import record

    # Without the addresses: what is in the audit can never be deleted again.
    details = {"channels": list(preference.channels), "events": list(preference.events)}
    record(url, actor=actor, action=action, subject=preference.tenant, details=details)


def _locked(slack: str) -> str:
    if _REFERENCE.fullmatch(slack):
        return slack
    check_webhook(slack)
    from resources.google_drive.token_box import VARIABLE, token_box

    if not os.environ.get(VARIABLE):
        raise PermanentProblem(
            f"A Slack webhook is a secret, and there is no key to encrypt it with: set {VARIABLE} (see "
            "`tailor token-key`), or put the webhook into an environment variable of tailor's and give "
            "--slack env:NAME."
        )
    return token_box().lock(slack).decode()


def open_webhook(stored: str) -> str:
    """The webhook itself. Raises PermanentProblem where it cannot be had, without repeating any."""
    if not stored.startswith("env:"):
        from resources.google_drive.token_box import VARIABLE, token_box

        try:
            return token_box().open(stored.encode())
        except PermanentProblem:
            raise PermanentProblem(
                f"The Slack webhook cannot be decrypted with the keys in {VARIABLE}: add the key it "
                "was encrypted with, or give the webhook again with `tailor notify`."
            ) from None
    name = stored.removeprefix("env:")
    if not os.environ.get(name):
        raise PermanentProblem(
            f"The Slack webhook is to be in the environment variable {name}, which is not set: give it "
            "to tailor, and start it again."
        )
    return check_webhook(os.environ[name], f"The environment variable {name}")


def relock_webhooks(url: str) -> int:
    """Encrypt every stored webhook with the first of the keys; returns how many there are.

    One that none of the keys decrypts is left as it is: sending to it says so.
    """
    from resources.google_drive.token_box import token_box

    table, done = preferences_table, 0
    with engine_for(url).begin() as connection:
        rows = connection.execute(
            sa.select(table.c.tenant, table.c.slack_webhook)
            .where(table.c.slack_webhook.not_like("env:%"))
            .with_for_update()
        ).all()
        for tenant, stored in rows:
            try:
                again = token_box().relock(stored.encode()).decode()
            except PermanentProblem:
                continue
            connection.execute(
                sa.update(table).where(table.c.tenant == tenant).values(slack_webhook=again)
            )
            done += 1
    return done
