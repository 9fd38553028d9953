"""One frame of a masks NPZ as a record of fixed size, and the journal that keeps such records.

An NPZ has its tables at the end and its masks in whole chunks, so a writer that is to be continued
after a crash needs both elsewhere until then: the records of all rows, and the masks of the rows
whose chunk is not full yet. The journal is a sequence of blocks, one per checkpoint:

    number of rows (uint32), bytes of masks (uint32), records, masks

The masks of a block are those of its rows that no full chunk held at that checkpoint, row by row
and object by object, each the packed bits within its box (an empty mask has none).
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailor_assets.compute.append_only_file import AppendOnlyFile
from tailor_assets.compute.mask_geometry import packed_crop

_BLOCK = struct.Struct("<II")
# Per object; the names are those of the NPZ's members: <object>_score, ...
_FIELDS: tuple[tuple[Any, ...], ...] = (
    ("score", "<f4"),
    ("area", "<i8"),
    ("bbox", "<i4", (4,)),
    ("centroid", "<f8", (2,)),
    ("state", "u1"),
)
_FRAME_CODE, _OBJECT_CODE = "qd", "fqiiiiddB"


class RowLayout:
    """How a row's numbers lie in its record, for these objects."""

    def __init__(self, objects: Sequence[str]) -> None:
        """Prepare the same layout for ``struct`` (fast for one row) and numpy (for many)."""
        self.record = struct.Struct("<" + _FRAME_CODE + len(objects) * _OBJECT_CODE)
        self.dtype = np.dtype(
            [("source_frame", "<i8"), ("pts", "<f8")]
            + [(f"{name}_{field[0]}", *field[1:]) for name in objects for field in _FIELDS]
        )

    def rows(self, records: bytes) -> np.ndarray:
        """Records as a structured array [N], read-only."""
        return np.frombuffer(records, self.dtype)


def journal_block(records: bytes, count: int, masks: Sequence[bytes]) -> bytes:
    """``count`` rows' records and the masks of the last of them as one block."""
    packed = b"".join(masks)
    return _BLOCK.pack(count, len(packed)) + records + packed


def boxed_masks(rows: np.ndarray, masks: Mapping[str, np.ndarray], width: int) -> list[bytes]:
    """The masks of ``rows`` as a block keeps them; ``masks`` is uint8 [n, ...] packed, by object."""
    boxes = {name: rows[f"{name}_bbox"].tolist() for name in masks}
    return [
        np.packbits(packed_crop(masks[name][row], width, boxes[name][row])).tobytes()
        for row in range(len(rows))
        for name in masks
        if boxes[name][row][0] >= 0
    ]


def read_journal(
    journal: AppendOnlyFile, layout: RowLayout, rows: int, chunk_frames: int
) -> tuple[bytearray, bytes]:
    """The records of all ``rows``, and the boxed masks of those after the last full chunk.

    Raises ValueError when the journal does not have exactly these rows.
    """
    records, masks = bytearray(), bytearray()
    open_from = rows - rows % chunk_frames
    done = at = 0
    while at < journal.length:
        count, packed = _BLOCK.unpack(journal.read(at, _BLOCK.size))
        at += _BLOCK.size
        records += journal.read(at, count * layout.record.size)
        at += count * layout.record.size
        done += count
        # A block that ends in the last chunk holds masks of that chunk only.
        if done > open_from:
            masks += journal.read(at, packed)
        at += packed
    if done != rows or len(records) != rows * layout.record.size:
        raise ValueError(f"{journal.path} has {done} rows, not {rows}")
    return records, bytes(masks)


def unboxed_masks(
    rows: np.ndarray, boxed: bytes, masks: Mapping[str, np.ndarray], height: int, width: int
) -> None:
    """Put boxed masks of ``rows`` back into ``masks``, as ``boxed_masks`` was given them.

    Raises ValueError when there are not as many bytes as the rows' boxes say.
    """
    at = 0
    for number, row in enumerate(rows):
        for name in masks:
            top, left, bottom, right = row[f"{name}_bbox"].tolist()
            mask = np.zeros((height, width), bool)
            if top >= 0:
                shape = (bottom - top, right - left)
                size = -(-shape[0] * shape[1] // 8)
                bits = np.frombuffer(boxed, np.uint8, size, at)
                at += size
                crop = np.unpackbits(bits, count=shape[0] * shape[1])
                mask[top:bottom, left:right] = crop.view(np.bool_).reshape(shape)
            masks[name][number] = np.packbits(mask)
    if at != len(boxed):
        raise ValueError("the journal has other masks than its rows say")
