"""Writing masks: the file is whole or not there, and the same however often it was interrupted."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from making_masks import HEIGHT, WIDTH, some_masks, write_masks

from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.mask_writer import MaskWriter


def test_equal_masks_are_equal_bytes(tmp_path: Path) -> None:
    first = write_masks(tmp_path / "a.npz", some_masks(70)).read_bytes()
    time.sleep(2.1)  # a zip's dates have two seconds' resolution
    assert write_masks(tmp_path / "b.npz", some_masks(70)).read_bytes() == first


def test_an_exception_leaves_nothing_and_an_earlier_file_as_it_was(tmp_path: Path) -> None:
    path = write_masks(tmp_path / "m.npz", some_masks(3))
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    def fail_in_the_middle() -> None:
        with MaskWriter(path, objects=["mouse"], height=4, width=4, segmenter="x") as writer:
            for n in range(100):
                writer.append(source_frame=n, timestamp_s=n, masks={}, scores={})
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail_in_the_middle()
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_the_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    script = """
import os, signal, sys
import numpy as np
from tailor_assets.compute.mask_writer import MaskWriter
with MaskWriter(sys.argv[1], objects=["mouse"], height=64, width=64, segmenter="x") as writer:
    for n in range(200):
        writer.append(source_frame=n, timestamp_s=n, masks={}, scores={})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "m.npz"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()


def test_a_refused_frame_leaves_no_half_row(tmp_path: Path) -> None:
    good = some_masks(1)[0]
    with MaskWriter(
        tmp_path / "m.npz", objects=["mouse", "nest"], height=HEIGHT, width=WIDTH, segmenter="x"
    ) as writer:
        for bad in (
            {"mouse": good, "nest": good[1:]},
            {"mouse": good.astype(np.uint8)},
            {"rat": good},
        ):
            with pytest.raises(ValueError, match=r"rat|nest|mouse"):
                writer.append(source_frame=0, timestamp_s=0, masks=bad, scores={})
        writer.append(source_frame=7, timestamp_s=0.7, masks={"mouse": good}, scores={"mouse": 1})
    with MaskReader(tmp_path / "m.npz") as reader:
        assert reader.source_frame.tolist() == [7]
        assert np.array_equal(reader.mask("mouse", 0), good)


@pytest.mark.parametrize("names", [[], ["mouse", "mouse"], ["../mouse"], ["Mouse"], ["a b"]])
def test_names_that_could_not_be_members_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="object name"):
        MaskWriter(tmp_path / "m.npz", objects=names, height=4, width=4, segmenter="x")
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    """640 x 480 masks of 1,500 frames are 460 MB as booleans and 58 MB packed."""
    script = """
import resource, sys
import numpy as np
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
mask = np.zeros((480, 640), bool)
mask[100:200, 200:300] = True
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with MaskWriter(sys.argv[1], objects=["mouse"], height=480, width=640, segmenter="x") as writer:
    for n in range(1500):
        writer.append(source_frame=n, timestamp_s=n, masks={"mouse": mask}, scores={"mouse": 1})
        if n == 100:
            early = peak()
with MaskReader(sys.argv[1]) as reader:
    assert sum(int(mask[150, 250]) for _, mask in reader.iter_masks("mouse")) == 1500
print(peak() - early)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 25, "MB more at frame 1,500 than at frame 100"


# States and packed masks


def test_states_are_kept_and_follow_from_the_mask_where_none_is_given(tmp_path: Path) -> None:
    blob, empty = some_masks(1)[0], np.zeros((HEIGHT, WIDTH), bool)
    with MaskWriter(
        tmp_path / "m.npz", objects=["mouse", "nest"], height=HEIGHT, width=WIDTH, segmenter="x"
    ) as writer:
        for masks, states in (
            ({"mouse": blob, "nest": empty}, None),
            ({"mouse": blob}, {"mouse": MaskState.REFOUND, "nest": MaskState.NOT_STARTED}),
            ({"nest": blob}, {"mouse": 6, "nest": 1}),
        ):
            writer.append(source_frame=0, timestamp_s=0, masks=masks, scores={}, states=states)
        for bad in ({"rat": MaskState.LOST}, {"mouse": 9}, {"mouse": -1}):
            with pytest.raises(ValueError, match=r"rat|MaskState"):
                writer.append(source_frame=0, timestamp_s=0, masks={}, scores={}, states=bad)
    with MaskReader(tmp_path / "m.npz") as reader:
        assert reader.state("mouse").tolist() == [
            MaskState.TRACKED, MaskState.REFOUND, MaskState.EXPLODED,
        ]  # fmt: skip
        assert reader.state("nest").tolist() == [
            MaskState.LOST, MaskState.NOT_STARTED, MaskState.HELD,
        ]  # fmt: skip
        assert reader.state("nest").dtype == np.uint8


@pytest.mark.parametrize("size", [(37, 53), (40, 64), (30, 72), (1, 1), (3, 5)])
def test_packed_masks_give_the_same_file(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    masks = some_masks(90, height=height, width=width)
    for kind in ("pixels", "packed"):
        with MaskWriter(
            tmp_path / kind, objects=["a", "b"], height=height, width=width, segmenter="x"
        ) as writer:
            for row, mask in enumerate(masks):
                frame = {"source_frame": row, "timestamp_s": row / 3, "scores": {"a": 0.5}}
                if kind == "pixels":
                    writer.append(**frame, masks={"a": mask}, states={"b": 8})
                    continue
                packed = np.packbits(mask)
                # Whatever lies in the bits beyond the picture is no pixel.
                packed[-1] |= (1 << (packed.size * 8 - mask.size)) - 1
                writer.append_packed(**frame, packed={"a": packed}, states={"b": 8})
    assert (tmp_path / "packed").read_bytes() == (tmp_path / "pixels").read_bytes()


def test_packed_masks_are_copied_and_wrong_ones_refused(tmp_path: Path) -> None:
    good = np.packbits(some_masks(1)[0])
    with MaskWriter(
        tmp_path / "m.npz", objects=["mouse"], height=HEIGHT, width=WIDTH, segmenter="x"
    ) as writer:
        for bad in ({"mouse": good[1:]}, {"mouse": good.astype(np.int64)}, {"rat": good}):
            with pytest.raises(ValueError, match=r"rat|mouse"):
                writer.append_packed(source_frame=0, timestamp_s=0, packed=bad, scores={})
        buffer = good.copy()
        writer.append_packed(source_frame=0, timestamp_s=0, packed={"mouse": buffer}, scores={})
        buffer[:] = 0
    with MaskReader(tmp_path / "m.npz") as reader:
        assert np.array_equal(reader.mask("mouse", 0), some_masks(1)[0])


# Resuming

CHUNK = 7
OBJECTS = ["mouse", "nest"]
MASKS = some_masks(60)


def open_writer(folder: Path, description: Mapping[str, Any] | None, **other: Any) -> MaskWriter:
    options = {
        "objects": OBJECTS,
        "height": HEIGHT,
        "width": WIDTH,
        "segmenter": "x",
        "chunk_frames": CHUNK,
        "work_folder": folder / "work",
    }
    return MaskWriter(folder / "m.npz", **(options | other), resume_from=description)


def append_rows(writer: MaskWriter, count: int, *, changed: bool = False) -> None:
    """Append the next rows; ``changed`` ones are unlike those of the finished file."""
    for row in range(len(writer), min(len(writer) + count, len(MASKS))):
        mask = MASKS[row] ^ changed
        writer.append(
            source_frame=2 * row + changed,
            timestamp_s=row / 7,
            masks={"mouse": mask, "nest": np.roll(mask, 5, axis=0)} if row % 4 else {"nest": mask},
            scores={"mouse": row / 60, "nest": 1 / (row + 1)},
            states={"nest": MaskState.HELD} if row % 3 else None,
        )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with open_writer(folder, None, work_folder=None) as writer:
        append_rows(writer, 60)
    assert [p.name for p in folder.iterdir()] == ["m.npz"]
    return (folder / "m.npz").read_bytes()


SESSION = st.tuples(
    st.lists(st.integers(0, 17), min_size=1, max_size=4),  # rows before each checkpoint
    st.integers(0, 17),  # rows that are lost
    st.booleans(),  # whether the process dies before it publishes its last checkpoint
    st.binary(max_size=40),  # garbage behind everything
)


@settings(max_examples=60, deadline=None)
@given(sessions=st.lists(SESSION, max_size=6))
@example(sessions=[([0], 0, False, b"")])
@example(sessions=[([7], 0, False, b"x"), ([0, 7], 3, True, b"PK")])
@example(sessions=[([60], 0, False, b"x"), ([0], 0, True, b"PK")])
def test_the_file_is_the_same_wherever_it_was_interrupted(
    uninterrupted: bytes,
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[tuple[list[int], int, bool, bytes]],
) -> None:
    folder = tmp_path_factory.mktemp("resumed")
    published: str | None = None
    for checkpoints, lost, unpublished, garbage in sessions:
        writer = open_writer(folder, json.loads(published) if published else None)
        assert len(writer) == (json.loads(published)["rows"] if published else 0)
        for number, rows in enumerate(checkpoints):
            append_rows(writer, rows)
            description = json.dumps(writer.checkpoint())
            assert len(description) < 500
            if not (unpublished and number == len(checkpoints) - 1):
                published = description
        append_rows(writer, lost, changed=True)
        writer.suspend()
        for file in (folder / "work").iterdir():
            file.write_bytes(file.read_bytes() + garbage)
    with open_writer(folder, json.loads(published) if published else None) as writer:
        append_rows(writer, 60)
    assert (folder / "m.npz").read_bytes() == uninterrupted
    assert sorted(p.name for p in folder.iterdir()) == ["m.npz", "work"]


def test_a_finished_file_can_be_finished_again_until_its_work_is_removed(
    tmp_path: Path, uninterrupted: bytes
) -> None:
    """A process may die after the file is in its place and before it has told anybody."""
    with open_writer(tmp_path, None) as writer:
        append_rows(writer, 40)
        description = writer.checkpoint()
        append_rows(writer, 60)
    assert (tmp_path / "m.npz").read_bytes() == uninterrupted
    with open_writer(tmp_path, description) as writer:
        assert len(writer) == 40
        append_rows(writer, 60)
    assert (tmp_path / "m.npz").read_bytes() == uninterrupted


def test_an_exception_keeps_the_work_and_abort_keeps_nothing(tmp_path: Path) -> None:
    def fail_after_a_checkpoint() -> None:
        with open_writer(tmp_path, None) as writer:
            append_rows(writer, 20)
            descriptions.append(writer.checkpoint())
            raise RuntimeError("out of memory")

    descriptions: list[dict[str, Any]] = []
    with pytest.raises(RuntimeError, match="out of memory"):
        fail_after_a_checkpoint()
    assert [p.name for p in tmp_path.iterdir()] == ["work"]
    writer = open_writer(tmp_path, descriptions[0])
    assert len(writer) == 20
    writer.abort()
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"objects": ["mouse"]},
        {"objects": ["nest", "mouse"]},
        {"height": HEIGHT + 1},
        {"width": WIDTH - 1},
        {"chunk_frames": CHUNK + 1},
        {"segmenter": "y"},
    ],
)
def test_another_kind_of_writer_is_not_resumed(tmp_path: Path, other: dict[str, Any]) -> None:
    with open_writer(tmp_path, None) as writer:
        append_rows(writer, 20)
        description = writer.checkpoint()
    with pytest.raises(ValueError, match=next(iter(other))):
        open_writer(tmp_path, description, **other)
    open_writer(tmp_path, description).suspend()


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [shorter, changed, emptied, Path.unlink])
@pytest.mark.parametrize("file", ["mask_members", "mask_rows"])
def test_work_that_is_not_what_was_described_is_refused(
    tmp_path: Path, file: str, harm: Callable[[Path], None]
) -> None:
    writer = open_writer(tmp_path, None)
    append_rows(writer, 20)
    description = writer.checkpoint()
    writer.suspend()
    harm(tmp_path / "work" / file)
    with pytest.raises(ValueError, match=file):
        open_writer(tmp_path, description)
    # The caller then begins again, in the same folder.
    with open_writer(tmp_path, None) as writer:
        assert len(writer) == 0


def test_two_processes_do_not_write_the_same_work(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, None)
    append_rows(writer, 20)
    description = writer.checkpoint()
    for resume_from in (description, None):
        with pytest.raises(BlockingIOError, match="another process"):
            open_writer(tmp_path, resume_from)
    append_rows(writer, 60)
    writer.commit()
    open_writer(tmp_path, description).suspend()


def test_a_writer_without_a_work_folder_makes_no_checkpoints(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, None, work_folder=None)
    with pytest.raises(ValueError, match="work folder"):
        writer.checkpoint()
    writer.suspend()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="work folder"):
        open_writer(tmp_path, {}, work_folder=None)


def test_after_a_full_disk_the_writer_goes_on_where_it_was(
    tmp_path: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = os.pwrite, [False]

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if full[0] and len(data) > 1:
            return real(descriptor, data[: len(data) // 2], offset)
        if full[0]:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with open_writer(tmp_path, None) as writer:
        while len(writer) < 60:
            full[0] = not full[0]
            before = len(writer)
            try:
                append_rows(writer, 3)
                writer.checkpoint()
            except OSError:
                assert before <= len(writer) <= before + 3
        full[0] = False
    assert (tmp_path / "m.npz").read_bytes() == uninterrupted


def write_with_checkpoints(folder: Path) -> None:
    """Resume what is published, and publish a checkpoint every nine rows."""
    published = folder / "published.json"
    description = json.loads(published.read_text()) if published.exists() else None
    with open_writer(folder, description) as writer:
        while len(writer) < 30:
            append_rows(writer, 9)
            (folder / "new.json").write_text(json.dumps(writer.checkpoint()))
            os.replace(folder / "new.json", published)


def killed_before_operation(number: int, folder: Path) -> bool:
    """Write in a process that dies before (a write: in the midst of) its ``number``-th operation on
    a file; False when it got to the end."""
    child = os.fork()
    if child == 0:
        left = [number]

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def operation(*arguments: Any) -> Any:
                if left[0] == 0:
                    if real is real_pwrite:
                        descriptor, data, offset = arguments
                        real(descriptor, data[: len(data) // 2], offset)
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real(*arguments)

            return operation

        real_pwrite = os.pwrite
        for name in ("open", "pwrite", "fsync", "ftruncate", "replace", "close"):
            setattr(os, name, dying(getattr(os, name)))
        try:
            write_with_checkpoints(folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def test_killed_before_any_operation_it_resumes_to_the_same_file(tmp_path: Path) -> None:
    write_with_checkpoints(tmp_path)
    expected = (tmp_path / "m.npz").read_bytes()
    number, at_the_end = 0, False
    while not at_the_end:
        folder = tmp_path / str(number)
        folder.mkdir()
        at_the_end = not killed_before_operation(number, folder)
        killed_before_operation(number % 11, folder)  # and once more while it resumes
        write_with_checkpoints(folder)
        assert (folder / "m.npz").read_bytes() == expected, f"killed before operation {number}"
        number += 1
    assert number > 25


CRASHING = """
import json, os, sys
from pathlib import Path
import numpy as np
from tailor_assets.compute.mask_writer import MaskWriter

folder, published = Path(sys.argv[1]), Path(sys.argv[1]) / "published.json"
description = json.loads(published.read_text()) if published.exists() else None
y, x = np.mgrid[:240, :320]
ragged = np.random.default_rng(1).random((240, 320)) < 0.5
nest = (x - 80) ** 2 + (y - 100) ** 2
with MaskWriter(
    folder / "m.npz", objects=["mouse", "nest"], height=240, width=320, segmenter="x",
    work_folder=folder / "work", resume_from=description,
) as writer:
    with open(folder / "starts.txt", "a") as starts:
        print(len(writer), file=starts)
    print("started", flush=True)
    while len(writer) < 3000:
        row = len(writer)
        mouse = (x - 160 - 90 * np.cos(row / 50)) ** 2 + 2 * (y - 120) ** 2 < 900
        edge = np.roll(ragged, (13 * row % 240, 7 * row % 320), (0, 1))
        writer.append(
            source_frame=row, timestamp_s=row / 30, scores={"mouse": 1, "nest": 0.5},
            masks={"mouse": mouse, "nest": nest + 300 * edge < 2500},
        )
        if len(writer) % 100 == 0:
            (folder / "new.json").write_text(json.dumps(writer.checkpoint()))
            os.replace(folder / "new.json", published)
            (folder / "progress.txt").write_text(str(len(writer)))
"""


def started(folder: Path) -> "subprocess.Popen[str]":
    """The process, at work on its first row."""
    process = subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.crash
def test_killed_again_and_again_it_ends_with_the_same_file(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    process = started(whole)
    begin = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - begin
    chance, kills, status = random.Random(4), 0, 1
    while status:
        process = started(killed)
        # Some 120 of the 3,000 rows are written in the middle of these times.
        time.sleep(chance.uniform(0, 0.08) * seconds)
        if kills < 25:
            process.kill()
        status = process.wait()
        assert status in (0, -signal.SIGKILL)
        kills += status != 0
    starts = [int(line) for line in (killed / "starts.txt").read_text().split()]
    assert kills >= 20
    assert len(set(starts)) >= 5, "the kills were not spread over the work"
    assert starts == sorted(starts), "published rows were done again"
    assert (killed / "m.npz").read_bytes() == (whole / "m.npz").read_bytes()
    with zipfile.ZipFile(killed / "m.npz") as archive:
        assert archive.testzip() is None
    assert sorted(p.name for p in (killed / "work").iterdir()) == ["mask_members", "mask_rows"]
    print(f"{kills} kills, resumed at {sorted(set(starts))}")
