"""One results folder of one tenant: what is in it, what is put there, what is taken away.

A content is a file of its own under an id of its own and is never written over another's; tailor's
files bear a mark, and what people put among them, or took elsewhere, is theirs.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from resources.drive import (
    DriveFull,
    DriveUnavailable,
    Fence,
    Progress,
    PublishedFile,
    result_parts,
)
from resources.google_drive.accounts import DriveAccount
from resources.google_drive.api import GoogleApi
from resources.google_drive.downloads import read_small
from resources.google_drive.folders import FOLDER_TYPE, ResultFolders
from resources.google_drive.listing import children
from resources.google_drive.token_box import TokenBox
from resources.google_drive.upload_ledger import Content, Upload, UploadLedger
from resources.google_drive.uploads import OWN_MARK, Uploader
from resources.publications import Superseded

_PARALLEL = 8
_FIELDS = "id,name,mimeType,parents,size,md5Checksum,appProperties"


class Results:
    """The folder ``tailor/results/<name>``."""

    def __init__(
        self,
        url: str,
        account: DriveAccount,
        api: GoogleApi,
        box: TokenBox,
        name: str,
        fence: Fence | None = None,
    ) -> None:
        """``url`` is the database's. Raises PermanentProblem for what is no results folder's name."""
        result_parts(name)
        self._account, self._api, self._name, self._fence = account, api, name, fence
        self._folders = ResultFolders(url, account, api)
        self._ledger = UploadLedger(
            url, account.tenant, name, api, box, fence.attempt if fence else 0
        )

    def files(self) -> dict[str, PublishedFile]:
        """What is there, by relative path; of several of one name, tailor's own.

        Where several of one name are tailor's own, a publication was cut off before it had removed
        the earlier; then the md5 is empty, so that it is published again.
        """
        return {
            path: PublishedFile(int(file.get("size", 0)), file["md5Checksum"])
            for path, file in self._by_path().items()
        }

    def read(self, relative: str) -> bytes:
        """Content of a small file. Raises DriveUnavailable where there is none."""
        path = self._path(relative)
        file = self._by_path({path}).get(path)
        if file is None:
            raise DriveUnavailable(f"{relative} is not in the results of {self._name!r}")
        return read_small(self._api, file["id"], int(file.get("size", 0)))

    def link(self, relative: str) -> str:
        """An address of the Drive's own pages; of the folder, where the file is not known."""
        at = self._api.at
        file_id = self._ledger.arrived_id(relative)
        if file_id is not None:
            return at.open_file.format(id=file_id)
        parts = [self._name, *([relative] if relative else [])]
        folder = self._folders.known(parts) or self._folders.known([self._name])
        return f"{at.open_folder}{folder or self._account.results_folder_id}"

    # ------------------------------------------------------------------ putting

    def put_all(
        self,
        files: Mapping[str, Path],
        sums: Mapping[str, str],
        progress: Progress | None = None,
    ) -> None:
        """Upload files in parallel; ids are reserved for all of them at once.

        Where somebody later turns out to publish by now, what has just arrived is taken back, unless
        they want it, too. Raises what the fence raises, and what ``Uploader.put`` raises.
        """
        sources = {
            Content(self._path(name), sums[name], path.stat().st_size): path
            for name, path in files.items()
        }
        self._look_for_folders(sources)
        earlier = self._own_under({content.relative for content in sources})
        uploads = self._ledger.reserved(list(sources))
        uploader = Uploader(self._api, self._ledger)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            futures = [
                pool.submit(self._put, uploader, upload, sources[upload.content])
                for upload in uploads
            ]
            try:
                for done, future in enumerate(futures, start=1):
                    future.result()
                    if progress is not None:
                        progress(done, len(futures))
            except BaseException as problem:
                # The rest would meet the same; what has arrived is known and stays.
                pool.shutdown(cancel_futures=True)
                if isinstance(problem, DriveFull):
                    problem.missing_bytes = self._missing_bytes(sources)
                raise
        wanted = {upload.file_id for upload in self._ledger.reserved(list(sources))}
        self._remove([file_id for file_id in earlier if file_id not in wanted])

    def _put(self, uploader: Uploader, upload: Upload, source: Path) -> None:
        if self._fence is not None:
            self._fence.check()
        above = upload.content.relative.split("/")[:-1]
        parent = self._folders.made([self._name, *above])
        file_id = uploader.put(upload, parent, source)
        try:
            if self._fence is not None:
                self._fence.check()
        except Superseded:
            if self._ledger.withdraw(file_id):
                self._api.remove([file_id])
            raise
        self._ledger.note_arrived([upload.content])

    def _look_for_folders(self, contents: Mapping[Content, Path]) -> None:
        """See that the folders are where they were made; those that are not are made anew.

        Raises UserMustAct where that in which they are has been removed.
        """
        self._folders.see_root()
        above = {tuple(content.relative.split("/")[:-1]) for content in contents}
        paths = {path[:length] for path in above for length in range(len(path) + 1)}
        for path in sorted(paths, key=len):
            self._folders.still([self._name, *path])

    def _missing_bytes(self, contents: Mapping[Content, Path]) -> int:
        known = self._ledger.all().values()
        return sum(u.content.size for u in known if u.content in contents and not u.arrived)

    # ------------------------------------------------------------------ taking away

    def remove_all(self, relatives: Sequence[str]) -> None:
        """Remove what tailor has put there under these names."""
        names = {self._path(relative) for relative in relatives}
        if names:
            self._remove(self._own_under(names))

    def _remove(self, file_ids: Sequence[str]) -> None:
        """Remove files of tailor's own, but for those that a later publication wants by now."""
        # Held: nobody begins to publish, and finds one of them there, while they are removed.
        with self._fence.held() if self._fence is not None else nullcontext():
            self._api.remove([file_id for file_id in file_ids if self._ledger.withdraw(file_id)])

    # ------------------------------------------------------------------ what is there

    def _own_under(self, names: Set[str]) -> list[str]:
        """Ids of tailor's own files under these names, as the folder is listed now."""
        ours = self._own_ids()
        return [
            file["id"]
            for path, file in self._listed(names)
            if path in names and _is_own(file, ours)
        ]

    def _by_path(self, names: Set[str] | None = None) -> dict[str, dict[str, Any]]:
        ours = self._own_ids()
        found: dict[str, dict[str, Any]] = {}
        for path, file in self._listed(names):
            earlier = found.get(path)
            if earlier is None or not _is_own(earlier, ours):
                found[path] = file
            elif _is_own(file, ours):
                found[path] = earlier | {"md5Checksum": ""}
        return found

    def _own_ids(self) -> set[str]:
        return {upload.file_id for upload in self._ledger.all().values()}

    def _listed(self, names: Set[str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """(relative path, file) of the files with a content in the folder.

        Of all of them, or of those folders in which ``names`` lie: frames/ is thousands.
        """
        top = self._folders.still([self._name])
        level = {top: ""} if top is not None else {}
        while level:
            below: dict[str, str] = {}
            for file in children(self._api, self._account.drive_id, list(level), _FIELDS):
                path = f"{level[next(p for p in file['parents'] if p in level)]}{file['name']}"
                if file["mimeType"] == FOLDER_TYPE:
                    if names is None or any(name.startswith(f"{path}/") for name in names):
                        below[file["id"]] = f"{path}/"
                elif file.get("md5Checksum"):
                    yield path, file
            level = below

    def _path(self, relative: str) -> str:
        return "/".join(result_parts(self._name, relative))


def _is_own(file: Mapping[str, Any], ours: Set[str]) -> bool:
    """Whether tailor has put a file there: it is in the ledger, or bears the mark."""
    return file["id"] in ours or OWN_MARK.items() <= file.get("appProperties", {}).items()
