"""Reads a masks NPZ once, chunk by chunk, and measures every frame in it.

One thread inflates the chunks, another measures them: that keeps two cores busy, because zlib and
numpy release the interpreter lock. Never more than a few chunks of packed masks are in memory,
however long the video is.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.mask_gap import mask_gap
from tailor_assets.compute.features.mask_strip import shared_area, windows_around
from tailor_assets.compute.features.nest_features import RELATION_COLUMNS, nest_relation
from tailor_assets.compute.features.shape_features import (
    PLACE_COLUMNS,
    SHAPE_COLUMNS,
    place_features,
    shape_features,
)
from tailor_assets.compute.mask_file import MaskReader

# Beside the thread that inflates. Measured: a second one waits for the interpreter lock as much as it
# computes (benchmarks/features.py), and processes take longer to start than a video takes.
DEFAULT_WORKERS = 1


@dataclass(frozen=True)
class _Masks:
    """One object's consecutive frames: packed masks uint8 [n, ceil(H * W / 8)], areas [n], boxes
    [n, 4].
    """

    packed: np.ndarray
    area: np.ndarray
    box: np.ndarray


@dataclass(frozen=True)
class _Chunk:
    """Consecutive frames of all objects that are measured.

    ``before`` uint8 [1, ceil(H * W / 8)]: the animal's mask in the frame before the chunk.
    """

    first: int
    shape: tuple[int, int]
    subject: _Masks
    before: np.ndarray | None
    nest: _Masks | None
    others: dict[str, _Masks]

    def __len__(self) -> int:
        return int(self.subject.area.shape[0])


def measure_masks(
    reader: MaskReader,
    subject: str,
    nest: str | None,
    others: Sequence[str] = (),
    *,
    workers: int = DEFAULT_WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Measure all N frames of the animal ``subject``, of its ``nest`` and of ``others``.

    Returns float64 [N] per column: those of ``shape_features``; ``shared_with_previous``, the pixels
    that the mask shares with the one before; ``nest_area`` in pixels; RELATION_COLUMNS; and for each
    other animal PLACE_COLUMNS and ``gap`` (px, between the nearest pixels of the two), with the
    animal's name and a slash before them. NaN where the mask that a value needs is empty.
    ``workers``: threads that measure; the result does not depend on it. ``progress(done, total)`` is
    called with numbers of frames. Raises PermanentProblem where the masks contradict the file's own
    tables.
    """
    total = len(reader)
    names = dict.fromkeys((*SHAPE_COLUMNS, *PLACE_COLUMNS, "shared_with_previous", "nest_area"))
    names |= dict.fromkeys(RELATION_COLUMNS)
    names |= dict.fromkeys(
        f"{other}/{name}" for other in others for name in (*PLACE_COLUMNS, "gap")
    )
    found = {name: np.full(total, np.nan) for name in names}
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
        for chunk in _chunks(reader, subject, nest, others):
            stop = chunk.first + len(chunk)
            pending.append((chunk.first, stop, pool.submit(_measure_chunk, chunk)))
            # One chunk more than can be measured at once, so that no thread runs dry.
            if len(pending) > workers:
                store_oldest()
        while pending:
            store_oldest()
    for name, column in ((subject, "area"), *((other, f"{other}/area") for other in others)):
        seen = reader.area(name) > 0
        if (found[column][seen] != reader.area(name)[seen]).any():
            raise _damaged(reader)
    return found


def _chunks(
    reader: MaskReader, subject: str, nest: str | None, others: Sequence[str]
) -> Iterator[_Chunk]:
    names = [subject, *([nest] if nest is not None else []), *others]
    tables = {name: _checked_tables(reader, name) for name in names}
    chunks = {name: reader.iter_chunks(name) for name in names}
    before: np.ndarray | None = None
    for first, packed in chunks[subject]:
        rows = slice(first, first + packed.shape[0])
        masks = {
            name: _Masks(
                packed if name == subject else next(chunks[name])[1],
                tables[name][0][rows],
                tables[name][1][rows],
            )
            for name in names
        }
        yield _Chunk(
            first,
            (reader.height, reader.width),
            masks[subject],
            before,
            masks[nest] if nest is not None else None,
            {other: masks[other] for other in others},
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
    own = chunk.subject
    part: dict[str, np.ndarray] = {}

    def put(rows: np.ndarray, columns: dict[str, np.ndarray], prefix: str = "") -> None:
        for name, values in columns.items():
            part.setdefault(prefix + name, np.full(len(chunk), np.nan))[rows] = values

    seen = np.flatnonzero(own.area > 0)
    put(seen, shape_features(own.packed, windows_around(own.box[seen], seen), height, width))
    put(*_shared_with_previous(chunk, seen))
    if chunk.nest is not None:
        nest = chunk.nest
        nest_seen = np.flatnonzero(nest.area > 0)
        put(nest_seen, {"nest_area": nest.area[nest_seen].astype(np.float64)})
        both = seen[nest.area[seen] > 0]
        relation = nest_relation(
            own.packed,
            windows_around(own.box[both], both),
            nest.packed,
            windows_around(nest.box[both], both),
            part["centroid_x"][both],
            part["centroid_y"][both],
            part["area"][both],
            height,
            width,
        )
        put(both, relation)
    for name, other in chunk.others.items():
        there = np.flatnonzero(other.area > 0)
        windows = windows_around(other.box[there], there)
        put(there, place_features(other.packed, windows, height, width), f"{name}/")
        both = seen[other.area[seen] > 0]
        mine, theirs = windows_around(own.box[both], both), windows_around(other.box[both], both)
        gap = mask_gap(own.packed, mine, other.packed, theirs, height, width)
        put(both, {"gap": gap}, f"{name}/")
    return part


def _shared_with_previous(
    chunk: _Chunk, seen: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    height, width = chunk.shape
    own = chunk.subject
    later = seen[seen > 0]
    shared = shared_area(
        own.packed,
        windows_around(own.box[later], later),
        own.packed,
        later - 1,
        height,
        width,
    )
    if chunk.before is None or seen.size == 0 or seen[0] != 0:
        return later, {"shared_with_previous": shared.astype(np.float64)}
    first = shared_area(
        own.packed,
        windows_around(own.box[:1], seen[:1]),
        chunk.before,
        np.zeros(1, np.int64),
        height,
        width,
    )
    return seen, {"shared_with_previous": np.concatenate((first, shared)).astype(np.float64)}
