"""Frames to JPEG files beside the ffmpeg command line.

    python -m benchmarks.frames [../shared/data] [--repeats 5] [--out FOLDER]

Runs alternate, so that both meet the same machine; times are medians. ffmpeg is the binary of
imageio-ffmpeg, with its own defaults for threads and chroma sampling. Both write into fresh
folders that are deleted only at the end: ext4 makes files slowly for some seconds after many were
deleted. Prints markdown tables; the exit status is 1 where a bar is missed. The machine should do
nothing else: ffmpeg runs more threads, so on a crowded machine it is given more of the time (the CPU
ratio shows the work itself).
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from tailor_assets.compute.recording.frame_extraction import DEFAULT_JPEG_QUALITY, extract_frames
from tailor_assets.compute.recording.frame_sampling import choose_frames
from tailor_assets.compute.recording.jpeg_encoder import qscale_of_quality
from tailor_assets.compute.recording.video_probe import probe_video

JUDGED_FRAMES = 25
PASSTHROUGH = ("-fps_mode", "passthrough")


def ffmpeg(video: Path, *arguments: str | Path) -> bytes:
    """Run the ffmpeg command line on a video; returns what it writes to standard output."""
    command = [get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", video, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def seconds(job: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a job, its child processes included."""
    before, begin = _cpu(), time.perf_counter()
    job()
    return time.perf_counter() - begin, _cpu() - before


def _cpu() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def ffmpeg_frames(video: Path, stride: int, folder: Path) -> None:
    """The same job with the ffmpeg command line: every ``stride``-th frame to a JPEG file."""
    folder.mkdir()
    chosen = ["-vf", f"select=not(mod(n\\,{stride}))"] if stride > 1 else []
    quality = ["-q:v", str(qscale_of_quality(DEFAULT_JPEG_QUALITY))]
    ffmpeg(video, *chosen, *PASSTHROUGH, *quality, "-start_number", "0", folder / "%06d.jpg")


def true_pictures(video: Path, source_frames: np.ndarray) -> list[np.ndarray]:
    """The frames as ffmpeg shows them: uint8 [H, W, 3], RGB."""
    info, _ = probe_video(video)
    chosen = "+".join(f"eq(n\\,{index})" for index in source_frames)
    raw = ffmpeg(
        video, "-vf", f"select={chosen}", *PASSTHROUGH, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"
    )
    return list(np.frombuffer(raw, np.uint8).reshape(-1, info.height, info.width, 3))


def psnr(folder: Path, numbers: np.ndarray, truth: list[np.ndarray]) -> float:
    """Peak signal to noise ratio in dB of the files against the true pictures, over all of them."""
    squares = []
    for number, right in zip(numbers, truth, strict=True):
        stored = cv2.imread(str(folder / f"{number:06d}.jpg"))
        assert stored is not None
        squares.append(np.mean((stored[..., ::-1].astype(float) - right) ** 2))
    return float(10 * np.log10(255**2 / np.mean(squares)))


def sampling(folder: Path) -> str:
    """Chroma sampling of the first file."""
    with av.open(str(folder / "000000.jpg"), format="mjpeg") as container:
        return container.streams.video[0].codec_context.pix_fmt or "?"


def compare_extraction(video: Path, label: str, stride: int, repeats: int, out: Path) -> bool:
    """One row of the table; whether every bar holds."""
    _, timestamps_s = probe_video(video)
    chosen = choose_frames(timestamps_s, stride=stride)
    ours, theirs = [], []
    for run in range(repeats):
        mine, other = out / f"{label}-{stride}-{run}-tailor", out / f"{label}-{stride}-{run}-ffmpeg"
        jobs = [
            (ours, lambda folder=mine: extract_frames(video, chosen, timestamps_s, folder)),
            (theirs, lambda folder=other: ffmpeg_frames(video, stride, folder)),
        ]
        for times, job in jobs if run % 2 else reversed(jobs):
            times.append(seconds(job))
    (wall, cpu), (their_wall, their_cpu) = np.median(ours, 0), np.median(theirs, 0)
    files = [sorted(folder.iterdir()) for folder in (mine, other)]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    assert len(files[0]) == chosen.size
    size, their_size = (sum(file.stat().st_size for file in folder) for folder in files)
    judged = np.unique(np.linspace(0, chosen.size - 1, JUDGED_FRAMES).astype(int))
    truth = true_pictures(video, chosen[judged])
    quality, their_quality = psnr(mine, judged, truth), psnr(other, judged, truth)
    ratio = their_wall / wall
    holds = (
        ratio >= 1.0
        and sampling(mine) == sampling(other)
        and abs(quality - their_quality) <= 0.2
        and abs(size / their_size - 1) <= 0.1
    )
    print(
        f"| {label} | {stride} | {chosen.size} | {their_wall:.2f} | {wall:.2f} | **{ratio:.2f}** "
        f"| {their_cpu / cpu:.2f} | {sampling(mine)} / {sampling(other)} "
        f"| {quality:.2f} / {their_quality:.2f} | {size / their_size:.3f} "
        f"| {'yes' if holds else 'NO'} |",
        flush=True,
    )
    return holds


def main() -> int:
    """Print the table; 0 where every bar holds, 1 where one does not, 2 without recording."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder to work in (default: the system's)")
    arguments = parser.parse_args()
    clip = arguments.data / "open_field_mouse" / "m3v1mp4.mp4"
    if not clip.is_file():
        print(f"The real recording is not here ({clip}).", file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="tailor-frames-", dir=arguments.out))
    try:
        half = work / "m3v1_420.mp4"
        ffmpeg(clip, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "18", half)
        clips = {"yuv444p": clip, "yuv420p": half}
        print(
            "| clip | stride | frames | ffmpeg s | tailor s | ratio | CPU ratio | sampling "
            "| PSNR dB | size ratio | holds |\n|" + "---|" * 11
        )
        results = [
            compare_extraction(video, label, stride, arguments.repeats, work)
            for label, video in clips.items()
            for stride in (3, 1)
        ]
    finally:
        shutil.rmtree(work)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
