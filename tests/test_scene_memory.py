"""The scene learnt while finding the animal serves the segmentation that follows, and nothing else."""

from pathlib import Path

import numpy as np

from tailor_assets.compute.background.animal_detection import detect_animals
from tailor_assets.compute.background.background_segmenter import segment_with_background
from tailor_assets.compute.background.scene_memory import take_scene
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.prompts import ObjectPrompt

FRAMES = np.arange(0, 90, 3)


def segmented(
    clip: Path, point: tuple[float, float, int], origin: str, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Masks bool [rows, H, W] and scores [rows] of the mouse."""
    prompt = ObjectPrompt("mouse", "animal", point[0], point[1], point[2], origin)
    with MaskWriter(
        path, objects=["mouse"], height=240, width=320, segmenter="background"
    ) as writer:
        segment_with_background(
            clip,
            source_frames=FRAMES,
            timestamps_s=FRAMES / 30,
            height=240,
            width=320,
            prompts=[prompt],
            objects=[("mouse", "animal")],
            writer=writer,
            # With them fewer frames are decoded than where the animal is found.
            video_timestamps_s=np.arange(90) / 30,
        )
    with MaskReader(path) as reader:
        return np.stack([mask for _, mask in reader.iter_masks("mouse")]), reader.score("mouse")


def test_masks_are_the_same_whether_the_scene_was_remembered_or_learnt_again(
    small_clip: Path, tmp_path: Path
) -> None:
    [(x, y, frame, _)] = detect_animals(small_clip, source_frames=FRAMES)
    remembered = segmented(small_clip, (x, y, frame), "automatic", tmp_path / "a.npz")
    again = segmented(small_clip, (x, y, frame), "automatic", tmp_path / "b.npz")
    assert remembered[0].any(axis=(1, 2)).all()
    np.testing.assert_array_equal(again[0], remembered[0])
    np.testing.assert_array_equal(again[1], remembered[1])


def test_a_persons_point_explains_the_scene_and_gives_much_the_same_masks(
    small_clip: Path, tmp_path: Path
) -> None:
    [(x, y, frame, _)] = detect_animals(small_clip, source_frames=FRAMES)
    found, _ = segmented(small_clip, (x, y, frame), "automatic", tmp_path / "a.npz")
    clicked, _ = segmented(small_clip, (x, y, frame), "run config", tmp_path / "b.npz")
    assert (found & clicked).sum() / (found | clicked).sum() > 0.95


def test_the_scene_of_other_frames_is_never_taken(small_clip: Path) -> None:
    detect_animals(small_clip, source_frames=FRAMES)
    assert take_scene(small_clip, FRAMES[:-1]) is None
    detect_animals(small_clip, source_frames=FRAMES)
    assert take_scene(small_clip, FRAMES) is not None
    assert take_scene(small_clip, FRAMES) is None, "it is taken once"
