"""Bytes on their way into a Drive: small files in one request, large ones in a resumable session.

The protocol is Google's "Upload file data" guide: a session takes bytes from where the last ones
arrived, and says on request how many it has. So after a cut connection, or in another process, only
what had not arrived is sent again.
"""

import functools
import json
import mimetypes
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import requests

from resources.drive import DriveUnavailable, Progress
from resources.google_drive.answers import Kind
from resources.google_drive.api import GoogleApi, Refused, raise_for
from resources.google_drive.upload_ledger import Upload, UploadLedger
from resources.usage_meter import drive_meter

# By which a file that tailor has put there is known again; other apps do not see it.
OWN_MARK = {"tailor": "result"}
# Up to here a file is sent with its name, in one request; it is held in memory for that.
SMALL_BYTES = 5 << 20
_FIELDS = "id,md5Checksum,size,trashed,parents"
# Without an end nothing new is known to have arrived so often in a row.
_TRIES_WITHOUT_PROGRESS = 8


class Uploader:
    """Puts files into one tenant's Drive; used by many threads."""

    def __init__(self, api: GoogleApi, ledger: UploadLedger) -> None:
        """``ledger`` is the results folder's."""
        self._api, self._ledger = api, ledger

    def put(
        self, upload: Upload, parent_id: str, source: Path, progress: Progress | None = None
    ) -> str:
        """Have the content of ``source`` in the Drive under ``upload``'s id, in ``parent_id``.

        Returns the id, which is another where the Drive had something else under it. The caller
        notes the arrival in the ledger. Raises DriveUnavailable where it does not arrive as it is.
        """
        for _ in range(2):
            small = upload.content.size <= SMALL_BYTES
            answer = (
                self._put_small(upload, parent_id, source)
                if small
                else self._put_large(upload, parent_id, source, progress)
            )
            right = (upload.content.md5, str(upload.content.size))
            arrived = (answer.get("md5Checksum"), answer.get("size")) == right
            elsewhere = arrived and parent_id not in answer.get("parents", (parent_id,))
            if arrived and not elsewhere and not answer.get("trashed"):
                return upload.file_id
            # Spoilt on the way, thrown away or put elsewhere since: not under this id, then. What
            # somebody has put elsewhere is theirs.
            if not elsewhere:
                self._api.remove([upload.file_id])
            upload = self._ledger.renew(upload)
        raise DriveUnavailable(
            f"{upload.content.relative} did not arrive in the Drive as it was sent, twice"
        )

    # ------------------------------------------------------------------ in one request

    def _put_small(self, upload: Upload, parent_id: str, source: Path) -> dict[str, Any]:
        media = _small_media()(
            source.read_bytes(), mimetype=_type_of(upload.content.relative), resumable=False
        )
        try:
            found: dict[str, Any] = self._api.call(
                "files.create",
                body=_about(upload, parent_id),
                media_body=media,
                fields=_FIELDS,
                supportsAllDrives=True,
            )
        except Refused as refused:
            if not refused.done_before:
                raise
            # The request before was carried out, and its answer lost.
            found = self._there(upload.file_id)
        return found

    # ------------------------------------------------------------------ in a session

    def _put_large(
        self, upload: Upload, parent_id: str, source: Path, progress: Progress | None
    ) -> dict[str, Any]:
        size, have, tries = upload.content.size, -1, 0
        with open(source, "rb") as stream:
            while tries < _TRIES_WITHOUT_PROGRESS:
                session = upload.session
                if session is None:
                    session = self._begin(upload, parent_id)
                    if session is None:
                        return self._there(upload.file_id)
                    self._ledger.note_session(upload, session)
                    upload = replace(upload, session=session)
                    held: int | dict[str, Any] | None = 0
                else:
                    held = self._held(session, size)
                if held is None:
                    # Sessions last a week. The id stays, so nothing arrives twice.
                    self._ledger.note_session(upload, None)
                    upload, have, tries = replace(upload, session=None), -1, tries + 1
                    continue
                if isinstance(held, dict):
                    return held
                if held > have:
                    have, tries = held, 0
                else:
                    tries += 1
                    self._api.pause(tries)
                try:
                    done = self._send_rest(session, stream, held, size, progress)
                except Refused as refused:
                    if not refused.done_before:
                        raise_for(refused)
                    # Another process was faster, with the same content under the same id.
                    return self._there(upload.file_id)
                if done is not None:
                    return done
        raise DriveUnavailable(
            f"Google Drive takes no more of {upload.content.relative} after {max(have, 0):,} of "
            f"{size:,} bytes"
        )

    def _begin(self, upload: Upload, parent_id: str) -> str | None:
        """Address of a new session; None where the file is there already."""
        body = json.dumps(_about(upload, parent_id)).encode()
        address = (
            f"{self._api.at.api}upload/drive/v3/files"
            f"?uploadType=resumable&supportsAllDrives=true&fields={_FIELDS}"
        )
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Upload-Content-Type": _type_of(upload.content.relative),
            "X-Upload-Content-Length": str(upload.content.size),
        }

        def attempt() -> str:
            with self._api.send("POST", address, headers=headers, data=body) as response:
                return str(response.headers["Location"])

        try:
            return str(self._api.retried("files.create", attempt))
        except Refused as refused:
            if refused.done_before:
                return None
            raise

    def _held(self, session: str, size: int) -> int | dict[str, Any] | None:
        """How many bytes the session has; the file, where it has them all; None where it is gone."""

        def attempt() -> int | dict[str, Any]:
            with self._api.send(
                "PUT",
                session,
                headers={"Content-Range": f"bytes */{size}", "Content-Length": "0"},
                expected=(200, 201, 308),
            ) as response:
                return _outcome(response)

        try:
            held: int | dict[str, Any] = self._api.retried("upload.put", attempt)
            return held
        except Refused as refused:
            if refused.gone:
                return None
            raise

    def _send_rest(
        self,
        session: str,
        stream: BinaryIO,
        start: int,
        size: int,
        progress: Progress | None,
    ) -> dict[str, Any] | None:
        """Send from ``start`` to the end; the file where all has arrived, None where it has not."""
        body = _Rest(stream, start, size, progress)
        try:
            with self._api.send(
                "PUT",
                session,
                headers={"Content-Range": f"bytes {start}-{size - 1}/{size}"},
                data=body,
                expected=(200, 201, 308),
            ) as response:
                outcome = _outcome(response)
                return outcome if isinstance(outcome, dict) else None
        except Refused as refused:
            if refused.gone or refused.answer.kind is Kind.RETRY:
                return None  # the next question about the session waits, and says what to do
            raise
        except OSError:
            self._api.drop_connections()
            return None

    # ------------------------------------------------------------------ what is there

    def _there(self, file_id: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._api.call(
                "files.get", fileId=file_id, fields=_FIELDS, supportsAllDrives=True
            )
        except Refused as refused:
            if refused.gone:
                return {}
            raise
        return found


class _Rest:
    """A file from ``start`` on, as ``requests`` reads a body: its length is known beforehand."""

    def __init__(self, stream: BinaryIO, start: int, size: int, progress: Progress | None) -> None:
        self._stream, self._at, self._size, self._progress = stream, start, size, progress
        stream.seek(start, os.SEEK_SET)

    def __len__(self) -> int:
        return self._size - self._at

    def read(self, count: int = -1) -> bytes:
        block = self._stream.read(count)
        self._at += len(block)
        drive_meter.add(bytes_uploaded=len(block))
        if self._progress is not None and block:
            self._progress(self._at, self._size)
        return block


@functools.cache
def _small_media() -> type[Any]:
    """A content in memory that counts its bytes each time a request is made of them."""
    from googleapiclient.http import MediaInMemoryUpload

    class Counted(MediaInMemoryUpload):
        def getbytes(self, begin: int, length: int) -> bytes:
            content: bytes = super().getbytes(begin, length)
            drive_meter.add(bytes_uploaded=len(content))
            return content

    return Counted


def _about(upload: Upload, parent_id: str) -> dict[str, Any]:
    return {
        "id": upload.file_id,
        "name": PurePosixPath(upload.content.relative).name,
        "parents": [parent_id],
        "mimeType": _type_of(upload.content.relative),
        "appProperties": OWN_MARK,
    }


def _type_of(relative: str) -> str:
    return mimetypes.guess_type(relative)[0] or "application/octet-stream"


def _outcome(response: requests.Response) -> int | dict[str, Any]:
    """Bytes that a session has, or the file."""
    if response.status_code == 308:
        held = response.headers.get("Range", "")  # "bytes=0-262143"; absent where there is nothing
        return int(held.rpartition("-")[2]) + 1 if held else 0
    found: dict[str, Any] = response.json()
    return found
