"""The authorisation server: consent, tokens, and their end.

OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), and service accounts by signed assertions (RFC 7523).
"""

import base64
import hashlib
import html
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from google_drive_server.store import Store

_GOOGLES_ADDRESS = "https://oauth2.googleapis.com/token"


class OAuthError(Exception):
    """An error in the token endpoint's form."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        """``error`` is the word of RFC 6749."""
        super().__init__(f"{error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description}


@dataclass
class Consent:
    """What the person in front of the consent page does: without one, the page is shown."""

    email: str
    allow: bool = True
    leave_out: tuple[str, ...] = ()
    """Scopes that they do not tick."""


class OAuth:
    """Its endpoints."""

    def __init__(self, store: Store, token_life_s: float) -> None:
        """Access tokens live for ``token_life_s``."""
        self._store = store
        self.token_life_s = token_life_s
        self.consent: Consent | None = None

    def authorise(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """The consent page: (status, headers, body)."""
        client = self._client(query.get("client_id", ""))
        redirect = query.get("redirect_uri", "")
        if client is None or urlsplit(redirect).hostname not in ("127.0.0.1", "localhost"):
            return 400, {}, b"Error 400: redirect_uri_mismatch"
        if query.get("response_type") != "code" or query.get("code_challenge_method") != "S256":
            return 400, {}, b"Error 400: invalid_request"
        consent = self.consent
        if "as" in query:
            consent = Consent(query["as"])
        if consent is None:
            return 200, {"Content-Type": "text/html; charset=utf-8"}, self._page(query)
        if not consent.allow:
            answer = {"error": "access_denied", "state": query.get("state", "")}
        else:
            scopes = [s for s in query["scope"].split() if s not in consent.leave_out]
            code = "4/" + secrets.token_urlsafe(40)
            with self._store.transaction() as db:
                db.execute(
                    "INSERT INTO codes VALUES (?,?,?,?,?,?)",
                    (code, query["client_id"], consent.email, " ".join(scopes), redirect,
                     query["code_challenge"]),
                )  # fmt: skip
            answer = {"code": code, "state": query.get("state", ""), "scope": " ".join(scopes)}
        return 302, {"Location": f"{redirect}?{urlencode(answer)}"}, b""

    def token(self, form: dict[str, str], address: str) -> dict[str, Any]:
        """The token endpoint. ``address`` is its own, which assertions are made out to."""
        kind = form.get("grant_type")
        if kind == "authorization_code":
            return self._redeem(form)
        with self._store.transaction() as db:
            if kind == "refresh_token":
                self._check_client(form)
                row = db.execute(
                    "SELECT * FROM refresh_tokens WHERE token=? AND client=?",
                    (form.get("refresh_token"), form.get("client_id")),
                ).fetchone()
                if row is None:
                    raise OAuthError("invalid_grant", "Token has been expired or revoked.")
                return self._access(db, row["client"], row["email"], row["scopes"], row["token"])
            if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer":
                return self._assert(db, form.get("assertion", ""), address)
        raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {kind}")

    def revoke(self, token: str) -> None:
        """The end of a token and of those that came from it."""
        with self._store.transaction() as db:
            found = db.execute("DELETE FROM refresh_tokens WHERE token=?", (token,)).rowcount
            found += db.execute(
                "DELETE FROM access_tokens WHERE token=? OR refresh_token=?", (token, token)
            ).rowcount
        if not found:
            raise OAuthError("invalid_token", "Token expired or revoked")

    def grant(self, db: sqlite3.Connection, client: str, email: str, scopes: str) -> str:
        """A refresh token."""
        token = "1//" + secrets.token_urlsafe(60)
        db.execute("INSERT INTO refresh_tokens VALUES (?,?,?,?)", (token, client, email, scopes))
        return token

    def _redeem(self, form: dict[str, str]) -> dict[str, Any]:
        self._check_client(form)
        # By itself: a code is spent by a wrong verifier, too.
        with self._store.transaction() as db:
            row = db.execute("SELECT * FROM codes WHERE code=?", (form.get("code"),)).fetchone()
            db.execute("DELETE FROM codes WHERE code=?", (form.get("code"),))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if row is None or row["client"] != form.get("client_id"):
            raise OAuthError("invalid_grant", "Malformed auth code.")
        if row["redirect"] != form.get("redirect_uri") or row["challenge"] != proof:
            raise OAuthError("invalid_grant", "Invalid code verifier or redirect.")
        with self._store.transaction() as db:
            token = self.grant(db, row["client"], row["email"], row["scopes"])
            answer = self._access(db, row["client"], row["email"], row["scopes"], token)
        return answer | {"refresh_token": token}

    def _access(
        self, db: sqlite3.Connection, client: str, email: str, scopes: str, parent: str | None
    ) -> dict[str, Any]:
        token = "ya29." + secrets.token_urlsafe(80)
        db.execute(
            "INSERT INTO access_tokens VALUES (?,?,?,?,?,?)",
            (token, client, email, scopes, time.time() + self.token_life_s, parent),
        )
        return {
            "access_token": token,
            "expires_in": int(self.token_life_s),
            "scope": scopes,
            "token_type": "Bearer",
        }

    def _assert(self, db: sqlite3.Connection, assertion: str, address: str) -> dict[str, Any]:
        from google.auth import jwt

        try:
            claimed = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
            row = db.execute(
                "SELECT * FROM service_accounts WHERE email=?", (claimed["iss"],)
            ).fetchone()
            # google-auth makes it out to Google's own address, wherever it is sent.
            claims = jwt.decode(
                assertion, certs=row["public_key"], audience=[address, _GOOGLES_ADDRESS]
            )
        except (ValueError, KeyError, IndexError, TypeError):
            raise OAuthError("invalid_grant", "Invalid JWT.") from None
        email = claims.get("sub", claims["iss"])
        if email != claims["iss"] and email.partition("@")[2] not in json.loads(row["delegates"]):
            raise OAuthError(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method.",
                401,
            )
        if not db.execute("SELECT 1 FROM people WHERE email=?", (email,)).fetchone():
            raise OAuthError("invalid_grant", "Invalid email or User ID")
        return self._access(db, row["email"], email, claims["scope"], None)

    def _client(self, client: str) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._store.db.execute(
            "SELECT * FROM clients WHERE id=?", (client,)
        ).fetchone()
        return found

    def _check_client(self, form: dict[str, str]) -> None:
        row = self._client(form.get("client_id", ""))
        if row is None or row["secret"] != form.get("client_secret"):
            raise OAuthError("invalid_client", "Unauthorized", 401)

    def _page(self, query: dict[str, str]) -> bytes:
        people = self._store.db.execute("SELECT email FROM people ORDER BY email").fetchall()
        links = "".join(
            f'<li><a href="?{html.escape(urlencode(query | {"as": row["email"]}))}">'
            f"{html.escape(row['email'])}</a>"
            for row in people
        )
        return (
            "<!doctype html><title>Test server: consent</title><p>Allow it as:<ul>" + links
        ).encode()
