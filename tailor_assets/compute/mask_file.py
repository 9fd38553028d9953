"""The masks NPZ: written one frame at a time, read one frame at a time, opened by ``numpy.load``.

The layout is documented for users in ``docs/data_formats.md``. Masks are bit-packed in chunks of 64
frames, because a chunk is then small enough to inflate in under a millisecond (random access) and
large enough for deflate to find the likeness between neighbouring frames.
"""

import io
import os
import re
import secrets
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tailor_assets.compute.errors import PermanentProblem

MASK_FORMAT_VERSION = 1
DEFAULT_CHUNK_FRAMES = 64

OBJECT_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# What numpy and zipfile raise for bytes that are not what they should be.
_DAMAGE = (
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# A zip entry carries a date; a fixed one makes equal masks equal bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_EMPTY_BBOX = (-1, -1, -1, -1)


def mask_geometry(mask: np.ndarray) -> tuple[int, tuple[int, int, int, int], tuple[float, float]]:
    """Area, bounding box and centroid of one mask.

    ``mask`` is bool [H, W]. Returns (area in pixels, (min_row, min_col, max_row, max_col)
    half-open, (row, col) centroid in pixels), as scikit-image's ``regionprops`` defines them. An
    empty mask has area 0, a bounding box of -1 and a centroid of NaN: its place is not known, and
    0 would be one.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return 0, _EMPTY_BBOX, (float("nan"), float("nan"))
    r0, r1 = int(rows[0]), int(rows[-1]) + 1
    cols = np.flatnonzero(mask[r0:r1].any(axis=0))
    c0, c1 = int(cols[0]), int(cols[-1]) + 1
    crop = mask[r0:r1, c0:c1]
    per_row = np.count_nonzero(crop, axis=1)
    per_col = np.count_nonzero(crop, axis=0)
    area = int(per_row.sum())
    row = r0 + float(per_row @ np.arange(r1 - r0)) / area
    col = c0 + float(per_col @ np.arange(c1 - c0)) / area
    return area, (r0, c0, r1, c1), (row, col)


class MaskWriter:
    """Streams masks of several objects into one NPZ.

    Use as a context manager. On a clean exit the file appears at ``path`` whole; on an exception
    nothing is left. Memory: one chunk of packed masks per object, plus some 80 bytes per frame.
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
    ) -> None:
        """Open a temporary sibling of ``path``.

        Raises ValueError for object names that are not ``[a-z][a-z0-9_]*`` or are repeated: they
        become member names of the zip.
        """
        for name in objects:
            if not OBJECT_NAME.fullmatch(name):
                raise ValueError(f"object name {name!r} is not of the form [a-z][a-z0-9_]*")
        if len(set(objects)) != len(objects) or not objects:
            raise ValueError(f"object names must be given and differ, not {list(objects)}")
        self.path = Path(path)
        self.objects = tuple(objects)
        self.height, self.width = height, width
        self.chunk_frames = chunk_frames
        self._segmenter = segmenter
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._zip = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_DEFLATED, allowZip64=True)
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name in objects}
        self._chunks_written = 0
        # Arrays, not lists: an hour of frames is then a few megabytes and not hundreds.
        self._source_frame = array("q")
        self._pts = array("d")
        self._score = {name: array("f") for name in objects}
        self._area = {name: array("q") for name in objects}
        self._bbox = {name: array("i") for name in objects}
        self._centroid = {name: array("d") for name in objects}

    def __len__(self) -> int:
        """Frames appended so far."""
        return len(self._source_frame)

    def append(
        self,
        *,
        source_frame: int,
        timestamp_s: float,
        masks: Mapping[str, np.ndarray],
        scores: Mapping[str, float],
    ) -> None:
        """Add one frame.

        ``masks``: bool [height, width] per object; ``scores``: mask quality 0..1 per object (0 =
        lost). An object that is not in ``masks`` was not looked for or not found: its mask is empty
        and its score 0. Raises ValueError on a wrong shape or an unknown object.
        """
        unknown = set(masks) - set(self.objects)
        if unknown:
            raise ValueError(f"unknown objects {sorted(unknown)}; the file has {self.objects}")
        for name, mask in masks.items():
            # Before anything is noted: a refused frame must not leave half a row behind.
            if mask.shape != (self.height, self.width) or mask.dtype != np.bool_:
                raise ValueError(
                    f"mask of {name} is {mask.dtype} {mask.shape}, not bool "
                    f"{(self.height, self.width)}"
                )
        self._source_frame.append(int(source_frame))
        self._pts.append(float(timestamp_s))
        for name in self.objects:
            mask = masks[name] if name in masks else np.zeros((self.height, self.width), bool)
            area, bbox, centroid = mask_geometry(mask)
            self._pending[name].append(np.packbits(mask.reshape(-1)))
            self._score[name].append(float(scores.get(name, 0.0)) if area else 0.0)
            self._area[name].append(area)
            self._bbox[name].extend(bbox)
            self._centroid[name].extend(centroid)
        if len(self._pending[self.objects[0]]) == self.chunk_frames:
            self._flush()

    def _flush(self) -> None:
        for name in self.objects:
            rows = self._pending[name]
            if rows:
                self._write_array(f"{name}_{self._chunks_written:05d}", np.stack(rows))
                rows.clear()
        self._chunks_written += 1

    def _write_array(self, member: str, array: np.ndarray) -> None:
        info = zipfile.ZipInfo(f"{member}.npy", _ZIP_DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        # The zip's own level is not used where a ZipInfo is given, and the default of 6 costs twice
        # the time to write and to read for a file that is small already.
        info._compresslevel = 1  # type: ignore[attr-defined]
        with self._zip.open(info, "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, array, allow_pickle=False)

    def commit(self) -> None:
        """Write what is pending and the tables, and put the file in its place."""
        if self._pending[self.objects[0]]:
            self._flush()
        n = len(self._source_frame)
        self._write_array("format_version", np.array(MASK_FORMAT_VERSION, np.int64))
        self._write_array("shape", np.array([self.height, self.width], np.int64))
        self._write_array("objects", np.array(self.objects))
        self._write_array("segmenter", np.array(self._segmenter))
        self._write_array("chunk_frames", np.array(self.chunk_frames, np.int64))
        self._write_array("frame_index", np.arange(n, dtype=np.int64))
        self._write_array("source_frame", np.array(self._source_frame, np.int64))
        self._write_array("pts", np.array(self._pts, np.float64))
        for name in self.objects:
            self._write_array(f"{name}_score", np.array(self._score[name], np.float32))
            self._write_array(f"{name}_area", np.array(self._area[name], np.int64))
            self._write_array(f"{name}_bbox", np.array(self._bbox[name], np.int32).reshape(n, 4))
            self._write_array(
                f"{name}_centroid", np.array(self._centroid[name], np.float64).reshape(n, 2)
            )
        self._zip.close()
        with open(self._temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self._temporary, self.path)

    def abort(self) -> None:
        """Leave nothing behind."""
        try:
            self._zip.close()
        finally:
            # Closing writes the zip's directory, which a full disk refuses.
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit on a clean exit, leave nothing on an exception."""
        if kind is not None:
            self.abort()
            return
        try:
            self.commit()
        except BaseException:
            self.abort()
            raise


class MaskReader:
    """Reads a masks NPZ by frame or from start to end; holds one chunk per object at a time.

    Raises PermanentProblem when the file is not a masks NPZ of a version this program knows.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the tables; masks are read when asked for."""
        self.path = Path(path)
        self._npz: Any = None
        try:
            self._npz = np.load(self.path, allow_pickle=False)
            version = int(self._npz["format_version"])
            if version != MASK_FORMAT_VERSION:
                raise PermanentProblem(
                    f"{self.path.name} is a masks file of format {version}, and this program reads "
                    f"format {MASK_FORMAT_VERSION}: segment the video again or update tailor."
                )
            self.height, self.width = (int(v) for v in self._npz["shape"])
            self.objects: tuple[str, ...] = tuple(str(v) for v in self._npz["objects"])
            self.segmenter = str(self._npz["segmenter"])
            self._chunk_frames = int(self._npz["chunk_frames"])
            self.source_frame: np.ndarray = self._npz["source_frame"]
            self.timestamp_s: np.ndarray = self._npz["pts"]
            self._check_tables()
            self._file = open(self.path, "rb")  # noqa: SIM115 - close() closes it
        except PermanentProblem:
            self._npz.close()
            raise
        except FileNotFoundError:
            raise PermanentProblem(
                f"There is no masks file at {self.path}: check the path."
            ) from None
        except _DAMAGE as e:
            if hasattr(self._npz, "close"):
                self._npz.close()
            raise PermanentProblem(
                f"{self.path.name} is not a masks file made by tailor ({type(e).__name__}): "
                "give the .npz from a results folder, or segment the video again."
            ) from None
        self._cached: dict[str, tuple[int, np.ndarray]] = {}

    def _check_tables(self) -> None:
        n = self.source_frame.shape[0]
        if min(self._chunk_frames, self.height, self.width, len(self.objects)) < 1:
            raise ValueError("no picture size or no object")
        columns = {"score": (n,), "area": (n,), "bbox": (n, 4), "centroid": (n, 2)}
        shapes = [(self.timestamp_s, (n,))] + [
            (self._npz[f"{name}_{column}"], shape)
            for name in self.objects
            for column, shape in columns.items()
        ]
        if any(table.shape != shape for table, shape in shapes):
            raise ValueError("tables of different lengths")

    def __len__(self) -> int:
        """Frames in the file."""
        return int(self.source_frame.shape[0])

    def score(self, name: str) -> np.ndarray:
        """Mask quality per frame, float32 [N], 0 (lost) to 1."""
        return self._table(name, "score")

    def area(self, name: str) -> np.ndarray:
        """Area per frame in pixels, int64 [N]."""
        return self._table(name, "area")

    def bbox(self, name: str) -> np.ndarray:
        """Boxes (min_row, min_col, max_row, max_col), int32 [N, 4], half-open; -1 where empty."""
        return self._table(name, "bbox")

    def centroid(self, name: str) -> np.ndarray:
        """Centroids (row, col) in pixels, float64 [N, 2]; NaN where the mask is empty."""
        return self._table(name, "centroid")

    def _table(self, name: str, column: str) -> np.ndarray:
        self._known(name)
        return np.asarray(self._npz[f"{name}_{column}"])

    def _known(self, name: str) -> None:
        if name not in self.objects:
            raise PermanentProblem(
                f"{self.path.name} has no object {name!r}: it has {', '.join(self.objects)}."
            )

    def _chunk(self, name: str, number: int) -> np.ndarray:
        cached = self._cached.get(name)
        if cached is None or cached[0] != number:
            try:
                cached = (number, self._inflated(f"{name}_{number:05d}.npy"))
                rows = min(self._chunk_frames, len(self) - number * self._chunk_frames)
                if cached[1].shape != (rows, -(-self.height * self.width // 8)):
                    raise ValueError("a chunk of another size")
            except _DAMAGE as e:
                raise PermanentProblem(
                    f"The masks file {self.path.name} is damaged ({type(e).__name__}): "
                    "segment the video again."
                ) from None
            self._cached[name] = cached
        return cached[1]

    def _inflated(self, member: str) -> np.ndarray:
        """Array of a member, read-only.

        Inflated in one piece, which takes half the time of ``np.load``'s 256 KB pieces.
        """
        info = self._npz.zip.getinfo(member)
        if info.compress_type != zipfile.ZIP_DEFLATED:
            return np.asarray(self._npz[member.removesuffix(".npy")])
        self._file.seek(info.header_offset)
        local_header = self._file.read(30)
        # PKWARE APPNOTE 4.3.7: lengths of the name and the extra field, which come before the data.
        self._file.seek(sum(struct.unpack("<HH", local_header[26:30])), os.SEEK_CUR)
        data = zlib.decompress(
            self._file.read(info.compress_size), -zlib.MAX_WBITS, info.file_size or 1
        )
        if zlib.crc32(data) != info.CRC or len(data) != info.file_size:
            raise zipfile.BadZipFile(f"bad checksum of {member}")
        stream = io.BytesIO(data)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{member} is not an array of format 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Turn packed rows uint8 [n, ceil(H*W/8)] into bool [n, H, W]."""
        bits = np.unpackbits(packed, axis=-1, count=self.height * self.width)
        return bits.view(np.bool_).reshape(-1, self.height, self.width)

    def mask(self, name: str, row: int) -> np.ndarray:
        """Mask of one frame, bool [H, W]. Raises IndexError outside the file."""
        self._known(name)
        if not 0 <= row < len(self):
            raise IndexError(f"frame {row} is not among the {len(self)} of {self.path.name}")
        number, offset = divmod(row, self._chunk_frames)
        return self.unpack(self._chunk(name, number)[offset : offset + 1])[0]

    def iter_masks(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row, bool [H, W]) in order."""
        for row in range(start, len(self) if stop is None else min(stop, len(self))):
            yield row, self.mask(name, row)

    def iter_chunks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, packed uint8 [n, ceil(H*W/8)]), row-major, first pixel in bit 7."""
        self._known(name)
        for first in range(0, len(self), self._chunk_frames):
            yield first, self._chunk(name, first // self._chunk_frames)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._npz.close()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
