"""Writes a masks NPZ one frame at a time, and continues one that a killed process began.

The file is the same, byte for byte, however often its writing was interrupted. Without a work
folder it grows in a temporary sibling of its path. With one, the members of full chunks go to
``mask_members`` and everything else to ``mask_rows`` (see ``mask_rows.py``) in that folder. Both
are only ever appended to, so that every description ``checkpoint`` ever returned stays true.
"""

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tailor_assets.compute.append_only_file import AppendOnlyFile
from tailor_assets.compute.mask_file import MASK_FORMAT_VERSION
from tailor_assets.compute.mask_geometry import EMPTY, packed_geometry
from tailor_assets.compute.mask_rows import (
    RowLayout,
    boxed_masks,
    journal_block,
    read_journal,
    unboxed_masks,
)
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.npz_archive import Member, directory, pack_member, read_members

DEFAULT_CHUNK_FRAMES = 64

OBJECT_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CHECKPOINT_VERSION = 1
_MEMBERS_FILE, _JOURNAL_FILE = "mask_members", "mask_rows"


class MaskWriter:
    """Streams masks of several objects into one NPZ.

    Use as a context manager. On a clean exit the file appears at ``path`` whole. On an exception
    nothing is left, or with a work folder what ``checkpoint`` described. Memory: one chunk of
    packed masks per object, plus 16 bytes per frame and 53 per frame and object.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        objects: Sequence[str],
        height: int,
        width: int,
        segmenter: str,
        chunk_frames: int = DEFAULT_CHUNK_FRAMES,
        work_folder: str | Path | None = None,
        resume_from: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a temporary sibling of ``path``, or two files in ``work_folder``.

        With a work folder (made where it is not there, one per writer) the writer can make
        checkpoints, and ``resume_from``, what ``checkpoint`` returned, continues from exactly that
        row. Whoever made the folder removes it when the finished file has been noted: until then
        the writing can still be resumed.

        Raises ValueError for object names that are not ``[a-z][a-z0-9_]*`` or are repeated (they
        become member names of the zip), and when ``resume_from`` is of other objects, another size,
        chunk or segmenter, or its files are missing, shorter or not what they were: begin again
        without it. Raises BlockingIOError when another process has the work folder open.
        """
        for name in objects:
            if not OBJECT_NAME.fullmatch(name):
                raise ValueError(f"object name {name!r} is not of the form [a-z][a-z0-9_]*")
        if len(set(objects)) != len(objects) or not objects:
            raise ValueError(f"object names must be given and differ, not {list(objects)}")
        if resume_from is not None and work_folder is None:
            raise ValueError("only a writer with a work folder can be resumed")
        self.path = Path(path)
        self.objects = tuple(objects)
        self.height, self.width = height, width
        self.chunk_frames = chunk_frames
        self._segmenter = segmenter
        self._layout = RowLayout(self.objects)
        self._records = bytearray()
        self._mask_bytes = -(-height * width // 8)
        # Zeros where the last byte goes beyond the picture.
        self._last_byte = 0xFF << (8 * self._mask_bytes - height * width) & 0xFF
        self._open = {
            name: np.zeros((chunk_frames, self._mask_bytes), np.uint8) for name in self.objects
        }
        self._members: list[Member] = []
        # One name with a work folder, so that a process killed at the very end leaves no second one.
        unique = f".{secrets.token_hex(4)}" if work_folder is None else ""
        self._temporary = self.path.with_name(f".{self.path.name}{unique}.part")
        self._journal: AppendOnlyFile | None = None
        self._journaled = 0
        if work_folder is None:
            self._file = AppendOnlyFile(self._temporary)
        elif resume_from is None:
            self._begin(Path(work_folder))
        else:
            self._resume(Path(work_folder), resume_from)

    def __len__(self) -> int:
        """Frames appended so far."""
        return len(self._records) // self._layout.record.size

    # Adding frames

    def append(
        self,
        *,
        source_frame: int,
        timestamp_s: float,
        masks: Mapping[str, np.ndarray],
        scores: Mapping[str, float],
        states: Mapping[str, MaskState | int] | None = None,
    ) -> None:
        """Add one frame.

        ``masks``: bool [height, width] per object; ``scores``: mask quality 0..1 per object (0 =
        lost); ``states``: what happened to each, by default TRACKED, or LOST where the mask is
        empty. An object that is not in ``masks`` was not looked for or not found: its mask is empty
        and its score 0. Raises ValueError on a wrong shape, an unknown object or an unknown state.
        """
        shape = (self.height, self.width)
        for name, mask in masks.items():
            if mask.shape != shape or mask.dtype != np.bool_:
                raise ValueError(f"mask of {name} is {mask.dtype} {mask.shape}, not bool {shape}")
        packed = {name: np.packbits(mask) for name, mask in masks.items()}
        self._append(source_frame, timestamp_s, packed, scores, states or {})

    def append_packed(
        self,
        *,
        source_frame: int,
        timestamp_s: float,
        packed: Mapping[str, np.ndarray],
        scores: Mapping[str, float],
        states: Mapping[str, MaskState | int] | None = None,
    ) -> None:
        """Add one frame whose masks are packed already; the file is that of ``append``.

        ``packed``: uint8 [ceil(height * width / 8)] per object, ``numpy.packbits`` of the row-major
        mask (first pixel in the most significant bit); bits beyond the last pixel do not count.
        The arrays are copied. The rest is as in ``append``.
        """
        shape = (self._mask_bytes,)
        for name, mask in packed.items():
            if mask.shape != shape or mask.dtype != np.uint8:
                raise ValueError(
                    f"packed mask of {name} is {mask.dtype} {mask.shape}, not uint8 {shape}"
                )
        self._append(source_frame, timestamp_s, packed, scores, states or {})

    def _append(
        self,
        source_frame: int,
        timestamp_s: float,
        packed: Mapping[str, np.ndarray],
        scores: Mapping[str, float],
        states: Mapping[str, MaskState | int],
    ) -> None:
        unknown = (set(packed) | set(states)) - set(self.objects)
        if unknown:
            raise ValueError(f"unknown objects {sorted(unknown)}; the file has {self.objects}")
        self._flush_full_chunk()
        place = len(self) % self.chunk_frames
        values: list[Any] = [int(source_frame), float(timestamp_s)]
        for name in self.objects:
            row = self._open[name][place]
            if name in packed:
                row[:] = packed[name]
                row[-1] &= self._last_byte
                area, box, centroid = packed_geometry(row, self.height, self.width)
            else:
                row[:] = 0
                area, box, centroid = EMPTY
            score = float(scores.get(name, 0.0)) if area else 0.0
            default = MaskState.TRACKED if area else MaskState.LOST
            values += [score, area, *box, *centroid, MaskState(states.get(name, default))]
        # Last, and at once: a refused frame must not leave half a row behind.
        self._records += self._layout.record.pack(*values)

    def _open_rows(self) -> int:
        """Rows that are in no member of the archive yet; a full chunk waits for the next call."""
        return len(self) - len(self._members) // len(self.objects) * self.chunk_frames

    def _flush_full_chunk(self) -> None:
        if self._open_rows() == self.chunk_frames:
            members, data = self._packed_chunk(self._file.length)
            # All objects in one write: after a full disk the writer is where it was before.
            self._file.append(data)
            self._members += members

    def _packed_chunk(self, offset: int) -> tuple[list[Member], bytes]:
        number, rows = len(self._members) // len(self.objects), self._open_rows()
        return _packed_members(
            {f"{name}_{number:05d}": masks[:rows] for name, masks in self._open.items()}, offset
        )

    # Work files

    def _begin(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = AppendOnlyFile(folder / _MEMBERS_FILE)
        try:
            self._journal = AppendOnlyFile(folder / _JOURNAL_FILE)
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                # The files' names are as durable as what a checkpoint puts into them.
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            self._close()
            raise

    def checkpoint(self) -> dict[str, Any]:
        """Make everything appended so far durable, and describe where it is.

        The description is small, plain (it goes into JSON), and never stops being true; what is
        appended after it is not in it. Not to be called while another method runs, as a signal
        handler would. Raises ValueError without a work folder.
        """
        if self._journal is None:
            raise ValueError("only a writer with a work folder can make checkpoints")
        self._flush_full_chunk()
        rows, size = len(self), self._layout.record.size
        if rows > self._journaled:
            first_open = rows - self._open_rows()
            boxed = max(first_open, self._journaled)
            masks = {n: m[boxed - first_open : rows - first_open] for n, m in self._open.items()}
            self._journal.append(
                journal_block(
                    bytes(self._records[self._journaled * size :]),
                    rows - self._journaled,
                    boxed_masks(
                        self._layout.rows(bytes(self._records[boxed * size :])), masks, self.width
                    ),
                )
            )
            self._journaled = rows
        self._file.sync()
        self._journal.sync()
        return {
            "checkpoint_version": _CHECKPOINT_VERSION,
            **self._identity(),
            "rows": rows,
            "members": self._file.place(),
            "journal": self._journal.place(),
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "format_version": MASK_FORMAT_VERSION,
            "objects": list(self.objects),
            "height": self.height,
            "width": self.width,
            "chunk_frames": self.chunk_frames,
            "segmenter": self._segmenter,
        }

    def _resume(self, folder: Path, description: Mapping[str, Any]) -> None:
        expected = {"checkpoint_version": _CHECKPOINT_VERSION, **self._identity()}
        for what, value in expected.items():
            if description.get(what) != value:
                raise ValueError(
                    f"{what} of the masks to resume is {description.get(what)!r}, not {value!r}"
                )
        rows = int(description["rows"])
        self._file = AppendOnlyFile.at(folder / _MEMBERS_FILE, description["members"])
        try:
            self._journal = AppendOnlyFile.at(folder / _JOURNAL_FILE, description["journal"])
            self._members = read_members(self._file.read, self._file.length)
            records, boxed = read_journal(self._journal, self._layout, rows, self.chunk_frames)
            self._records = records
            if len(self._members) != rows // self.chunk_frames * len(self.objects):
                raise ValueError(f"{len(self._members)} chunks are not those of {rows} rows")
            opened = records[len(records) - self._open_rows() * self._layout.record.size :]
            unboxed_masks(
                self._layout.rows(bytes(opened)), boxed, self._open, self.height, self.width
            )
        except BaseException:
            self._close()
            raise
        self._journaled = rows

    # Ending

    def commit(self) -> None:
        """Write what is pending and the tables, and put the file in its place.

        Work files stay, so that whoever dies before noting that the file is finished can resume.
        """
        self._flush_full_chunk()
        final = self._file if self._journal is None else self._copied()
        try:
            members = list(self._members)
            if self._open_rows():
                _append_members(final, members, *self._packed_chunk(final.length))
            _append_members(final, members, *_packed_members(self._tables(), final.length))
            final.append(directory(members, final.length))
            final.sync()
            os.replace(self._temporary, self.path)
        finally:
            final.close()
            self._temporary.unlink(missing_ok=True)
        self._close()

    def _copied(self) -> AppendOnlyFile:
        """The full chunks again, in the temporary sibling that becomes the file."""
        copy = AppendOnlyFile(self._temporary)
        try:
            for piece in self._file.pieces():
                copy.append(piece)
        except BaseException:
            copy.close()
            self._temporary.unlink(missing_ok=True)
            raise
        return copy

    def _tables(self) -> dict[str, np.ndarray]:
        rows = self._layout.rows(bytes(self._records))
        assert rows.dtype.names is not None
        return {
            "format_version": np.array(MASK_FORMAT_VERSION, np.int64),
            "shape": np.array([self.height, self.width], np.int64),
            "objects": np.array(self.objects),
            "segmenter": np.array(self._segmenter),
            "chunk_frames": np.array(self.chunk_frames, np.int64),
            "frame_index": np.arange(len(rows), dtype=np.int64),
            **{column: np.array(rows[column], order="C") for column in rows.dtype.names},
        }

    def suspend(self) -> None:
        """Close the files and keep those in the work folder, as far as the last checkpoint."""
        self._temporary.unlink(missing_ok=True)
        self._close()

    def abort(self) -> None:
        """Leave nothing behind, in the work folder neither."""
        self.suspend()
        if self._journal is not None:
            self._file.path.unlink(missing_ok=True)
            self._journal.path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._file.close()
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit on a clean exit; on an exception keep the work files, and nothing else."""
        try:
            if kind is None:
                self.commit()
        finally:
            self.suspend()


def _packed_members(arrays: Mapping[str, np.ndarray], offset: int) -> tuple[list[Member], bytes]:
    members, pieces = [], []
    for name, values in arrays.items():
        member, data = pack_member(name, values, offset)
        members.append(member)
        pieces.append(data)
        offset += len(data)
    return members, b"".join(pieces)


def _append_members(
    file: AppendOnlyFile, members: list[Member], added: Sequence[Member], data: bytes
) -> None:
    file.append(data)
    members += added
