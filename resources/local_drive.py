"""A folder that behaves like everybody's Drive: ``<root>/<tenant>/tailor/{videos,results}/...``."""

import os
import secrets
from hashlib import md5
from pathlib import Path

import dagster as dg

from resources.drive import (
    SIDECAR_LIMIT_BYTES,
    SIDECAR_NAME,
    VIDEO_SUFFIXES,
    Drive,
    DriveFile,
    DriveUnavailable,
    Progress,
    PublishedFile,
    VideoFolder,
)
from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

_BLOCK = 1 << 20


class LocalDrive(dg.ConfigurableResource):
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
    """Drive over a folder. Ids are paths relative to the root; links are never followed."""

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
            and Path(entry.path, "tailor", "videos").is_dir()
            and not entry.name.startswith(".")
        ]

    def video_folders(self, tenant: str) -> list[VideoFolder]:
        """One entry per folder under the tenant's ``tailor/videos``."""
        videos = self._inside(tenant, "videos")
        folders = []
        for entry in self._scan(videos):
            if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                continue
            files = [
                file
                for file in self._scan(Path(entry.path))
                if file.is_file(follow_symlinks=False) and not file.name.startswith(".")
            ]
            sidecar = next((f for f in files if f.name == SIDECAR_NAME), None)
            folders.append(
                VideoFolder(
                    tenant=tenant,
                    id=f"{tenant}/tailor/videos/{entry.name}",
                    name=entry.name,
                    videos=tuple(
                        self._listed(f) for f in files if f.name.lower().endswith(VIDEO_SUFFIXES)
                    ),
                    sidecar=self._listed(sidecar) if sidecar else None,
                )
            )
        return folders

    def md5(self, tenant: str, file_id: str) -> str:
        """Read the file once; nothing is cached, so a changed file is never taken for the old one."""
        digest = md5(usedforsecurity=False)
        with self._open(tenant, file_id) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

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
                done += len(block)
                if progress:
                    progress(done, total)
        return digest.hexdigest()

    def read_sidecar(self, tenant: str, file_id: str) -> str:
        """Text of a ``tailor.json``."""
        with self._open(tenant, file_id) as stream:
            content = stream.read(SIDECAR_LIMIT_BYTES + 1)
        if len(content) > SIDECAR_LIMIT_BYTES:
            raise PermanentProblem(
                f"{SIDECAR_NAME} is larger than 64 KiB: keep only template, stride or fps, points, "
                "fps_override and px_per_cm in it."
            )
        return content.decode("utf-8", errors="replace")

    def published(self, tenant: str, results_name: str) -> dict[str, PublishedFile]:
        """Checksums every file that is there."""
        folder = self._results(tenant, results_name)
        found = {}
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                relative = path.relative_to(folder).as_posix()
                found[relative] = PublishedFile(path.stat().st_size, _file_md5(path))
        return found

    def read_published(self, tenant: str, results_name: str, relative: str) -> bytes:
        """Content of the file. Raises DriveUnavailable where it cannot be read."""
        try:
            return self._result_file(tenant, results_name, relative).read_bytes()
        except OSError as error:
            raise DriveUnavailable(f"cannot read {relative}: {error.strerror}") from error

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
                copy.flush()
                os.fsync(copy.fileno())
            os.replace(temporary, target)
        except OSError as error:
            raise DriveUnavailable(f"cannot write {target}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return digest.hexdigest()

    def unpublish(self, tenant: str, results_name: str, relative: str) -> None:
        """Delete the file if it is there."""
        self._result_file(tenant, results_name, relative).unlink(missing_ok=True)

    def link(self, tenant: str, results_name: str, relative: str = "") -> str:
        """A ``file://`` address."""
        return (self._results(tenant, results_name) / relative).as_uri()

    # ------------------------------------------------------------------ paths

    def _scan(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DriveUnavailable(f"cannot list {folder}: {error.strerror}") from error

    def _listed(self, entry: os.DirEntry[str]) -> DriveFile:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            raise DriveUnavailable(f"cannot read {entry.path}: {error.strerror}") from error
        return DriveFile(
            id=Path(entry.path).relative_to(self.root).as_posix(),
            name=entry.name,
            size=status.st_size,
            fingerprint=f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}",
        )

    def _inside(self, tenant: str, room: str) -> Path:
        """The tenant's ``tailor/<room>``; refuses tenants and links that lead elsewhere."""
        if not tenant or tenant.startswith(".") or "/" in tenant or "\\" in tenant:
            raise PermanentProblem(f"{tenant!r} is not a tenant's folder name.")
        folder = self.root / tenant / "tailor" / room
        if folder.resolve() != self.root.resolve() / tenant / "tailor" / room:
            raise PermanentProblem(
                f"The folder {folder} is a link to another place, and tailor does not follow links "
                "in a Drive: put the files themselves there."
            )
        return folder

    def _open(self, tenant: str, file_id: str):  # type: ignore[no-untyped-def]
        folder = self._inside(tenant, "videos")
        path = self.root / file_id
        if folder.resolve() not in path.resolve().parents or path.is_symlink():
            raise PermanentProblem(f"{file_id} is not among the videos of {tenant}.")
        try:
            return open(path, "rb")
        except FileNotFoundError:
            raise PermanentProblem(
                f"{path.name} is no longer in the Drive folder {path.parent.name}: put it back, or "
                "delete the partition."
            ) from None
        except OSError as error:
            raise DriveUnavailable(f"cannot read {path}: {error.strerror}") from error

    def _results(self, tenant: str, results_name: str) -> Path:
        if not results_name or results_name.startswith(".") or "/" in results_name:
            raise PermanentProblem(f"{results_name!r} is not a results folder's name.")
        if self.results_root is not None:
            return self.results_root / results_name
        return self._inside(tenant, "results") / results_name

    def _result_file(self, tenant: str, results_name: str, relative: str) -> Path:
        folder = self._results(tenant, results_name)
        path = folder / relative
        if folder.resolve() not in path.resolve().parents:
            raise PermanentProblem(f"{relative!r} is not a file of the results folder.")
        return path


def _file_md5(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = md5(usedforsecurity=False)
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
