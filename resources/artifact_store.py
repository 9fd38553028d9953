"""The working copies: (partition, artifact) to files, each artifact whole or absent.

An artifact is one or more files and a record (``<artifact>.json``) that is written last. The record
names the versions the artifact was made from, so an asset can tell a missing, bad or outdated
upstream artifact by itself, whichever selection of assets a run has.
"""

import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import BaseModel
from upath import UPath

from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

_PARTITION = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")

_DRAFT_MAKER = re.compile(r"\.draft-\w+-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]+")
# No step takes as long, so whatever made an older draft on another machine is dead.
_DRAFT_LIFETIME_S = 3 * 24 * 3600


class ArtifactRecord(BaseModel):
    """What is known of one artifact; ``details`` is for people and downstream assets."""

    artifact: str
    version: str
    made_from: dict[str, str] = {}
    details: dict[str, Any] = {}
    problem: str | None = None
    """Why a blocking check refused it; downstream assets refuse it too."""
    run_id: str = ""
    created_at: str = ""
    files: list[str] = []
    """Names in the partition's folder; what the next version has no more of is deleted."""


def version_of(*parts: object) -> str:
    """A short hash of everything an artifact depends on, used as Dagster's data version."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]


class ArtifactDraft:
    """Files of an artifact that is being made; ``commit`` puts them in place and writes the record."""

    def __init__(self, store: "ArtifactStore", partition: str, artifact: str, folder: Path) -> None:
        """Called by ``ArtifactStore.making``."""
        self._store, self._partition, self._artifact = store, partition, artifact
        self.folder = folder

    def path(self, name: str) -> Path:
        """Local path to write file or folder ``name`` of the artifact to."""
        return self.folder / name

    def commit(
        self,
        *,
        version: str,
        made_from: Mapping[str, ArtifactRecord] | None = None,
        details: Mapping[str, Any] | None = None,
        problem: str | None = None,
        run_id: str = "",
    ) -> ArtifactRecord:
        """Replace the artifact's files by the draft's, then write the record.

        Raises PermanentProblem when an upstream artifact was replaced meanwhile (the video was
        replaced in the Drive and another run is already making everything anew): that run's
        artifacts must not be overwritten by this one's.
        """
        for name, upstream in (made_from or {}).items():
            now = self._store.record(self._partition, name)
            if now is None or now.version != upstream.version:
                raise PermanentProblem(
                    f"The {name} of {self._partition} were replaced while {self._artifact!r} was "
                    "being made from them: a newer run makes it, or materialize it again."
                )
        record = ArtifactRecord(
            artifact=self._artifact,
            version=version,
            made_from={name: upstream.version for name, upstream in (made_from or {}).items()},
            details=dict(details or {}),
            problem=problem,
            run_id=run_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files=sorted(p.name for p in self.folder.iterdir() if not p.name.startswith(".")),
        )
        self._store._put_in_place(self._partition, self.folder, record)
        return record


class ArtifactStore(dg.ConfigurableResource):
    """Working copies of every artifact under ``<root>/<partition>/``.

    ``root`` is a folder or a URL that universal-pathlib opens (``gs://...``); empty means
    ``TAILOR_ARTIFACTS``. Local files are replaced by rename; on an object store the record, written
    last, is what makes the artifact exist.
    """

    root: str = ""

    def _root(self) -> UPath:
        # A file:// URL is a folder like any other, and paths of folders carry no scheme.
        return UPath((self.root or load_settings().artifacts).removeprefix("file://"))

    @property
    def is_local(self) -> bool:
        """Whether artifacts are ordinary files of this machine."""
        return self._root().protocol in ("", "file")

    def folder(self, partition: str) -> UPath:
        """Folder of one partition. Raises PermanentProblem for a key that could leave the root."""
        if not _PARTITION.fullmatch(partition):
            raise PermanentProblem(
                f"{partition!r} is not a video's partition key: choose one from the list."
            )
        return self._root() / partition

    def path(self, partition: str, name: str) -> UPath:
        """Path of one file or folder of a partition."""
        return self.folder(partition) / name

    def forget(self, partition: str) -> None:
        """Delete all that is there of a partition; one of which there is nothing is fine."""
        folder = self.folder(partition)
        if folder.exists():
            _delete(folder)

    # ------------------------------------------------------------------ writing

    @contextmanager
    def making(self, partition: str, artifact: str) -> Iterator[ArtifactDraft]:
        """Give a local draft folder; what is not committed is deleted on the way out."""
        folder = self.folder(partition)
        if self.is_local:
            home = Path(str(folder))
            home.mkdir(parents=True, exist_ok=True)
            remove_dead_drafts(home)
            for aside in home.glob(".old-*"):
                shutil.rmtree(aside, ignore_errors=True)
            draft = home / draft_name(artifact)
            draft.mkdir()
        else:
            draft = Path(tempfile.mkdtemp(prefix=f"tailor-{artifact}-"))
        try:
            yield ArtifactDraft(self, partition, artifact, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _put_in_place(self, partition: str, draft: Path, record: ArtifactRecord) -> None:
        folder = self.folder(partition)
        before = self.record(partition, record.artifact)
        # First the old record goes: half-replaced files must never look like an artifact.
        self.path(partition, f"{record.artifact}.json").unlink(missing_ok=True)
        for name in record.files:
            if self.is_local:
                _replace(draft / name, Path(str(folder)) / name)
            else:
                _upload(draft / name, folder / name)
        for name in set(before.files if before else ()) - set(record.files):
            _delete(folder / name)
        text = record.model_dump_json(indent=1)
        target = self.path(partition, f"{record.artifact}.json")
        if self.is_local:
            temporary = draft / ".record"
            with open(temporary, "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, str(target))
        else:
            target.write_text(text)

    # ------------------------------------------------------------------ reading

    def record(self, partition: str, artifact: str) -> ArtifactRecord | None:
        """The artifact's record, or None where the artifact does not exist.

        A record that cannot be read is none: the artifact is made again.
        """
        path = self.path(partition, f"{artifact}.json")
        try:
            return ArtifactRecord.model_validate_json(path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def require(self, partition: str, artifact: str) -> ArtifactRecord:
        """The record of an artifact that is there, good, and made from what is there now.

        Raises PermanentProblem, with what to materialize, otherwise.
        """
        # Each record is read once: on an object store every reading is a call over the network.
        read: dict[str, ArtifactRecord | None] = {}

        def record_of(name: str) -> ArtifactRecord | None:
            if name not in read:
                read[name] = self.record(partition, name)
            return read[name]

        def check(name: str, checked: set[str]) -> None:
            record = record_of(name)
            # A rescored NPZ has no video behind it; what is there must be in order.
            if record is None or name in checked:
                return
            checked.add(name)
            if record.problem:
                raise PermanentProblem(
                    f"The {name} of {partition} were refused by a check: {record.problem}"
                )
            for upstream, version in record.made_from.items():
                now = record_of(upstream)
                if now is not None and now.version != version:
                    raise PermanentProblem(
                        f"The {name} of {partition} were made from an earlier {upstream!r}: "
                        f"materialize {name!r} again first."
                    )
                check(upstream, checked)

        record = record_of(artifact)
        if record is None:
            raise PermanentProblem(
                f"The {artifact} of {partition} are not there: materialize {artifact!r} first."
            )
        check(artifact, set())
        return record

    @contextmanager
    def local(self, partition: str, name: str) -> Iterator[Path]:
        """A local path of a file, fetched to a temporary one when the store is remote."""
        path = self.path(partition, name)
        if self.is_local:
            yield Path(str(path))
            return
        with tempfile.TemporaryDirectory(prefix="tailor-stage-") as folder:
            copy = Path(folder) / name
            _download(path, copy)
            yield copy

    @contextmanager
    def local_files(self, partition: str, folder: str, names: Sequence[str]) -> Iterator[Path]:
        """A local folder that has at least these files of an artifact's folder, where they exist."""
        path = self.path(partition, folder)
        if self.is_local:
            yield Path(str(path))
            return
        with tempfile.TemporaryDirectory(prefix="tailor-stage-") as staged:
            for name in names:
                if (path / name).exists():
                    _download(path / name, Path(staged) / name)
            yield Path(staged)

    def read_table(
        self,
        partition: str,
        name: str,
        wanted: Callable[[list[str]], Sequence[str]] | None = None,
    ) -> pl.DataFrame:
        """Read ``<name>.parquet`` of a partition.

        wanted: given the names of all columns, those that are read, in this order; all unless given.
        Raises PermanentProblem for a file that is no whole table.
        """
        with self.local(partition, f"{name}.parquet") as path:
            try:
                if wanted is None:
                    return pl.read_parquet(path)
                columns = list(wanted(list(pl.read_parquet_schema(path))))
                return pl.read_parquet(path, columns=columns).select(columns)
            except pl.exceptions.ComputeError as damage:
                raise PermanentProblem(
                    f"The table of the {name} of {partition} is damaged ({damage}): materialize "
                    f"{name!r} again."
                ) from damage


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        # A folder cannot be replaced in one step; the record is already gone, so aside and delete.
        aside = target.with_name(f".old-{target.name}-{secrets.token_hex(3)}")
        os.replace(target, aside)
        os.replace(source, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.replace(source, target)


def _delete(path: UPath) -> None:
    if path.is_dir():
        path.rmdir(recursive=True)
    else:
        path.unlink(missing_ok=True)


def _upload(source: Path, target: UPath) -> None:
    if source.is_dir():
        if target.exists():
            target.rmdir(recursive=True)
        for file in sorted(source.rglob("*")):
            if file.is_file():
                _upload(file, target / file.relative_to(source).as_posix())
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as local, target.open("wb") as remote:
        shutil.copyfileobj(local, remote, 1 << 20)


def _download(source: UPath, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True)
        for item in source.iterdir():
            _download(item, target / item.name)
        return
    with source.open("rb") as remote, open(target, "wb") as local:
        shutil.copyfileobj(remote, local, 1 << 20)


def _machine() -> str:
    """This machine's or container's name, hashed: a process id means nothing on another one."""
    return sha256(platform.node().encode()).hexdigest()[:8]


def draft_name(what: str) -> str:
    """A new folder name that says which process of which machine works in it."""
    return f".draft-{what}-{_machine()}-{os.getpid()}-{secrets.token_hex(3)}"


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        # A killed process whose parent does not ask for it keeps its number and does nothing.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def remove_dead_drafts(folder: Path) -> None:
    """Delete what a killed process left: its draft folders carry its machine and process id.

    A process of this machine can be asked after, however long it takes; of another machine's only the
    age is known. What is named otherwise is somebody else's.
    """
    for draft in folder.glob(".draft-*"):
        maker = _DRAFT_MAKER.fullmatch(draft.name)
        if maker is None:
            continue
        with suppress(FileNotFoundError):
            if maker["machine"] == _machine():
                is_dead = not _is_alive(int(maker["pid"]))
            else:
                is_dead = time.time() - draft.stat().st_mtime > _DRAFT_LIFETIME_S
            if is_dead:
                shutil.rmtree(draft, ignore_errors=True)
