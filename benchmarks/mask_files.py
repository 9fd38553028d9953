"""The masks NPZ beside ``numpy.savez_compressed`` of the same masks.

    python -m benchmarks.mask_files [--frames 9000]

Two objects of 640x480: a walking ellipse, and a nest whose ragged edge differs in every frame. The
peer is given boolean masks that are in memory already, one object after the other, and stores the
masks only; tailor gets them frame by frame, measures area, box and centroid of each, and keeps
memory bounded. Making the masks is in nobody's time. Prints markdown tables; the exit status is 1
where a bar is missed.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter

OBJECTS = ("mouse", "nest")
BAR_SPEED, BAR_SIZE, BAR_READ_MS = 5.0, 1.1, 2.0
CHECKPOINT_EVERY = 100
LOOKS = 300


def moving_masks(frames: int, height: int, width: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the masks of each frame, bool [height, width] by object."""
    scale = height / 480
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 2)
    noise = 6 * scale * (noise - noise.mean()) / noise.std()
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    nest = 70 * scale - np.hypot(rows - 130 * scale, columns - 120 * scale)
    for i in range(frames):
        heading = i / 40 + 0.3 * np.sin(i / 7)
        x, y = width / 2 + 210 * scale * np.cos(i / 97), height / 2 + 150 * scale * np.sin(i / 61)
        body = np.zeros((height, width), np.uint8)
        axes = (100 * scale, 55 * scale)
        cv2.ellipse(body, ((x, y), axes, np.degrees(heading)), 1, cv2.FILLED)
        edge = np.roll(noise, rng.integers(0, (height, width)), (0, 1))
        yield {"mouse": body.view(np.bool_), "nest": nest + edge > 0}


def write(path: Path, frames: int, size: tuple[int, int], *, packed: bool) -> float:
    """Write the file without a work folder; returns seconds in the writer."""
    height, width = size
    spent = 0.0
    writer = MaskWriter(path, objects=OBJECTS, height=height, width=width, segmenter="benchmark")
    for row, masks in enumerate(moving_masks(frames, height, width)):
        frame = {"source_frame": row, "timestamp_s": row / 30, "scores": dict.fromkeys(OBJECTS, 1)}
        bits = {name: np.packbits(mask) for name, mask in masks.items()} if packed else {}
        begin = time.perf_counter()
        if packed:
            writer.append_packed(**frame, packed=bits)
        else:
            writer.append(**frame, masks=masks)
        spent += time.perf_counter() - begin
    begin = time.perf_counter()
    writer.commit()
    return spent + time.perf_counter() - begin


def write_with_savez(path: Path, frames: int, size: tuple[int, int], name: str) -> float:
    """Write one object's boolean masks with the peer; returns seconds in ``savez_compressed``."""
    whole = np.zeros((frames, *size), bool)
    for row, masks in enumerate(moving_masks(frames, *size)):
        whole[row] = masks[name]
    begin = time.perf_counter()
    np.savez_compressed(path, **{name: whole})
    return time.perf_counter() - begin


def checkpoint_times(folder: Path, frames: int, size: tuple[int, int]) -> list[float]:
    """Milliseconds of each checkpoint; a chunk that was full by then is in the time."""
    times = []
    with MaskWriter(
        folder / "resumable.npz",
        objects=OBJECTS,
        height=size[0],
        width=size[1],
        segmenter="benchmark",
        work_folder=folder / "work",
    ) as writer:
        for row, masks in enumerate(moving_masks(frames, *size)):
            writer.append(source_frame=row, timestamp_s=row / 30, masks=masks, scores={})
            if (row + 1) % CHECKPOINT_EVERY == 0:
                begin = time.perf_counter()
                writer.checkpoint()
                times.append(1000 * (time.perf_counter() - begin))
    return times


def random_reads(path: Path) -> list[float]:
    """Milliseconds of reading single frames in random order."""
    chance, times = random.Random(1), []
    with MaskReader(path) as reader:
        for _ in range(LOOKS):
            name, row = chance.choice(OBJECTS), chance.randrange(len(reader))
            begin = time.perf_counter()
            reader.mask(name, row)
            times.append(1000 * (time.perf_counter() - begin))
    return times


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} / {np.percentile(times, 95):.2f} / {max(times):.2f}"


def main() -> int:
    """Measure and print the tables; exit status 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=9000)
    frames = parser.parse_args().frames
    small, large = (480, 640), (1080, 1920)
    with tempfile.TemporaryDirectory(prefix="tailor-masks-") as name:
        folder = Path(name)
        ours = write(folder / "ours.npz", frames, small, packed=False)
        packed = write(folder / "packed.npz", frames, small, packed=True)
        peer = sum(
            write_with_savez(folder / f"{each}.npz", frames, small, each) for each in OBJECTS
        )
        full_hd = write(folder / "large.npz", 300, large, packed=True)
        sizes = {path.stem: path.stat().st_size / 1e6 for path in folder.glob("*.npz")}
        peer_size = sum(sizes[each] for each in OBJECTS)
        reads = random_reads(folder / "ours.npz")
        checkpoints = checkpoint_times(folder, 2000, small)
    print(f"{frames} frames of 640x480, two objects\n")
    print(
        "| writer | seconds | frames/s | times as fast | MB | size ratio |\n|---|---|---|---|---|---|"
    )
    for what, seconds, size in (
        ("`savez_compressed` of booleans, in memory", peer, peer_size),
        ("tailor, from pixels", ours, sizes["ours"]),
        ("tailor, from packed bits", packed, sizes["packed"]),
    ):
        print(
            f"| {what} | {seconds:.2f} | {frames / seconds:.0f} | {peer / seconds:.1f} "
            f"| {size:.1f} | {size / peer_size:.2f} |"
        )
    bars = [
        (f"write >= {BAR_SPEED:g} times as fast", f"{peer / ours:.1f}", peer / ours >= BAR_SPEED),
        (
            f"size <= {BAR_SIZE:g} times",
            f"{sizes['ours'] / peer_size:.2f}",
            sizes["ours"] <= BAR_SIZE * peer_size,
        ),
        (
            f"random frame <= {BAR_READ_MS:g} ms (median / 95% / longest)",
            _spread(reads),
            statistics.median(reads) <= BAR_READ_MS,
        ),
    ]
    print("\n| bar | measured | |\n|---|---|---|")
    for bar, measured, holds in bars:
        print(f"| {bar} | {measured} | {'holds' if holds else 'FAILS'} |")
    print(f"\nCheckpoint of every {CHECKPOINT_EVERY} rows, ms (median / 95% / longest): ", end="")
    print(_spread(checkpoints))
    print(f"1920x1080, two objects, packed: {1000 * full_hd / 300:.2f} ms a frame, all included")
    return 0 if all(holds for *_, holds in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
