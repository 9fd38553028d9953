"""Reading frames by PyAV, by decord with back-pressure, and by decord as it is.

    python -m benchmarks.frame_sources [../shared/data] [--repeats 3] [--out FOLDER]

Each row is a process of its own, so that its memory is its own; the decoders take turns and times
are medians. CPU is the process's own time and tells the work; wall time also tells what else the
machine does. The pictures are RGB, resized to a square by the one who reads them, as for SAM2;
"slow" pauses 5 ms at each. Memory is by how much the process grew at most. Prints a markdown table.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.frames import ffmpeg
from tailor_assets.compute.recording.decoder_choice import DecoderInUse, pictures_by_choice
from tailor_assets.compute.recording.frame_source import read_frames
from tailor_assets.compute.recording.upright_pictures import PictureMaker, resized
from tailor_assets.compute.recording.video_probe import probe_video

PAUSE_S = 0.005


class Use(NamedTuple):
    """One way to read a video: every ``stride``-th frame, to squares of ``side`` (0: as it is)."""

    stride: int
    side: int
    slow: bool = False

    def __str__(self) -> str:
        frames = "all" if self.stride == 1 else f"every {self.stride}rd"
        return frames + (f", {self.side} px" if self.side else "") + (", slow" * self.slow)


USES = [
    *(Use(stride, side) for stride in (1, 3) for side in (0, 512, 1024)),
    Use(1, 512, slow=True),
]
READERS = ("PyAV", "decord", "decord as it is")


class Cost(NamedTuple):
    """What reading took, and the decoder that was in use at the end."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    decoder: str


def measure(video: Path, timestamps_s: np.ndarray, reader: str, use: Use) -> Cost:
    """Read a video once, in this process."""
    chosen = np.arange(0, timestamps_s.size, use.stride)
    size = (use.side, use.side) if use.side else None
    in_use = DecoderInUse()
    if reader == "PyAV":
        pictures: Iterator = read_frames(video, chosen, timestamps_s=timestamps_s, decoder="pyav")
    elif reader == "decord":
        make = PictureMaker("rgb", None)
        pictures = pictures_by_choice(video, chosen, make, timestamps_s, "decord", in_use)
    else:
        pictures = decord_as_it_is(video, use.stride)
        in_use.name = "decord"
    before, begin, work = _memory("VmRSS"), time.perf_counter(), time.process_time()
    count = 0
    for _, picture in pictures:
        resized(picture, size)
        count += 1
        if use.slow:
            time.sleep(PAUSE_S)
    assert count == chosen.size
    return Cost(
        time.perf_counter() - begin,
        time.process_time() - work,
        (_memory("VmHWM") - before) / 1e6,
        in_use.name,
    )


def decord_as_it_is(video: Path, stride: int) -> Iterator[tuple[int, np.ndarray]]:
    """Without bursts, and without any check that its pictures are the right ones."""
    import decord

    reader = decord.VideoReader(str(video))
    for index in range(len(reader)):
        if index % stride:
            reader.skip_frames(1)
        else:
            yield index, reader.next().asnumpy()


def compare(video: Path, label: str, uses: list[Use], repeats: int) -> None:
    """Rows of the table for one clip."""
    _, timestamps_s = probe_video(video)
    for use in uses:
        costs: dict[str, list[Cost]] = {reader: [] for reader in READERS}
        for _ in range(repeats):
            for reader in READERS:
                # A new process each: what one reader leaves in the allocator is not another's.
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    cost = process.apply(measure, (video, timestamps_s, reader, use))
                costs[reader].append(cost)
        for reader, measured in costs.items():
            wall, cpu, memory = np.median([cost[:3] for cost in measured], 0)
            switched = (
                "" if measured[0].decoder == "decord" or reader == "PyAV" else " (PyAV took over)"
            )
            print(
                f"| {label} | {use} | {reader}{switched} | {wall:.2f} | {cpu:.2f} | {memory:.0f} |",
                flush=True,
            )


def _memory(field: str) -> int:
    """Bytes of this process by /proc/self/status: VmRSS now, VmHWM at most (since it began)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def main() -> int:
    """Print the table; 2 where the recording or decord is not here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder to work in (default: the system's)")
    arguments = parser.parse_args()
    clip = arguments.data / "open_field_mouse" / "m3v1mp4.mp4"
    try:
        import decord  # noqa: F401
    except ImportError:
        print("decord is not installed here (it is for Linux on x86-64 only).", file=sys.stderr)
        return 2
    if not clip.is_file():
        print(f"The real recording is not here ({clip}).", file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="tailor-frames-", dir=arguments.out))
    try:
        half, large = work / "m3v1_420.mp4", work / "m3v1_1080p.mp4"
        encode = ("-pix_fmt", "yuv420p", "-c:v", "libx264")
        ffmpeg(clip, *encode, "-crf", "18", half)
        ffmpeg(clip, "-vf", "scale=1440:1080", "-frames:v", "600", *encode, "-g", "30", large)
        print("| clip | use | reader | wall s | CPU s | memory grows by MB |\n|" + "---|" * 6)
        compare(clip, "yuv444p", USES, arguments.repeats)
        compare(half, "yuv420p", USES, arguments.repeats)
        compare(large, "1440x1080", [Use(1, 1024), Use(1, 512, slow=True)], arguments.repeats)
    finally:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
