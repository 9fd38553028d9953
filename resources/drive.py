"""What tailor asks of a Drive. ``LocalDrive`` is a folder; Google Drive is the same questions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from tailor_assets.compute.errors import PermanentProblem

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".m4v", ".mpg", ".mpeg")
SIDECAR_NAME = "tailor.json"
SIDECAR_LIMIT_BYTES = 64 * 1024

Progress = Callable[[int, int], None]

_PARALLEL_UPLOADS = 8
_UPLOAD_TRIES = 2


class DriveUnavailable(Exception):
    """The Drive did not answer; trying again later may help. A failed listing is not an empty one."""


class DriveMustWait(DriveUnavailable):
    """The Drive gives no more for some hours."""


class DriveFull(DriveUnavailable):
    """There is no room for what is to be put there; it is kept here until there is.

    ``storage``: because of its bytes, so that one can ask for how many there is room; else because
    of the number of files, say. ``missing_bytes``: of what is not there yet, where it is known.
    """

    def __init__(self, message: str, *, storage: bool = True) -> None:
        """``message`` is the sentence for people."""
        super().__init__(message)
        self.storage = storage
        self.missing_bytes: int | None = None


class UserMustAct(PermanentProblem):
    """Only the Drive's owner can mend it. The sentence says how; the tenant rests meanwhile."""


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
    """One folder under ``tailor/videos/``; a well-formed one holds one video.

    ``problem``: why nobody knows what is in it; what is known of it stays as it is.
    """

    tenant: str
    id: str
    name: str
    videos: tuple[DriveFile, ...]
    sidecar: DriveFile | None
    problem: str | None = None


@dataclass(frozen=True)
class PublishedFile:
    """A file in a results folder; ``md5`` in hexadecimal."""

    size: int
    md5: str


def result_parts(results_name: str, relative: str | None = None) -> list[str]:
    """The parts of a result's path below its results folder; none where ``relative`` is None.

    Raises PermanentProblem for names that are no results folder's, or lead out of it.
    """
    if results_name.startswith(".") or not results_name or any(c in results_name for c in "/\0"):
        raise PermanentProblem(f"{results_name!r} is not a results folder's name.")
    if relative is None:
        return []
    parts = PurePosixPath(relative).parts
    if not parts or ".." in parts or parts[0].startswith("/") or "\0" in relative:
        raise PermanentProblem(f"{relative!r} is not a file of the results folder.")
    return list(parts)


def sidecar_too_large() -> PermanentProblem:
    """What is said of a ``tailor.json`` beyond the limit."""
    return PermanentProblem(
        f"{SIDECAR_NAME} is larger than 64 KiB: keep only template, stride or fps, points, "
        "fps_override and px_per_cm in it."
    )


class Fence(Protocol):
    """Whether whoever publishes is still the one to do so (resources/publications.py)."""

    @property
    def attempt(self) -> int:
        """Grows from one publisher of a video's results to the next."""

    def check(self) -> None:
        """Raise where somebody later does it by now."""

    def held(self) -> AbstractContextManager[None]:
        """The same, and nobody later begins until the block ends: for what must be one step."""


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

    def publish_all(
        self,
        tenant: str,
        results_name: str,
        files: Mapping[str, Path],
        sums: Mapping[str, str],
        *,
        fence: Fence | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Put local files (by their relative path) into the results folder, in parallel.

        ``sums`` are their md5s. ``progress`` hears of files. Raises what ``fence.check`` raises
        before anything is changed by one who is late, and DriveUnavailable for a file that does not
        arrive as it was sent.
        """

        def send(relative: str) -> None:
            for _ in range(_UPLOAD_TRIES):
                with fence.held() if fence is not None else nullcontext():
                    md5 = self.publish(tenant, results_name, relative, files[relative])
                if md5 == sums[relative]:
                    return
            raise DriveUnavailable(
                f"{relative} did not arrive in the Drive as it was sent, {_UPLOAD_TRIES} times"
            )

        with ThreadPoolExecutor(_PARALLEL_UPLOADS) as pool:
            for done, _ in enumerate(pool.map(send, files), start=1):
                if progress is not None:
                    progress(done, len(files))

    def unpublish(self, tenant: str, results_name: str, relative: str) -> None:
        """Remove a file from the results folder; one that is not there is fine."""
        self.unpublish_all(tenant, results_name, [relative])

    @abstractmethod
    def unpublish_all(
        self,
        tenant: str,
        results_name: str,
        relatives: Sequence[str],
        *,
        fence: Fence | None = None,
    ) -> None:
        """Remove files from the results folder; those that are not there are fine.

        Raises what ``fence`` raises for one who is late, and removes nothing.
        """

    @abstractmethod
    def has_room(self, tenant: str, size: int) -> bool | None:
        """Whether ``size`` more bytes fit into the results; None where nobody can tell."""

    @abstractmethod
    def link(self, tenant: str, results_name: str, relative: str = "") -> str:
        """An address a person can open."""
