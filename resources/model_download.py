"""Brings a model's weights here: continued after an interruption, in place only when they are right.

The standard library's urllib is enough for one file at a time, and finds the system's proxies and
certificates (https_proxy, SSL_CERT_FILE) by itself.
"""

import http.client
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from resources.model_registry import ModelEntry
from resources.partial_file import Origin, PartialFile, hold_partial_file
from resources.weights_check import OnBytes, sha256_of
from tailor_assets.compute.errors import PermanentProblem

_AT_A_TIME = 1 << 18
_TRY_AGAIN_STATUS = {408, 425, 429}  # and all from 500 on
_CUT = ConnectionResetError | ConnectionAbortedError | BrokenPipeError | ssl.SSLEOFError


@dataclass(frozen=True)
class Patience:
    """How long a fetch goes on when the network does not."""

    tries: int = 5
    """In a row that bring nothing new; a try that gets further starts the count again."""
    first_wait_s: float = 1.0
    """Before the second try; it doubles from try to try."""
    longest_wait_s: float = 60.0
    """A server that asks for a longer wait (Retry-After) is taken at its word: the fetch ends."""
    silence_s: float = 30.0
    """Without one byte, after which a connection counts as lost."""


class _TryAgain(Exception):
    """What went wrong may go right in a moment. ``wait_s``: what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _NoNetwork(_TryAgain):
    """There is no way to the server: waiting only helps where there was one a moment ago."""


class _StayOnHttps(urllib.request.HTTPRedirectHandler):
    """urllib would follow a redirect from https to http."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if urlsplit(newurl).scheme != "https":
            raise URLError("it redirects to an address that is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_weights(
    entry: ModelEntry,
    path: Path,
    *,
    say: Callable[[str], None],
    on_bytes: OnBytes | None = None,
    patience: Patience | None = None,
) -> bool:
    """Have the weights of ``entry`` at ``path``; return whether they had to be fetched for that.

    What is there is checked by its sha256, and a file that is not the right one is never replaced:
    it may be somebody's own. ``say`` is told, in short sentences, of waits and of new tries. Where
    this ends early, in whatever way, the bytes so far stay beside ``path`` for the next time.

    Raises PermanentProblem: no address or no sha256, a wrong file, no network, no room.
    """
    if path.exists():
        _check_present(entry, path, on_bytes)
        return False
    if not entry.can_be_fetched:
        lacks = "sha256, by which a fetched file could be checked" if entry.url else "url"
        raise PermanentProblem(
            f"{entry.name} cannot be fetched, because models.toml gives it no {lacks}: add it "
            f"there, or {entry.where_to_put(path)}."
        )

    def wait() -> None:
        say(f"Another process is fetching {path.name}; waiting for it.")

    with hold_partial_file(path, wait) as part:
        if path.exists():  # the other process brought it
            _check_present(entry, path, on_bytes)
            return False
        part.read(lambda done, _: on_bytes(done, entry.size_bytes) if on_bytes else None)
        _Fetch(entry, path, part, say, on_bytes, patience or Patience()).run()
        part.put_in_place(path)
    return True


def _check_present(entry: ModelEntry, path: Path, on_bytes: OnBytes | None) -> None:
    if entry.sha256 is None:
        return
    try:
        found = sha256_of(path, on_bytes)
    except OSError as error:
        raise PermanentProblem(
            f"{path} cannot be read ({error.strerror}), so nobody knows whether it is {entry.name}: "
            "make it readable for this user."
        ) from None
    if found != entry.sha256:
        raise PermanentProblem(
            f"{path} is not the file of {entry.name} (its sha256 is {found} and should be "
            f"{entry.sha256}): move it away or delete it, then run "
            f"`tailor fetch-model {entry.name}` again."
        )


class _Fetch:
    """One file on its way: tries, and what is said when they fail."""

    def __init__(
        self,
        entry: ModelEntry,
        path: Path,
        part: PartialFile,
        say: Callable[[str], None],
        on_bytes: OnBytes | None,
        patience: Patience,
    ) -> None:
        assert entry.url is not None
        self._entry, self._url, self._part = entry, entry.url, part
        self._say, self._on_bytes, self._patience = say, on_bytes, patience
        self._put = entry.where_to_put(path)
        self._host = urlsplit(entry.url).hostname or entry.url
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=ssl.create_default_context()), _StayOnHttps()
        )

    def run(self) -> None:
        """Try until all bytes are here and right."""
        at_first = furthest = self._part.size
        failures = 0
        while self._part.digest != self._entry.sha256:
            try:
                self._one_try()
            except _TryAgain as trouble:
                if self._part.size > furthest:
                    furthest, failures = self._part.size, 0
                failures += 1
                if isinstance(trouble, _NoNetwork) and furthest == at_first:
                    raise self._no_network(trouble) from None
                if failures >= self._patience.tries:
                    raise self._gave_up(trouble, failures) from None
                self._wait(trouble, failures)
            else:
                self._check_arrived()

    def _one_try(self) -> None:
        """Read the rest of the file, or all of it. Raises _TryAgain or PermanentProblem."""
        with self._open() as response:
            length = _number(response.headers.get("Content-Length"))
            if response.status == 206:
                start, total = _content_range(response.headers)
                if start != self._part.size or not self._continues(response.headers):
                    # Neither If-Range nor Range was understood; without them it is understood.
                    self._part.start_over(Origin(self._url))
                    raise _TryAgain("the server continued another file")
            else:
                start, total = 0, length
            self._check_total(total)
            if start == 0:
                self._part.start_over(_origin(self._url, response.headers))
            self._read(response, total or self._entry.size_bytes)

    def _open(self) -> Any:
        request = urllib.request.Request(self._url, headers={"User-Agent": "tailor"})
        part, origin = self._part, self._part.origin
        if part.size and origin is not None and origin.url == self._url:
            request.add_header("Range", f"bytes={part.size}-")
            if mark := origin.etag or origin.last_modified:
                request.add_header("If-Range", mark)
        try:
            return self._opener.open(request, timeout=self._patience.silence_s)
        except HTTPError as error:
            with error:
                raise self._status(error) from None
        except URLError as error:
            raise self._no_connection(error.reason) from None
        except (http.client.InvalidURL, ValueError) as error:
            raise PermanentProblem(
                f"{self._url} cannot be fetched ({error}): correct the address of "
                f"{self._entry.name} in models.toml, or https_proxy."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgain(_in_words(error)) from None

    def _continues(self, headers: Message) -> bool:
        was, now = self._part.origin, _origin(self._url, headers)
        return was is None or was.etag is None or now.etag is None or was.etag == now.etag

    def _read(self, response: Any, total: int | None) -> None:
        while total is None or self._part.size <= total:
            try:
                piece = response.read1(_AT_A_TIME)
            except (OSError, http.client.HTTPException) as error:
                raise _TryAgain(_in_words(error)) from None
            if not piece:
                break
            self._part.append(piece)
            if self._on_bytes is not None:
                self._on_bytes(self._part.size, total)
        if total is not None and self._part.size < total:
            raise _TryAgain("the connection ended early")

    def _check_total(self, total: int | None) -> None:
        wanted = self._entry.size_bytes
        if total is not None and wanted is not None and total != wanted:
            raise PermanentProblem(
                f"{self._host} has {total:,} bytes at {self._url}, which is not the file of "
                f"{self._entry.name}: {self._put}."
            )

    def _check_arrived(self) -> None:
        if self._part.digest != self._entry.sha256:
            found = self._part.digest
            self._part.remove()
            raise PermanentProblem(
                f"What {self._host} sent is not the file of {self._entry.name} (its sha256 is "
                f"{found} and should be {self._entry.sha256}) and was deleted: run "
                f"`tailor fetch-model {self._entry.name}` once more, or {self._put}."
            )

    def _wait(self, trouble: _TryAgain, failures: int) -> None:
        wait_s = trouble.wait_s
        if wait_s is None:
            doubled = self._patience.first_wait_s * 2 ** (failures - 1)
            wait_s = min(doubled, self._patience.longest_wait_s)
        elif wait_s > self._patience.longest_wait_s:
            raise self._gave_up(trouble, failures)
        self._say(f"{self._host}: {trouble}; trying again in {wait_s:.0f} s.")
        time.sleep(wait_s)

    # What is said

    def _status(self, error: HTTPError) -> Exception:
        said = f"the server says {error.code}"
        with suppress(ValueError):
            said += f" {HTTPStatus(error.code).phrase}"  # the server's own words may be anything
        if error.code == 416:
            # There is nothing after the bytes that are here, and yet they are not the file.
            self._part.start_over(Origin(self._url))
            return _TryAgain("the server has nothing to continue with")
        if error.code in _TRY_AGAIN_STATUS or error.code >= 500:
            wait_s = _retry_after(error.headers)
            return _TryAgain(said + (f" and to wait {wait_s:.0f} s" if wait_s else ""), wait_s)
        return PermanentProblem(
            f"{self._url} cannot be fetched: {said}; {self._put} if you have it from elsewhere."
        )

    def _no_connection(self, reason: object) -> Exception:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return PermanentProblem(
                f"The certificate of {self._host} cannot be verified ({reason.verify_message}): "
                "if a proxy of yours reads what it passes on, name its certificate in "
                f"SSL_CERT_FILE; or {self._put}."
            )
        if isinstance(reason, _CUT | TimeoutError | ssl.SSLError):
            return _TryAgain(_in_words(reason))
        if isinstance(reason, OSError):
            return _NoNetwork(_in_words(reason))
        return PermanentProblem(f"{self._url} cannot be fetched ({reason}): {self._put}.")

    def _no_network(self, trouble: _TryAgain) -> PermanentProblem:
        proxy = _proxy_for(self._host)
        through = f" through the proxy {proxy}" if proxy else ""
        return PermanentProblem(
            f"{self._host} cannot be reached{through} ({trouble}): connect this machine, or "
            f"{self._put}."
        )

    def _gave_up(self, trouble: _TryAgain, failures: int) -> PermanentProblem:
        tries = "one try" if failures == 1 else f"{failures} tries in a row"
        return PermanentProblem(
            f"{self._url} could not be fetched, after {tries} that brought nothing new "
            f"({trouble}): run `tailor fetch-model {self._entry.name}` later{self._part.goes_on}, "
            f"or {self._put}."
        )


def _origin(url: str, headers: Message) -> Origin:
    def mark(name: str) -> str | None:
        value = headers.get(name)
        return value if value and value.isprintable() else None

    etag = mark("ETag")
    # RFC 9110, 13.1.5: a weak mark does not say that bytes are the same.
    strong = etag if etag and not etag.startswith("W/") else None
    return Origin(url, strong, mark("Last-Modified"))


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    found = re.fullmatch(
        r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", headers.get("Content-Range", "")
    )
    return (int(found[1]), _number(found[2])) if found else (None, None)


def _retry_after(headers: Message) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date."""
    text = headers.get("Retry-After", "")
    if (seconds := _number(text)) is not None:
        return float(seconds)
    with suppress(ValueError, TypeError):
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _proxy_for(host: str) -> str | None:
    """The proxy's host and port, without the password that may be in its address."""
    proxy = urllib.request.getproxies().get("https")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


def _in_words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "its name cannot be found"
    if isinstance(error, _CUT | http.client.IncompleteRead):
        return "the connection was cut"
    text = str(getattr(error, "strerror", None) or error or "") or type(error).__name__
    # Some of it is a server's or a proxy's, and goes to a terminal.
    return "".join(c if c.isprintable() else " " for c in text)[:200]
