"""Masks as the polygons around them."""

from __future__ import annotations

import numpy as np

from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.report.floor_plan import still_frame_numbers

Polygons = list[np.ndarray]


def mask_outlines(mask: np.ndarray) -> Polygons:
    """Outer outlines of a mask, bool [H, W]: float64 [k, 2] of (x, y) pixels each."""
    import cv2

    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0].astype(np.float64) for contour in found]


def outlines_of_rows(reader: MaskReader, rows: list[int]) -> dict[int, dict[str, Polygons]]:
    """Outlines of all objects in these rows: row -> object -> polygons."""
    return {
        row: {name: mask_outlines(reader.mask(name, row)) for name in reader.objects}
        for row in rows
    }


def usual_outline(reader: MaskReader, name: str) -> Polygons:
    """Outline of where an object that hardly moves is in half or more of nine frames that have it."""
    area = reader.area(name)
    there = np.flatnonzero(area > 0)
    if not there.size:
        return []
    masks = [reader.mask(name, int(there[n])) for n in still_frame_numbers(there.size)]
    return mask_outlines(np.mean(masks, axis=0) >= 0.5)
