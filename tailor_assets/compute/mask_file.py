"""The masks NPZ, read one frame at a time; ``numpy.load`` opens it too.

The layout is documented for users in ``docs/data_formats.md``. Masks are bit-packed in chunks of 64
frames, because a chunk is then small enough to inflate in under a millisecond (random access) and
large enough for deflate to find the likeness between neighbouring frames. ``mask_writer`` writes it.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_state import MaskState

MASK_FORMAT_VERSION = 2
"""2 added ``<object>_state``; files of 1 are read as well."""
_READ_VERSIONS = (1, 2)

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
            if version not in _READ_VERSIONS:
                raise PermanentProblem(
                    f"{self.path.name} is a masks file of format {version}, and this program reads "
                    f"formats up to {MASK_FORMAT_VERSION}: segment the video again or update tailor."
                )
            self._has_states = version >= 2
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
        columns: dict[str, tuple[int, ...]] = {
            "score": (n,),
            "area": (n,),
            "bbox": (n, 4),
            "centroid": (n, 2),
        }
        if self._has_states:
            columns["state"] = (n,)
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

    def state(self, name: str) -> np.ndarray:
        """What happened to the object in each frame, uint8 [N]: the numbers of ``MaskState``.

        Files of format 1 do not say: LOST where the mask is empty, else TRACKED.
        """
        if self._has_states:
            return self._table(name, "state")
        tracked = self.area(name) > 0
        return np.where(tracked, np.uint8(MaskState.TRACKED), np.uint8(MaskState.LOST))

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
        return self.unpack(self.packed(name, row)[None])[0]

    def packed(self, name: str, row: int) -> np.ndarray:
        """Packed mask of one frame, uint8 [ceil(H*W/8)]. Raises IndexError outside the file."""
        self._known(name)
        if not 0 <= row < len(self):
            raise IndexError(f"frame {row} is not among the {len(self)} of {self.path.name}")
        number, offset = divmod(row, self._chunk_frames)
        packed: np.ndarray = self._chunk(name, number)[offset]
        return packed

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
