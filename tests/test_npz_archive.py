"""The zip of arrays: opened by everybody, beyond every 32-bit limit too."""

import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tailor_assets.compute.npz_archive import (
    Member,
    directory,
    local_header,
    pack_member,
    read_members,
)

GIB = 1 << 30


def reader_of(data: bytes):
    return lambda start, count: data[start : start + count]


def archive_of(arrays: dict[str, np.ndarray]) -> tuple[list[Member], bytes]:
    members, data = [], b""
    for name, array in arrays.items():
        member, packed = pack_member(name, array, len(data))
        members.append(member)
        data += packed
    return members, data


ARRAYS = {
    "numbers": np.arange(12, dtype=np.int32).reshape(3, 4),
    "one": np.array(2, np.int64),
    "words": np.array(["mouse", "nest"]),
    "nothing": np.zeros((0, 4), np.float32),
    "bits": np.packbits(np.eye(500, dtype=bool), axis=1),
}


def test_numpy_zipfile_and_unzip_open_it(tmp_path: Path) -> None:
    members, data = archive_of(ARRAYS)
    path = tmp_path / "a.npz"
    path.write_bytes(data + directory(members, len(data)))
    with np.load(path, allow_pickle=False) as npz:
        assert npz.files == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert npz[name].dtype == array.dtype
            assert npz[name].shape == array.shape
            assert np.array_equal(npz[name], array)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", path], check=True)


def test_the_directory_is_found_again_from_the_members(tmp_path: Path) -> None:
    members, data = archive_of(ARRAYS)
    assert read_members(reader_of(data + b"garbage"), len(data)) == members
    assert read_members(reader_of(b""), 0) == []
    for end in (len(data) - 1, 10):
        with pytest.raises(ValueError, match=r"cut off|no member"):
            read_members(reader_of(data[:end]), end)
    with pytest.raises(ValueError, match="no member"):
        read_members(reader_of(b"x" * 100), 100)


@pytest.mark.parametrize("offset", [5 * GIB, 4 * GIB - 1, 4 * GIB - 2])
def test_members_beyond_4_gib_are_found(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "large.npz"  # a hole between two members: no 5 GiB on the disk
    first, first_data = pack_member("first", np.arange(5), 0)
    second, second_data = pack_member("second", np.arange(7), offset)
    with path.open("wb") as stream:
        stream.write(first_data)
        stream.seek(offset)
        stream.write(second_data)
        stream.write(directory([first, second], offset + len(second_data)))
    with np.load(path) as npz:
        assert npz["first"].tolist() == list(range(5))
        assert npz["second"].tolist() == list(range(7))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("second.npy").header_offset == offset
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", path], check=True)


@pytest.mark.parametrize("size", [5 * GIB, 4 * GIB - 1])
def test_a_member_of_more_than_4_gib_says_so_in_both_its_headers(tmp_path: Path, size: int) -> None:
    large = Member("large.npy", 0, 7, size, 2 * size)
    header = local_header(large)
    end = len(header) + size
    assert read_members(reader_of(header), end) == [large]
    path = tmp_path / "large.npz"
    with path.open("wb") as stream:
        stream.write(header)
        stream.seek(end)
        stream.write(directory([large], end))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("large.npy")
        assert (info.header_offset, info.CRC) == (0, 7)
        assert (info.compress_size, info.file_size) == (size, 2 * size)


@pytest.mark.parametrize("count", [65_534, 65_535, 70_000])
def test_more_members_than_16_bits_count(tmp_path: Path, count: int) -> None:
    one, packed = pack_member("m", np.array(1), 0)
    packed = packed[len(local_header(one)) :]
    members, pieces, offset = [], [], 0
    for number in range(count):
        member = one._replace(name=f"m_{number:05d}.npy", offset=offset)
        pieces.append(local_header(member) + packed)
        offset += len(pieces[-1])
        members.append(member)
    path = tmp_path / "many.npz"
    end = directory(members, offset)
    path.write_bytes(b"".join(pieces) + end)
    # Python's zipfile does not look at the numbers of members, others do.
    (short,) = struct.unpack_from("<H", end, len(end) - 12)
    zip64 = end.rfind(b"PK\x06\x06")
    assert short == min(count, 65_535)
    assert (zip64 >= 0) == (count >= 65_535)
    if zip64 >= 0:
        assert struct.unpack_from("<QQ", end, zip64 + 24) == (count, count)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == count
        last = archive.infolist()[-1]
        assert last.filename == f"m_{count - 1:05d}.npy"
        assert zlib.crc32(archive.read(last)) == one.crc


def test_small_archives_need_no_zip64() -> None:
    members, data = archive_of(ARRAYS)
    assert b"PK\x06\x06" not in directory(members, len(data))
