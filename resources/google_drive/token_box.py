"""Refresh tokens and session addresses, encrypted as they lie in the database.

Fernet (AES-128-CBC and HMAC-SHA256; github.com/fernet/spec) with keys from the environment:
``TAILOR_TOKEN_KEYS`` is one key or several, separated by commas. The first encrypts, every one of
them decrypts; so a key is changed by putting the new one first, and the old one leaves when
``tailor up`` has encrypted everything anew.
"""

import os

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from resources.google_drive.secret_manager import is_reference, read_reference
from tailor_assets.compute.errors import PermanentProblem

VARIABLE = "TAILOR_TOKEN_KEYS"


class TokenBox:
    """Encrypts and decrypts short texts."""

    def __init__(self, keys: str) -> None:
        """``keys`` as the variable has them. Raises PermanentProblem for what is no Fernet key."""
        parts = [part.strip() for part in keys.split(",") if part.strip()]
        try:
            self._fernet = MultiFernet([Fernet(part) for part in parts])
        except ValueError:
            # The key itself is never repeated.
            raise PermanentProblem(
                f"{VARIABLE} holds no key by which tokens can be encrypted: make one with "
                "`tailor token-key`, and give it to tailor in the environment."
            ) from None

    def lock(self, text: str) -> bytes:
        """Encrypt with the first key."""
        return self._fernet.encrypt(text.encode())

    def open(self, locked: bytes) -> str:
        """Decrypt. Raises PermanentProblem where none of the keys is the one."""
        try:
            return self._fernet.decrypt(locked).decode()
        except InvalidToken:
            raise PermanentProblem(
                f"A Drive's token cannot be decrypted with the keys in {VARIABLE}: add the key it "
                "was encrypted with, after the new one, or connect the tenant again."
            ) from None

    def relock(self, locked: bytes) -> bytes:
        """The same, encrypted with the first key. Raises PermanentProblem like ``open``."""
        try:
            return self._fernet.rotate(locked)
        except InvalidToken:
            self.open(locked)
            raise


def token_box() -> TokenBox:
    """With the environment's keys; a value ``gcp-secret://...`` is read from Secret Manager.

    Raises PermanentProblem where there are none.
    """
    keys = os.environ.get(VARIABLE, "")
    return TokenBox(read_reference(keys) if is_reference(keys) else keys)
