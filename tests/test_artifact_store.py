"""Working copies: whole or absent, never outdated, nothing left of what was killed."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from upath import UPath

from resources.artifact_store import (
    ArtifactRecord,
    ArtifactStore,
    draft_name,
    remove_dead_drafts,
    version_of,
)
from tailor_assets.compute.errors import PermanentProblem

KEY = "anna--day-1--0a1b2c3d"


@pytest.fixture(params=["folder", "file url", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "memory":
        root = f"memory://bucket-{secrets.token_hex(4)}/artifacts"
        yield ArtifactStore(root=root)
        if UPath(root).exists():
            UPath(root).rmdir(recursive=True)
    else:
        prefix = "file://" if request.param == "file url" else ""
        yield ArtifactStore(root=f"{prefix}{tmp_path / 'artifacts'}")


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(root=str(tmp_path / "artifacts"))


def make(store: ArtifactStore, artifact: str, version: str, **options: Any) -> ArtifactRecord:
    """An artifact of one file, one table and one folder."""
    with store.making(KEY, artifact) as draft:
        draft.path(f"{artifact}.txt").write_text(version)
        pl.DataFrame({"version": [version]}).write_parquet(draft.path(f"{artifact}.parquet"))
        draft.path(f"{artifact}_pictures").mkdir()
        (draft.path(f"{artifact}_pictures") / f"{version}.jpg").write_text(version)
        return draft.commit(version=version, **options)


def names(store: ArtifactStore) -> set[str]:
    folder = store.folder(KEY)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def chain(store: ArtifactStore) -> dict[str, ArtifactRecord]:
    """video -> frames -> masks -> features."""
    made: dict[str, ArtifactRecord] = {}
    previous: str | None = None
    for name in ("video", "frames", "masks", "features"):
        made[name] = make(
            store, name, f"{name}-1", made_from={previous: made[previous]} if previous else {}
        )
        previous = name
    return made


def test_what_is_committed_is_there_with_its_record(store: ArtifactStore) -> None:
    record = make(store, "masks", "v1", details={"objects": ["mouse"]}, run_id="r")
    assert store.require(KEY, "masks") == record
    assert record.details == {"objects": ["mouse"]}
    assert record.created_at
    with store.local(KEY, "masks.txt") as path:
        assert path.read_text() == "v1"
    assert store.read_table(KEY, "masks")["version"].to_list() == ["v1"]
    with store.local(KEY, "masks_pictures") as folder:
        assert [p.name for p in folder.iterdir()] == ["v1.jpg"]
    with store.local_files(KEY, "masks_pictures", ["v1.jpg", "absent.jpg"]) as folder:
        assert [p.name for p in folder.iterdir()] == ["v1.jpg"]


def test_of_a_table_only_the_wanted_columns_are_read(store: ArtifactStore) -> None:
    table = pl.DataFrame({"a": [1], "b": [2], "c": [3]})
    with store.making(KEY, "masks") as draft:
        table.write_parquet(draft.path("masks.parquet"))
        draft.commit(version="v1")
    names: list[str] = []

    def wanted(columns: list[str]) -> list[str]:
        names.extend(columns)
        return ["c", "a"]

    assert store.read_table(KEY, "masks", wanted).equals(table.select("c", "a"))
    assert names == ["a", "b", "c"]


def test_a_table_that_is_cut_off_is_a_sentence_and_tried_once(local: ArtifactStore) -> None:
    with local.making(KEY, "masks") as draft:
        pl.DataFrame({"row": range(1000)}).write_parquet(draft.path("masks.parquet"))
        draft.commit(version="1")
    path = Path(str(local.path(KEY, "masks.parquet")))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PermanentProblem, match="materialize 'masks' again"):
        local.read_table(KEY, "masks")
    with pytest.raises(PermanentProblem, match="materialize 'masks' again"):
        local.read_table(KEY, "masks", lambda names: names)


def test_a_new_version_replaces_every_file_of_the_old(store: ArtifactStore) -> None:
    make(store, "masks", "v1")
    with store.making(KEY, "masks") as draft:
        draft.path("masks.txt").write_text("v2")
        draft.commit(version="v2")
    assert names(store) == {"masks.json", "masks.txt"}


def test_an_exception_leaves_the_old_version_as_it_was(store: ArtifactStore) -> None:
    make(store, "masks", "v1")

    def fail() -> None:
        with store.making(KEY, "masks") as draft:
            draft.path("masks.txt").write_text("half")
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail()
    assert names(store) == {"masks.json", "masks.txt", "masks.parquet", "masks_pictures"}
    with store.local(KEY, "masks.txt") as path:
        assert path.read_text() == "v1"


def test_what_is_not_committed_is_not_there(store: ArtifactStore) -> None:
    with store.making(KEY, "masks") as draft:
        draft.path("masks.txt").write_text("x")
    assert store.record(KEY, "masks") is None
    assert names(store) == set()


def test_what_is_missing_is_said_with_what_to_materialize(store: ArtifactStore) -> None:
    with pytest.raises(PermanentProblem, match="materialize 'masks' first"):
        store.require(KEY, "masks")


def test_what_a_check_refused_is_refused_downstream_too(store: ArtifactStore) -> None:
    video = make(store, "video", "v1", problem="the video has no frame: export it again.")
    make(store, "frames", "f1", made_from={"video": video})
    for name in ("video", "frames"):
        with pytest.raises(PermanentProblem, match="no frame"):
            store.require(KEY, name)


def test_an_outdated_artifact_is_refused_however_far_up_the_change_is(
    store: ArtifactStore,
) -> None:
    made = chain(store)
    assert store.require(KEY, "features").version == "features-1"
    make(store, "frames", "frames-2", made_from={"video": made["video"]})
    assert store.require(KEY, "frames").version == "frames-2"
    for name in ("masks", "features"):
        with pytest.raises(PermanentProblem, match=r"earlier 'frames'.*materialize 'masks' again"):
            store.require(KEY, name)


def test_making_the_same_again_outdates_nothing(store: ArtifactStore) -> None:
    made = chain(store)
    make(store, "frames", "frames-1", made_from={"video": made["video"]})
    store.require(KEY, "features")


def test_an_upstream_that_is_not_here_is_no_reason_to_refuse(store: ArtifactStore) -> None:
    """An NPZ of elsewhere has no video behind it."""
    made = chain(store)
    store.path(KEY, "video.json").unlink()
    assert store.require(KEY, "features") == made["features"]


def test_a_commit_is_refused_when_its_upstream_was_replaced_meanwhile(
    store: ArtifactStore,
) -> None:
    made = chain(store)
    with store.making(KEY, "masks") as draft:
        draft.path("masks.txt").write_text("of old frames")
        make(store, "frames", "frames-2", made_from={"video": made["video"]})
        with pytest.raises(PermanentProblem, match=r"frames .*replaced"):
            draft.commit(version="masks-2", made_from={"frames": made["frames"]})
    with store.local(KEY, "masks.txt") as path:
        assert path.read_text() == "masks-1"
    assert not any(name.startswith(".draft") for name in names(store))


def test_a_record_that_cannot_be_read_is_an_artifact_to_make_again(store: ArtifactStore) -> None:
    make(store, "masks", "v1")
    store.path(KEY, "masks.json").write_text('{"artifact": "masks", "ver')
    with pytest.raises(PermanentProblem, match="materialize 'masks' first"):
        store.require(KEY, "masks")
    make(store, "masks", "v2")
    assert store.require(KEY, "masks").version == "v2"


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../other", "a/b", "A", "a\n", "a b", "-a", "a" * 101, "a\0", "é"]
)
def test_a_key_that_could_lead_elsewhere_is_refused(store: ArtifactStore, key: str) -> None:
    for act in (
        lambda: store.record(key, "masks"),
        lambda: store.path(key, "masks.npz"),
        lambda: store.making(key, "masks").__enter__(),
    ):
        with pytest.raises(PermanentProblem, match="not a video's partition key"):
            act()


def test_versions_depend_on_every_part_and_on_nothing_else() -> None:
    assert version_of("a", 1, {"x": 2, "y": 3}) == version_of("a", 1, {"y": 3, "x": 2})
    versions = {version_of(*parts) for parts in [("a",), ("b",), ("a", None), ("a", 0), ("a", "")]}
    assert len(versions) == 5


# What only a process that is killed leaves behind

KILLED = """
import os, signal, sys
from resources.artifact_store import ArtifactStore
store = ArtifactStore(root=sys.argv[1])
with store.making(sys.argv[2], "masks") as draft:
    draft.path("masks.txt").write_text("half")
    if sys.argv[3] == "committing":
        # After the old record went, before the new came.
        import resources.artifact_store as module
        module._replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
        draft.commit(version="v2")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while(what: str, store: ArtifactStore) -> None:
    command = [sys.executable, "-c", KILLED, store.root, KEY, what]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_cleaned_up_by_the_next(local: ArtifactStore) -> None:
    make(local, "masks", "v1")
    killed_while("writing", local)
    assert any(name.startswith(".draft-masks-") for name in names(local))
    assert local.require(KEY, "masks").version == "v1"
    make(local, "features", "f1")
    assert not any(name.startswith(".") for name in names(local))
    assert local.require(KEY, "masks").version == "v1"


def test_killed_while_committing_the_artifact_is_absent_and_not_half_there(
    local: ArtifactStore,
) -> None:
    make(local, "masks", "v1")
    killed_while("committing", local)
    assert local.record(KEY, "masks") is None
    make(local, "masks", "v3")
    assert local.require(KEY, "masks").version == "v3"
    assert not any(name.startswith(".") for name in names(local))


def test_the_draft_of_a_living_process_and_of_another_machine_is_left_alone(
    local: ArtifactStore,
) -> None:
    with local.making(KEY, "masks") as mine:
        foreign = mine.folder.with_name(".draft-masks-ffffffff-1-abcdef")
        foreign.mkdir()
        with local.making(KEY, "features"):
            assert mine.folder.is_dir()
            assert foreign.is_dir()
        os.utime(foreign, (0, 0))
        with local.making(KEY, "features"):
            assert mine.folder.is_dir()
            assert not foreign.exists(), "nothing takes that long"


def test_a_full_disk_leaves_no_draft(local: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    make(local, "masks", "v1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make(local, "masks", "v2")
    monkeypatch.undo()
    assert not any(name.startswith(".") for name in names(local))
    assert local.record(KEY, "masks") is None, "absent rather than of unknown state"


def test_a_draft_of_another_form_does_not_stop_the_next(local: ArtifactStore) -> None:
    home = Path(str(local.folder(KEY)))
    home.mkdir(parents=True)
    (home / ".draft-").mkdir()
    (home / ".draft-masks-1-abcdef").mkdir()
    make(local, "masks", "v1")
    assert local.require(KEY, "masks").version == "v1"


def test_a_draft_of_a_living_process_here_stays_however_old_and_a_strangers_folder_too(
    tmp_path: Path,
) -> None:
    mine = tmp_path / draft_name("run")
    strangers = [tmp_path / name for name in (".draft-", ".draft-letter", ".draft-x-1-abcdef")]
    for folder in (mine, *strangers):
        folder.mkdir()
        os.utime(folder, (0, 0))
    remove_dead_drafts(tmp_path)
    assert all(folder.is_dir() for folder in (mine, *strangers))
