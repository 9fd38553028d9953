"""A file on its way from a Drive: one stream, continued where it was cut, checked at the end.

The client library's own download reads whole chunks into memory, costs units for each of them, and
has called a file complete that was not. Here a file is one request as long as nothing breaks; what
has arrived is kept on the disk with the revision it is of, so another process goes on with it.
"""

import errno
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from resources.drive import DriveUnavailable, Progress
from resources.google_drive.api import CONNECTION_ERRORS, GoogleApi
from resources.partial_file import Origin, PartialFile, PartUnwritable, hold_partial_file
from resources.usage_meter import drive_meter
from tailor_assets.compute.errors import PermanentProblem

# What is in a block that the connection did not finish is lost.
_BLOCK = 1 << 16
_TRIES_WITHOUT_PROGRESS = 6
# Left on the disk beside the file, for what is made from it.
_SPARE_BYTES = 256 << 20
_LEFT_BEHIND_S = 7 * 24 * 3600
_FIELDS = "id,name,size,md5Checksum,headRevisionId,trashed"


class Downloader:
    """Fetches files of one tenant; ``folder`` is on the disk and keeps what is under way."""

    def __init__(self, api: GoogleApi, tenant: str, folder: Path) -> None:
        """Nothing is read yet."""
        self._api, self._tenant, self._folder = api, tenant, folder

    def fetch(self, file_id: str, target: Path, progress: Progress | None = None) -> str:
        """Have the file at ``target``, whole; return its md5.

        Raises PermanentProblem for a file that is not there any more, UserMustAct for one that
        Google does not hand out, OSError for a disk that is too small (that is no fault of the
        file's, and passes), DriveUnavailable after several tries without progress; what has arrived
        by then is kept.
        """
        self._clean_up()
        name = _part_name(self._tenant, file_id)
        try:
            with hold_partial_file(self._folder / name, lambda: None, "md5") as part:
                part.read()
                about = self._fetch_all(part, file_id, progress)
                _put(part, self._folder / name, target)
        except PartUnwritable as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(problem.errno, str(problem)) from None
            raise
        return str(about["md5Checksum"])

    def _fetch_all(
        self, part: PartialFile, file_id: str, progress: Progress | None
    ) -> dict[str, Any]:
        tries, furthest = 0, -1
        while tries < _TRIES_WITHOUT_PROGRESS:
            about = self._about(file_id)
            size = int(about.get("size", 0))
            origin = Origin(url=f"drive:{file_id}", etag=about.get("headRevisionId"))
            if part.origin != origin or part.size > size:
                part.start_over(origin)
                furthest = -1
            if part.size == size and part.digest == about.get("md5Checksum"):
                if progress is not None:
                    progress(size, size)
                return about
            if part.size == size:
                # All of it is here, and it is not what Google says it is.
                part.start_over(origin)
            self._see_that_there_is_room(size - part.size, str(about.get("name", "")))
            if part.size > furthest:
                furthest, tries = part.size, 0
            else:
                tries += 1
                self._api.pause(tries)
            self._read(part, file_id, size, progress)
        raise DriveUnavailable(
            f"Google Drive gives no more of a file after {part.size:,} of {size:,} bytes"
        )

    def _about(self, file_id: str) -> dict[str, Any]:
        about = self._api.file(file_id, _FIELDS)
        if about.get("trashed"):
            raise PermanentProblem(
                f"{about.get('name', 'The video')} is no longer in the Drive: put it back, or delete "
                "the partition."
            )
        if not about.get("md5Checksum"):
            raise DriveUnavailable(f"{about.get('name', 'The video')} is still being uploaded")
        return about

    def _read(self, part: PartialFile, file_id: str, size: int, progress: Progress | None) -> None:
        """Read from where it was cut, until the end or the next cut."""
        address = f"{self._api.at.api}drive/v3/files/{file_id}?alt=media&supportsAllDrives=true"
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        headers["Accept-Encoding"] = "identity"

        def attempt() -> Any:
            return self._api.send("GET", address, headers=headers, stream=True, expected=(200, 206))

        response = self._api.retried("media.get", attempt)
        try:
            with response:
                if response.status_code == 200 and part.size:
                    # The range was not understood; these are all the bytes again.
                    assert part.origin is not None
                    part.start_over(part.origin)
                for block in response.iter_content(_BLOCK):
                    drive_meter.add(bytes_downloaded=len(block))
                    if part.size + len(block) > size:
                        return  # more than there is: the next look starts over
                    part.append(block)
                    if progress is not None:
                        progress(part.size, size)
        except CONNECTION_ERRORS:
            self._api.drop_connections()

    def _see_that_there_is_room(self, wanted: int, name: str) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < wanted + _SPARE_BYTES:
            raise OSError(
                errno.ENOSPC,
                f"No space left on the disk: {name} needs {wanted / 1e9:.1f} GB, and {self._folder} "
                f"has {free / 1e9:.1f} GB left: make room; it is tried again, and what has arrived is "
                "kept.",
            )

    def _clean_up(self) -> None:
        """Parts that nobody has gone on with for a week."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                    path.unlink()


def read_small(api: GoogleApi, file_id: str, most: int) -> bytes:
    """The first ``most`` bytes of a file, in memory. Raises what ``GoogleApi.retried`` raises."""
    address = f"{api.at.api}drive/v3/files/{file_id}?alt=media&supportsAllDrives=true"

    def attempt() -> bytes:
        with api.send("GET", address, stream=True) as response:
            content = b""
            for block in response.iter_content(_BLOCK):
                drive_meter.add(bytes_downloaded=len(block))
                content += block
                if len(content) > most:
                    return content[:most]
            return content

    return bytes(api.retried("media.get", attempt))


def remove_parts(folder: Path, tenant: str, file_ids: Sequence[str]) -> None:
    """Delete what has arrived of some files and was not finished."""
    for file_id in file_ids:
        for path in folder.glob(f"{_part_name(tenant, file_id)}*"):
            path.unlink(missing_ok=True)


def _part_name(tenant: str, file_id: str) -> str:
    # Ids are Google's, but nothing that comes from outside becomes a path.
    return sha256(f"{tenant}\0{file_id}".encode()).hexdigest()[:32]


def _put(part: PartialFile, whole: Path, target: Path) -> None:
    """Move the part to ``target``, which may be on another disk."""
    part.put_in_place(whole)
    shutil.move(whole, target)
