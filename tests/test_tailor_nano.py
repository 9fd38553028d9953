"""The model that comes with tailor, as whoever names no segmenter meets it (marked `sam2`)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from resources.settings import load_settings
from tailor_assets.compute.mask_file import MaskReader

pytestmark = pytest.mark.sam2


@pytest.fixture(scope="module", autouse=True)
def needs_the_sam2_environment() -> None:
    python = load_settings().sam2_python
    if not python.exists():
        pytest.skip(f"the SAM2 environment is not here ({python}): run `make sam2`")


def run(video: Path, folder: Path, *arguments: object) -> Path:
    """`tailor run` as it is typed on a new machine; returns the results' folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TAILOR_")}
    done = subprocess.run(
        [sys.executable, "-m", "tailor_assets.cli", "run", str(video),
         "--out", str(folder / "out"), *map(str, arguments)],
        env=environment | {"TAILOR_HOME": str(folder / "home")},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return Path(done.stdout.strip())


def test_a_video_nobody_has_said_anything_of_is_segmented_by_tailors_own_network(
    small_clip: Path, tmp_path: Path
) -> None:
    folder = run(small_clip, tmp_path)
    truth_path = small_clip.with_name(f"{small_clip.stem}_truth.npz")
    iou = []
    with MaskReader(folder / "clip.npz") as masks, MaskReader(truth_path) as truth:
        assert masks.segmenter == "tailor-nano"
        for row, frame in enumerate(masks.source_frame):
            ours, true = masks.mask("mouse", row), truth.mask("mouse", int(frame))
            if true.sum() > 50:
                iou.append(np.sum(ours & true) / np.sum(ours | true))
    assert np.mean(iou) > 0.75


def test_the_mouse_of_a_real_recording_is_found_and_followed_without_a_click(
    shared_data: Path, tmp_path: Path
) -> None:
    video = shared_data / "open_field_mouse" / "m3v1mp4.mp4"
    truth = pl.read_csv(shared_data / "open_field_mouse" / "m3v1_body_truth.csv")
    folder = run(video, tmp_path, "--stride", 10)
    with MaskReader(folder / "m3v1mp4.npz") as masks:
        x, y = (truth[f"centroid_{axis}"].to_numpy()[masks.source_frame] for axis in "xy")
        error = np.hypot(*(masks.centroid("mouse")[:, ::-1] - np.stack([x, y], axis=1)).T)
    assert np.median(error) < 5
    assert np.mean(error < 25) > 0.95


def test_in_an_empty_chamber_nothing_is_found(shared_data: Path, tmp_path: Path) -> None:
    folder = run(shared_data / "odd_videos" / "empty_chamber.wmv", tmp_path)
    with MaskReader(folder / "empty_chamber.npz") as masks:
        assert not masks.area("mouse").any()
