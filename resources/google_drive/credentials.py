"""Who tailor is to Google when it works for a tenant: one way in for all three kinds of account.

A service account owns no files in a person's Drive (403 storageQuotaExceeded); so it works as the
person (delegation), or in a shared drive, whose files belong to the drive.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.auth.credentials import Credentials

from resources.google_drive.accounts import DriveAccount, DriveAccounts
from resources.google_drive.addresses import Addresses
from resources.google_drive.secret_manager import is_reference, read_reference
from resources.google_drive.token_box import TokenBox
from tailor_assets.compute.errors import PermanentProblem

CLIENT_VARIABLE = "TAILOR_GOOGLE_CLIENT"
SERVICE_ACCOUNT_VARIABLE = "TAILOR_GOOGLE_SERVICE_ACCOUNT"
# Videos are put there by people, so reading takes all of the Drive; what tailor writes is its own.
USER_SCOPES = (
    "https://www.googleapis.com/auth/drive.readonly",
    "https://www.googleapis.com/auth/drive.file",
)
# In a shared drive, and for an organisation that trusts the account anyway, the one that suffices.
SERVICE_SCOPES = ("https://www.googleapis.com/auth/drive",)


@dataclass(frozen=True)
class OAuthClient:
    """The app that people give access to: an OAuth client of type "Desktop app"."""

    id: str
    secret: str


def credentials_of(
    account: DriveAccount, accounts: DriveAccounts, box: TokenBox, at: Addresses
) -> Credentials:
    """Credentials for an account's Drive; nothing is asked of Google yet.

    Raises PermanentProblem where the environment lacks what its kind needs.
    """
    if account.kind == "user":
        return user_credentials(accounts.refresh_token(account.tenant, box), oauth_client(), at)
    subject = account.subject if account.kind == "delegation" else None
    return service_credentials(subject, at)


def user_credentials(refresh_token: str, client: OAuthClient, at: Addresses) -> Credentials:
    """Those of a person who has given ``refresh_token`` to the app."""
    from google.oauth2.credentials import Credentials as UserCredentials

    return UserCredentials(
        None,
        refresh_token=refresh_token,
        token_uri=at.token,
        client_id=client.id,
        client_secret=client.secret,
    )


def service_credentials(subject: str | None, at: Addresses) -> Credentials:
    """Those of the service account, as ``subject`` or as itself."""
    from google.oauth2 import service_account

    info = _json_of(SERVICE_ACCOUNT_VARIABLE, "the key file of a service account")
    try:
        credentials = service_account.Credentials.from_service_account_info(
            info | {"token_uri": at.token}, scopes=SERVICE_SCOPES
        )
    except (ValueError, KeyError):
        raise PermanentProblem(
            f"{SERVICE_ACCOUNT_VARIABLE} holds no service account's key: download one as JSON from "
            "Google Cloud's IAM page."
        ) from None
    return credentials.with_subject(subject) if subject else credentials


def service_account_address() -> str:
    """The service account's own address, by which people share a drive with it."""
    info = _json_of(SERVICE_ACCOUNT_VARIABLE, "the key file of a service account")
    return str(info.get("client_email", ""))


def oauth_client() -> OAuthClient:
    """The app's id and secret. Raises PermanentProblem where they are not given."""
    info = _json_of(CLIENT_VARIABLE, "the JSON of an OAuth client of type Desktop app")
    for part in (info.get("installed"), info.get("web"), info):
        if isinstance(part, dict) and "client_id" in part:
            return OAuthClient(str(part["client_id"]), str(part.get("client_secret", "")))
    raise PermanentProblem(
        f"{CLIENT_VARIABLE} holds no OAuth client: download it as JSON from Google Cloud's "
        "credentials page."
    )


def _json_of(variable: str, what: str) -> dict[str, Any]:
    """What a variable holds: JSON, a path to a file of it, or a reference to a secret."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise PermanentProblem(
            f"{variable} is not set: give {what}, as a path or as its content. docs/google-drive.md "
            "says where to get it."
        )
    if is_reference(value):
        value = read_reference(value)
    elif not value.startswith("{"):
        try:
            value = Path(value).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise PermanentProblem(
                f"The file that {variable} names cannot be read ({type(error).__name__}): check the "
                "path, and that this user may read it."
            ) from None
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PermanentProblem(f"{variable} is not JSON: give {what}.")
    return found
