"""Masks of the SAM2 engine after a correction, beside those from scratch."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import official_sam2_reference as official
from sam2_engine_lab import Clicks, Lab, sha256

from sam2_worker.request import EngineSettings


def correction(
    lab: Lab,
    old: dict[str, dict[str, Any]],
    new: dict[str, dict[str, Any]],
    changed_from: dict[str, int | None],
    frames: Sequence[int],
    guarded: bool,
    follow: bool = False,
) -> dict[str, Any]:
    """Masks from ``old`` clicks corrected to ``new`` ones, beside those from scratch."""
    settings = EngineSettings(drift_guard=guarded, refind=False, nest_every=1)
    model = replace(official.model_spec(lab.home, "lively"), follow=follow)
    request = partial(lab.request, frames=frames, settings=settings, model=model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known, again = folder / "known.npz", folder / "again.npz"
        lab.segment(request(known, _read(old)))
        scratch = folder / "scratch.npz"
        whole = lab.segment(request(scratch, _read(new)))
        report = lab.segment(
            request(again, _read(new), known_masks=str(known), changed_from=changed_from)
        )
        before, after, best = np.load(known), np.load(again), np.load(scratch)
        tables = sorted(set(best.files) | set(after.files))
        return {
            "differing": [t for t in tables if t not in after or not _same(after[t], best[t])],
            "same_file": sha256(again) == sha256(scratch),
            "largest_score_difference": max(
                float(np.abs(after[t] - best[t]).max()) for t in tables if t.endswith("_score")
            ),
            "changed": [t for t in tables if t not in before or not _same(after[t], before[t])],
            "frames_tracked": report["frames_tracked"],
            "frames_from_scratch": whole["frames_tracked"],
        }


def _read(clicks: dict[str, dict[str, Any]]) -> Clicks:
    return {
        name: {int(frame): [tuple(p) for p in points] for frame, points in by_frame.items()}
        for name, by_frame in clicks.items()
    }


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
