"""The overlay video beside a plain ffmpeg re-encode of the same frames.

    python -m benchmarks.overlay [VIDEO] [--stride 3] [--repeats 3]

Without VIDEO a simulated recording of 640x480 is made (60 s at 30 frames/s). tailor decodes the
frames, draws masks, tail and bar on each, and encodes; ffmpeg (imageio-ffmpeg's binary) decodes the
same frames and encodes them at the overlay's preset and quality, drawing nothing, and so is what the
work costs at least. Runs alternate; times are medians. Prints a markdown table; the exit status is 1
below 100 frames/s. Masks are the simulator's truth, or for VIDEO an ellipse that wanders.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from imageio_ffmpeg import get_ffmpeg_exe

from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.overlay.make_overlay import make_overlay
from tailor_assets.compute.recording.video_probe import probe_video
from tailor_assets.compute.simulation.simulate import simulate_video

BAR_FPS = 100.0


def write_masks(path: Path, sources: np.ndarray, times: np.ndarray, size: tuple[int, int]) -> None:
    """Masks NPZ of a body that wanders over the picture and a nest that stays."""
    width, height = size
    nest = np.zeros((height, width), np.uint8)
    cv2.ellipse(nest, ((width / 5, height / 4), (width / 4, height / 4), 20), 1, cv2.FILLED)
    with MaskWriter(
        path, objects=["mouse", "nest"], height=height, width=width, segmenter="bench"
    ) as writer:
        for number, (source, time_s) in enumerate(zip(sources, times, strict=True)):
            body = np.zeros((height, width), np.uint8)
            x = width * (0.5 + 0.35 * np.cos(number / 97))
            y = height * (0.5 + 0.35 * np.sin(number / 61))
            cv2.ellipse(body, ((x, y), (width / 6, width / 12), number * 3.0), 1, cv2.FILLED)
            writer.append(
                source_frame=int(source),
                timestamp_s=float(time_s),
                masks={"mouse": body > 0, "nest": nest > 0},
                scores={"mouse": 0.9, "nest": 0.9},
            )


def flags_of(sources: np.ndarray, times: np.ndarray) -> pl.DataFrame:
    """Predictions with flags that change every two seconds."""
    frame = np.arange(sources.size)
    return pl.DataFrame(
        {
            "frame": frame,
            "source_frame": sources,
            "timestamp_s": times,
            "behavior": np.where(frame % 40 < 20, "moving", "still"),
            "probability_moving": np.where(frame % 40 < 20, 0.9, 0.1),
            "probability_still": np.where(frame % 40 < 20, 0.1, 0.9),
            "mask_state": np.full(frame.size, "tracked"),
            "flag_window": np.where(frame % 40 < 12, 1 + frame // 40, 0),
        }
    )


def ffmpeg(video: Path, stride: int, target: Path) -> None:
    """Decode the same frames and encode them, at the overlay's preset and quality."""
    command = [
        get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-i", str(video),
        *(["-vf", f"select=not(mod(n\\,{stride}))"] if stride > 1 else []), "-fps_mode",
        "passthrough", "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-pix_fmt",
        "yuv420p", "-movflags", "+faststart", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True)


def seconds(job: Callable[[], object]) -> float:
    """Wall seconds of a job."""
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def main() -> int:
    """Print the table; 0 where the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--stride", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tailor-overlay-"))
    try:
        video = arguments.video or work / "simulated.mp4"
        if arguments.video is None:
            simulate_video(video, seed=5, duration_s=60, width=640, height=480)
        info, video_s = probe_video(video)
        sources = np.arange(0, info.frame_count, arguments.stride)
        times = video_s[sources]
        masks = work / "masks.npz"
        write_masks(masks, sources, times, (info.width, info.height))
        flags = flags_of(sources, times)

        def ours() -> None:
            with MaskReader(masks) as reader:
                make_overlay(
                    video, reader, flags, work / "ours.mp4", nest="nest", video_timestamps_s=video_s
                )

        def theirs() -> None:
            ffmpeg(video, arguments.stride, work / "theirs.mp4")

        taken: dict[str, list[float]] = {"tailor": [], "ffmpeg": []}
        ours()
        for _ in range(arguments.repeats):
            taken["tailor"].append(seconds(ours))
            taken["ffmpeg"].append(seconds(theirs))
        print(f"{info.width}x{info.height}, {sources.size} frames, every {arguments.stride}th\n")
        print("| | s | frames/s | MB |\n|---|---:|---:|---:|")
        rates = {}
        for name, file in (("tailor", "ours.mp4"), ("ffmpeg", "theirs.mp4")):
            median = float(np.median(taken[name]))
            rates[name] = sources.size / median
            size = (work / file).stat().st_size / 1e6
            print(f"| {name} | {median:.2f} | {rates[name]:.0f} | {size:.2f} |")
    finally:
        shutil.rmtree(work)
    return 0 if rates["tailor"] >= BAR_FPS else 1


if __name__ == "__main__":
    sys.exit(main())
