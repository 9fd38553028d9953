"""All features of 9,000 frames: tailor's NPZ to table against a scikit-image ``regionprops`` loop.

Run: ``python -m benchmarks.features [--repeats N]``; prints a markdown table. The peer is what a
user would write: one process, ``regionprops`` on masks that are in memory already, the properties
of one frame that tailor has too; it is given fewer masks and its frames per second are compared.
Tailor reads its NPZ from disk, in a thread beside those that measure, and computes the full set:
shape, motion, heading, nest, arena, statistics and powers over windows. Both are timed after one
warm-up call, in turn, so that a busy machine slows both; the ratio is that of the medians.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
from skimage.measure import regionprops

from tailor_assets.compute.features.feature_columns import feature_columns
from tailor_assets.compute.features.feature_table import feature_table
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter

HEIGHT, WIDTH = 480, 640
PROPERTIES = (
    "centroid",
    "area",
    "bbox",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "eccentricity",
    "solidity",
    "extent",
    "perimeter",
    "area_convex",
    "area_filled",
    "euler_number",
    "moments_hu",
)
ARENA = [(20.0, 20.0), (620.0, 20.0), (620.0, 460.0), (20.0, 460.0)]


def rodent_masks(n: int, seed: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield n pairs of bool [480, 640]: a walking body of some 5,000 pixels with a head and a
    ragged outline, and a nest of some 15,000 pixels whose outline differs from frame to frame.
    Another animal is the first one, mirrored.
    """
    rng = np.random.default_rng(seed)
    for i in range(n):
        heading = i / 40 + 0.3 * np.sin(i / 7)
        x, y = 320 + 210 * np.cos(i / 97), 240 + 150 * np.sin(i / 61)
        body = np.zeros((HEIGHT, WIDTH), np.uint8)
        stretch = 1 + 0.1 * np.sin(i / 5)
        cv2.ellipse(
            body, ((x, y), (100 * stretch, 55 / stretch), np.degrees(heading)), 1, cv2.FILLED
        )
        head = (round(x + 52 * np.cos(heading)), round(y + 52 * np.sin(heading)))
        cv2.circle(body, head, 19, 1, cv2.FILLED)
        nest = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.ellipse(nest, ((110, 120), (150, 130), 20), 1, cv2.FILLED)
        yield _ragged(body, rng), _ragged(nest, rng)


def _ragged(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.integers(-90, 91, (HEIGHT // 4, WIDTH // 4), np.int16).astype(np.float32)
    noise = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(mask.astype(np.float32) * 255, (0, 0), 3)
    return soft + noise * (soft > 1) > 127


def write_masks(path: Path, n: int) -> None:
    """Write the masks of ``rodent_masks`` at 10 frames a second."""
    with MaskWriter(
        path,
        objects=["mouse", "nest", "mouse_2"],
        height=HEIGHT,
        width=WIDTH,
        segmenter="benchmark",
    ) as writer:
        for i, (mouse, nest) in enumerate(rodent_masks(n)):
            writer.append(
                source_frame=3 * i,
                timestamp_s=i / 10,
                masks={"mouse": mouse, "nest": nest, "mouse_2": mouse[:, ::-1]},
                scores={"mouse": 1.0, "nest": 1.0, "mouse_2": 1.0},
            )


def regionprops_loop(masks: np.ndarray) -> list[list[object]]:
    """Measure the peer: bool [n, H, W] already in memory."""
    rows = []
    for mask in masks:
        region = regionprops(mask.view(np.uint8))[0]
        rows.append([getattr(region, name) for name in PROPERTIES])
    return rows


def tailor(path: Path, workers: int, *, nest: bool = False, other: bool = False) -> None:
    """Measure ours, from opening the file to the finished table."""
    with MaskReader(path) as reader:
        feature_table(
            reader,
            feature_set="mouse" if nest else "rat_only",
            subject="mouse",
            nest="nest" if nest else None,
            px_per_cm=12.5,
            arena=ARENA,
            others=["mouse_2"] if other else [],
            workers=workers,
        )


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_megabytes(path: Path) -> float:
    """Peak resident memory of this process, which only computes the features of ``path``."""
    process, peak = psutil.Process(), 0

    def look(*_: int) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)

    with MaskReader(path) as reader:
        feature_table(
            reader, feature_set="mouse", subject="mouse", nest="nest", arena=ARENA, progress=look
        )
        look()
    return max(peak, _highest_ever(process)) / (1 << 20)


def _highest_ever(process: psutil.Process) -> int:
    """Bytes that were resident at most, by the kernel's count where it keeps one."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Print the comparison, the growth with the number of frames, and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=9000)
    parser.add_argument("--peer-frames", type=int, default=1000)
    arguments = parser.parse_args()
    n, fewer = arguments.frames, arguments.peer_frames
    with tempfile.TemporaryDirectory() as folder:
        path, large = Path(folder, "masks.npz"), Path(folder, "large.npz")
        write_masks(path, n)
        write_masks(large, 2 * n)
        with MaskReader(path) as reader:
            masks = np.stack([mask for _, mask in reader.iter_masks("mouse", 0, fewer)])
            area = float(np.median(reader.area("mouse")))
        ours: dict[str, Callable[[], object]] = {
            "tailor, 1 measuring thread, mouse": lambda: tailor(path, 1),
            "tailor, 1 measuring thread, mouse and nest": lambda: tailor(path, 1, nest=True),
            "tailor, 2 measuring threads, mouse and nest": lambda: tailor(path, 2, nest=True),
            "tailor, 1 measuring thread, two mice": lambda: tailor(path, 1, other=True),
        }
        regionprops_loop(masks[:10])
        for work in ours.values():
            work()
        peer: list[float] = []
        growth: list[float] = []
        rates: dict[str, list[float]] = {name: [] for name in ours}
        for _ in range(arguments.repeats):
            # What else the machine does is to meet both: ours runs after every part of the peer.
            spent = 0.0
            for part, (name, work) in zip(np.array_split(masks, 4), ours.items(), strict=True):
                spent += seconds(lambda part=part: regionprops_loop(part))
                rates[name].append(n / seconds(work))
            peer.append(fewer / spent)
            short = seconds(lambda: tailor(path, 1, nest=True))
            growth.append(seconds(lambda: tailor(large, 1, nest=True)) / short)
        print(
            f"{n} frames of {WIDTH}x{HEIGHT}, median area {area:.0f} px; "
            f"medians of {arguments.repeats} alternated repeats\n"
        )
        print("| | seconds | frames/s | times as fast |\n|---|---|---|---|")
        slow = statistics.median(peer)
        name = f"regionprops loop, one process, masks in memory ({fewer} frames)"
        print(f"| {name} | {fewer / slow:.3f} | {slow:.0f} | 1.0 |")
        for name, values in rates.items():
            rate = statistics.median(values)
            print(f"| {name} | {n / rate:.3f} | {rate:.0f} | {rate / slow:.1f} |")
        print(
            f"\n{n} -> {2 * n} frames: {statistics.median(growth):.2f} times the time (linear: 2)"
        )
        spawn = multiprocessing.get_context("spawn")
        for file, frames in ((path, n), (large, 2 * n)):
            with spawn.Pool(1) as pool:
                peak = pool.apply(peak_megabytes, (file,))
            table = frames * len(feature_columns("mouse", arena=True)) * 8 / (1 << 20)
            print(
                f"peak memory of a process that does {frames} frames: {peak:.0f} MB, "
                f"of which the table {table:.0f} MB"
            )


if __name__ == "__main__":
    main()
