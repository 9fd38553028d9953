"""Secrets that lie in Google Cloud's Secret Manager, by reference from the environment."""

import base64
import binascii
import os
import re

from resources.google_drive.addresses import checked
from tailor_assets.compute.errors import PermanentProblem

_SCHEME = "gcp-secret://"
_NAME = re.compile(r"projects/[^/\s]+/secrets/[^/\s]+/versions/[^/\s]+")
_ADDRESS = "https://secretmanager.googleapis.com/v1"
_VARIABLE = "TAILOR_SECRET_MANAGER_ADDRESS"


def is_reference(value: str) -> bool:
    """Whether a variable's value says where its secret is, and is not the secret itself."""
    return value.startswith(_SCHEME)


def read_reference(reference: str) -> str:
    """The text of ``gcp-secret://projects/P/secrets/S/versions/V``.

    With the machine's own Google credentials (google.auth.default). Raises PermanentProblem where it
    cannot be read.
    """
    import google.auth
    import google.auth.exceptions
    from google.auth.transport.requests import AuthorizedSession

    name = reference.removeprefix(_SCHEME)
    if not _NAME.fullmatch(name):
        raise PermanentProblem(
            f"{reference!r} names no secret: write it as "
            f"{_SCHEME}projects/PROJECT/secrets/NAME/versions/latest."
        )
    base = checked(_VARIABLE, os.environ.get(_VARIABLE) or _ADDRESS)
    try:
        credentials, _ = google.auth.default(["https://www.googleapis.com/auth/cloud-platform"])
        answer = AuthorizedSession(credentials).get(f"{base}/{name}:access", timeout=30)
        answer.raise_for_status()
        return base64.b64decode(answer.json()["payload"]["data"]).decode().strip()
    except (google.auth.exceptions.GoogleAuthError, OSError) as error:
        reason = type(error).__name__
    except (ValueError, KeyError, TypeError, binascii.Error):
        reason = "its answer is not a secret's"
    raise PermanentProblem(
        f"The secret {name} cannot be read ({reason}): check that it exists, and that this machine's "
        "account may read it (role Secret Manager Secret Accessor)."
    )
