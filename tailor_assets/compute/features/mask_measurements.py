"""Reads a masks NPZ once, chunk by chunk, and measures every frame in it.

One thread inflates the chunks, another measures them: that keeps two cores busy, because zlib and
numpy release the interpreter lock. Never more than a few chunks of packed masks are in memory,
however long the video is.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.mask_strip import shared_area, windows_around
from tailor_assets.compute.features.nest_features import RELATION_COLUMNS, nest_relation
from tailor_assets.compute.features.shape_features import SHAPE_COLUMNS, shape_features
from tailor_assets.compute.mask_file import MaskReader

# Beside the thread that inflates. Measured: a second one waits for the interpreter lock as much as it
# computes (benchmarks/features.py), and processes take longer to start than a video takes.
DEFAULT_WORKERS = 1


@dataclass(frozen=True)
class _Chunk:
    """Consecutive frames: packed masks uint8 [n, ceil(H * W / 8)], areas [n], boxes [n, 4].

    ``before`` uint8 [1, ceil(H * W / 8)]: the animal's mask in the frame before the chunk.
    """

    first: int
    shape: tuple[int, int]
    subject: np.ndarray
    subject_area: np.ndarray
    subject_box: np.ndarray
    before: np.ndarray | None
    nest: np.ndarray | None
    nest_area: np.ndarray
    nest_box: np.ndarray


def measure_masks(
    reader: MaskReader,
    subject: str,
    nest: str | None,
    *,
    workers: int = DEFAULT_WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Measure all N frames of the animal ``subject`` and, where there is one, its ``nest``.

    Returns float64 [N] per column: SHAPE_COLUMNS; ``shared_with_previous``, the pixels that the
    mask shares with the one before; ``nest_area`` in pixels; RELATION_COLUMNS. NaN where the mask
    that a value needs is empty. ``workers``: threads that measure; the result does not depend on
    it. ``progress(done, total)`` is called with numbers of frames.
    Raises PermanentProblem where the masks contradict the file's own tables.
    """
    total = len(reader)
    found = {
        name: np.full(total, np.nan)
        for name in (*SHAPE_COLUMNS, "shared_with_previous", "nest_area", *RELATION_COLUMNS)
    }
    pending: deque[tuple[int, int, Future[dict[str, np.ndarray]]]] = deque()

    def store_oldest() -> None:
        first, stop, future = pending.popleft()
        try:
            part = future.result()
        except ValueError as problem:  # a box without a pixel
            raise _damaged(reader) from problem
        for name, values in part.items():
            found[name][first:stop] = values
        if progress is not None:
            progress(stop, total)

    with ThreadPoolExecutor(workers) as pool:
        for chunk in _chunks(reader, subject, nest):
            stop = chunk.first + chunk.subject.shape[0]
            pending.append((chunk.first, stop, pool.submit(_measure_chunk, chunk)))
            # One chunk more than can be measured at once, so that no thread runs dry.
            if len(pending) > workers:
                store_oldest()
        while pending:
            store_oldest()
    seen = reader.area(subject) > 0
    if (found["area"][seen] != reader.area(subject)[seen]).any():
        raise _damaged(reader)
    return found


def _chunks(reader: MaskReader, subject: str, nest: str | None) -> Iterator[_Chunk]:
    subject_area, subject_box = _checked_tables(reader, subject)
    nest_area, nest_box = np.zeros_like(subject_area), np.full_like(subject_box, -1)
    nest_chunks: Iterator[tuple[int, np.ndarray | None]]
    if nest is not None:
        nest_area, nest_box = _checked_tables(reader, nest)
        nest_chunks = iter(reader.iter_chunks(nest))
    before: np.ndarray | None = None
    for first, packed in reader.iter_chunks(subject):
        nest_packed = next(nest_chunks)[1] if nest is not None else None
        rows = slice(first, first + packed.shape[0])
        yield _Chunk(
            first,
            (reader.height, reader.width),
            packed,
            subject_area[rows],
            subject_box[rows],
            before,
            nest_packed,
            nest_area[rows],
            nest_box[rows],
        )
        before = packed[-1:]


def _checked_tables(reader: MaskReader, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Areas and boxes; crops follow the boxes, so a box outside the picture must not get through."""
    area, box = reader.area(name), reader.bbox(name)
    seen = box[area > 0]
    if (
        (seen[:, :2] < 0).any()
        or (seen[:, 2:] > (reader.height, reader.width)).any()
        or (seen[:, :2] >= seen[:, 2:]).any()
    ):
        raise _damaged(reader)
    return area, box


def _damaged(reader: MaskReader) -> PermanentProblem:
    return PermanentProblem(
        f"The masks in {reader.path.name} do not agree with the areas and boxes in the same file: "
        "it is damaged, segment the video again."
    )


def _measure_chunk(chunk: _Chunk) -> dict[str, np.ndarray]:
    height, width = chunk.shape
    part: dict[str, np.ndarray] = {}

    def put(rows: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        for name, values in columns.items():
            part.setdefault(name, np.full(chunk.subject.shape[0], np.nan))[rows] = values

    seen = np.flatnonzero(chunk.subject_area > 0)
    put(
        seen,
        shape_features(chunk.subject, windows_around(chunk.subject_box[seen], seen), height, width),
    )
    put(*_shared_with_previous(chunk, seen))
    if chunk.nest is not None:
        nest_seen = np.flatnonzero(chunk.nest_area > 0)
        put(nest_seen, {"nest_area": chunk.nest_area[nest_seen].astype(np.float64)})
        both = seen[chunk.nest_area[seen] > 0]
        relation = nest_relation(
            chunk.subject,
            windows_around(chunk.subject_box[both], both),
            chunk.nest,
            windows_around(chunk.nest_box[both], both),
            part["centroid_x"][both],
            part["centroid_y"][both],
            part["area"][both],
            height,
            width,
        )
        put(both, relation)
    return part


def _shared_with_previous(
    chunk: _Chunk, seen: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    height, width = chunk.shape
    later = seen[seen > 0]
    shared = shared_area(
        chunk.subject,
        windows_around(chunk.subject_box[later], later),
        chunk.subject,
        later - 1,
        height,
        width,
    )
    if chunk.before is None or seen.size == 0 or seen[0] != 0:
        return later, {"shared_with_previous": shared.astype(np.float64)}
    first = shared_area(
        chunk.subject,
        windows_around(chunk.subject_box[:1], seen[:1]),
        chunk.before,
        np.zeros(1, np.int64),
        height,
        width,
    )
    return seen, {"shared_with_previous": np.concatenate((first, shared)).astype(np.float64)}
