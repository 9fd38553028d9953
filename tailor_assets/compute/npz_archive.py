"""A zip of arrays as ``numpy.savez_compressed`` makes it, but with equal bytes for equal arrays.

The standard library's ``zipfile`` keeps its directory to itself until the file is closed, and what
a killed process leaves cannot be continued. Here a member is one piece of bytes that needs nothing
before or after it, so a half-written archive is continued by reading its members' headers again.
Layout and numbers: PKWARE APPNOTE 6.3.10.
"""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END_64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_LOCAL_MARK, _CENTRAL_MARK = 0x04034B50, 0x02014B50
_END_MARK, _END_64_MARK, _LOCATOR_MARK = 0x06054B50, 0x06064B50, 0x07064B50

_DEFLATED = 8
# A fixed date, 1980-01-01, makes equal arrays equal bytes.
_TIME, _DATE = 0, 0x21
_PLAIN, _ZIP64 = 20, 45  # version needed to extract
_UNIX_FILE = 0o100644 << 16
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF  # a field that is full says: look into the zip64 one
# The default of 6 costs three times the time to write for a file that is small already. It and the
# run-length strategy make smaller files of repeats at distance one, which zlib inflates ten times
# as slowly: a frame would no longer be read in 2 ms.
_LEVEL = 1


class Member(NamedTuple):
    """One array of the archive: where its local header begins, and what is behind it."""

    name: str
    offset: int
    crc: int
    packed_size: int
    size: int


def pack_member(name: str, array: np.ndarray, offset: int) -> tuple[Member, bytes]:
    """An array as a member at ``offset``: its entry for the directory, and all its bytes.

    ``array`` must be C-contiguous and hold no objects. ``name`` is without ``.npy``.
    """
    beginning = io.BytesIO()
    np.lib.format.write_array_header_1_0(beginning, np.lib.format.header_data_from_array_1_0(array))
    head = beginning.getvalue()
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = array.data if array.ndim and array.size else array.tobytes()
    packed = deflate.compress(head) + deflate.compress(data) + deflate.flush()
    member = Member(
        f"{name}.npy",
        offset,
        zlib.crc32(data, zlib.crc32(head)),
        len(packed),
        len(head) + array.nbytes,
    )
    return member, local_header(member) + packed


def local_header(member: Member) -> bytes:
    """What stands before a member's data; with 64-bit sizes where 32 bits do not hold them."""
    name = member.name.encode("ascii")
    sizes, extra, version = (member.packed_size, member.size), b"", _PLAIN
    if max(sizes) >= _FULL_32:
        extra = struct.pack("<HHQQ", 1, 16, member.size, member.packed_size)
        sizes, version = (_FULL_32, _FULL_32), _ZIP64
    return (
        _LOCAL.pack(
            _LOCAL_MARK, version, 0, _DEFLATED, _TIME, _DATE, member.crc, *sizes, len(name),
            len(extra),
        )
        + name
        + extra
    )  # fmt: skip


def read_members(read: Callable[[int, int], bytes], end: int) -> list[Member]:
    """The members that lie one after the other in the first ``end`` bytes of a file.

    ``read(start, count)`` gives bytes of the file. Raises ValueError when those are not exactly
    whole members that ``pack_member`` made.
    """
    members: list[Member] = []
    offset = 0
    while offset < end:
        head = read(offset, _LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != struct.pack("<I", _LOCAL_MARK):
            raise ValueError(f"there is no member of a zip at byte {offset}")
        *_, crc, packed_size, size, name_length, extra_length = _LOCAL.unpack(head)
        rest = read(offset + _LOCAL.size, name_length + extra_length)
        if extra_length:
            size, packed_size = struct.unpack("<QQ", rest[name_length + 4 : name_length + 20])
        members.append(Member(rest[:name_length].decode("ascii"), offset, crc, packed_size, size))
        offset += len(head) + len(rest) + packed_size
    if offset != end:
        raise ValueError("the last member of the zip is cut off")
    return members


def directory(members: Sequence[Member], offset: int) -> bytes:
    """What stands behind the members, from ``offset`` to the end of the file.

    Zip64 where there are more than 65,534 members or something lies beyond 4 GiB.
    """
    entries = b"".join(_central_entry(member) for member in members)
    count, size = len(members), len(entries)
    end = b""
    if count >= _FULL_16 or max(size, offset) >= _FULL_32:
        end += _END_64.pack(
            _END_64_MARK, _END_64.size - 12, 3 << 8 | _ZIP64, _ZIP64, 0, 0, count, count, size,
            offset,
        ) + _LOCATOR.pack(_LOCATOR_MARK, 0, offset + size, 1)  # fmt: skip
    count = min(count, _FULL_16)
    end += _END.pack(_END_MARK, 0, 0, count, count, min(size, _FULL_32), min(offset, _FULL_32), 0)
    return entries + end


def _central_entry(member: Member) -> bytes:
    name = member.name.encode("ascii")
    # In this order; only those that do not fit are in the extra field.
    fields = (member.size, member.packed_size, member.offset)
    large = [value for value in fields if value >= _FULL_32]
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    size, packed_size, offset = (min(value, _FULL_32) for value in fields)
    version = _ZIP64 if large else _PLAIN
    return (
        _CENTRAL.pack(
            _CENTRAL_MARK, 3 << 8 | version, version, 0, _DEFLATED, _TIME, _DATE, member.crc,
            packed_size, size, len(name), len(extra), 0, 0, 0, _UNIX_FILE, offset,
        )
        + name
        + extra
    )  # fmt: skip
