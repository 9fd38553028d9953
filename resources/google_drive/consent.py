"""A person's consent: the browser opens, they allow what is asked, and tailor has a refresh token.

OAuth 2.0 for native apps (RFC 8252): a redirect to a port of this machine that only this process
listens on, with proof that whoever redeems the code is whoever asked for it (PKCE, RFC 7636).
"""

import base64
import hashlib
import html
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from resources.google_drive.addresses import Addresses
from resources.google_drive.answers import understand
from resources.google_drive.credentials import USER_SCOPES, OAuthClient
from tailor_assets.compute.errors import PermanentProblem

PATIENCE_S = 300.0


def ask_for_consent(
    client: OAuthClient,
    at: Addresses,
    *,
    show: Callable[[str], None],
    patience_s: float = PATIENCE_S,
) -> str:
    """Return the refresh token of whoever allows it at the address that ``show`` is given.

    Raises PermanentProblem where they refuse, take longer than ``patience_s``, or allow less than
    what is needed.
    """
    verifier = secrets.token_urlsafe(64)
    state = secrets.token_urlsafe(24)
    with _Listener(state) as listener:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        show(
            f"{at.authorise}?"
            + urlencode(
                {
                    "client_id": client.id,
                    "redirect_uri": listener.address,
                    "response_type": "code",
                    "scope": " ".join(USER_SCOPES),
                    "state": state,
                    "code_challenge": challenge.rstrip(b"=").decode(),
                    "code_challenge_method": "S256",
                    # Without these there is no refresh token, or only the first time.
                    "access_type": "offline",
                    "prompt": "consent",
                }
            )
        )
        code = listener.wait(patience_s)
    return _redeem(code, verifier, listener.address, client, at)


class _Listener:
    """A port of this machine that waits for the browser to come back."""

    def __init__(self, state: str) -> None:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """The address has the code in it, and is not for any log."""

            def do_GET(self) -> None:
                listener._hear(self)

        self._state = state
        self._answer: dict[str, str] | None = None
        self._came = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="consent")

    def __enter__(self) -> "_Listener":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, patience_s: float) -> str:
        end = time.monotonic() + patience_s
        # In small waits, so that Ctrl-C ends it.
        while not self._came.wait(0.2):
            if time.monotonic() > end:
                raise PermanentProblem(
                    f"Nobody allowed it within {patience_s:.0f} s: run the command again, and open "
                    "the address that it prints on this machine."
                )
        answer = self._answer or {}
        if "code" in answer:
            return answer["code"]
        raise PermanentProblem(
            f"Google gave no access ({answer.get('error', 'no answer')[:60]}): run the command again, "
            "and allow what it asks for."
        )

    def _hear(self, request: BaseHTTPRequestHandler) -> None:
        found = {k: v[0] for k, v in parse_qs(urlsplit(request.path).query).items()}
        ours = secrets.compare_digest(found.get("state", ""), self._state)
        if ours and ("code" in found or "error" in found) and not self._came.is_set():
            self._answer = found
            self._came.set()
        said = "tailor has what it needs. You can close this page."
        if not ours:
            said = "This is not the answer that tailor waits for."
        elif "error" in found:
            said = f"Google says: {found['error']}. Nothing was connected."
        page = f"<!doctype html><title>tailor</title><p>{html.escape(said)}</p>".encode()
        request.send_response(200 if ours else 400)
        request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("Content-Length", str(len(page)))
        request.end_headers()
        request.wfile.write(page)


def _redeem(code: str, verifier: str, redirect: str, client: OAuthClient, at: Addresses) -> str:
    try:
        response = requests.post(
            at.token,
            data={
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "client_id": client.id,
                "client_secret": client.secret,
                "redirect_uri": redirect,
            },
            timeout=60,
        )
    except requests.RequestException as error:
        raise PermanentProblem(
            f"Google's token service does not answer ({type(error).__name__}): check the network, "
            "and run the command again."
        ) from None
    if response.status_code != 200:
        reason = understand(response.status_code, response.content).reason
        raise PermanentProblem(
            f"Google gave no token ({reason or response.status_code}): check the OAuth client in "
            "TAILOR_GOOGLE_CLIENT, and run the command again."
        )
    answer = response.json()
    missing = set(USER_SCOPES) - set(str(answer.get("scope", "")).split())
    if missing:
        raise PermanentProblem(
            "Not everything was allowed that tailor needs "
            f"({', '.join(sorted(scope.rpartition('/')[2] for scope in missing))}): run the command "
            "again, and tick every box."
        )
    if not answer.get("refresh_token"):
        raise PermanentProblem(
            "Google gave no lasting token: remove tailor from the account's third-party access page, "
            "and run the command again."
        )
    return str(answer["refresh_token"])


def withdraw(refresh_token: str, at: Addresses) -> None:
    """Tell Google that the token is not needed any more. A token that is gone already is fine."""
    try:
        requests.post(at.revoke, data={"token": refresh_token}, timeout=60)
    except requests.RequestException:
        # It is deleted here all the same; its owner can withdraw it in their account.
        return
