"""The frames of a video as arrays, one after the other, decoded ahead of the one who reads them.

Decoding is PyAV's alone for now. decord is a little faster with whole RGB frames, but it decodes
without back-pressure (a slow reader fills the memory) and always converts to RGB; here the luma
plane is taken as it is, and only the frames asked for are converted (benchmarks/frames.py).
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import cv2
import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.decoding import Orientation, orientation_of
from tailor_assets.compute.recording.frame_pixels import gray_picture, rgb_picture
from tailor_assets.compute.recording.selected_frames import check_source_frames, decode_selected

Pixels = Literal["rgb", "gray"]

# Enough to ride out a decoder's bursts; four 4K RGB frames are 100 MB, four of 640x480 4 MB.
PREFETCHED_FRAMES = 4


def read_frames(
    path: str | Path,
    source_frames: np.ndarray | None = None,
    *,
    pixels: Pixels = "rgb",
    size: tuple[int, int] | None = None,
    timestamps_s: np.ndarray | None = None,
) -> FrameReader:
    """Read frames of a video sequentially, upright, in bounded memory.

    ::

        with read_frames(path, chosen, pixels="gray", timestamps_s=timestamps_s) as frames:
            for source_frame, picture in frames:
                ...

    A background thread decodes up to four frames ahead and then waits. Leaving the ``with`` block,
    by the end, ``break`` or an exception, stops it.

    Args:
        source_frames: int64 [M], sorted, unique indices in the order of ``probe_video``; None for
            all frames.
        pixels: ``"rgb"``: uint8 [H, W, 3], full range. ``"gray"``: uint8 [H, W], the luma plane as
            stored (16 to 235 in most videos), which costs no conversion.
        size: (width, height) to resize the upright picture to (area averaging when shrinking).
        timestamps_s: float64 [N] of *all* frames of the video, from ``probe_video``; optional.
            With them, packets that no chosen frame needs are not decoded.

    Returns:
        A context manager and iterator of (source_frame, picture); each picture is the caller's.

    Raises:
        PermanentProblem: while iterating, for a file that cannot be read or has no such frame; at
            once for a bad selection, size or kind of pixels.
    """
    if pixels not in ("rgb", "gray"):
        raise PermanentProblem(f"Pixels can be 'rgb' or 'gray', not {pixels!r}; choose one.")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise PermanentProblem(f"A size is (width, height) in whole pixels, not {size!r}.")
    return FrameReader(
        _pictures(path, check_source_frames(source_frames), pixels, size, timestamps_s)
    )


class FrameReader(Iterator[tuple[int, np.ndarray]]):
    """Iterator over (source_frame, picture) that a background thread keeps a little ahead of."""

    def __init__(self, pictures: Iterator[tuple[int, np.ndarray]]) -> None:
        self._queue: queue.Queue[tuple[int, np.ndarray] | BaseException | None] = queue.Queue(
            PREFETCHED_FRAMES
        )
        stop = threading.Event()
        # The thread knows the queue and not the reader, so a reader that is dropped is collected.
        thread = threading.Thread(
            target=_fill, args=(pictures, self._queue, stop), name="read_frames", daemon=True
        )
        self._close = weakref.finalize(self, _stop, thread, self._queue, stop)
        thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, np.ndarray]:
        if not self._close.alive:
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, tuple):
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """Stop decoding and free the file; safe to call again."""
        self._close()


def _fill(
    pictures: Iterator[tuple[int, np.ndarray]], filled: queue.Queue, stop: threading.Event
) -> None:
    """The background thread: pictures into the queue, then None, or the error that ended them."""
    end: BaseException | None = None
    try:
        for item in pictures:
            filled.put(item)
            if stop.is_set():
                break
    except BaseException as error:
        end = error
    finally:
        pictures.close()  # type: ignore[attr-defined]  # a generator: closes the file
    if not stop.is_set():
        filled.put(end)


def _stop(thread: threading.Thread, filled: queue.Queue, stop: threading.Event) -> None:
    stop.set()
    while thread.is_alive():
        try:
            filled.get(timeout=0.01)  # make room, so that a waiting put returns
        except queue.Empty:
            thread.join(timeout=0.01)


def _pictures(
    path: str | Path,
    source_frames: np.ndarray | None,
    pixels: Pixels,
    size: tuple[int, int] | None,
    timestamps_s: np.ndarray | None,
) -> Iterator[tuple[int, np.ndarray]]:
    orientation: Orientation | None = None
    for source_frame, frame in decode_selected(path, source_frames, timestamps_s):
        if orientation is None:
            orientation = orientation_of(frame)
        stored = gray_picture(frame) if pixels == "gray" else rgb_picture(frame)
        picture = orientation.apply(stored)
        if size is not None and (picture.shape[1], picture.shape[0]) != tuple(size):
            shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
            picture = cv2.resize(
                picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            )
        if pixels == "gray" and picture is stored:
            picture = stored.copy()  # a view of the decoder's own reference picture
        yield source_frame, picture
