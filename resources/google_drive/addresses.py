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


GOOGLE = Addresses(
    api="https://www.googleapis.com/",
    authorise="https://accounts.google.com/o/oauth2/v2/auth",
    token="https://oauth2.googleapis.com/token",
    revoke="https://oauth2.googleapis.com/revoke",
    open_folder="https://drive.google.com/drive/folders/",
)


def addresses() -> Addresses:
    """Those of the environment: Google's, unless ``TAILOR_GOOGLE_ADDRESS`` names another server.

    Raises PermanentProblem for an address to which tokens would go in clear over a network.
    """
    base = os.environ.get(VARIABLE, "").rstrip("/")
    if not base:
        return GOOGLE
    parts = urlsplit(base)
    near = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and near):
        raise PermanentProblem(
            f"{VARIABLE} is {base!r}: give an https:// address, or http:// on this machine; leave it "
            "out for Google itself."
        )
    return Addresses(
        api=f"{base}/",
        authorise=f"{base}/o/oauth2/v2/auth",
        token=f"{base}/token",
        revoke=f"{base}/revoke",
        open_folder=f"{base}/drive/folders/",
    )
