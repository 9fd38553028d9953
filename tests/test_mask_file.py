"""The masks NPZ: what is written is what is read, whole or not at all."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import regionprops

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import (
    MASK_FORMAT_VERSION,
    MaskReader,
    MaskWriter,
    mask_geometry,
)

HEIGHT, WIDTH = 37, 53  # neither a multiple of 8, so that rows of bits cross bytes


def some_masks(count: int, seed: int = 1) -> list[np.ndarray]:
    """Blobs that move, every fifth one empty."""
    chance = np.random.default_rng(seed)
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    masks = []
    for number in range(count):
        row, col, radius = chance.uniform(0, HEIGHT), chance.uniform(0, WIDTH), chance.uniform(2, 9)
        blob = (rows - row) ** 2 + (cols - col) ** 2 < radius**2
        masks.append(blob & (number % 5 != 3))
    return masks


def write(path: Path, masks: list[np.ndarray], **options: int) -> Path:
    with MaskWriter(
        path, objects=["mouse", "nest"], height=HEIGHT, width=WIDTH, segmenter="hand", **options
    ) as writer:
        for number, mask in enumerate(masks):
            writer.append(
                source_frame=3 * number,
                timestamp_s=number / 10,
                masks={"mouse": mask},
                scores={"mouse": 0.75},
            )
    return path


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 130])
def test_what_was_written_is_read_at_every_chunk_edge(tmp_path: Path, count: int) -> None:
    masks = some_masks(count)
    with MaskReader(write(tmp_path / "m.npz", masks)) as reader:
        assert len(reader) == count
        assert reader.objects == ("mouse", "nest")
        assert (reader.height, reader.width, reader.segmenter) == (HEIGHT, WIDTH, "hand")
        assert reader.source_frame.tolist() == [3 * n for n in range(count)]
        assert reader.timestamp_s.tolist() == [n / 10 for n in range(count)]
        for row in (*range(count), *reversed(range(count))):
            assert np.array_equal(reader.mask("mouse", row), masks[row])
        read = list(reader.iter_masks("mouse"))
        assert [row for row, _ in read] == list(range(count))
        assert all(np.array_equal(mask, masks[row]) for row, mask in read)
        packed = [chunk for _, chunk in reader.iter_chunks("mouse")]
        assert sum(map(len, packed)) == count
        if count:
            assert np.array_equal(reader.unpack(np.concatenate(packed)), np.stack(masks))
        assert not any(mask.any() for _, mask in reader.iter_masks("nest"))


@pytest.mark.parametrize("chunk_frames", [1, 7])
def test_a_file_of_another_chunk_size_reads_the_same(tmp_path: Path, chunk_frames: int) -> None:
    masks = some_masks(20)
    path = write(tmp_path / "m.npz", masks, chunk_frames=chunk_frames)
    with MaskReader(path) as reader:
        part = [(row, mask.copy()) for row, mask in reader.iter_masks("mouse", 5, 15)]
    assert [row for row, _ in part] == list(range(5, 15))
    assert all(np.array_equal(mask, masks[row]) for row, mask in part)


def test_an_empty_mask_has_no_place_and_no_quality(tmp_path: Path) -> None:
    with MaskReader(write(tmp_path / "m.npz", [np.zeros((HEIGHT, WIDTH), bool)])) as reader:
        for name in ("mouse", "nest"):
            assert reader.area(name).tolist() == [0]
            assert reader.score(name).tolist() == [0.0]
            assert reader.bbox(name).tolist() == [[-1, -1, -1, -1]]
            assert np.isnan(reader.centroid(name)).all()


def test_geometry_is_what_scikit_image_says() -> None:
    for mask in some_masks(40, seed=2):
        if mask.any():
            (region,) = regionprops(mask.astype(np.uint8))
            area, bbox, centroid = mask_geometry(mask)
            assert (area, bbox) == (region.area, region.bbox)
            assert centroid == pytest.approx(region.centroid, rel=1e-12)


def test_plain_numpy_opens_it_as_the_documentation_says(tmp_path: Path) -> None:
    masks = some_masks(70)
    with np.load(write(tmp_path / "m.npz", masks), allow_pickle=False) as npz:
        assert int(npz["format_version"]) == MASK_FORMAT_VERSION
        height, width = npz["shape"]
        bits = np.concatenate([npz["mouse_00000"], npz["mouse_00001"]])
        dense = np.unpackbits(bits, axis=1, count=height * width).reshape(-1, height, width)
        assert np.array_equal(dense.astype(bool), np.stack(masks))
        assert npz["frame_index"].tolist() == list(range(70))
        assert npz["pts"].dtype == np.float64
        assert npz["mouse_area"].tolist() == [int(mask.sum()) for mask in masks]


def test_equal_masks_are_equal_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a.npz", some_masks(70)).read_bytes()
    time.sleep(2.1)  # a zip's dates have two seconds' resolution
    assert write(tmp_path / "b.npz", some_masks(70)).read_bytes() == first


def test_an_exception_leaves_nothing_and_an_earlier_file_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", some_masks(3))
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
from tailor_assets.compute.mask_file import MaskWriter
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


def foreign_files(folder: Path) -> dict[str, Path]:
    """Files that are not masks files, by what they are."""
    whole = write(folder / "whole.npz", some_masks(70)).read_bytes()
    with np.load(folder / "whole.npz") as npz:
        members = dict(npz.items())
    contents = {
        "empty": b"",
        "text": b"hello, this is no zip\n",
        "truncated": whole[: len(whole) // 2],
        "zeros": bytes(5000),
    }
    files = {}
    for what, content in contents.items():
        files[what] = folder / f"{what}.npz"
        files[what].write_bytes(content)
    np.save(folder / "array.npy", np.zeros(3))
    files["array"] = folder / "array.npy"
    np.savez(folder / "other.npz", masks=np.zeros((2, 3, 3), bool))
    files["other"] = folder / "other.npz"
    np.savez(folder / "lengths.npz", **(members | {"mouse_score": np.zeros(3)}))
    files["lengths"] = folder / "lengths.npz"
    np.savez(folder / "nothing.npz", **(members | {"shape": np.array([0, 5])}))
    files["nothing"] = folder / "nothing.npz"
    np.savez(folder / "future.npz", **(members | {"format_version": np.array(99)}))
    files["future"] = folder / "future.npz"
    with zipfile.ZipFile(folder / "words.npz", "w") as archive:
        archive.writestr("readme.txt", "words")
    files["words"] = folder / "words.npz"
    files["folder"] = folder / "folder.npz"
    files["folder"].mkdir()
    files["absent"] = folder / "absent.npz"
    return files


def test_a_file_that_is_no_masks_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    for what, path in foreign_files(tmp_path).items():
        with pytest.raises(PermanentProblem, match=path.name) as problem:
            MaskReader(path)
        assert "\n" not in str(problem.value), what
        assert str(problem.value).endswith("."), what


def test_damage_inside_the_file_is_said_when_it_is_met(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", some_masks(70))
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("mouse_00000.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 90 : start + 110] = os.urandom(20)
    path.write_bytes(content)
    with MaskReader(path) as reader:
        assert len(reader) == 70
        with pytest.raises(PermanentProblem, match="damaged"):
            reader.mask("mouse", 0)


def test_a_chunk_of_another_size_is_damage_and_not_an_empty_mask(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "m.npz", some_masks(10))) as npz:
        members = dict(npz.items())
    short = members["mouse_00000"][:, :5]
    np.savez(tmp_path / "short.npz", **(members | {"mouse_00000": short}))
    with MaskReader(tmp_path / "short.npz") as reader, pytest.raises(PermanentProblem):
        reader.mask("mouse", 0)


def test_asking_for_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with MaskReader(write(tmp_path / "m.npz", some_masks(3))) as reader:
        with pytest.raises(PermanentProblem, match="mouse, nest"):
            reader.mask("rat", 0)
        with pytest.raises(PermanentProblem, match="mouse, nest"):
            reader.area("rat")
        for row in (-1, 3):
            with pytest.raises(IndexError):
                reader.mask("mouse", row)


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    """640 x 480 masks of 1,500 frames are 460 MB as booleans and 58 MB packed."""
    script = """
import resource, sys
import numpy as np
from tailor_assets.compute.mask_file import MaskReader, MaskWriter
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
