"""Where Google is: its own addresses, or those of a server that speaks its protocol (tests, demo)."""

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from tailor_assets.compute.errors import PermanentProblem

VARIABLE = "TAILOR_GOOGLE_ADDRESS"


@dataclass(frozen=True)
class Addresses:
    """``api`` ends with a slash; the others are whole."""

    api: str
    authorise: str
    token: str
    revoke: str
    open_folder: str
    open_file: str
    """With ``{id}`` where the id goes."""


GOOGLE = Addresses(
    api="https://www.googleapis.com/",
    authorise="https://accounts.google.com/o/oauth2/v2/auth",
    token="https://oauth2.googleapis.com/token",
    revoke="https://oauth2.googleapis.com/revoke",
    open_folder="https://drive.google.com/drive/folders/",
    open_file="https://drive.google.com/file/d/{id}/view",
)


def addresses() -> Addresses:
    """Those of the environment: Google's, unless ``TAILOR_GOOGLE_ADDRESS`` names another server.

    Raises PermanentProblem for an address to which tokens would go in clear over a network.
    """
    if not os.environ.get(VARIABLE):
        return GOOGLE
    base = checked(VARIABLE, os.environ[VARIABLE])
    return Addresses(
        api=f"{base}/",
        authorise=f"{base}/o/oauth2/v2/auth",
        token=f"{base}/token",
        revoke=f"{base}/revoke",
        open_folder=f"{base}/drive/folders/",
        open_file=f"{base}/file/d/{{id}}/view",
    )


def checked(variable: str, base: str) -> str:
    """An address without its last slash.

    Raises PermanentProblem for one to which tokens would go in clear over a network.
    """
    base = base.rstrip("/")
    parts = urlsplit(base)
    near = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and near):
        raise PermanentProblem(
            f"{variable} is {base!r}: give an https:// address, or http:// on this machine; leave it "
            "out for Google itself."
        )
    return base
