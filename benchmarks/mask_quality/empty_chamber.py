"""Part 4: a chamber with nobody in it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.mask_quality.contenders import Contender
from benchmarks.mask_quality.recordings import Recording, click, frame_of, one_mouse
from benchmarks.mask_quality.report import Bar, Figure, Progress
from benchmarks.mask_quality.scores import worst_rows
from benchmarks.mask_quality.sheets import Shot
from tailor_assets.compute.background.animal_detection import detect_animals
from tailor_assets.compute.mask_file import MaskReader


def measure(
    contender: Contender, video: Path, folder: Path, progress: Progress
) -> tuple[list[Figure], list[Shot]]:
    """Frames in which anything is found: from automatic points, and clicked in the middle."""
    progress.begin(f"{contender.label}: empty chamber")
    recording = one_mouse(video, 0, 0)
    automatic = detect_animals(video, source_frames=recording.source_frames)
    middle = [(recording.width / 2, recording.height / 2, 0)]
    figures, shots = [], []
    for how, points in (
        ("automatic point", [(x, y, frame) for x, y, frame, _ in automatic]),
        ("clicked in the middle", middle),
    ):
        prompted = replace(recording, prompts=tuple(click(*point) for point in points))
        note = f"of {len(recording.source_frames)}"
        # Without a point there is nothing to segment, and masks are empty: an answer, not a failure.
        area = np.zeros(len(recording.source_frames), np.int64)
        if points:
            area, found = _segment(contender, prompted, how, folder, progress)
            shots += found
        else:
            note += "; no point was proposed"
        figures.append(
            Figure(
                f"{how}: frames with anything found", float((area > 0).sum()), Bar(0, 0), 0, note
            )
        )
    return figures, shots


def _segment(
    contender: Contender, recording: Recording, how: str, folder: Path, progress: Progress
) -> tuple[np.ndarray, list[Shot]]:
    masks_path = folder / "empty.npz"
    contender.segment(recording, masks_path, progress)
    with MaskReader(masks_path) as masks:
        area = masks.area("mouse")
        shots = [
            Shot(
                partial(frame_of, recording, int(recording.source_frames[row])),
                masks.mask("mouse", row),
                (f"frame {recording.source_frames[row]}, {how}", f"{area[row]:,} px found"),
            )
            for _, row in worst_rows({how: np.where(area > 0, -area, np.nan)}, apart=10)
        ]
    return area, shots
