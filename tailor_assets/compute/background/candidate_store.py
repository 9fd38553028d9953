"""Keeps the candidates of every frame until it is known which of them is which animal.

Whole masks of a long recording do not fit in memory, so they wait bit-packed and deflated in a
temporary file; only some 60 bytes per candidate stay in memory.
"""

import tempfile
import zlib
from types import TracebackType
from typing import Self

import numpy as np

from tailor_assets.compute.background.body_mask import Candidate

_RECORD = np.dtype(
    [
        ("row", "i4"),
        ("x", "f4"),
        ("y", "f4"),
        ("area", "i4"),
        ("quality", "f4"),
        ("box", "i4", 4),
        ("at", "i8"),
        ("size", "i4"),
    ]
)


class CandidateStore:
    """Append candidates row by row, then read any of them back. Use as a context manager."""

    def __init__(self) -> None:
        self._records = np.zeros(1024, _RECORD)
        self._count = 0
        self._file = tempfile.TemporaryFile(prefix="tailor_candidates_")  # noqa: SIM115

    @property
    def records(self) -> np.ndarray:
        """Structured array [n]: row, x, y (centroid, px), area (px), quality, box (r0,c0,r1,c1)."""
        return self._records[: self._count]

    def append(self, row: int, candidate: Candidate) -> None:
        """Keep a candidate of a row; rows must not decrease."""
        if self._count == len(self._records):
            self._records = np.concatenate([self._records, np.zeros(self._count, _RECORD)])
        packed = zlib.compress(np.packbits(candidate.mask).tobytes(), 1)
        at = self._file.tell()
        self._file.write(packed)
        self._records[self._count] = (
            row,
            candidate.x,
            candidate.y,
            candidate.area,
            candidate.quality,
            candidate.box,
            at,
            len(packed),
        )
        self._count += 1

    def mask(self, number: int) -> np.ndarray:
        """Mask bool [r1-r0, c1-c0] of the candidate ``number`` (its index in ``records``)."""
        record = self.records[number]
        r0, c0, r1, c1 = (int(v) for v in record["box"])
        self._file.seek(int(record["at"]))
        packed = np.frombuffer(zlib.decompress(self._file.read(int(record["size"]))), np.uint8)
        size = (r1 - r0) * (c1 - c0)
        return np.unpackbits(packed, count=size).reshape(r1 - r0, c1 - c0).astype(bool)

    def first_of_rows(self, rows: int) -> np.ndarray:
        """int64 [rows + 1]: candidates of row i are numbers ``first[i]`` to ``first[i + 1]``."""
        return np.searchsorted(self.records["row"], np.arange(rows + 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
