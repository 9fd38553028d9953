"""The masks NPZ: what is written is what is read, and what is no masks file is said to be none."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from making_masks import HEIGHT, WIDTH, some_masks, write_masks

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MASK_FORMAT_VERSION, MaskReader
from tailor_assets.compute.mask_state import MaskState


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 130])
def test_what_was_written_is_read_at_every_chunk_edge(tmp_path: Path, count: int) -> None:
    masks = some_masks(count)
    with MaskReader(write_masks(tmp_path / "m.npz", masks)) as reader:
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
    path = write_masks(tmp_path / "m.npz", masks, chunk_frames=chunk_frames)
    with MaskReader(path) as reader:
        part = [(row, mask.copy()) for row, mask in reader.iter_masks("mouse", 5, 15)]
    assert [row for row, _ in part] == list(range(5, 15))
    assert all(np.array_equal(mask, masks[row]) for row, mask in part)


def test_an_empty_mask_has_no_place_and_no_quality(tmp_path: Path) -> None:
    with MaskReader(write_masks(tmp_path / "m.npz", [np.zeros((HEIGHT, WIDTH), bool)])) as reader:
        for name in ("mouse", "nest"):
            assert reader.area(name).tolist() == [0]
            assert reader.score(name).tolist() == [0.0]
            assert reader.bbox(name).tolist() == [[-1, -1, -1, -1]]
            assert np.isnan(reader.centroid(name)).all()


def test_a_file_of_format_1_is_read_and_its_states_follow_from_the_areas(tmp_path: Path) -> None:
    masks = some_masks(10)
    with np.load(write_masks(tmp_path / "m.npz", masks)) as npz:
        members = {name: npz[name] for name in npz.files if not name.endswith("_state")}
    np.savez_compressed(tmp_path / "old.npz", **(members | {"format_version": np.array(1)}))
    with MaskReader(tmp_path / "old.npz") as reader:
        assert [np.array_equal(m, masks[row]) for row, m in reader.iter_masks("mouse")] == [
            True
        ] * 10
        states = reader.state("mouse")
        assert states.dtype == np.uint8
        expected = [MaskState.TRACKED if mask.any() else MaskState.LOST for mask in masks]
        assert states.tolist() == expected
        assert set(expected) == {MaskState.TRACKED, MaskState.LOST}
        with pytest.raises(PermanentProblem, match="rat"):
            reader.state("rat")


def test_plain_numpy_opens_it_as_the_documentation_says(tmp_path: Path) -> None:
    masks = some_masks(70)
    with np.load(write_masks(tmp_path / "m.npz", masks), allow_pickle=False) as npz:
        assert int(npz["format_version"]) == MASK_FORMAT_VERSION
        height, width = npz["shape"]
        bits = np.concatenate([npz["mouse_00000"], npz["mouse_00001"]])
        dense = np.unpackbits(bits, axis=1, count=height * width).reshape(-1, height, width)
        assert np.array_equal(dense.astype(bool), np.stack(masks))
        assert npz["frame_index"].tolist() == list(range(70))
        assert npz["pts"].dtype == np.float64
        assert npz["mouse_area"].tolist() == [int(mask.sum()) for mask in masks]


def foreign_files(folder: Path) -> dict[str, Path]:
    """Files that are not masks files, by what they are."""
    whole = write_masks(folder / "whole.npz", some_masks(70)).read_bytes()
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
    stateless = {name: value for name, value in members.items() if name != "nest_state"}
    np.savez(folder / "stateless.npz", **stateless)
    files["stateless"] = folder / "stateless.npz"
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
    path = write_masks(tmp_path / "m.npz", some_masks(70))
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
    with np.load(write_masks(tmp_path / "m.npz", some_masks(10))) as npz:
        members = dict(npz.items())
    short = members["mouse_00000"][:, :5]
    np.savez(tmp_path / "short.npz", **(members | {"mouse_00000": short}))
    with MaskReader(tmp_path / "short.npz") as reader, pytest.raises(PermanentProblem):
        reader.mask("mouse", 0)


def test_asking_for_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with MaskReader(write_masks(tmp_path / "m.npz", some_masks(3))) as reader:
        with pytest.raises(PermanentProblem, match="mouse, nest"):
            reader.mask("rat", 0)
        with pytest.raises(PermanentProblem, match="mouse, nest"):
            reader.area("rat")
        for row in (-1, 3):
            with pytest.raises(IndexError):
                reader.mask("mouse", row)
