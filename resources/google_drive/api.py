"""Requests to the Drive API for one tenant: authorised, paced, tried again, counted.

google-api-python-client makes the requests and reads the answers. What it does not do well is done
here and in the two modules of transfers: its own retries know two reasons of many, and its media
classes do not go on in another process (decisions.md).
"""

import copy
import functools
import http.client
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources as package_files
from typing import Any

import google.auth.exceptions
import google.auth.transport.requests
import httplib2
import requests
from google.auth.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp

from resources.drive import DriveFull, DriveMustWait, DriveUnavailable, UserMustAct
from resources.google_drive.addresses import Addresses, addresses
from resources.google_drive.answers import Answer, Kind, understand
from resources.google_drive.pacer import Pacer
from tailor_assets.compute.errors import PermanentProblem

# Units per request, of projects made since May 2026. What is not here costs what a change does.
UNITS = {
    "files.get": 5,
    "files.generateIds": 5,
    "about.get": 5,
    "changes.getStartPageToken": 5,
    "drives.get": 5,
    "files.list": 100,
    "changes.list": 100,
    "drives.list": 100,
    "media.get": 200,
    "upload.put": 0,  # the session's beginning was counted
}
_OF_A_CHANGE = 50

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_PAUSE_S = 64.0
# Calls in one batch, at most.
_BATCH = 100
_TIMEOUT_S = 60.0

CONNECTION_ERRORS = (
    OSError,  # of which requests' are, too
    httplib2.HttpLib2Error,
    http.client.HTTPException,
    google.auth.exceptions.TransportError,
)


class _WithoutSessions(logging.Filter):
    """An upload session's address is a key to it, and no log's business."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "upload_id" in record.getMessage():
            record.msg = _without_sessions(record.getMessage())
            record.args = ()
        return True


def _without_sessions(text: str) -> str:
    return re.sub(r"upload_id=[^&\s\"]+", "upload_id=...", text)


logging.getLogger("urllib3.connectionpool").addFilter(_WithoutSessions())


class Refused(Exception):
    """The Drive answered with an error that the caller knows how to take."""

    def __init__(self, answer: Answer) -> None:
        """``answer`` says which."""
        super().__init__(f"{answer.status} {answer.reason}: {answer.message}")
        self.answer = answer

    @property
    def gone(self) -> bool:
        """There is no such file, or this account may not see it."""
        return self.answer.kind is Kind.GONE

    @property
    def done_before(self) -> bool:
        """A file of this id is there already."""
        return self.answer.kind is Kind.DONE_BEFORE


class GoogleApi:
    """The API for one tenant. May be used by many threads."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        at: Addresses | None = None,
        pacer: Pacer | None = None,
        in_shared_drive: bool = False,
        count: Callable[[str, int], None] | None = None,
        pauses_s: tuple[float, ...] = PAUSES_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is asked yet. ``count(method, units)`` hears of every request that is sent."""
        self.at = at or addresses()
        self.pacer = pacer or Pacer()
        self._credentials = credentials
        self._in_shared_drive = in_shared_drive
        self._count = count or (lambda method, units: None)
        self._pauses_s = pauses_s
        self._sleep = sleep
        self._collections = _collections(self.at.api)
        self._of_thread = threading.local()
        self._refreshing = threading.Lock()

    def with_pauses(self, pauses_s: tuple[float, ...]) -> "GoogleApi":
        """The same connections and pacer, with more or less patience."""
        other = copy.copy(self)
        other._pauses_s = pauses_s
        return other

    def call(self, method: str, **parameters: Any) -> Any:
        """Ask for ``method`` ("files.list") and return its answer.

        Raises Refused for what the caller may know how to take, UserMustAct, DriveFull,
        DriveMustWait, and DriveUnavailable after the last retry.
        """
        from googleapiclient.errors import HttpError

        collection, _, name = method.partition(".")

        def attempt() -> Any:
            request = getattr(self._collections[collection], name)(**parameters)
            try:
                # httplib2 is not safe to share between threads.
                return request.execute(http=self._http(), num_retries=0)
            except HttpError as error:
                raise _refused(error) from None

        return self.retried(method, attempt)

    def file(self, file_id: str, fields: str) -> dict[str, Any]:
        """These ``fields`` of a file or folder; of one that is gone, that it is ``trashed``.

        To whoever wants it there, what was deleted for good is no other thing. Raises what ``call``
        raises.
        """
        try:
            found: dict[str, Any] = self.call(
                "files.get", fileId=file_id, fields=fields, supportsAllDrives=True
            )
        except Refused as refused:
            if not refused.gone:
                raise
            return {"trashed": True}
        return found

    def retried(
        self, method: str, attempt: Callable[[], Any], calls: Callable[[], int] = lambda: 1
    ) -> Any:
        """Do ``attempt`` until it is answered; it raises Refused, or what a connection raises.

        ``method`` and the number of ``calls`` say what it costs. Raises what ``call`` raises.
        """
        for pause in (*self._pauses_s, None):
            units = UNITS.get(method, _OF_A_CHANGE) * calls()
            self.pacer.take(units)
            self._count(method, units)
            try:
                return attempt()
            except Refused as refused:
                answer = refused.answer
                if answer.kind is not Kind.RETRY:
                    raise_for(refused)
                if answer.status in (403, 429):
                    self.pacer.refused()
                reason = str(refused)
                asked_for = answer.retry_after_s or 0.0
            except google.auth.exceptions.RefreshError as error:
                word = _word_of(error)
                if word in _OF_THE_APP:
                    raise DriveUnavailable(
                        f"Google does not know tailor's own client ({word}): whoever runs tailor has "
                        "to put TAILOR_GOOGLE_CLIENT right."
                    ) from None
                if word in _WITHDRAWN and not _is_of_the_clock(error):
                    raise UserMustAct(
                        f"Google gives no access to this Drive any more ({word}): its owner has "
                        "withdrawn it, or it has expired; connect it again with `tailor connect`."
                    ) from None
                # Too fast, or trouble of Google's own. Its text is not repeated: it may have the
                # token's beginning in it.
                reason, asked_for = f"no token: {word or 'no reason'}", 0.0
            except CONNECTION_ERRORS as error:
                self.drop_connections()
                reason = _without_sessions(f"{type(error).__name__}: {error}")
                asked_for = 0.0
            if pause is None or asked_for > _LONGEST_PAUSE_S:
                break
            self._sleep(max(pause, asked_for) * _jitter())
        raise DriveUnavailable(f"Google Drive does not answer {method} ({reason[:300]})")

    def new_ids(self, count: int) -> list[str]:
        """Ids for files that are not there yet, at most 1,000."""
        found = self.call("files.generateIds", count=count, space="drive", fields="ids")
        return [str(file_id) for file_id in found["ids"]]

    def remove(self, file_ids: Sequence[str]) -> None:
        """Remove files of tailor's own, many in one request; one that is not there is fine.

        From a shared drive into its trash: deleting for good is its managers' alone.
        """
        for start in range(0, len(file_ids), _BATCH):
            self._remove_some(file_ids[start : start + _BATCH])

    def _remove_some(self, file_ids: Sequence[str]) -> None:
        from googleapiclient.errors import BatchError, HttpError
        from googleapiclient.http import BatchHttpRequest

        # By a short word each: a long one is folded in the batch's headers.
        waiting = {str(number): file_id for number, file_id in enumerate(file_ids)}

        def attempt() -> None:
            refusals: list[Refused] = []

            def heard(number: str, _: Any, error: HttpError | None) -> None:
                refused = None if error is None else _refused(error)
                if refused is None or refused.gone:
                    del waiting[number]
                else:
                    refusals.append(refused)

            batch = BatchHttpRequest(callback=heard, batch_uri=f"{self.at.api}batch/drive/v3")
            for number, file_id in waiting.items():
                batch.add(self._removal(file_id), request_id=number)
            try:
                batch.execute(http=self._http())
            except BatchError as error:
                raise http.client.HTTPException(f"no answer to a batch: {error}") from None
            except HttpError as error:
                raise _refused(error) from None
            if refusals:
                # One that passes by itself is worth another try, whatever the others are.
                raise min(refusals, key=lambda refused: refused.answer.kind is not Kind.RETRY)

        self.retried("files.delete", attempt, lambda: len(waiting))

    def _removal(self, file_id: str) -> Any:
        files = self._collections["files"]
        if self._in_shared_drive:
            return files.update(
                fileId=file_id, body={"trashed": True}, fields="id", supportsAllDrives=True
            )
        return files.delete(fileId=file_id, supportsAllDrives=True)

    def pause(self, number: int) -> None:
        """Wait before the try after ``number`` (from 1) that came to nothing."""
        if self._pauses_s:
            self._sleep(self._pauses_s[min(number, len(self._pauses_s)) - 1] * _jitter())

    def session(self) -> requests.Session:
        """This thread's session for media: streams in both directions."""
        self._have_token()
        own = getattr(self._of_thread, "session", None)
        if own is None:
            own = google.auth.transport.requests.AuthorizedSession(self._credentials)
            self._of_thread.session = own
        return own

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        stream: bool = False,
        expected: tuple[int, ...] = (200,),
    ) -> requests.Response:
        """Send one request of a transfer, once; raises Refused for any other status."""
        response = self.session().request(
            method, url, headers=dict(headers or {}), data=data, stream=stream, timeout=_TIMEOUT_S
        )
        if response.status_code in expected:
            return response
        with response:
            body = response.raw.read(65536, decode_content=True) if stream else response.content
        raise Refused(
            understand(
                response.status_code, body, {k.lower(): v for k, v in response.headers.items()}
            )
        )

    def drop_connections(self) -> None:
        """Forget this thread's connections: one that broke in the middle is of no use."""
        for name in ("http", "session"):
            own = getattr(self._of_thread, name, None)
            if own is not None:
                own.close()
                delattr(self._of_thread, name)

    def _http(self) -> AuthorizedHttp:
        self._have_token()
        own = getattr(self._of_thread, "http", None)
        if own is None:
            own = AuthorizedHttp(self._credentials, http=httplib2.Http(timeout=_TIMEOUT_S))
            self._of_thread.http = own
        return own

    def _have_token(self) -> None:
        # Eight threads that find the token expired would fetch eight.
        if self._credentials.valid:
            return
        with self._refreshing:
            if not self._credentials.valid:
                self._count("token", 0)
                self._credentials.refresh(google.auth.transport.requests.Request())


def _refused(error: Any) -> Refused:
    """A client library's HttpError, understood."""
    headers = {k.lower(): str(v) for k, v in error.resp.items()}
    return Refused(understand(int(error.resp.status), error.content, headers))


def _jitter() -> float:
    """So that those who were cut off together do not come back together."""
    return random.uniform(1.0, 1.25)


def raise_for(refused: Refused) -> None:
    """Raise what an answer means for whoever asked."""
    answer = refused.answer
    if answer.kind is Kind.ASK:
        # Of one file, or of all that this account may do.
        problem = PermanentProblem if answer.reason in _OF_ONE_FILE else UserMustAct
        raise problem(_what_to_do(answer)) from None
    if answer.kind is Kind.PARK:
        raise DriveFull(
            f"The Google Drive takes no more files ({answer.reason}): make room in it; what is to be "
            "put there is kept here meanwhile.",
            storage=answer.reason == "storageQuotaExceeded",
        ) from None
    if answer.kind is Kind.WAIT:
        raise DriveMustWait(
            f"Google Drive gives no more today ({answer.reason}); it is asked again later."
        ) from None
    raise refused


_ADVICE = {
    "cannotDownloadAbusiveFile": (
        "Google takes the file for malware or spam: put another copy of the video there."
    ),
    "appNotAuthorizedToFile": "tailor may change only what it has made itself: rename or move the "
    "file that is in its way.",
    "insufficientFilePermissions": "the account may not write there: share the folder with it as "
    "an editor.",
    "insufficientParentPermissions": "the account may not write there: share the folder with it as "
    "an editor.",
    "domainPolicy": "the organisation's administrators do not allow this app: ask them.",
    "accessNotConfigured": "the Drive API is switched off in the Google Cloud project: switch it on.",
    "insufficientPermissions": "it was connected without a permission that is needed: connect it "
    "again with `tailor connect`.",
}


_OF_ONE_FILE = (
    "cannotDownloadAbusiveFile",
    "fileNotDownloadable",
    "appNotAuthorizedToFile",
    "insufficientFilePermissions",
    "insufficientParentPermissions",
)


def _what_to_do(answer: Answer) -> str:
    advice = _ADVICE.get(
        answer.reason, "connect it again with `tailor connect`, and allow what it asks for."
    )
    return f"Google Drive refuses ({answer.reason or answer.status}): {advice}"


# Of RFC 6749 and of Google's: only the owner, or whoever runs tailor, can mend these.
_WITHDRAWN = {
    "invalid_grant",
    "unauthorized_client",
    "access_denied",
    "admin_policy_enforced",
    "org_internal",
    "invalid_scope",
}


# These are of no Drive: the program's own name and secret are wrong.
_OF_THE_APP = {"invalid_client", "deleted_client", "disabled_client"}


def _is_of_the_clock(error: google.auth.exceptions.RefreshError) -> bool:
    """Whether a service account's request was signed too early or too late by Google's clock."""
    described = [part.get("error_description") for part in error.args if isinstance(part, Mapping)]
    return any(str(text).startswith("Invalid JWT") for text in described)


def _word_of(error: google.auth.exceptions.RefreshError) -> str:
    """The token endpoint's word for what is wrong; empty where it has given none."""
    for part in error.args:
        if isinstance(part, Mapping) and isinstance(part.get("error"), str):
            return str(part["error"])[:40]
    return ""


@functools.cache
def _collections(root_url: str) -> dict[str, Any]:
    """The API's collections, for all tenants: making them takes milliseconds each time."""
    from googleapiclient.discovery import build_from_document

    found = package_files.files("googleapiclient.discovery_cache.documents") / "drive.v3.json"
    document = json.loads(found.read_text(encoding="utf-8"))
    document["rootUrl"] = root_url
    document.pop("mtlsRootUrl", None)
    service = build_from_document(document, http=httplib2.Http())
    return {name: getattr(service, name)() for name in ("files", "changes", "drives", "about")}
