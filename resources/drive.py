"""What tailor asks of a Drive. ``LocalDrive`` is a folder; Google Drive is the same questions."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".m4v", ".mpg", ".mpeg")
SIDECAR_NAME = "tailor.json"
SIDECAR_LIMIT_BYTES = 64 * 1024

Progress = Callable[[int, int], None]


class DriveUnavailable(Exception):
    """The Drive did not answer; trying again later may help. A failed listing is not an empty one."""


@dataclass(frozen=True)
class DriveFile:
    """A file as a listing shows it.

    ``fingerprint`` changes whenever the content may have changed and is cheap to list (a revision
    id, or size and modification time); the md5 is asked for only when the fingerprint holds still.
    """

    id: str
    name: str
    size: int
    fingerprint: str


@dataclass(frozen=True)
class VideoFolder:
    """One folder under ``tailor/videos/``; a well-formed one holds one video."""

    tenant: str
    id: str
    name: str
    videos: tuple[DriveFile, ...]
    sidecar: DriveFile | None


@dataclass(frozen=True)
class PublishedFile:
    """A file in a results folder; ``md5`` in hexadecimal."""

    size: int
    md5: str


class Drive(ABC):
    """A tenant's files: videos to read, results to write.

    Every method takes the tenant and never looks outside that tenant's tree. Names are the raw
    names people gave; implementations must treat them as hostile. Trouble that may pass raises
    DriveUnavailable after the implementation's own retries.
    """

    @abstractmethod
    def tenants(self) -> list[str]:
        """Tenants, sorted."""

    @abstractmethod
    def video_folders(self, tenant: str) -> list[VideoFolder]:
        """Folders under ``tailor/videos``, sorted by name."""

    @abstractmethod
    def md5(self, tenant: str, file_id: str, until: float | None = None) -> str | None:
        """The md5 of a file's content, in hexadecimal.

        None when the file changed meanwhile, or when reading it takes longer than ``until``
        (``time.monotonic()`` seconds): ask again, and the reading goes on where it stopped.
        """

    @abstractmethod
    def download(
        self, tenant: str, file_id: str, target: Path, progress: Progress | None = None
    ) -> str:
        """Write a file's content to the local ``target`` and return its md5."""

    @abstractmethod
    def read_sidecar(self, tenant: str, file_id: str) -> str:
        """Text of a ``tailor.json``, at most 64 KiB. Raises PermanentProblem when larger."""

    @abstractmethod
    def published(self, tenant: str, results_name: str) -> dict[str, PublishedFile]:
        """What is in ``tailor/results/<results_name>/`` now, by relative path."""

    @abstractmethod
    def read_published(self, tenant: str, results_name: str, relative: str) -> bytes:
        """Content of a small file of the results folder."""

    @abstractmethod
    def publish(self, tenant: str, results_name: str, relative: str, source: Path) -> str:
        """Put a local file into the results folder, whole or not at all; return its md5 there."""

    @abstractmethod
    def unpublish(self, tenant: str, results_name: str, relative: str) -> None:
        """Remove a file from the results folder; one that is not there is fine."""

    @abstractmethod
    def link(self, tenant: str, results_name: str, relative: str = "") -> str:
        """An address a person can open."""
