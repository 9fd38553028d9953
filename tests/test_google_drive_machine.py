"""Whatever people, faults and kills do to a Google Drive: at the end there is what a model says.

Uploads, replacements, renames, moves, trash and second videos at random, looks and publications that
meet faults or are cut off in the middle. When all is quiet, the partitions, what was made of them and
what is in the results folders are those of a model that knows only what people did.
"""

import base64
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from drive_trees import GoogleTree, email_of, google_tree, md5
from google_drive_server.faults import Chaos
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from resources.artifact_store import ArtifactStore
from resources.database import engine_for, migrate
from resources.drive import DriveUnavailable
from resources.publications import Superseded, claim_publication
from resources.video_registry import VideoRegistry
from run_queue.job_tables import jobs_table
from sensors.drive_inbox import accept_wanted, look_at_tenant
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.publishing import publish

NAMES = st.sampled_from(
    ["day", "Day", "résumé", "re\u0301sume\u0301", "../../etc", "a/b", "new\nline", "\u202edlo",
     "🐭", "'; DROP TABLE videos; --", "$(reboot)", "x" * 120, ".hidden", "nul\0nul", "-rf", "%2e%2e"]
)  # fmt: skip
_tenant_numbers = itertools.count()


class Killed(BaseException):
    """The process is no more; what it was about to do is not done."""


@dataclass
class Fence:
    """A real fence, in a process that is killed at the n-th question."""

    inner: Any
    left: int

    @property
    def attempt(self) -> int:
        return int(self.inner.attempt)

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed
        self.inner.check()

    def held(self) -> Any:
        self.check()
        return self.inner.held()


@dataclass
class Folder:
    """A video's folder as its owner knows it.

    ``possible``: contents that may have been processed. ``interrupted``: a publication was cut off,
    and none has been whole since.
    """

    id: str
    name: str
    videos: dict[str, bytes] = field(default_factory=dict)
    away: str = ""
    possible: set[bytes] = field(default_factory=set)
    processed: bytes | None = None
    interrupted: bool = False

    @property
    def content(self) -> bytes | None:
        """The video's, where this is a folder of one video that tailor can see."""
        if self.away or len(self.videos) != 1 or self.name.startswith("."):
            return None
        return next(iter(self.videos.values()))


class _Lab:
    """What all examples share: a database and a server; each has a tenant of its own."""

    tree: GoogleTree
    folder: Path


lab = _Lab()


class DriveMachine(RuleBasedStateMachine):
    """People's deeds, looks with faults, publications with kills."""

    @initialize()
    def a_new_tenant(self) -> None:
        self.tenant = f"tenant {next(_tenant_numbers)}"
        self.email = email_of(self.tenant)
        lab.tree.add_tenant(self.tenant)
        assert lab.tree.server is not None
        self.server = lab.tree.server
        self.people = self.server.people
        self.videos = lab.tree.trees[self.tenant].videos
        self.elsewhere = self.people.folder(self.email, ["elsewhere"])
        self.registry = VideoRegistry(url=lab.tree.url)
        self.drive = lab.tree.another(lab.folder)
        self.folders: list[Folder] = []
        self.pending: list[str] = []
        self.runs = 0

    def teardown(self) -> None:
        if not hasattr(self, "tenant"):
            return
        try:
            self.everything_is_as_the_model_says()
        finally:
            self.server.faults.clear()
            self.registry.forget(self.tenant)
            lab.tree.accounts.disconnect(self.tenant)

    # ------------------------------------------------------------------ people

    @rule(name=NAMES, content=st.binary(min_size=1, max_size=8))
    def upload(self, name: str, content: bytes) -> None:
        folder = Folder(self.people.make_folder(self.videos, name), name)
        folder.videos[self._put(folder, content)] = content
        self.folders.append(folder)

    @precondition(lambda self: self.folders)
    @rule(data=st.data(), content=st.binary(min_size=1, max_size=8))
    def replace(self, data: st.DataObject, content: bytes) -> None:
        folder = data.draw(st.sampled_from(self.folders))
        for video in list(folder.videos)[:1]:
            self.people.replace(video, _text(content))
            folder.videos[video] = content

    @precondition(lambda self: self.folders)
    @rule(data=st.data(), content=st.binary(min_size=1, max_size=8))
    def add_another_video(self, data: st.DataObject, content: bytes) -> None:
        folder = data.draw(st.sampled_from(self.folders))
        if folder.away != "deleted":
            folder.videos[self._put(folder, content)] = content

    @precondition(lambda self: self.folders)
    @rule(data=st.data(), deletes=st.booleans())
    def take_a_video_away(self, data: st.DataObject, deletes: bool) -> None:
        folder = data.draw(st.sampled_from(self.folders))
        for video in list(folder.videos)[:1]:
            (self.people.delete if deletes else self.people.trash)(video)
            del folder.videos[video]

    @precondition(lambda self: self.folders)
    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: str) -> None:
        folder = data.draw(st.sampled_from(self.folders))
        if folder.away != "deleted":
            self.people.rename(folder.id, name)
            folder.name = name

    @precondition(lambda self: self.folders)
    @rule(data=st.data(), how=st.sampled_from(["moved", "trashed", "deleted"]))
    def take_a_folder_away_or_bring_it_back(self, data: st.DataObject, how: str) -> None:
        folder = data.draw(st.sampled_from(self.folders))
        if folder.away == "moved":
            self.people.move(folder.id, self.videos)
        elif folder.away == "trashed":
            self.people.restore(folder.id)
        elif not folder.away:
            if how == "moved":
                self.people.move(folder.id, self.elsewhere)
            else:
                getattr(self.people, {"trashed": "trash", "deleted": "delete"}[how])(folder.id)
                if how == "deleted":
                    folder.videos.clear()
            folder.away = how
            return
        if folder.away != "deleted":
            folder.away = ""

    # ------------------------------------------------------------------ tailor, in bad weather

    @rule(seed=st.integers(0, 1000), rate=st.sampled_from([0.0, 0.1, 0.5]))
    def look_with_faults(self, seed: int, rate: float) -> None:
        self.server.faults.set_chaos(Chaos(rate=rate, seed=seed))
        for _ in range(2):
            with suppress(DriveUnavailable):
                look_at_tenant(self.drive, self.registry, self.tenant, 5.0)
        self._note_what_may_be_processed()
        self.server.faults.set_chaos(None)

    @rule(seed=st.integers(0, 1000), rate=st.sampled_from([0.0, 0.3]), steps=st.integers(0, 6))
    def process_with_faults_and_a_kill(self, seed: int, rate: float, steps: int) -> None:
        self.server.faults.set_chaos(Chaos(rate=rate, seed=seed))
        self._start_runs()
        self._note_what_may_be_processed()
        for key in list(self.pending)[:2]:
            # Killed, or given up: Dagster starts it again, in another process.
            with suppress(Killed, DriveUnavailable, dg.Failure):
                self._process(key, steps)
            self.drive = lab.tree.another(lab.folder)
        self.server.faults.set_chaos(None)

    # ------------------------------------------------------------------ what must be

    @rule()
    def everything_is_as_the_model_says(self) -> None:
        self.server.faults.clear()
        for _ in range(8):
            look_at_tenant(self.drive, self.registry, self.tenant, 5.0)
            self._note_what_may_be_processed()
            self._start_runs()
            for key in list(self.pending):
                self._process(key, 1000)
        assert not self.pending
        for folder in self.folders:
            if folder.content is not None:
                folder.possible = {folder.content}
        rows = {row.folder_id: row for row in self.registry.of_tenant(self.tenant).values()}
        run_of = {row.folder_id for row in rows.values() if row.run_key}
        must = {folder.id for folder in self.folders if folder.content is not None}
        may = {folder.id for folder in self.folders if folder.possible}
        assert must <= run_of <= may
        assert len({row.partition_key for row in rows.values()}) == len(rows)
        assert len({row.results_name for row in rows.values()}) == len(rows)

        expected: list[tuple[str, ...]] = []
        halves: set[str] = set()
        for folder in self.folders:
            if folder.interrupted:
                # Its video was taken away before it could be tried again.
                assert folder.content is None
                halves.add(rows[folder.id].results_name)
                continue
            if folder.id not in run_of or folder.processed is None:
                continue
            assert folder.processed in folder.possible
            if folder.content is not None:
                assert folder.processed == folder.content
            name = rows[folder.id].results_name
            assert not {"/", "\0", "\n"} & set(name)
            expected += [("tailor", "results", name, "v.csv"),
                         ("tailor", "results", name, "manifest.json"),
                         ("tailor", "results", name, "watch", "0.jpg")]  # fmt: skip
        there = {tuple(f["path"]): f for f in self.people.tree(self.email) if f["md5"]}
        results = sorted(
            tuple(f["path"])
            for f in self.people.tree(self.email)
            if f["md5"] and f["path"][:2] == ["tailor", "results"] and f["path"][2] not in halves
        )
        assert results == sorted(expected), "each file once, and no other"
        for name in halves:
            # A results folder is complete or has no manifest.
            whole = [("tailor", "results", name, *rest) for rest in (["v.csv"], ["watch", "0.jpg"])]
            if ("tailor", "results", name, "manifest.json") in there:
                assert all(path in there for path in whole)
        for folder in self.folders:
            whole_one = folder.processed is not None and not folder.interrupted
            if whole_one and folder.id in run_of:
                assert folder.processed is not None
                at = ("tailor", "results", rows[folder.id].results_name, "v.csv")
                assert there[at]["md5"] == md5(folder.processed)

    # ------------------------------------------------------------------ within

    def _put(self, folder: Folder, content: bytes) -> str:
        return str(self.people.put(folder.id, "v.mp4", _text(content)))

    def _note_what_may_be_processed(self) -> None:
        for folder in self.folders:
            if folder.content is not None:
                folder.possible.add(folder.content)

    def _start_runs(self) -> None:
        """Jobs that a tick accepts are made at once, as far as the queue is concerned."""
        store = ArtifactStore(root=str(lab.folder / "artifacts"))
        self.pending += accept_wanted(self.registry, store, [self.tenant])
        with engine_for(self.registry.database_url).begin() as connection:
            connection.execute(
                sa.update(jobs_table)
                .where(jobs_table.c.tenant == self.tenant)
                .values(state="completed")
            )

    def _process(self, key: str, steps: int) -> None:
        """A run: the video comes here, its results go there. Killed after so many steps."""
        self.runs += 1
        row = self.registry.get(key)
        fence = Fence(
            claim_publication(
                lab.tree.url, key, "results", run_id=f"{self.runs:06d}", created_at=float(self.runs)
            ),
            steps,
        )
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            try:
                self.drive.download(self.tenant, row.file_id or "", work / "v.csv")
            except PermanentProblem:
                self.pending.remove(key)  # it is no longer there; nothing is made of it
                return
            content = (work / "v.csv").read_bytes()
            (work / "0.jpg").write_bytes(content + b" watch")
            (folder,) = [folder for folder in self.folders if folder.id == row.folder_id]
            folder.possible.add(content)
            folder.interrupted = True
            with suppress(Superseded):
                publish(
                    self.drive,
                    row,
                    {"v.csv": work / "v.csv", "watch/0.jpg": work / "0.jpg"},
                    manifest_path=work / "manifest.json",
                    about={"partition": key},
                    of_this_run={},
                    files_before=[],
                    fence=fence,
                    log=dg.get_dagster_logger(),
                )
        self.pending.remove(key)
        folder.processed, folder.interrupted = content, False


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@contextmanager
def machine_lab(url: str, folder: Path) -> Iterator[None]:
    with google_tree(url, folder) as tree:
        lab.tree, lab.folder = tree, folder
        yield


def test_whatever_happens_the_drive_ends_as_the_model_says(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    migrate(postgres_url)
    with machine_lab(postgres_url, tmp_path):
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            DriveMachine,
            settings=settings(
                max_examples=12,
                stateful_step_count=15,
                deadline=None,
                # Without making the example smaller, which takes longer than reading it.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
