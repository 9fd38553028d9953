"""The chosen frames as numbered JPEG files.

A video with several independent parts (H.264 with IDR pictures, motion JPEG) is shared out: each
thread decodes and encodes parts of its own, so a picture stays in the cache of the core that made
it. Any other video is decoded once, in order, by the decoder's threads, and encoded by a few
more behind a short queue. Memory does not grow with the video either way.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from av.video.frame import VideoFrame

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.decoding import open_video, orientation_of
from tailor_assets.compute.recording.frame_sampling import frame_table
from tailor_assets.compute.recording.jpeg_encoder import JpegEncoder, qscale_of_quality
from tailor_assets.compute.recording.packet_plan import PacketPlan, plan_packets
from tailor_assets.compute.recording.selected_frames import (
    PartDecoder,
    PlanFailed,
    check_source_frames,
    decode_selected,
)

DEFAULT_JPEG_QUALITY = 90
FRAME_NAME = "{:06d}.jpg"
MAX_THREADS = 8
SMALLEST_PART = 24  # frames; below that, starting a part costs more than it spreads
BATCH = 8  # frames decoded ahead by each thread; 100 MB in 4K
PROGRESS_EVERY_S = 0.2


def extract_frames(
    path: str | Path,
    source_frames: np.ndarray | None,
    timestamps_s: np.ndarray,
    out_dir: str | Path,
    *,
    quality: int = DEFAULT_JPEG_QUALITY,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Write the chosen frames upright as ``000000.jpg``, ``000001.jpg``, ... into ``out_dir``.

    The folder is made if it is not there; giving it its final name is the caller's.

    Args:
        source_frames: int64 [M], sorted, unique; None for all.
        timestamps_s: float64 [N] of all frames of the video, from ``probe_video``.
        quality: 1 to 100, as in other JPEG writers; see ``qscale_of_quality``.
        progress: called now and then, on the calling thread, as
            ``progress(frames_written, frames_to_write)``.

    Returns:
        The frame table: ``frame`` (the number in the file name), ``source_frame``, ``timestamp_s``.

    Raises:
        PermanentProblem: bad quality or selection, or a video that cannot be decoded.
    """
    times = np.asarray(timestamps_s, dtype=np.float64)
    chosen = check_source_frames(source_frames)
    if chosen is None:
        chosen = np.arange(times.size, dtype=np.int64)
    if chosen.size and chosen[-1] >= times.size:
        raise PermanentProblem(
            f"Frame {chosen[-1]} is wanted of a video of {times.size} frames; choose frames again."
        )
    sink = _JpegFolder(Path(out_dir), chosen, qscale_of_quality(quality), progress)
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    plan = plan_packets(path, chosen, times)
    parts = plan.parts(SMALLEST_PART) if plan is not None else []
    if plan is None or len(parts) < threads or not _in_parts(path, plan, parts, sink, threads):
        _in_order(path, chosen, times, sink, threads)
    sink.report(everything=True)
    return frame_table(chosen, times)


class _JpegFolder:
    """Where frames are written: names, counting, and one encoder per thread."""

    def __init__(
        self,
        folder: Path,
        chosen: np.ndarray,
        qscale: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = str(folder)
        self._chosen = chosen
        self._qscale = qscale
        self._progress = progress
        self._mine = threading.local()
        self._written: dict[int, int] = {}  # by thread, so that counting needs no lock
        self._reported = -1

    def write(self, source_frame: int, frame: VideoFrame) -> None:
        encoder: JpegEncoder | None = getattr(self._mine, "encoder", None)
        if encoder is None or not encoder.fits(frame):
            encoder = self._mine.encoder = JpegEncoder(frame, orientation_of(frame), self._qscale)
        number = int(np.searchsorted(self._chosen, source_frame))
        name = os.path.join(self._folder, FRAME_NAME.format(number))
        # Plainly: Path.write_bytes makes four more system calls, which is felt at this rate.
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            data = memoryview(encoder.encode(frame))
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)
        thread = threading.get_ident()
        self._written[thread] = self._written.get(thread, 0) + 1

    def report(self, *, everything: bool = False) -> None:
        """Tell the caller how many are written, if that has changed."""
        total = int(self._chosen.size)
        done = total if everything else min(sum(list(self._written.values())), total)
        if self._progress is not None and done != self._reported:
            self._reported = done
            self._progress(done, total)


def _in_parts(
    path: str | Path,
    plan: PacketPlan,
    parts: list[tuple[int, int]],
    sink: _JpegFolder,
    threads: int,
) -> bool:
    """Each thread takes the next part until none is left; False where the plan does not hold."""
    waiting = iter(parts)
    taking = threading.Lock()
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with open_video(path, decoder_threads=1) as video:
                decoder = PartDecoder(video, plan)
                while not stop.is_set():
                    with taking:
                        part = next(waiting, None)
                    if part is None:
                        return
                    frames = decoder.decode(*part)
                    # A few frames decoded, then the same few encoded: the processor's caches hold
                    # one of the two codecs at a time, and together they take a tenth less.
                    while batch := list(islice(frames, BATCH)):
                        for source_frame, frame in batch:
                            sink.write(source_frame, frame)
                        if stop.is_set():
                            return
        except BaseException as error:
            errors.append(error)
            stop.set()

    workers = [threading.Thread(target=work, name="frames", daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(PROGRESS_EVERY_S)
                sink.report()
    finally:
        stop.set()  # also where progress() raises, or at Ctrl-C
        for worker in workers:
            worker.join()
    if errors and not isinstance(errors[0], PlanFailed):
        raise errors[0]
    return not errors


def _in_order(
    path: str | Path, chosen: np.ndarray, times: np.ndarray, sink: _JpegFolder, threads: int
) -> None:
    """Decode here, encode in threads behind a queue of two frames for each."""
    frames: queue.Queue[tuple[int, VideoFrame] | None] = queue.Queue(2 * threads)
    errors: list[BaseException] = []

    def work() -> None:
        while (item := frames.get()) is not None:
            if errors:
                continue  # only make room, so that the decoding thread sees the error
            try:
                sink.write(*item)
            except BaseException as error:
                errors.append(error)

    workers = [threading.Thread(target=work, name="jpeg", daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for item in decode_selected(path, chosen, times):
            frames.put(item)
            sink.report()
            if errors:
                break
    finally:
        for _ in workers:
            frames.put(None)
        for worker in workers:
            worker.join()
    if errors:
        raise errors[0]
