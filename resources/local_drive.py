"""A folder that behaves like everybody's Drive: ``<root>/<tenant>/tailor/{videos,results}/...``."""

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from hashlib import md5
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from resources.configured_drive import DriveResource
from resources.drive import (
    SIDECAR_LIMIT_BYTES,
    SIDECAR_NAME,
    VIDEO_SUFFIXES,
    Drive,
    DriveFile,
    DriveFull,
    DriveUnavailable,
    Fence,
    Progress,
    PublishedFile,
    VideoFolder,
    result_parts,
    sidecar_too_large,
)
from resources.settings import load_settings
from resources.usage_meter import drive_meter
from tailor_assets.compute.errors import PermanentProblem

_BLOCK = 1 << 20
# Never through a link, and never waiting for somebody to write into a pipe.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

# Checksums begun and not finished in one tick: (path, fingerprint) -> (digest, bytes read).
_begun: dict[tuple[str, str], tuple[Any, int]] = {}


class LocalDrive(DriveResource):
    """Configures a ``LocalDriveFolder``.

    An empty ``root`` means ``TAILOR_DRIVE_ROOT``. ``results_root`` is a folder to write results to
    instead of the tenant's own (``tailor run --out``).
    """

    root: str = ""
    results_root: str = ""

    def open(self) -> "LocalDriveFolder":
        """The Drive this configuration names."""
        root = Path(self.root) if self.root else load_settings().drive_root
        return LocalDriveFolder(root, Path(self.results_root) if self.results_root else None)


class LocalDriveFolder(Drive):
    """Drive over a folder; links are never followed.

    Ids are paths relative to the root, with bytes that are no UTF-8 and percent signs as ``%XX``:
    a file name may be any bytes, an id has to go through databases and JSON.
    """

    def __init__(self, root: Path, results_root: Path | None = None) -> None:
        """``root`` need not exist yet: a Drive without tenants is empty, not broken."""
        self.root = root
        self.results_root = results_root

    def tenants(self) -> list[str]:
        """Folders of the root that have a ``tailor/videos`` folder."""
        if not self.root.exists():
            return []
        return [
            entry.name
            for entry in self._scan(self.root)
            if entry.is_dir(follow_symlinks=False)
            and not entry.name.startswith(".")
            and _readable(entry.name) == entry.name
            and os.path.isdir(os.path.join(entry.path, "tailor", "videos"))
        ]

    def video_folders(self, tenant: str) -> list[VideoFolder]:
        """One entry per folder under the tenant's ``tailor/videos``."""
        videos = self._inside(tenant, "videos")
        folders = []
        for entry in self._scan(videos):
            if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                continue
            with suppress(FileNotFoundError):  # moved away meanwhile
                folders.append(self._video_folder(tenant, entry))
        return folders

    def _video_folder(self, tenant: str, entry: os.DirEntry[str]) -> VideoFolder:
        """One that cannot be read is one folder's problem, and not its tenant's."""
        videos: tuple[DriveFile, ...] = ()
        sidecar = problem = None
        try:
            files = [
                file
                for file in _entries(Path(entry.path))
                if file.is_file(follow_symlinks=False) and not file.name.startswith(".")
            ]
            videos = tuple(
                self._listed(f) for f in files if f.name.lower().endswith(VIDEO_SUFFIXES)
            )
            sidecar = next((self._listed(f) for f in files if f.name == SIDECAR_NAME), None)
        except FileNotFoundError:
            raise
        except OSError as error:
            problem = f"The folder cannot be read ({error.strerror}): mend its permissions."
            videos, sidecar = (), None
        return VideoFolder(
            tenant=tenant,
            id=self._id(entry.path),
            name=_readable(entry.name),
            videos=videos,
            sidecar=sidecar,
            problem=problem,
        )

    def md5(self, tenant: str, file_id: str, until: float | None = None) -> str | None:
        """Read the file once, in as many calls as it takes; a changed file is begun again.

        No finished checksum is kept, so a changed file is never taken for the old one.
        """
        with self._open(tenant, file_id) as stream:
            before = _fingerprint(os.fstat(stream.fileno()))
            key = (str(self.root / file_id), before)
            digest, done = _begun.pop(key, (md5(usedforsecurity=False), 0))
            stream.seek(done)
            while block := stream.read(_BLOCK):
                digest.update(block)
                done += len(block)
                if until is not None and time.monotonic() > until:
                    _begun[key] = (digest, done)
                    while len(_begun) > 100:
                        _begun.pop(next(iter(_begun)))
                    return None
            if _fingerprint(os.fstat(stream.fileno())) != before:
                return None
        return str(digest.hexdigest())

    def download(
        self, tenant: str, file_id: str, target: Path, progress: Progress | None = None
    ) -> str:
        """Copy the file, checksumming on the way."""
        digest = md5(usedforsecurity=False)
        with self._open(tenant, file_id) as stream, open(target, "wb") as copy:
            total, done = os.fstat(stream.fileno()).st_size, 0
            while block := stream.read(_BLOCK):
                digest.update(block)
                copy.write(block)
                drive_meter.add(bytes_downloaded=len(block))
                done += len(block)
                if progress:
                    progress(done, total)
        return digest.hexdigest()

    def read_sidecar(self, tenant: str, file_id: str) -> str:
        """Text of a ``tailor.json``."""
        with self._open(tenant, file_id) as stream:
            content = stream.read(SIDECAR_LIMIT_BYTES + 1)
        if len(content) > SIDECAR_LIMIT_BYTES:
            raise sidecar_too_large()
        return content.decode("utf-8", errors="replace")

    def published(self, tenant: str, results_name: str) -> dict[str, PublishedFile]:
        """Checksums every file that is there."""
        folder = self._results(tenant, results_name)
        found = {}
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.is_symlink() or not path.is_file() or path.name.startswith("."):
                continue
            relative = path.relative_to(folder).as_posix()
            try:
                found[relative] = PublishedFile(path.stat().st_size, _file_md5(path))
            except FileNotFoundError:
                continue  # removed by its owner since the listing
            except OSError as error:
                raise DriveUnavailable(f"cannot read {path}: {error.strerror}") from error
        return found

    def read_published(self, tenant: str, results_name: str, relative: str) -> bytes:
        """Content of the file. Raises DriveUnavailable where it cannot be read."""
        path = self._result_file(tenant, results_name, relative)
        try:
            with open(os.open(path, _READ), "rb") as stream:
                content = stream.read()
        except OSError as error:
            raise DriveUnavailable(f"cannot read {relative}: {error.strerror}") from error
        drive_meter.add(bytes_downloaded=len(content))
        return content

    def publish(self, tenant: str, results_name: str, relative: str, source: Path) -> str:
        """Copy beside the target, flush to disk, rename."""
        target = self._result_file(tenant, results_name, relative)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = md5(usedforsecurity=False)
            with open(source, "rb") as stream, open(temporary, "wb") as copy:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    copy.write(block)
                    drive_meter.add(bytes_uploaded=len(block))
                copy.flush()
                os.fsync(copy.fileno())
            os.replace(temporary, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DriveFull(
                    f"There is no room for {relative} in {self.root}: make room; what is to be put "
                    "there is kept here meanwhile."
                ) from error
            raise DriveUnavailable(f"cannot write {target}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return digest.hexdigest()

    def unpublish_all(
        self,
        tenant: str,
        results_name: str,
        relatives: Sequence[str],
        *,
        fence: Fence | None = None,
    ) -> None:
        """Delete the files that are there."""
        paths = [self._result_file(tenant, results_name, relative) for relative in relatives]
        with fence.held() if fence is not None else nullcontext():
            for path in paths:
                try:
                    path.unlink(missing_ok=True)
                except NotADirectoryError:
                    continue
                except OSError as error:
                    raise DriveUnavailable(f"cannot remove {path}: {error.strerror}") from error

    def has_room(self, tenant: str, size: int) -> bool | None:
        """Of the disk that the results are on."""
        folder = self.results_root or self._tailor(tenant)
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free >= size

    def link(self, tenant: str, results_name: str, relative: str = "") -> str:
        """A ``file://`` address."""
        return (self._results(tenant, results_name) / relative).as_uri()

    def results_folder(self, tenant: str, results_name: str) -> Path:
        """Where a video's results are. Raises PermanentProblem where a link leads elsewhere."""
        return self._results(tenant, results_name)

    # ------------------------------------------------------------------ paths

    def _scan(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            return _entries(folder)
        except OSError as error:
            raise DriveUnavailable(f"cannot list {folder}: {error.strerror}") from error

    def _listed(self, entry: os.DirEntry[str]) -> DriveFile:
        status = entry.stat(follow_symlinks=False)
        return DriveFile(
            id=self._id(entry.path),
            name=_readable(entry.name),
            size=status.st_size,
            fingerprint=_fingerprint(status),
        )

    def _id(self, path: str) -> str:
        relative = os.fsencode(os.path.relpath(path, self.root)).replace(b"%", b"%25")
        text = relative.decode("utf-8", "surrogateescape")
        return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)

    def _tailor(self, tenant: str) -> Path:
        """The tenant's ``tailor`` folder; refuses tenants that are no folder of the root."""
        if not tenant or tenant.startswith(".") or any(c in tenant for c in "/\\\0"):
            raise PermanentProblem(f"{tenant!r} is not a tenant's folder name.")
        return self.root / tenant / "tailor"

    def _inside(self, tenant: str, room: str) -> Path:
        """The tenant's ``tailor/<room>``; refuses links that lead elsewhere."""
        folder = self._tailor(tenant) / room
        _refuse_links(self.root, folder)
        return folder

    @contextmanager
    def _open(self, tenant: str, file_id: str) -> Iterator[BinaryIO]:
        """A video's or tailor.json's bytes, opened step by step so that no link is followed."""
        path = PurePosixPath(os.fsdecode(unquote_to_bytes(file_id)))
        if len(path.parts) != 5 or path.parts[:3] != (tenant, "tailor", "videos"):
            raise PermanentProblem(f"{file_id} is not among the videos of {tenant}.")
        self._tailor(tenant)
        if ".." in path.parts or "\0" in str(path):
            raise PermanentProblem(f"{file_id} is not among the videos of {tenant}.")
        try:
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for part in path.parts[:-1]:
                    inner = os.open(part, _READ | os.O_DIRECTORY, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                stream = open(os.open(path.name, _READ, dir_fd=folder), "rb")  # noqa: SIM115
            finally:
                os.close(folder)
        except FileNotFoundError:
            raise PermanentProblem(
                f"{path.name} is no longer in the Drive folder {path.parent.name}: put it back, or "
                "delete the partition."
            ) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise PermanentProblem(
                    f"{path.name} is a link to another place, and tailor does not follow links in a "
                    "Drive: put the file itself there."
                ) from None
            raise DriveUnavailable(f"cannot read {path}: {error.strerror}") from error
        with stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PermanentProblem(f"{path.name} is not a file: put the video itself there.")
            try:
                yield stream
            except OSError as error:
                if error.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT):
                    raise DriveUnavailable(f"cannot read {path}: {error.strerror}") from error
                raise

    def _results(self, tenant: str, results_name: str) -> Path:
        result_parts(results_name)
        base = self.results_root or self._inside(tenant, "results")
        _refuse_links(base, base / results_name)
        return base / results_name

    def _result_file(self, tenant: str, results_name: str, relative: str) -> Path:
        """Path of a result; its folders are not links, and whoever uses it must not follow it."""
        folder = self._results(tenant, results_name)
        path = folder.joinpath(*result_parts(results_name, relative))
        _refuse_links(folder, path.parent)
        return path


def _refuse_links(base: Path, folder: Path) -> None:
    """Raise PermanentProblem where a folder below ``base``, down to ``folder``, is a link."""
    try:
        straight = folder.resolve() == base.resolve() / folder.relative_to(base)
    except (RuntimeError, OSError):  # a loop of links
        straight = False
    if not straight:
        raise PermanentProblem(
            f"The folder {folder} is a link to another place, and tailor does not follow links in a "
            "Drive: put the files themselves there."
        )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _readable(name: str) -> str:
    """The name for people and tables: bytes that are no UTF-8 shown as the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")


def _fingerprint(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _file_md5(path: Path) -> str:
    with open(os.open(path, _READ), "rb") as stream:
        digest = md5(usedforsecurity=False)
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
