"""Measures the ``background`` segmenter on the real recordings beside the project.

    python -m benchmarks.background_masks [../shared/data]

Prints a markdown table: each bar, what was measured, and whether it holds.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.mask_quality import recordings
from benchmarks.mask_quality.scores import points_inside, trimap_iou
from tailor_assets.compute.background.animal_detection import detect_animals
from tailor_assets.compute.background.background_segmenter import (
    segment_stills,
    segment_with_background,
)
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.prompts import ObjectPrompt

Row = tuple[str, str, str, bool]


def segment(video: Path, out: Path, frames: np.ndarray, prompts: list[ObjectPrompt]) -> float:
    """Segment the given frames of a video into ``out``; returns seconds of processor time."""
    capture = cv2.VideoCapture(str(video))
    width, height = int(capture.get(3)), int(capture.get(4))
    capture.release()
    begin = time.process_time()
    with MaskWriter(
        out, objects=["mouse"], height=height, width=width, segmenter="background"
    ) as writer:
        segment_with_background(
            video,
            source_frames=frames,
            timestamps_s=frames / 30.0,
            height=height,
            width=width,
            prompts=prompts,
            objects=[("mouse", "animal")],
            writer=writer,
        )
    return time.process_time() - begin


def open_field(data: Path, stride: int, folder: Path) -> list[Row]:
    """One click on the open-field clip: trimap IoU, centroid error, speed."""
    truth = recordings.open_field(data)
    assert truth is not None, f"there are no real recordings at {data}"
    frames = np.arange(0, len(truth.centroids), stride)
    out = folder / f"open_field_{stride}.npz"
    seconds = segment(truth.video, out, frames, [recordings.click(*truth.mouse_at)])
    ious = []
    with MaskReader(out) as reader:
        away = reader.centroid("mouse")[:, ::-1] - truth.centroids[frames]
        for row, number in enumerate(frames):
            trimap = truth.trimap(int(number))
            if trimap is not None:
                ious.append(trimap_iou(reader.mask("mouse", row), trimap))
    iou = np.array(ious)
    error = np.nan_to_num(np.hypot(away[:, 0], away[:, 1]), nan=np.inf)
    name = f"open field, every frame in {stride}" if stride > 1 else "open field, all frames"
    good, near = float((iou >= 0.85).mean()), float((error <= 10).mean())
    middle, middle_error = float(np.median(iou)), float(np.median(error))
    rate = stride * len(frames) / seconds
    return [
        (name, "trimap IoU, median >= 0.97", f"{middle:.4f}", middle >= 0.97),
        (name, "trimap IoU >= 0.85 in 98%", f"{good:.1%} (worst {iou.min():.3f})", good >= 0.98),
        (name, "centroid error, median <= 4 px", f"{middle_error:.2f} px", middle_error <= 4),
        (name, "centroid error <= 10 px in 95%", f"{near:.1%}", near >= 0.95),
        (name, "video frames per processor-second, all passes, >= 150", f"{rate:.0f}", rate >= 150),
    ]


def stills(data: Path) -> list[Row]:
    """116 stills without a click: human points inside the mask grown by 5 px, and its area."""
    found = recordings.stills_with_keypoints(data)
    assert found is not None, f"there are no real recordings at {data}"
    pictures, keypoints = found
    masks = [best[0].mask for best in segment_stills(pictures)]
    inside = np.array([points_inside(m, own) for m, own in zip(masks, keypoints, strict=True)])
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    share, area = float(np.mean(inside)), float(np.median(areas))
    name = f"{len(masks)} stills, no click"
    each = ", ".join(
        f"{part} {value:.1%}"
        for part, value in zip(recordings.KEYPOINTS, inside.mean(axis=0), strict=True)
    )
    return [
        (name, "human points in mask + 5 px >= 98%", f"{share:.2%} ({each})", share >= 0.98),
        (name, "median area 4,000-6,500 px", f"{area:.0f}", 4000 <= area <= 6500),
    ]


def empty_chamber(data: Path, folder: Path) -> list[Row]:
    """No animal: no point is proposed, and clicks all over the picture find nothing."""
    video = recordings.empty_chamber(data)
    assert video is not None, f"there are no real recordings at {data}"
    frames = np.arange(0, 298, 3)
    proposed = detect_animals(video, source_frames=frames)
    found = 0
    clicks = [(x, y) for x in (40, 160, 280) for y in (40, 120, 200)]
    for x, y in clicks:
        out = folder / "empty.npz"
        segment(video, out, frames, [recordings.click(x, y)])
        with MaskReader(out) as reader:
            found += bool(reader.area("mouse").any())
    return [
        ("empty chamber", "no automatic point", f"{len(proposed)} points", not proposed),
        ("empty chamber", "9 clicks, none finds", f"{found} find something", found == 0),
    ]


def main() -> int:
    """Run all measurements; exit status 1 when a bar does not hold."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else recordings.REAL_DATA
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = open_field(data, 1, folder)
        rows += open_field(data, 3, folder)
        rows += stills(data)
        rows += empty_chamber(data, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| recording | bar | measured | |\n|---|---|---|---|")
    for recording, bar, measured, holds in rows:
        print(f"| {recording} | {bar} | {measured} | {'holds' if holds else 'FAILS'} |")
    print(f"\nPeak memory of this process: {peak:.0f} MB.")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
