"""``tailor connect``, ``tailor disconnect``, ``tailor token-key``: whose Google Drives are watched."""

import re
from collections.abc import Callable

from resources.audit.log import record
from resources.google_drive.accounts import AccountKind, DriveAccount, DriveAccounts
from resources.google_drive.addresses import addresses
from resources.google_drive.api import GoogleApi, Refused
from resources.google_drive.token_box import token_box
from resources.video_registry import VideoRegistry
from tailor_assets.commands.serve import running_registry
from tailor_assets.commands.terminal import console, whoever_types
from tailor_assets.compute.errors import PermanentProblem

# A tenant's name becomes a tag, a line in tables and a part of keys; what it may not have is what
# cannot be seen.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_NAME = 200


def connect(
    tenant: str,
    *,
    show: Callable[[str], None],
    shared_drive: str | None = None,
    person: str | None = None,
    url: str | None = None,
) -> None:
    """Connect a tenant's Drive: a person's by their consent, or by the service account.

    ``show`` is given the address of the consent page. ``url`` is the database's, of the tailor that
    is up where it is not given.
    Raises PermanentProblem where it cannot be reached or consent is not given; nothing is stored
    then.
    """
    from resources.google_drive.consent import ask_for_consent
    from resources.google_drive.credentials import (
        SERVICE_SCOPES,
        USER_SCOPES,
        oauth_client,
        service_account_address,
        service_credentials,
        user_credentials,
    )
    from resources.google_drive.tree import find_or_make_tree

    _check_name(tenant)
    database = url or running_registry().database_url
    accounts = DriveAccounts(database)
    box, at = token_box(), addresses()
    refresh_token: str | None = None
    kind: AccountKind = "user"
    scopes: tuple[str, ...] = USER_SCOPES
    if shared_drive or person:
        kind = "shared_drive" if shared_drive else "delegation"
        credentials = service_credentials(person, at)
        scopes = SERVICE_SCOPES
    else:
        client = oauth_client()
        refresh_token = ask_for_consent(client, at, show=show)
        credentials = user_credentials(refresh_token, client, at)
    api = GoogleApi(credentials, at=at)
    try:
        if shared_drive:
            api.call("drives.get", driveId=shared_drive, fields="id")
            subject = service_account_address()
        else:
            subject = str(
                api.call("about.get", fields="user(emailAddress)")["user"]["emailAddress"]
            )
        tree = find_or_make_tree(api, shared_drive, own_only=kind == "user")
    except Refused as refused:
        if not refused.gone:
            raise PermanentProblem(f"Google Drive refuses ({refused}).") from None
        raise PermanentProblem(
            f"There is no shared drive {shared_drive!r} that {service_account_address()} is a member "
            "of: give the id from its address, and add that account as a content manager."
        ) from None
    account = DriveAccount(
        tenant=tenant,
        kind=kind,
        subject=subject,
        scopes=" ".join(scopes),
        videos_folder_id=tree.videos,
        results_folder_id=tree.results,
        drive_id=shared_drive,
    )
    accounts.connect(account, refresh_token, box)
    # Not whose Drive it is: an address could never be deleted from there.
    record(
        database,
        actor=whoever_types(),
        action="drive.connected",
        subject=tenant,
        details={"kind": kind},
    )
    console.print(
        f"{tenant} is connected to the Drive of {subject}. Put each video into a folder of its own in "
        "tailor/videos; results appear in tailor/results."
    )


def disconnect(tenant: str, *, delete_data: bool) -> None:
    """Withdraw a tenant's token and forget it; with ``delete_data`` everything else, too.

    Raises PermanentProblem where there is neither an account nor, to be deleted, anything else.
    """
    from resources.google_drive.consent import withdraw

    registry = running_registry()
    accounts, at = DriveAccounts(registry.url), addresses()
    try:
        account = accounts.get(tenant)
    except PermanentProblem:
        # Disconnected earlier, and its data kept.
        if not delete_data or not registry.partitions_of(tenant):
            raise
        _delete_data(tenant, registry)
        return
    if account.kind == "user":
        try:
            withdraw(accounts.refresh_token(tenant, token_box()), at)
        except PermanentProblem as problem:
            # A key that was lost must not keep the token here.
            console.print(f"[yellow]The token was not withdrawn at Google: {problem}[/]")
    accounts.disconnect(tenant)
    record(
        registry.database_url, actor=whoever_types(), action="drive.disconnected", subject=tenant
    )
    console.print(f"{tenant} is not watched any more, and its token is deleted.")
    if delete_data:
        _delete_data(tenant, registry)


def _delete_data(tenant: str, registry: VideoRegistry) -> None:
    from resources.artifact_store import ArtifactStore
    from resources.settings import load_settings
    from tailor_assets.commands.forget_tenant import forget_tenant
    from tailor_assets.services.health import open_instance

    settings = load_settings()
    folder = settings.drive_root / tenant
    if settings.drive == "local" and (folder / "tailor" / "videos").is_dir():
        raise PermanentProblem(
            f"The videos of {tenant} still lie in {folder}, and would be processed anew within "
            "seconds: move that folder away, then give the same command."
        )
    with open_instance(settings.home / "dagster", registry.url) as instance:
        count = forget_tenant(tenant, instance, registry, ArtifactStore(), settings)
    record(
        registry.database_url,
        actor=whoever_types(),
        action="tenant.forgotten",
        subject=tenant,
        details={"videos": count},
    )
    console.print(
        f"What tailor held of {tenant} is deleted: {count} videos, their working copies, labels, "
        "runs and rows. What is in the Drive is as it was; so are the models that were trained with "
        "its labels, the folders of cohorts it was in, and the log files of the last weeks."
    )


def accounts_and_units() -> list[str]:
    """One line per tenant: whose Drive, its state, and what was spent on it today."""
    from datetime import UTC, datetime

    from resources.google_drive.units_spent import units_of_day

    url = running_registry().url
    spent = units_of_day(url, datetime.now(UTC).date())
    lines = []
    for account in DriveAccounts(url).all():
        units, requests = spent.get(account.tenant, (0, 0))
        state = account.state if account.problem is None else f"{account.state}: {account.problem}"
        lines.append(
            f"{account.tenant}\t{account.subject}\t{account.kind}\t{units} units in {requests} "
            f"requests today\t{state}"
        )
    return lines


def new_token_key() -> str:
    """A key for TAILOR_TOKEN_KEYS."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _check_name(tenant: str) -> None:
    if not tenant.strip() or len(tenant) > _LONGEST_NAME or _UNPRINTABLE.search(tenant):
        raise PermanentProblem(
            f"{tenant!r} is not a tenant's name: give 1 to {_LONGEST_NAME} characters that can be "
            "seen, on one line."
        )


def open_in_browser(address: str) -> None:
    """Show the consent page; where there is no browser, print its address."""
    import webbrowser

    if webbrowser.open(address):
        console.print("The browser asks for your consent. Waiting for it ...")
    else:
        print_address(address)


def print_address(address: str) -> None:
    """Whole and unbroken, to be copied."""
    print(f"Open this address in a browser on this machine:\n{address}", flush=True)
