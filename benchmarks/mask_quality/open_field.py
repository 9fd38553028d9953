"""Part 2: the real open-field clip, one click on its first frame, every frame."""

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.mask_quality.contenders import NETWORK_ALONE, Contender
from benchmarks.mask_quality.recordings import OpenField, Recording, frame_of, one_mouse
from benchmarks.mask_quality.report import Bar, Figure, Progress
from benchmarks.mask_quality.scores import longest_run, lost_frames, trimap_iou, worst_rows
from benchmarks.mask_quality.sheets import Shot
from tailor_assets.compute.mask_file import MaskReader


def measure(
    contender: Contender, truth: OpenField, folder: Path, progress: Progress
) -> tuple[list[Figure], list[Shot]]:
    """Segment the clip; return the figures and the worst of the frames that have a trimap."""
    progress.begin(f"{contender.label}: open field")
    recording = one_mouse(truth.video, *truth.mouse_at)
    masks_path = folder / "open-field.npz"
    contender.segment(recording, masks_path, progress)
    iou = np.full(len(recording.source_frames), np.nan)
    with MaskReader(masks_path) as masks:
        away = masks.centroid("mouse")[:, ::-1] - truth.centroids[recording.source_frames]
        error = np.hypot(away[:, 0], away[:, 1])
        lost = lost_frames(masks.area("mouse"), error)
        for row, frame in enumerate(recording.source_frames):
            trimap = truth.trimap(int(frame))
            if trimap is not None:
                iou[row] = trimap_iou(masks.mask("mouse", row), trimap)
        shots = [
            _shot(recording, truth, row, masks.mask("mouse", row), iou[row], error[row])
            for _, row in worst_rows({"mouse": iou})
        ]
    return _figures(iou[~np.isnan(iou)], np.nan_to_num(error, nan=np.inf), lost, contender), shots


def _figures(
    iou: np.ndarray, error: np.ndarray, lost: np.ndarray, contender: Contender
) -> list[Figure]:
    """The network alone has bars of its own; what is used as it is has all the others."""
    alone = contender.engine == NETWORK_ALONE

    def bar(of_network: Bar | None, of_product: Bar | None) -> Bar | None:
        return of_network if alone else of_product

    return [
        Figure("trimap IoU, median", float(np.median(iou)), bar(Bar(0.95), Bar(0.97)), 4,
               note=f"{len(iou)} frames have one"),
        Figure("trimap IoU, 5th percentile", float(np.percentile(iou, 5))),
        Figure("trimap IoU >= 0.7, % of frames", _percent(iou >= 0.7), bar(Bar(95), None), 1),
        Figure("trimap IoU >= 0.85, % of frames", _percent(iou >= 0.85), bar(None, Bar(98)), 1),
        Figure("lost: empty, or more than 25 px away; frames", float(lost.sum()), None, 0,
               note=f"of {len(lost):,}"),
        Figure("longest loss, frames", float(longest_run(lost)), bar(None, Bar(high=10)), 0),
        Figure("centroid error, median, px", float(np.median(error)), bar(None, Bar(high=3)), 2),
        Figure("centroid error, 95th percentile, px", _percentile(error, 95),
               bar(None, Bar(high=8)), 2),
    ]  # fmt: skip


def _shot(
    recording: Recording,
    truth: OpenField,
    row: int,
    mask: np.ndarray,
    iou: float,
    error: float,
) -> Shot:
    frame = int(recording.source_frames[row])
    trimap = truth.trimap(frame)
    assert trimap is not None
    said = "nothing found" if np.isnan(error) else f"centroid {error:.1f} px off"
    return Shot(
        partial(frame_of, recording, frame),
        mask,
        (f"frame {frame}: IoU {iou:.2f}", said),
        truth=trimap == 255,
    )


def _percent(flags: np.ndarray) -> float:
    return 100 * float(flags.mean())


def _percentile(values: np.ndarray, share: float) -> float:
    # Not between two values: half-way to infinity (a lost frame) is no distance.
    return float(np.percentile(values, share, method="higher"))
