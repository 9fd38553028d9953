"""Google Drive behind the questions that tailor asks of any Drive (resources/drive.py)."""

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.configured_drive import DriveResource
from resources.drive import (
    SIDECAR_LIMIT_BYTES,
    Drive,
    DriveUnavailable,
    Fence,
    Progress,
    PublishedFile,
    UserMustAct,
    VideoFolder,
    result_parts,
    sidecar_too_large,
)
from resources.google_drive.accounts import DriveAccount, DriveAccounts
from resources.google_drive.addresses import addresses
from resources.google_drive.api import PAUSES_S, GoogleApi, Refused
from resources.google_drive.credentials import credentials_of
from resources.google_drive.downloads import Downloader, read_small
from resources.google_drive.inbox import Inbox
from resources.google_drive.results import Results
from resources.google_drive.token_box import TokenBox, token_box
from resources.google_drive.units_spent import UnitsSpent
from resources.settings import load_settings
from tailor_assets.compute.checksum import file_md5
from tailor_assets.compute.errors import PermanentProblem

_PAUSES_OF_A_LOOK = 2
# 100 units a look: at the sensor's pace a hundred quiet Drives would cost more than a project has.
_LOOK_EVERY_S = 10.0


class GoogleDriveResource(DriveResource):
    """Configures a ``GoogleDrive``. An empty ``postgres_url`` means ``TAILOR_POSTGRES_URL``."""

    postgres_url: str = ""

    def open(self) -> "GoogleDrive":
        """The Drives of all connected tenants."""
        settings = load_settings()
        url = self.postgres_url or settings.postgres_url or ""
        return _shared(url, settings.home / "incoming", addresses().api)


@dataclass
class _Tenant:
    """What is kept of a tenant while this Drive is open."""

    account: DriveAccount
    api: GoogleApi
    units: UnitsSpent
    inbox: Inbox


class GoogleDrive(Drive):
    """The Drives of the tenants that are connected. Ids are Google's. Used by many threads."""

    def __init__(
        self,
        url: str,
        incoming: Path,
        *,
        box: TokenBox | None = None,
        pauses_s: tuple[float, ...] = PAUSES_S,
        look_every_s: float = 0.0,
    ) -> None:
        """``url`` is the database's; ``incoming`` a folder for what is being downloaded.

        A Drive in which nothing happens is looked at every ``look_every_s`` seconds at most.
        """
        self._look_every_s = look_every_s
        self._url, self._incoming, self._pauses_s = url, incoming, pauses_s
        self._box = box
        self._accounts = DriveAccounts(url)
        self._tenants: dict[str, _Tenant] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ videos

    def tenants(self) -> list[str]:
        """Connected tenants; those that are paused are left alone."""
        return [a.tenant for a in self._accounts.all() if a.state == "connected"]

    def video_folders(self, tenant: str) -> list[VideoFolder]:
        """What the change feed says is there; one request where nothing has changed."""
        with self._working_for(tenant) as own:
            return own.inbox.look(self._look_every_s)

    def md5(self, tenant: str, file_id: str, until: float | None = None) -> str | None:
        """Google's own checksum, as the last look has seen it; nothing is read."""
        with self._working_for(tenant) as own:
            md5: str | None = _in_inbox(own, file_id)["md5"]
        return md5

    def download(
        self, tenant: str, file_id: str, target: Path, progress: Progress | None = None
    ) -> str:
        """Stream the file, going on with what an earlier try has fetched."""
        with self._working_for(tenant) as own:
            _in_inbox(own, file_id)
            return Downloader(own.api, tenant, self._incoming).fetch(file_id, target, progress)

    def read_sidecar(self, tenant: str, file_id: str) -> str:
        """Text of a ``tailor.json``."""
        with self._working_for(tenant) as own:
            if _in_inbox(own, file_id)["size"] > SIDECAR_LIMIT_BYTES:
                raise sidecar_too_large()
            return read_small(own.api, file_id, SIDECAR_LIMIT_BYTES).decode("utf-8", "replace")

    # ------------------------------------------------------------------ results

    def published(self, tenant: str, results_name: str) -> dict[str, PublishedFile]:
        """Google's checksums of what is in the folder; a listing, whatever the files' size."""
        with self._results(tenant, results_name) as results:
            return results.files()

    def read_published(self, tenant: str, results_name: str, relative: str) -> bytes:
        """Content of the file. Raises DriveUnavailable where there is none."""
        with self._results(tenant, results_name) as results:
            return results.read(relative)

    def publish(self, tenant: str, results_name: str, relative: str, source: Path) -> str:
        """Upload a file, under an id of its content's own; an earlier content's file goes."""
        result_parts(results_name, relative)
        try:
            md5 = file_md5(source)
        except OSError as error:
            raise DriveUnavailable(f"cannot read {source}: {error.strerror}") from error
        self.publish_all(tenant, results_name, {relative: source}, {relative: md5})
        return md5

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
        """Upload files in parallel, and remove what they take the place of."""
        with self._results(tenant, results_name, fence) as results:
            results.put_all(files, sums, progress)

    def unpublish_all(
        self,
        tenant: str,
        results_name: str,
        relatives: Sequence[str],
        *,
        fence: Fence | None = None,
    ) -> None:
        """Remove what tailor has put there under these names."""
        with self._results(tenant, results_name, fence) as results:
            results.remove_all(relatives)

    def has_room(self, tenant: str, size: int) -> bool | None:
        """What is left of a person's storage; a shared drive's is not to be asked for."""
        with self._working_for(tenant) as own:
            if own.account.drive_id is not None:
                return None
            quota = own.api.call("about.get", fields="storageQuota(limit,usage)")["storageQuota"]
        if "limit" not in quota:
            return True  # unlimited
        return int(quota["usage"]) + size <= int(quota["limit"])

    def link(self, tenant: str, results_name: str, relative: str = "") -> str:
        """An address of the Drive's own pages; of the folder, where the file is not known."""
        with self._results(tenant, results_name) as results:
            return results.link(relative)

    # ------------------------------------------------------------------ within

    @contextmanager
    def _working_for(self, tenant: str) -> Iterator[_Tenant]:
        """What is needed for a tenant; one whose access was withdrawn rests from then on."""
        own = self._own(tenant)
        try:
            yield own
        except Refused as refused:
            if refused.gone:
                raise DriveUnavailable(
                    f"something in the Drive of {tenant} has gone: {refused}"
                ) from None
            raise PermanentProblem(
                f"Google Drive does not understand a request of tailor's ({refused}): this is a "
                "mistake in tailor, please report it."
            ) from refused
        except UserMustAct as problem:
            self._accounts.pause(tenant, str(problem))
            raise
        finally:
            own.units.flush()

    def _own(self, tenant: str) -> _Tenant:
        account = self._accounts.get(tenant)
        if account.state == "paused":
            raise UserMustAct(account.problem or f"The Drive of {tenant} is paused.")
        with self._lock:
            own = self._tenants.get(tenant)
            # Connected anew, it has another token.
            if own is None or own.account != account:
                at = addresses()
                self._box = self._box or token_box()
                units = UnitsSpent(self._url, tenant)
                api = GoogleApi(
                    credentials_of(account, self._accounts, self._box, at),
                    at=at,
                    in_shared_drive=account.kind == "shared_drive",
                    count=units.count,
                    pauses_s=self._pauses_s,
                )
                own = _Tenant(
                    account,
                    api,
                    units,
                    # A look that fails is repeated soon, and others wait for it.
                    Inbox(self._url, account, api.with_pauses(self._pauses_s[:_PAUSES_OF_A_LOOK])),
                )
                self._tenants[tenant] = own
        return own

    @contextmanager
    def _results(
        self, tenant: str, results_name: str, fence: Fence | None = None
    ) -> Iterator[Results]:
        with self._working_for(tenant) as own:
            assert self._box is not None
            yield Results(self._url, own.account, own.api, self._box, results_name, fence)


def _in_inbox(own: _Tenant, file_id: str) -> Any:
    """What is known of a file. Raises PermanentProblem for one that is none of the tenant's videos."""
    found = own.inbox.file(file_id)
    if found is None:
        raise PermanentProblem(
            f"The video {file_id[:60]!r} is no longer in tailor/videos of {own.account.tenant}: put it "
            "back, or delete the partition."
        )
    return found


@functools.cache
def _shared(url: str, incoming: Path, address: str) -> GoogleDrive:
    """One per process: made anew for every tick it would fetch a token for every tenant."""
    return GoogleDrive(url, incoming, look_every_s=_LOOK_EVERY_S)
