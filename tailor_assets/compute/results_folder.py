"""A folder of one video's published results: names of files in it, and what its manifest says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

MANIFEST = "manifest.json"
FEATURES_ENDING = "_features.csv"
# Beside the tables of a video: thousands of pictures, and no table.
_NOT_LOOKED_INTO = ("frames", "watch")


def overlay_name(results_name: str) -> str:
    """Name of the overlay video in a results folder."""
    return f"{results_name}_overlay.mp4"


def features_files(root: Path) -> Iterator[Path]:
    """Every ``<video>_features.csv`` under a folder of results, in the same order every time."""
    for place, folders, files in os.walk(root):
        tables = sorted(name for name in files if name.endswith(FEATURES_ENDING))
        # Elsewhere a folder of such a name is a video's.
        skipped = _NOT_LOOKED_INTO if tables else ()
        folders[:] = sorted(name for name in folders if name not in skipped and name[0] != ".")
        for name in tables:
            yield Path(place) / name


def manifest_of(folder: Path) -> dict[str, Any]:
    """What the manifest says; nothing where there is none, as after ``tailor rescore``.

    People can write to the file, so a value need not be of the kind that tailor wrote.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def recording_md5(manifest: Mapping[str, Any]) -> str | None:
    """The md5 of the file that was filmed, as far as the manifest says."""
    about = manifest.get("video")
    md5 = about.get("md5") if isinstance(about, dict) else None
    return md5 if isinstance(md5, str) else None


def scale_of(manifest: Mapping[str, Any], features: pl.DataFrame) -> float | None:
    """px per cm, from the manifest or from the path, which is there in both units."""
    scale = manifest.get("px_per_cm")
    if isinstance(scale, (int, float)) and scale > 0:
        return float(scale)
    pair = ("path_length_px", "path_length_cm")
    if not set(pair) <= set(features.columns):
        return None
    pixels, centimetres = (features[name].max() for name in pair)
    if not pixels or not centimetres:
        return None
    return float(pixels) / float(centimetres)  # type: ignore[arg-type]
