"""Google Drive behind the questions that tailor asks of any Drive (resources/drive.py)."""

import functools
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.configured_drive import DriveResource
from resources.drive import (
    SIDECAR_LIMIT_BYTES,
    SIDECAR_NAME,
    Drive,
    DriveFull,
    DriveUnavailable,
    Fence,
    Progress,
    PublishedFile,
    UserMustAct,
    VideoFolder,
    result_parts,
)
from resources.google_drive.accounts import DriveAccount, DriveAccounts
from resources.google_drive.addresses import addresses
from resources.google_drive.api import PAUSES_S, GoogleApi, Refused
from resources.google_drive.credentials import credentials_of
from resources.google_drive.downloads import Downloader
from resources.google_drive.folders import FOLDER_TYPE, ResultFolders
from resources.google_drive.inbox import Inbox
from resources.google_drive.listing import children
from resources.google_drive.token_box import TokenBox, token_box
from resources.google_drive.units_spent import UnitsSpent
from resources.google_drive.upload_ledger import Content, Upload, UploadLedger
from resources.google_drive.uploads import OWN_MARK, Uploader
from resources.publications import Superseded
from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

_PARALLEL = 8
_FIELDS = "id,name,mimeType,parents,size,md5Checksum,appProperties"
_BLOCK = 1 << 20
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
    folders: ResultFolders


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
                raise PermanentProblem(
                    f"{SIDECAR_NAME} is larger than 64 KiB: keep only template, stride or fps, "
                    "points, fps_override and px_per_cm in it."
                )
            return self._content(own, file_id, SIDECAR_LIMIT_BYTES).decode("utf-8", "replace")

    # ------------------------------------------------------------------ results

    def published(self, tenant: str, results_name: str) -> dict[str, PublishedFile]:
        """Google's checksums of what is in the folder; a listing, whatever the files' size."""
        result_parts(results_name)
        with self._working_for(tenant) as own:
            return {
                relative: PublishedFile(int(file.get("size", 0)), file["md5Checksum"])
                for relative, file in self._files(own, results_name).items()
            }

    def read_published(self, tenant: str, results_name: str, relative: str) -> bytes:
        """Content of the file. Raises DriveUnavailable where there is none."""
        result_parts(results_name, relative)
        with self._working_for(tenant) as own:
            file = self._files(own, results_name).get(relative)
            if file is None:
                raise DriveUnavailable(f"{relative} is not in the results of {results_name!r}")
            return self._content(own, file["id"], int(file.get("size", 0)))

    def publish(self, tenant: str, results_name: str, relative: str, source: Path) -> str:
        """Upload a file, under an id of its content's own; an earlier content's file goes."""
        result_parts(results_name, relative)
        md5 = _md5(source)
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
        """Upload files in parallel; ids are reserved for all of them at once.

        A content is a file of its own, and never written over another's. Where somebody later turns
        out to publish by now, what has just arrived is taken back, unless they want it, too.
        """
        contents = [
            Content(
                "/".join(result_parts(results_name, name)), sums[name], files[name].stat().st_size
            )
            for name in files
        ]
        sources = dict(zip(contents, files.values(), strict=True))
        with self._working_for(tenant) as own:
            ledger = self._ledger(own, results_name, fence.attempt if fence else 0)
            self._look_for_folders(own, results_name, contents)
            earlier = self._earlier(own, results_name, ledger, {c.relative for c in contents})
            uploads = ledger.reserved(contents)
            uploader = Uploader(own.api, ledger)

            def send(upload: Upload) -> None:
                if fence is not None:
                    fence.check()
                above = upload.content.relative.split("/")[:-1]
                parent = own.folders.made([results_name, *above])
                file_id = uploader.put(upload, parent, sources[upload.content])
                try:
                    if fence is not None:
                        fence.check()
                except Superseded:
                    if ledger.withdraw(upload):
                        own.api.remove([file_id])
                    raise
                ledger.note_arrived([upload.content])

            with ThreadPoolExecutor(_PARALLEL) as pool:
                futures = [pool.submit(send, upload) for upload in uploads]
                try:
                    for done, future in enumerate(futures, start=1):
                        future.result()
                        if progress is not None:
                            progress(done, len(futures))
                except BaseException as problem:
                    # The rest would meet the same; what has arrived is known and stays.
                    pool.shutdown(cancel_futures=True)
                    if isinstance(problem, DriveFull):
                        problem.missing_bytes = sum(
                            u.content.size
                            for u in ledger.all().values()
                            if u.content in sources and not u.arrived
                        )
                    raise
            kept = {upload.file_id for upload in ledger.reserved(contents)}
            own.api.remove([file_id for file_id in earlier if file_id not in kept])
            ledger.forget(_replaced(ledger.all().values(), contents))

    def unpublish_all(self, tenant: str, results_name: str, relatives: Sequence[str]) -> None:
        """Remove what tailor has put there under these names."""
        names = {"/".join(result_parts(results_name, relative)) for relative in relatives}
        if not names:
            return
        with self._working_for(tenant) as own:
            ledger = self._ledger(own, results_name)
            own.api.remove(self._earlier(own, results_name, ledger, names))
            ledger.forget([u.content for (name, _), u in ledger.all().items() if name in names])

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
        with self._working_for(tenant) as own:
            at = own.api.at
            if relative:
                for (name, _), upload in self._ledger(own, results_name).all().items():
                    if name == relative and upload.arrived:
                        return at.open_file.format(id=upload.file_id)
            parts = [results_name, *([relative] if relative else [])]
            folder = own.folders.known(parts) or own.folders.known([results_name])
            return f"{at.open_folder}{folder or own.account.results_folder_id}"

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
                    ResultFolders(self._url, account, api),
                )
                self._tenants[tenant] = own
        return own

    def _ledger(self, own: _Tenant, results_name: str, attempt: int = 0) -> UploadLedger:
        assert self._box is not None
        tenant = own.account.tenant
        return UploadLedger(self._url, tenant, results_name, own.api, self._box, attempt)

    @staticmethod
    def _look_for_folders(own: _Tenant, results_name: str, contents: Sequence[Content]) -> None:
        """See that the folders are where they were made; those that are not are made anew."""
        above = {tuple(content.relative.split("/")[:-1]) for content in contents}
        paths = {path[:length] for path in above for length in range(len(path) + 1)}
        for path in sorted(paths, key=len):
            own.folders.still([results_name, *path])

    def _earlier(
        self, own: _Tenant, results_name: str, ledger: UploadLedger, names: Set[str]
    ) -> list[str]:
        """Ids of tailor's own files under these names, as the folder is listed now.

        What people put there under the same names is theirs; and so is what they took elsewhere.
        """
        ours = {upload.file_id for upload in ledger.all().values()}
        return [
            file["id"]
            for name, file in self._listed(own, results_name, names)
            if name in names and _is_own(file, ours)
        ]

    def _files(self, own: _Tenant, results_name: str) -> dict[str, dict[str, Any]]:
        """Files of a results folder by relative path; of several of one name, tailor's own.

        Where several of one name are tailor's own, a publication was cut off before it had removed
        the earlier; then the md5 is empty, so that it is published again.
        """
        ours = {upload.file_id for upload in self._ledger(own, results_name).all().values()}
        found: dict[str, dict[str, Any]] = {}
        for path, file in self._listed(own, results_name):
            earlier = found.get(path)
            if earlier is None or not _is_own(earlier, ours):
                found[path] = file
            elif _is_own(file, ours):
                found[path] = earlier | {"md5Checksum": ""}
        return found

    @staticmethod
    def _listed(
        own: _Tenant, results_name: str, names: Set[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(relative path, file) of the files with a content in a results folder.

        Of all of them, or of those folders in which ``names`` lie: frames/ is thousands.
        """
        top = own.folders.still([results_name])
        level = {top: ""} if top is not None else {}
        while level:
            below: dict[str, str] = {}
            for file in children(own.api, own.account.drive_id, list(level), _FIELDS):
                path = f"{level[next(p for p in file['parents'] if p in level)]}{file['name']}"
                if file["mimeType"] == FOLDER_TYPE:
                    if names is None or any(name.startswith(f"{path}/") for name in names):
                        below[file["id"]] = f"{path}/"
                elif file.get("md5Checksum"):
                    yield path, file
            level = below

    def _content(self, own: _Tenant, file_id: str, most: int) -> bytes:
        address = f"{own.api.at.api}drive/v3/files/{file_id}?alt=media&supportsAllDrives=true"

        def attempt() -> bytes:
            with own.api.send("GET", address, stream=True) as response:
                content = b""
                for block in response.iter_content(_BLOCK):
                    content += block
                    if len(content) > most:
                        return content[:most]
                return content

        return bytes(own.api.retried("media.get", attempt))


def _in_inbox(own: _Tenant, file_id: str) -> Any:
    """What is known of a file. Raises PermanentProblem for one that is none of the tenant's videos."""
    found = own.inbox.file(file_id)
    if found is None:
        raise PermanentProblem(
            f"The video {file_id[:60]!r} is no longer in tailor/videos of {own.account.tenant}: put it "
            "back, or delete the partition."
        )
    return found


def _is_own(file: Mapping[str, Any], ours: Set[str]) -> bool:
    """Whether tailor has put a file there: it is in the ledger, or bears the mark."""
    return file["id"] in ours or OWN_MARK.items() <= file.get("appProperties", {}).items()


def _replaced(known: Iterable[Upload], wanted: Sequence[Content]) -> list[Content]:
    """Other contents under the names of those that are wanted."""
    names = {content.relative for content in wanted}
    return [u.content for u in known if u.content.relative in names and u.content not in wanted]


def _md5(source: Path) -> str:
    try:
        with open(source, "rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    except OSError as error:
        raise DriveUnavailable(f"cannot read {source}: {error.strerror}") from error
    return digest.hexdigest()


@functools.cache
def _shared(url: str, incoming: Path, address: str) -> GoogleDrive:
    """One per process: made anew for every tick it would fetch a token for every tenant."""
    return GoogleDrive(url, incoming, look_every_s=_LOOK_EVERY_S)
